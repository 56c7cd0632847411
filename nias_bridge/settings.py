"""The site's settings: read once from a TOML file and the environment, checked, then frozen."""

from __future__ import annotations

import os
from collections.abc import Mapping
from email.utils import parseaddr
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from nias_bridge import pipconfig
from nias_bridge.amounts import memory_bytes, time_limit_seconds
from nias_bridge.errors import SettingsError
from nias_bridge.mail import server_of
from nias_bridge.people import email_address

CONFIG_VARIABLE = "NIAS_BRIDGE_CONFIG"
DEFAULT_CONFIG = Path("/etc/nias-bridge/nias-bridge.toml")
PREFIX = "NIAS_BRIDGE_"

# Where machines keep what no job may see: sockets, settings, homes, other people's files.
WALLED_OFF = ("/dev", "/etc", "/home", "/proc", "/root", "/run", "/sys", "/tmp", "/var", "/var/lib")  # noqa: S108

MIB = 1024 * 1024
LOOPBACK = ("127.0.0.1", "localhost", "::1")
DISTINCT_MIN = 8  # different characters in a secret key; 32 random hexadecimal ones have more
Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]


class Settings(BaseSettings):
    """Every setting, with its default; the README's table is checked against these.

    Each can stand in the TOML file under its own name, or in the environment as NIAS_BRIDGE_NAME.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=PREFIX)

    shared_root: Path = Field(description="Shared storage, as the gateway sees it")
    shared_root_on_cluster: PurePosixPath | None = Field(
        None, description="The same folder as the nodes see it, where that differs"
    )
    storage: Literal["mounted", "ssh"] = Field(
        "mounted",
        description="How shared storage is reached; with “ssh” through the login node, with no "
        "mount here",
    )
    database_url: str = Field(
        description="SQLAlchemy's URL: sqlite:////path/nias.db or postgresql+psycopg://…"
    )
    secret_key: str = Field(
        min_length=32, repr=False, description="Signs cookies; at least 32 random characters"
    )

    host: str = Field("127.0.0.1", description="Where the gateway listens")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8080, description="… and on which port")
    trusted_hosts: tuple[str, ...] = Field(
        ("127.0.0.1", "localhost"), description="Host names by which people reach the gateway"
    )
    threads: Count = Field(16, description="Requests that a worker serves at once")
    workers: Count = Field(1, description="Processes that serve requests; one core each")
    metrics_token: str | None = Field(
        None,
        min_length=16,
        repr=False,
        description="Token by which Prometheus may read /metrics, as administrators’ may",
    )
    public_url: str | None = Field(
        None,
        pattern=r"^https?://[^/\s]+$",
        description="How people reach the gateway; with https cookies are secure",
    )
    trusted_proxies: Annotated[int, Field(ge=0, le=5)] = Field(
        0, description="Reverse proxies before the gateway whose X-Forwarded-For is believed"
    )
    accel_redirect: str | None = Field(
        None,
        pattern=r"^/[\w-]+$",
        description="nginx’s location of shared storage, where it sends files itself: /protected",
    )

    registration: Literal["confirmed", "open", "invitation", "domain", "closed"] = Field(
        "confirmed",
        description="Who may register; those who do so unasked wait for an administrator’s word",
    )
    registration_domains: tuple[str, ...] = Field(
        (), description="With “domain”, the e-mail domains that may"
    )

    session_days_max: Count = Field(
        30, description="Days after which people sign in anew, however often they come"
    )
    oidc_issuer: str | None = Field(
        None, description="The university’s own sign-in: address of its OpenID Connect issuer"
    )
    oidc_client_id: str | None = Field(None, description="… what it knows this gateway by")
    oidc_client_secret: str | None = Field(
        None, repr=False, description="… and the secret it gave for that"
    )
    oidc_name: str = Field(
        "your university account", description="What people call it: “Sign in with …”"
    )
    oidc_groups_claim: str = Field(
        "groups", description="The claim in which it tells a person’s groups"
    )
    oidc_admin_groups: tuple[str, ...] = Field(
        (), description="Its groups whose members administer the site; none: roles are given here"
    )
    oidc_groups: tuple[str, ...] = Field(
        (),
        description="Its groups whose members may come in, without waiting; none: all, as they "
        "would register",
    )

    smtp_url: str | None = Field(
        None,
        repr=False,
        description="Mail server: smtp://, smtp+starttls:// or smtps://user:password@host:port",
    )
    mail_from: str | None = Field(None, description="… and what the mails are from")

    webhook_private: bool = Field(
        False, description="Whether people’s programs may be told at addresses within the site"
    )

    slurm_bin: Path | None = Field(None, description="Folder of sbatch and sacct, if not on PATH")
    slurm_conf: Path | None = Field(None, description="SLURM_CONF, where it is not the default")
    slurm_timeout: Seconds = Field(30, description="Seconds to wait for any answer of Slurm")
    slurm_via: Literal["auto", "command-line", "pyslurm"] = Field(
        "auto", description="How Slurm is asked here; auto takes pyslurm where it fits the cluster"
    )
    ssh_host: str | None = Field(
        None, description="Login node where Slurm's commands are run, if not on this machine"
    )
    ssh_port: Annotated[int, Field(gt=0, le=65535)] = Field(22, description="… its port")
    ssh_user: str = Field("nias", description="… and the account there")
    ssh_key: Path = Field(
        Path("/etc/nias-bridge/id_ed25519"), description="Private key that lets the gateway in"
    )
    ssh_certificate: Path | None = Field(
        None, description="OpenSSH's certificate for that key, where the login node wants one"
    )
    ssh_known_hosts: Path = Field(
        Path("/etc/nias-bridge/known_hosts"), description="File with the login node's key"
    )
    poll_interval: Seconds = Field(1.0, description="Seconds between two questions to Slurm")
    poll_interval_idle: Annotated[float, Field(gt=0, le=120)] = Field(
        30, description="… at most, while nobody looks at a run; ends are told that late then"
    )
    lease_seconds: Seconds = Field(
        15, description="Seconds after which another poller may take over from a silent one"
    )
    identity: Literal["service", "unix"] = Field(
        "service", description="As whom jobs run: the bridge's account, or each owner's own"
    )
    run_as: Path = Field(
        Path("/usr/lib/nias-bridge/run-as"),
        description="With “unix”, the program that sudo lets the bridge call, where Slurm’s "
        "commands are run",
    )
    login_nodes: bool = Field(
        True, description="Whether people may run projects by plain sbatch, with bin/nias.sbatch"
    )
    verdict_after: Seconds = Field(
        600, description="Seconds of silence of both Slurm and node after which a run is NODE_FAIL"
    )
    lost_after: Seconds = Field(
        30,
        description="Seconds that Slurm must deny a job before it is given up or its node believed",
    )

    partition: str | None = Field(None, description="Partition of jobs that name none")
    account: str | None = Field(None, description="Slurm account of all jobs")
    qos: str | None = Field(None, description="Quality of service of all jobs")
    time: str = Field("01:00:00", description="Time limit of jobs that name none, as Slurm writes")
    slot_cpus: Count | None = Field(
        None, description="CPUs of a job's slot; without it a slot is a whole node"
    )
    slot_memory: str | None = Field(None, description="Memory of a job's slot (“4G”)")
    time_max: str | None = Field(None, description="Longest time limit that may be asked for")
    memory_max: str | None = Field(None, description="Most memory that may be asked for (“64G”)")
    cpus_max: Count | None = Field(None, description="Most CPUs that may be asked for")
    gpus_max: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Most GPUs that may be asked for"
    )
    partitions: tuple[str, ...] = Field(
        (), description="Partitions that may be asked for; all where none is named"
    )
    fair_nice: Annotated[int, Field(ge=0)] = Field(
        100,
        description="Slurm’s nice value for each run that its owner has open already; 0: none",
    )
    tasks_max: Count = Field(
        1000, description="Most tasks of a sweep; Slurm's MaxArraySize has to be larger"
    )
    collect_seconds: Count = Field(
        30, description="Seconds before the time limit at which results are collected"
    )
    python: str = Field("python3", description="Python on the nodes, a name or a path")
    pythons: Mapping[str, str] = Field(
        default_factory=dict,
        description="Further Pythons on the nodes that nias.toml may ask for: version = path",
    )
    build_variables: Mapping[str, str] = Field(
        default_factory=pipconfig.told,
        repr=False,
        description="Environment of the step that installs packages (proxy, index, certificates)",
    )
    source_builds: Literal["allow", "forbid"] = Field(
        "allow",
        description="Whether packages that have no wheel may be built, for their owner alone",
    )
    environments_max_bytes: Count = Field(
        51200 * MIB,
        description="Size of all environments past which the least recently used go",
    )
    run_variables: Mapping[str, str] = Field(
        default_factory=dict, description="Further environment of every code.py"
    )

    sandbox: Literal["required", "off"] = Field(
        "required",
        description="Whether code.py is confined by bubblewrap, or refused where it can't be",
    )
    sandbox_readonly: tuple[Path, ...] = Field(
        (), description="Further folders of the nodes that code.py may read, such as /opt/apps"
    )
    job_network: bool = Field(True, description="Whether code.py may use the network")

    previews: bool = Field(
        True, description="Whether the nodes make previews of results, some seconds for each run"
    )

    quota_stored_bytes: Count | None = Field(
        None, description="Bytes on shared storage that one person's runs and datasets may take"
    )
    quota_open_runs: Count | None = Field(
        None, description="Runs that one person may have waiting and running; a sweep is one"
    )
    quota_cpu_hours: Seconds | None = Field(
        None, description="CPU hours that Slurm may give to one person's runs in a calendar month"
    )
    keep_days: Count | None = Field(
        None,
        description="Days after which the files of ended runs are removed, but for pinned ones",
    )
    announce_days: Count = Field(
        14, description="Days for which the pages say so before that is done"
    )

    upload_max_bytes: Count = Field(2048 * MIB, description="Largest zip that is taken")
    unpacked_max_bytes: Count = Field(20480 * MIB, description="Largest sum of unpacked files")
    unpacked_max_files: Count = Field(20_000, description="Most files in a zip")
    unpacked_max_ratio: Count = Field(
        200, description="Most times that a zip may grow in unpacking (past 10 MB)"
    )

    dataset_max_bytes: Count = Field(
        102400 * MIB, description="Largest dataset that is taken, as it is sent and unpacked"
    )
    dataset_max_files: Count = Field(200_000, description="Most files in a dataset")

    @field_validator("secret_key")
    @classmethod
    def _random(cls, value: str) -> str:
        if len(set(value)) < DISTINCT_MIN:
            raise ValueError("is no random text: too few of its characters differ")
        return value

    @field_validator("time", "time_max")
    @classmethod
    def _time(cls, value: str | None) -> str | None:
        if value is not None:
            time_limit_seconds(value)
        return value

    @field_validator("slot_memory", "memory_max")
    @classmethod
    def _memory(cls, value: str | None) -> str | None:
        if value is not None:
            memory_bytes(value)
        return value

    @field_validator("smtp_url")
    @classmethod
    def _mail_server(cls, value: str | None) -> str | None:
        server = server_of(value) if value else None
        if server and server.tls == "smtp" and server.user and server.host not in LOOPBACK:
            raise ValueError("would send its password for all to read; use smtp+starttls://")
        return value

    @field_validator("mail_from")
    @classmethod
    def _mail_address(cls, value: str | None) -> str | None:
        if value is not None:
            email_address(parseaddr(value)[1])
        return value

    @field_validator("shared_root")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        if not value.is_absolute():
            raise ValueError("must be an absolute path")
        return value

    @field_validator("sandbox_readonly")
    @classmethod
    def _folders(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        for folder in value:
            if not folder.is_absolute() or ".." in folder.parts:
                raise ValueError("must be absolute paths")
            if len(folder.parts) < 2 or str(folder) in WALLED_OFF:
                raise ValueError(f"can't have {folder}: name the folder within it that is needed")
        return value

    @model_validator(mode="after")
    def _together(self) -> Self:
        unix, ssh = self.identity == "unix", self.storage == "ssh"
        # On a login node the program that hands runs over sees what the nodes do.
        one_place = self.ssh_host or self.root_on_cluster == PurePosixPath(self.shared_root)
        issuer = urlsplit(self.oidc_issuer or "https:")
        unsafe = issuer.scheme != "https" and issuer.hostname not in LOOPBACK
        told = {
            "identity “unix” wants shared_root to be the nodes' path of it too": unix
            and not one_place,
            "accel_redirect can't be had with identity “unix”, where nginx may not read what is "
            "each owner's own: leave one out": unix and self.accel_redirect,
            "storage “ssh” needs ssh_host beside it: the login node that has it": ssh
            and not self.ssh_host,
            "accel_redirect can't be had with storage “ssh”, of which nginx has no file: leave one "
            "out": ssh and self.accel_redirect,
            "slurm_via can't be pyslurm where ssh_host is set: leave one out": self.ssh_host
            and self.slurm_via == "pyslurm",
            "oidc_issuer needs oidc_client_id beside it": self.oidc_issuer
            and not self.oidc_client_id,
            "oidc_issuer must begin with https://": unsafe,
            "smtp_url needs mail_from beside it": self.smtp_url and not self.mail_from,
        }
        for sentence, wrong in told.items():
            if wrong:
                raise ValueError(sentence)
        return self

    @property
    def root_on_cluster(self) -> PurePosixPath:
        """Shared storage as the nodes see it."""
        return self.shared_root_on_cluster or PurePosixPath(self.shared_root)

    @property
    def url(self) -> str:
        """How people reach the gateway, without a slash at its end."""
        return self.public_url or f"http://{self.host}:{self.port}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = Path(os.environ.get(CONFIG_VARIABLE, DEFAULT_CONFIG))
        toml = TomlConfigSettingsSource(settings_cls, file)
        return init_settings, env_settings, toml


def read_settings() -> Settings:
    """The settings of this process. Raises SettingsError naming each setting that is wrong."""
    named = os.environ.get(CONFIG_VARIABLE)
    if named and not Path(named).is_file():
        raise SettingsError(f"{CONFIG_VARIABLE} names {named}, which is not a file.")
    try:
        return Settings()  # type: ignore[call-arg]  # the sources fill it
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg'].lower()}" for e in error.errors()
        )
        where = named or DEFAULT_CONFIG
        raise SettingsError(
            f"Settings are wrong or missing ({wrong}). "
            f"Set them in {where} or as {PREFIX}NAME in the environment."
        ) from None
    except OSError as error:
        raise SettingsError(f"The settings file can't be read: {error}") from None
    except ValueError as error:  # TOML that does not parse
        raise SettingsError(f"{named or DEFAULT_CONFIG} is not valid TOML: {error}") from None
