"""Packages into a virtual environment: resolve, install exactly that, and say what it was."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Optional
from urllib.parse import unquote, urlsplit

from . import blame, files, layout, requirements, sandbox, stopping
from .environment import BuildFailed, OnlySource
from .interpreter import base_python, site_packages

_WORDS_KEPT = 40
# Where Debian's and Red Hat's families keep the certificate authorities that the machine trusts.
_AUTHORITIES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
_PACKAGE = re.compile(r"^\[\[packages\]\]$(.*?)(?=^\[\[|\Z)", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r'^(name|version) = "([^"]+)"$', re.MULTILINE)
_ARTEFACT = re.compile(r'url = "([^"]+)"[^}]*?sha256 = "([0-9a-f]{64})"')
_ONLY_SOURCE = re.compile(r"Wheels are required for `([^`]+)`")


@dataclass(frozen=True)
class Locked:
    """One package of a resolution; artefacts: file name and SHA-256 of what may be installed."""

    name: str
    version: str
    artefacts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Job:
    """One installation: into the new folder `made`, for whom `wanted` are the requirements.

    cache: uv's, on the filesystem of `made`, so that it hard-links; shared: the root of shared
    storage; source: whether what has no wheel may be built, between these walls.
    """

    made: Path
    published: Path
    wanted: tuple[str, ...]
    variables: Mapping[str, str]
    shared: Path
    cache: Path
    source: bool
    walls: sandbox.Walls

    @property
    def python(self) -> Path:
        return self.made / "bin" / "python"

    @property
    def site(self) -> Path:
        return site_packages(self.made)


def install(job: Job) -> tuple[str, dict[str, str]]:
    """Make the virtual environment; returns the installer's name and each wheel's SHA-256.

    The SHA-256 stand under the names of the packages' .dist-info folders; what was built from
    source has none there. requirements.lock is written into the environment. Raises BuildFailed,
    OnlySource.
    """
    uv = _uv(job.shared)
    locked = _with_uv(job, uv) if uv else _with_pip(job)
    lock, wheels = _as_installed(job.site, locked)
    files.write_text(job.made / layout.LOCK, lock)
    return ("uv" if uv else "pip"), wheels


def _uv(shared: Path) -> Optional[str]:
    shipped = shared / layout.BIN / layout.UV
    return str(shipped) if os.access(shipped, os.X_OK) else shutil.which("uv")


def _with_uv(job: Job, uv: str) -> list[Locked]:
    job.cache.mkdir(parents=True, exist_ok=True)
    own = {
        "UV_CACHE_DIR": str(job.cache),
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_NO_PROGRESS": "1",
        "UV_NO_CONFIG": "1",
        "UV_LINK_MODE": "hardlink",  # uv copies where it can't
        **as_uv_names_them(job.variables),
        **job.variables,
    }
    _run([uv, "venv", "--quiet", "--relocatable", "--python", base_python(), str(job.made)],
         job, own)  # fmt: skip
    if not job.wanted:
        return []
    folder = job.made.parent
    files.write_text(folder / "requirements.txt", _lines(w.partition(" --hash")[0]
                                                         for w in job.wanted))  # fmt: skip
    resolution = folder / "pylock.toml"
    # Two steps, so that what is installed is known to its last byte: the resolution names every
    # file with its hash, and only these files pass the second step.
    wheels = [] if job.source else ["--only-binary", ":all:"]
    python = ["--python", str(job.python)]
    _run([uv, "pip", "compile", "--quiet", "--format", "pylock.toml", *python, *wheels,
          "requirements.txt", "--output-file", resolution.name], job, own)  # fmt: skip
    locked = _checked(_read_resolution(resolution.read_text(encoding="utf-8")), job.wanted)
    files.write_text(folder / "locked.txt", _lines(map(_with_hashes, locked)))
    _run([uv, "pip", "install", "--no-deps", "--require-hashes", *python, *wheels,
          "-r", "locked.txt"], job, own)  # fmt: skip
    return locked


def as_uv_names_them(variables: Mapping[str, str]) -> dict[str, str]:
    # uv reads none of pip's variables, and trusts no authority that only this machine knows.
    told = {}
    if "PIP_CERT" in variables:
        told["SSL_CERT_FILE"] = variables["PIP_CERT"]
    elif any(Path(bundle).exists() for bundle in _AUTHORITIES):
        told["UV_SYSTEM_CERTS"] = "1"
    if "PIP_INDEX_URL" in variables and "UV_INDEX_URL" not in variables:
        told["UV_DEFAULT_INDEX"] = variables["PIP_INDEX_URL"]
    if "PIP_EXTRA_INDEX_URL" in variables:
        told["UV_INDEX"] = variables["PIP_EXTRA_INDEX_URL"]
        # As pip has it: the best version of all indexes, not what the first that knows it has.
        told["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    # What is not there pip passes over; uv would fail.
    links = [link for link in variables.get("PIP_FIND_LINKS", "").split() if _is_there(link)]
    if links:
        told["UV_FIND_LINKS"] = ",".join(links)
    return told


def _is_there(link: str) -> bool:
    parts = urlsplit(link)
    return parts.scheme not in ("", "file") or os.access(unquote(parts.path), os.R_OK | os.X_OK)


def _paths_in(value: str) -> Iterator[Path]:
    for word in value.split():
        parts = urlsplit(word)
        path = Path(unquote(parts.path))
        if (
            parts.scheme in ("", "file")
            and path.is_absolute()
            and (path.is_file() or path.is_dir())
        ):
            yield path


def _with_pip(job: Job) -> list[Locked]:
    _run([base_python(), "-m", "venv", str(job.made)], job, job.variables)
    locked = []
    if job.wanted:
        files.write_text(job.made.parent / "requirements.txt", _lines(job.wanted))
        report = job.made.parent / "report.json"
        own = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_PROGRESS_BAR": "off", **job.variables}
        wheels = [] if job.source else ["--only-binary", ":all:"]
        _run([str(job.python), "-m", "pip", "install", "--no-compile", *wheels,
              "--report", str(report), "-r", "requirements.txt"], job, own)  # fmt: skip
        for each in (files.read_json(report) or {}).get("install", ()):
            taken = each["download_info"]
            file, sha256 = _file(taken["url"]), taken["archive_info"]["hashes"]["sha256"]
            told = each["metadata"]
            locked.append(Locked(told["name"], told["version"], ((file, sha256),)))
    # A venv names its own place in its scripts: they must name where it will be.
    for script in (job.made / "bin").iterdir():
        if script.is_file() and not script.is_symlink():
            content = script.read_bytes()
            script.write_bytes(content.replace(os.fsencode(job.made), os.fsencode(job.published)))
    return locked


def _read_resolution(text: str) -> list[Locked]:
    # As uv writes it; a parser of TOML came with Python 3.11.
    found = []
    for block in _PACKAGE.findall(text):
        fields = dict(_FIELD.findall(block))
        artefacts = tuple((_file(url), sha256) for url, sha256 in _ARTEFACT.findall(block))
        found.append(Locked(fields["name"], fields["version"], artefacts))
    return found


def _checked(locked: Sequence[Locked], wanted: Sequence[str]) -> list[Locked]:
    """Where the project gives hashes itself, only files that have one of them."""
    asked = {}
    for line in wanted:
        bare, mark, hashes = line.partition(" --hash")
        if mark:
            asked[requirements.name_of(bare)] = set(re.findall(r"[0-9a-f]{64}", hashes))
    checked = []
    for each in locked:
        allowed = asked.get(requirements.name_of(each.name))
        kept = tuple(a for a in each.artefacts if allowed is None or a[1] in allowed)
        if not kept:
            raise BuildFailed(
                f"{each.name}=={each.version}: no file of the package index that fits this "
                "cluster has a hash that the project allows.",
                "",
            )
        checked.append(Locked(each.name, each.version, kept))
    return checked


def _with_hashes(each: Locked) -> str:
    return f"{each.name}=={each.version}" + "".join(
        f" --hash=sha256:{h}" for _, h in each.artefacts
    )


def _as_installed(site: Path, locked: Iterable[Locked]) -> tuple[str, dict[str, str]]:
    """The lock of what is there, in pip's format, and the SHA-256 of each installed wheel."""
    folders = {requirements.name_of(f.name.split("-")[0]): f for f in site.glob("*.dist-info")}
    machine = f"Python {platform.python_version()}, {sys.platform} {platform.machine()}"
    lines = [f"# {machine}. The same again: pip install --require-hashes -r {layout.LOCK}"]
    wheels = {}
    for each in sorted(locked, key=lambda one: one.name.lower()):
        folder = folders.get(requirements.name_of(each.name))
        if folder is None:
            continue
        tags = set(re.findall(r"^Tag: (\S+)", (folder / "WHEEL").read_text(), re.MULTILINE))
        fitting = [a for a in each.artefacts if tags & _tags(a[0])]
        if fitting:
            wheels[folder.name] = fitting[0][1]
        else:
            fitting = [a for a in each.artefacts if not a[0].endswith(".whl")] or [*each.artefacts]
        lines.append(f"{each.name}=={each.version} \\\n    --hash=sha256:{fitting[0][1]}")
    return _lines(lines), wheels


