"""nias-bridge doctor on a real Slurm: a site in order is found well, a planted fault is found."""

from __future__ import annotations

import datetime
import json
import re
import shutil
import socket
import sqlite3
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from accounts import a_place_for_it, account, link, run_as_installed
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from freeports import free_port
from loginnode import LoginNode
from postbox import postbox
from promised import missing
from sites import commands_of, served

from nias_bridge import localcluster
from nias_bridge.localcluster import LocalCluster, daemons, plan
from nias_bridge.localcluster.parts import parts
from nias_bridge.settings import Settings
from nias_bridge.site import Site, command, running, said
from nias_bridge.store import open_store

pytestmark = pytest.mark.usefixtures("nias")  # what is planted are mounts: root alone can

SECONDS = 90.0
PREFIX = "NIAS_BRIDGE_"
SILENCE = "(?i)contact slurm controller|no end within"


@dataclass(frozen=True)
class Examined:
    """What the doctor found, and how it ended."""

    status: int
    points: list[dict[str, Any]]

    def at(self, part: str, point: str) -> dict[str, Any]:
        (found,) = [p for p in self.points if (p["part"], p["point"]) == (part, point)]
        return found

    def holds(self, part: str, point: str, grade: str, seen: str, mend: str) -> bool:
        """Whether this was found there; words are patterns."""
        found = self.at(part, point)
        assert found["grade"] == grade, found
        assert re.search(seen, found["seen"]), found
        assert re.search(mend, found["mend"] or ""), found
        return True