def _tags(wheel: str) -> set[str]:
    if not wheel.endswith(".whl"):
        return set()
    parts = wheel[: -len(".whl")].split("-")[-3:]
    return {"-".join(one) for one in product(*(part.split(".") for part in parts))}


def _file(url: str) -> str:
    return unquote(urlsplit(url).path.rsplit("/", 1)[-1])


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _run(command: Sequence[str], job: Job, variables: Mapping[str, str]) -> None:
    folder = job.made.parent
    if job.source:
        # What the administrator names by path (certificates, a folder of wheels) is to be there.
        named = [path for value in job.variables.values() for path in _paths_in(value)]
        walls = job.walls.around(
            hidden=[job.shared],
            readable=[*named, job.shared / layout.BIN],
            writable=[folder, job.cache],
            network=True,
        )
        command = sandbox.confined(command, walls)
    own = {"PATH": os.defpath, "LANG": "C.UTF-8", "HOME": str(folder), "TMPDIR": str(folder)}
    started: list[subprocess.Popen[bytes]] = []
    try:
        # Whoever is stopped just then must know already what there is to stop.
        with stopping.held_back() as hear_again:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env={**own, **variables},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=hear_again,  # noqa: PLW1509  # one thread, and it only sets a mask
            )
            started.append(process)
        told, _ = process.communicate()
    except BaseException:  # the job is being stopped: so is all that the installer started
        for process in started:
            with process, suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
        raise
    if process.returncode:
        words = told.decode(errors="replace").replace(str(folder) + os.sep, "").splitlines()
        details = "\n".join(words[-_WORDS_KEPT:])
        only_source = _ONLY_SOURCE.findall("\n".join(words))
        if only_source and not job.source:
            raise OnlySource(sorted(set(only_source)), details)
        raise BuildFailed(blame.sentence(details, job.wanted), details)