def examined(
    site: Site,
    *options: str,
    mounts: str = "",
    lacking: str = "",
    settings: dict[str, Any] | None = None,
    **more: str,
) -> Examined:
    """The doctor's findings. mounts: commands as root before it, in a mount namespace of its own;
    lacking: capabilities that nobody has there, not even root by sudo; settings: over those of the
    site's file; more: further environment."""
    called = command(site, "doctor", "--json", *options)
    for name, value in (settings or {}).items():
        plain = value if isinstance(value, str | int | float | Path) else json.dumps(value)
        called["env"][f"{PREFIX}{name.upper()}"] = str(plain)
    called["env"].update(more)
    if mounts or lacking:
        user = called.pop("user")
        del called["group"], called["extra_groups"]
        bound = f"--bounding-set={lacking}" if lacking else ""
        become = f"exec setpriv --reuid={user} --regid={user} --clear-groups {bound} -- "
        shell = ["sh", "-ec", f'{mounts}\n{become}"$@"', "sh"]
        called["args"] = ["unshare", "--mount", *shell, *called["args"]]
    done = subprocess.run(**called, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.stdout, done.stderr
    return Examined(done.returncode, json.loads(done.stdout)["points"])


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[LocalCluster]:
    """A Slurm of one slot, whose slurmd has mounts of its own, as on another machine."""
    if packages := localcluster.missing_packages():
        missing(f"no Slurm here: apt-get install {' '.join(packages)}")
    state = Path(tempfile.mkdtemp(prefix="nias-slurm-"))
    state.chmod(0o755)
    try:
        up = localcluster.up(state, slots=1, user="nias")
        slurmd = part(up, "slurmd ")
        daemons.stop(slurmd)
        daemons.launch(replace(slurmd, argv=("unshare", "--mount", *slurmd.argv)))
        daemons.wait_for(slurmd)
        yield up
    finally:
        localcluster.down(state)
        shutil.rmtree(state)


@pytest.fixture(scope="module")
def site(own_cluster: LocalCluster, make_site: Callable[..., Site]) -> Iterator[Site]:
    made = make_site(own_cluster)
    with served(made), running(made, "poll"):
        wait_until_well(made)
        yield made


def wait_until_well(site: Site) -> None:
    """Until the poller has told of its first look at Slurm."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"{site.url}/api/v1/health", timeout=10):
                return
        except urllib.error.HTTPError as error:
            with error:
                assert time.monotonic() < deadline, error.read()
            time.sleep(0.1)


@pytest.fixture
def root(site: Site) -> Path:
    return site.state / "shared"


@pytest.fixture
def slurm(own_cluster: LocalCluster) -> Callable[..., str]:
    return commands_of(own_cluster)


def part(cluster: LocalCluster, name: str) -> daemons.Daemon:
    planned = plan.recorded(cluster.state)
    assert planned
    (found,) = [d for d in parts(planned) if d.name.startswith(name)]
    return found


@contextmanager
def stopped(cluster: LocalCluster, name: str) -> Iterator[None]:
    """Without this daemon."""
    daemon = part(cluster, name)
    daemons.stop(daemon)
    try:
        yield
    finally:
        daemons.launch(daemon)
        daemons.wait_for(daemon)


@contextmanager
def on_the_node(cluster: LocalCluster, *mounts: str) -> Iterator[None]:
    """What the node has mounted, as no other machine has: the words of mount(8), each."""
    pid = daemons.pid_of(part(cluster, "slurmd "))
    within = ["nsenter", f"--target={pid}", "--mount", "--"]
    done = []
    try:
        for words in mounts:
            subprocess.run([*within, "mount", *words.split()], check=True)
            done.append(words.split()[-1])
        yield
    finally:
        for place in reversed(done):
            subprocess.run([*within, "umount", place], check=True)


@contextmanager
def slurm_conf(cluster: LocalCluster, *changes: tuple[str, str]) -> Iterator[None]:
    """slurmctld with some lines of its file changed."""
    before = cluster.slurm_conf.read_text()
    after = before
    for line, other in changes:
        after, count = re.subn(line, other, after, flags=re.MULTILINE)
        assert count == 1, line
    try:
        cluster.slurm_conf.write_text(after)
        commands_of(cluster)("scontrol", "reconfigure")
        yield
    finally:
        cluster.slurm_conf.write_text(before)
        commands_of(cluster)("scontrol", "reconfigure")


def test_a_site_in_good_order_is_found_well_at_every_point(site: Site) -> None:
    with postbox() as box:
        found = examined(
            site,
            "--mail-to=lab@example.org",
            "--partitions=main",
            settings={
                "public_url": site.url,
                "smtp_url": f"smtp://127.0.0.1:{box.port}",
                "mail_from": "nias@example.org",
            },
        )
        sent_to = [to for to, _ in box.came]
    assert [p for p in found.points if p["grade"] not in ("well", "skipped")] == []
    assert found.status == 0
    skipped = {p["point"] for p in found.points if p["grade"] == "skipped"}
    as_others = {"jobs as others", "root's way", "others' jobs"}
    assert skipped == {"ssh key", "clock", "certificate"} | as_others
    assert {p["partition"] for p in found.points if p["part"] == "Nodes"} == {"main"}
    assert sent_to == [["lab@example.org"]]


def test_people_get_lines_with_marks_and_words_and_nothing_stays_behind(
    site: Site, root: Path
) -> None:
    done = subprocess.run(
        **command(site, "doctor"), capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^  ✓ well     bubblewrap      bubblewrap works$", done.stdout, re.MULTILINE)
    assert re.search(r"^  ! warning  address .*\n +→ set public_url", done.stdout, re.MULTILINE)
    assert re.search(r"^\d+ points: \d+ well, 1 warning, 0 faults\.$", done.stdout, re.MULTILINE)
    assert not (root / "doctor").exists()


def test_nothing_of_the_database_changes(site: Site) -> None:
    def rows() -> list[Any]:
        with sqlite3.connect(f"file:{site.state}/db/nias.db?mode=ro", uri=True) as db:
            tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master")]
            still = [t for t in tables if t in ("runs", "events", "people", "deeds", "keys")]
            return [db.execute(f"SELECT count(*) FROM {table}").fetchall() for table in still]

    before = rows()
    examined(site, "--no-job")
    assert rows() == before and len(before) >= 3


def test_settings_that_cannot_be_read_are_told_with_status_2(site: Site) -> None:
    found = examined(site, settings={"secret_key": "short"})
    assert found.status == 2
    assert found.holds("This machine", "settings", "unknown", "secret_key", "")


def test_faults_of_the_settings_are_found_side_by_side(site: Site, root: Path) -> None:
    site.config.chmod(0o644)
    empty = site.state / "db" / "empty.db"
    shutil.chown(_made(empty), "nias")
    try:
        found = examined(
            site,
            "--no-job",
            settings={
                "slurm_conf": "/nowhere/slurm.conf",
                "database_url": f"sqlite:///{empty}",
                "public_url": "http://nias.lab.example",
                "smtp_url": f"smtp://127.0.0.1:{free_port()}",
                "mail_from": "nias@example.org",
                "sandbox": "off",
            },
        )
    finally:
        site.config.chmod(0o640)
    assert found.status == 1
    assert found.holds("This machine", "settings file", "fault", "everybody may read", "chmod o=")
    assert found.holds("This machine", "sandbox", "fault", "not confined", "required")
    assert found.holds("Slurm", "slurmctld", "fault", "no /nowhere/slurm.conf", "without them")
    assert found.holds("Slurm", "accounting", "unknown", "no /nowhere/slurm.conf", "")
    assert found.holds("Database", "schema", "fault", "still empty", "db upgrade")
    assert found.holds("People", "address", "fault", "trusted_hosts lacks", "nias.lab.example")
    assert found.holds("People", "mail", "fault", "refused", "firewall")
    assert found.holds("Nodes", "probe job", "skipped", "--no-job", "")
    assert empty.stat().st_size == 0


def _made(file: Path) -> Path:
    file.touch()
    return file


def test_an_old_schema_and_a_poller_that_fell_silent_are_told(site: Site) -> None:
    old = site.state / "db" / "old.db"
    with sqlite3.connect(f"{site.state}/db/nias.db") as db, sqlite3.connect(old) as copy:
        db.backup(copy)
        copy.execute("UPDATE alembic_version SET version_num = '0001'")
    shutil.chown(old, "nias")
    found = examined(site, "--no-job", settings={"database_url": f"sqlite:///{old}"})
    assert found.holds("Database", "schema", "fault", "at revision 0001", "db upgrade")
    assert found.holds("Database", "poller", "unknown", "at revision 0001", "")
    silent = site.state / "db" / "silent.db"
    with sqlite3.connect(f"{site.state}/db/nias.db") as db, sqlite3.connect(silent) as copy:
        db.backup(copy)
    store = open_store(f"sqlite:///{silent}")
    an_hour_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    store.save_cluster(replace(store.cluster(), at=an_hour_ago))
    store.close()
    shutil.chown(silent, "nias")
    found = examined(site, "--no-job", settings={"database_url": f"sqlite:///{silent}"})
    assert found.holds("Database", "poller", "fault", "silent since", "nias-bridge poll")


def test_no_tls_of_the_mail_server_an_expired_certificate_and_no_database_are_told(
    site: Site,
) -> None:
    absent = site.state / "db" / "absent.db"
    with postbox() as box, answering_with_tls(site.state, days=-1) as port:
        found = examined(
            site,
            "--no-job",
            settings={
                "smtp_url": f"smtp+starttls://127.0.0.1:{box.port}",
                "mail_from": "nias@example.org",
                "public_url": f"https://localhost:{port}",
                "database_url": f"sqlite:///{absent}",
            },
            SSL_CERT_FILE=f"{site.state}/authority.pem",
        )
    assert found.holds("People", "mail", "fault", "STARTTLS", "smtps://")
    assert found.holds("People", "certificate", "fault", "expired", "renew")
    assert found.holds("People", "address", "warning", "trusted_proxies = 0", "how many")
    assert found.holds("Database", "schema", "fault", "There is no .*absent.db", "db upgrade")
    assert not absent.exists()


def test_a_certificate_that_soon_runs_out_is_told_before(site: Site) -> None:
    with answering_with_tls(site.state, days=9) as port:
        url = f"https://localhost:{port}"
        authority = f"{site.state}/authority.pem"
        found = examined(site, "--no-job", settings={"public_url": url}, SSL_CERT_FILE=authority)
    assert found.holds("People", "certificate", "warning", "good for 9 days", "renew")


@contextmanager
def answering_with_tls(folder: Path, days: int) -> Iterator[int]:
    """A port of localhost behind which a certificate is shown that is good for so many days.

    Who signed it is in authority.pem.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=30))
        .not_valid_after(now + datetime.timedelta(days=days, minutes=10))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    (folder / "authority.pem").write_bytes(pem)
    (folder / "both.pem").write_bytes(
        pem
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shown.load_cert_chain(folder / "both.pem")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            while True:
                try:
                    caller, _ = server.accept()
                except OSError:
                    return  # it is closed
                with caller:
                    try:
                        shown.wrap_socket(caller, server_side=True).close()
                    except OSError:
                        continue  # who asks does not believe it

        thread = Thread(target=answer)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_storage_that_can_only_be_read_is_told(site: Site, root: Path) -> None:
    found = examined(site, "--no-job", mounts=f"mount -o bind,ro {root} {root}")
    assert found.holds("Shared storage", "writing", "fault", "Read-only", "for writing")


def test_storage_that_is_full_is_told(site: Site, root: Path) -> None:
    small = f"mount -t tmpfs -o size=256k tmpfs {root}\nchown nias {root}"
    fills = f"head -c 250k /dev/zero >{root}/full || true"
    found = examined(site, "--no-job", mounts=f"{small}\n{fills}")
    assert found.holds("Shared storage", "writing", "fault", "No space left", "keep_days")
    assert found.holds("Shared storage", "space", "fault", "0.0 GiB free", "env prune")


def test_a_cache_on_another_file_system_is_told(site: Site, root: Path) -> None:
    other = f"mount -t tmpfs tmpfs {root}/cache\nchown nias {root}/cache"
    found = examined(site, "--no-job", mounts=other)
    assert found.holds(
        "Shared storage", "hard links", "warning", "(?i)cross-device", "one file system"
    )
    assert found.status == 0


def test_storage_that_is_not_mounted_and_no_way_to_be_others_are_told(site: Site) -> None:
    unix = {"identity": "unix", "run_as": "/nowhere/run-as"}
    found = examined(site, settings={"shared_root": "/nowhere", **unix})
    assert found.holds("Shared storage", "writing", "fault", "/nowhere is not there", "mount")
    assert found.holds("Nodes", "probe job", "unknown", "/nowhere", "")
    assert found.holds("Nodes", "bubblewrap", "unknown", "told nothing", "")
    mend = "install-run-as --gateway nias"
    assert found.holds("This machine", "jobs as others", "fault", "no /nowhere/run-as", mend)
    assert found.status == 1


def test_settings_of_slurm_that_hurt_are_told(site: Site, own_cluster: LocalCluster) -> None:
    changed = slurm_conf(
        own_cluster,
        (r"^AccountingStoreFlags=.*$", ""),
        (r"^SchedulerParameters=.*$", ""),
        (r"^MinJobAge=300$", "MinJobAge=2"),
        (r"^KillWait=30$", "KillWait=3"),
        (r"^MaxArraySize=.*$|\Z", "MaxArraySize=101\n"),
    )
    with changed:
        found = examined(site, "--no-job", settings={"partition": "nowhere"})
    assert found.holds("Slurm", "comments", "warning", "lacks job_comment", "job_comment in slurm")
    assert found.holds("Slurm", "start of jobs", "warning", "is 3 s, the default", "delay=0")
    assert found.holds("Slurm", "ended jobs", "fault", "MinJobAge is 2 s", "MinJobAge=300")
    assert found.holds("Slurm", "stopped jobs", "warning", "KillWait is 3 s", "KillWait=30")
    assert found.holds("Slurm", "sweeps", "fault", "MaxArraySize is 101", "tasks_max = 100")
    assert found.holds("Slurm", "partitions", "fault", "no partition nowhere", "there are main")
    assert found.holds("Slurm", "a run's slot", "fault", "(?i)invalid partition", "see partition")


def test_accounting_that_does_not_answer_is_told(site: Site, own_cluster: LocalCluster) -> None:
    with stopped(own_cluster, "slurmdbd"):
        found = examined(site, "--no-job", settings={"slurm_timeout": 5})
    assert found.holds("Slurm", "accounting", "fault", "slurmdbd does not answer", "systemctl")
    assert found.holds("Slurm", "slurmctld", "well", "answers", "")


def test_slurmctld_that_does_not_answer_is_told_and_the_other_points_are_looked_at(
    site: Site, own_cluster: LocalCluster
) -> None:
    with stopped(own_cluster, "slurmctld"):
        found = examined(site, settings={"slurm_timeout": 5})
    assert found.holds("Slurm", "slurmctld", "fault", SILENCE, "munge")
    assert found.holds("Slurm", "start of jobs", "unknown", SILENCE, "")
    assert found.holds("Nodes", "probe job", "unknown", "gives no answer", "")
    assert found.at("Shared storage", "writing")["grade"] == "well"
    assert found.status == 1


def test_another_folder_than_the_nodes_have_is_told(
    site: Site, root: Path, own_cluster: LocalCluster
) -> None:
    found = examined(site, settings={"shared_root_on_cluster": "/elsewhere"})
    assert found.holds("Nodes", "probe job", "fault", "(?i)unable to open", "shared_root_on_clus")
    with on_the_node(own_cluster, f"-t tmpfs tmpfs {root}"):
        found = examined(site)
    assert found.holds("Nodes", "probe job", "fault", "has no folder", "shared_root_on_cluster")
    assert found.at("Nodes", "probe job")["seen"].startswith("slot-")
    with on_the_node(own_cluster, f"-o bind,ro {root} {root}"):
        found = examined(site)
    assert found.holds("Nodes", "probe job", "fault", "can't write to", "for writing")


def test_faults_of_a_node_are_found_side_by_side(
    site: Site, root: Path, own_cluster: LocalCluster
) -> None:
    if shutil.which("faketime") is None:
        missing("no faketime here: apt-get install faketime")
    ahead = site.state / "python-ahead"
    ahead.write_text('#!/bin/sh\nexec faketime "+10 minutes" /usr/bin/python3 "$@"\n')
    ahead.chmod(0o755)
    mounts = (
        "--bind /dev/null /usr/bin/bwrap",
        f"--bind /bin/false {root}/bin/uv",
        f"-t tmpfs -o mode=777 tmpfs {root}/cache",
    )
    with on_the_node(own_cluster, *mounts):
        asked = {"python": str(ahead), "pythons": {"3.2": "/usr/bin/python3"}}
        found = examined(site, settings=asked)
    assert found.status == 1
    assert found.at("Nodes", "probe job")["grade"] == "well"
    assert found.holds("Nodes", "bubblewrap", "fault", "not installed", "package bubblewrap")
    assert found.holds("Nodes", "uv", "fault", "does not run there", "install-shared")
    assert found.holds("Nodes", "hard links", "warning", "[Cc]ross-device", "one file system")
    assert found.holds("Nodes", "clock", "fault", "(59[0-9]|60[0-9]) s apart", "chrony")
    assert found.holds("Nodes", "python", "fault", r"pythons.3.2 names .*is Python", "Python 3.2")


def test_walls_that_do_not_stand_no_python_and_no_index_are_found_on_a_node(
    site: Site, own_cluster: LocalCluster
) -> None:
    nobody = f"http://127.0.0.1:{free_port()}/simple"
    asked = {"python": "python3.77", "build_variables": {"UV_DEFAULT_INDEX": nobody}}
    with on_the_node(own_cluster, "--bind /bin/false /usr/bin/bwrap"):
        found = examined(site, settings=asked)
    assert found.holds("Nodes", "bubblewrap", "fault", "does not work", "bwrap --unshare-user")
    assert found.holds("Nodes", "python", "fault", "python3.77.*does not run", "or install it")
    assert found.holds("Nodes", "package index", "fault", "does not answer", "UV_DEFAULT_INDEX")


def test_a_job_that_does_not_start_is_told_with_slurms_reason_and_taken_back(
    site: Site, own_cluster: LocalCluster, slurm: Callable[..., str]
) -> None:
    (node,) = own_cluster.nodes
    slurm("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=disk")
    try:
        found = examined(site, "--wait=3")
    finally:
        slurm("scontrol", "update", f"NodeName={node}", "State=RESUME")
    assert found.holds(
        "Nodes", "probe job", "unknown", r"did not start in 3 s: PENDING", "sinfo -R"
    )
    assert found.holds("Slurm", "nodes", "fault", f"{node} is .*DRAIN.*disk", "State=RESUME")
    names = slurm("squeue", "--noheader", "--states=PENDING,RUNNING", "--format=%j").split()
    assert [name for name in names if name.startswith("nias-doctor")] == []
    deadline = time.monotonic() + SECONDS
    while "idle" not in slurm("sinfo", "--noheader", "--format=%T"):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_who_is_not_the_bridge_is_told_as_whom_to_ask(site: Site) -> None:
    called = command(site, "doctor", "--json", "--no-job")
    del called["user"], called["group"], called["extra_groups"]
    done = subprocess.run(**called, capture_output=True, text=True, timeout=SECONDS, check=False)
    points = json.loads(done.stdout)["points"]
    assert points[0]["grade"] == "warning"
    assert points[0]["mend"].endswith("sudo -u nias nias-bridge doctor")


def test_slurm_on_a_login_node_is_asked_there_and_another_account_there_is_told(
    site: Site, login_node: LoginNode
) -> None:
    key = site.state / "id_ed25519"
    shutil.copy(login_node.login.key, key)
    shutil.chown(key, "nias")
    key.chmod(0o600)
    found = examined(
        site,
        settings={
            "ssh_host": login_node.login.host,
            "ssh_port": login_node.port,
            "ssh_user": login_node.user,
            "ssh_key": key,
            "ssh_known_hosts": login_node.login.known_hosts,
        },
    )
    assert found.holds("Slurm", "slurmctld", "well", "answers", "")
    assert found.holds("Slurm", "submission", "well", "by its commands on 127.0.0.1", "")
    assert found.holds("This machine", "ssh key", "well", "nobody else's", "")
    assert found.holds("Nodes", "probe job", "fault", "(?i)unable to open", "same account")
    key.chmod(0o644)
    open_to_all = {"ssh_host": "127.0.0.1", "ssh_port": free_port(), "ssh_key": key}
    found = examined(site, "--no-job", settings=open_to_all)
    assert found.holds("This machine", "ssh key", "fault", "others may read", "chmod 600")
    assert found.holds("Slurm", "slurmctld", "fault", "(?i)known_hosts|refused", "outside-the-clus")


def test_the_program_by_which_jobs_are_others_has_to_be_the_shipped_one_and_roots(
    site: Site, own_cluster: LocalCluster
) -> None:
    program = a_place_for_it()
    settings = Settings(
        shared_root=site.state / "shared",
        database_url="sqlite://",
        secret_key="for tests only, and long enough for it",
        slurm_conf=own_cluster.slurm_conf,
        run_as=program,
    )
    place = ("This machine", "jobs as others")

    def found() -> Examined:
        return examined(site, "--no-job", settings={"identity": "unix", "run_as": program})

    with run_as_installed(settings, "nias"):
        assert found().holds(*place, "well", "sudo lets nias call", "")
        program.chmod(0o775)
        assert found().holds(*place, "fault", "others than root may change", "install-run-as")
        program.chmod(0o755)
        program.write_text(f"{program.read_text()}# something of somebody's\n")
        assert found().holds(*place, "fault", "not the one of this version", "--gateway nias")


def test_root_that_the_storage_does_not_take_for_root_is_told_before_a_run_is(
    site: Site, own_cluster: LocalCluster
) -> None:
    unix = {"identity": "unix", "run_as": a_place_for_it()}
    settings = Settings(
        shared_root=site.state / "shared",
        database_url="sqlite://",
        secret_key="for tests only, and long enough for it",
        slurm_conf=own_cluster.slurm_conf,
        run_as=unix["run_as"],
    )
    place = ("This machine", "root's way")
    with account("rosa") as known_as, run_as_installed(settings, "nias"):
        assert examined(site, "--no-job", settings=unix).holds(*place, "skipped", "is linked", "")
        said(site, "user", "add", "rosa@lab.org")
        link(site, "rosa", known_as)
        try:
            found = examined(site, "--no-job", settings=unix)
            assert found.holds(*place, "well", "comes to where runs are given away", "")
            # As NFS with root_squash has it: the modes of files hold for root too.
            squashed = "-dac_override,-dac_read_search"
            found = examined(site, "--no-job", lacking=squashed, settings=unix)
            assert found.holds(*place, "fault", "Permission denied", "no_root_squash")
        finally:
            link(site, "rosa", None)
