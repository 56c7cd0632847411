"""What the nodes need on shared storage: the node program, uv, the site's settings, and folders."""

from __future__ import annotations

import hashlib
import json
import re
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

from uv import find_uv_bin

from nias_bridge.node import layout, ship
from nias_bridge.script import render_for_login_nodes
from nias_bridge.services.bridge import Bridge

_SECRET_NAME = re.compile(r"(?i)pass|secret|token|credential|(?:^|_)key")
_SECRET_VALUE = re.compile(r"://[^/\s]*@")


def install(bridge: Bridge) -> None:
    """Put the node program, uv and the site's settings for nodes on shared storage.

    Each is replaced by rename, and only where it changed: running jobs are not disturbed.
    """
    root, storage, settings = bridge.paths.root, bridge.storage, bridge.settings
    make_folders(bridge)
    if settings.identity == "unix":
        _open_to_passers(bridge)
    _put_program(bridge)
    _put_if_new(bridge, Path(find_uv_bin()), root / layout.BIN / layout.UV)
    site: dict[str, Any] = {
        "version": version("nias-bridge"),
        "python": settings.python,
        "build_variables": dict(settings.build_variables),
        "previews": settings.previews,
        "source_builds": settings.source_builds,
        "identity": settings.identity,
        "run_variables": dict(settings.run_variables),
        "sandbox": settings.sandbox,
        "sandbox_readonly": [str(folder) for folder in settings.sandbox_readonly],
        "job_network": settings.job_network,
        "limits": {
            "unpacked_bytes": settings.unpacked_max_bytes,
            "files": settings.unpacked_max_files,
            "ratio": settings.unpacked_max_ratio,
        },
    }
    mode = 0o644 if settings.identity == "unix" else 0o640
    storage.write(root / layout.BIN / layout.SITE, json.dumps(site, indent=1), mode)
    if settings.login_nodes:
        for_all = {**site, "pythons": dict(settings.pythons)}
        for kind in ("build_variables", "run_variables"):
            for_all[kind] = {k: v for k, v in site[kind].items() if not _is_secret(k, v)}
        told = json.dumps(for_all, indent=1)
        storage.write(root / layout.BIN / layout.SITE_FOR_ALL, told, 0o644)
        script = render_for_login_nodes(bridge.paths, settings)
        storage.write(root / layout.BIN / layout.LOGIN_SCRIPT, script, 0o644)
        if settings.identity == "service":
            _close_to_passers(bridge)
        _open_to_login_nodes(bridge)


def make_folders(bridge: Bridge) -> None:
    """The folders of shared storage, which may be there already."""
    root, storage = bridge.paths.root, bridge.storage
    for folder in (layout.BIN, layout.ENVIRONMENTS, layout.CACHE, layout.UPLOADS, layout.RUNS):
        storage.make_folder(root / folder)
    contents, settings = bridge.paths.dataset_contents, bridge.settings
    storage.make_folder(contents)
    if settings.identity == "unix" or (settings.login_nodes and not storage.why_no_acls(contents)):
        _open_datasets(bridge)
    else:
        storage.permit(root / layout.DATASETS, drop=0o007)


def _is_secret(name: str, value: str) -> bool:
    """Whether a variable may hold what not every account is to know."""
    return bool(_SECRET_NAME.search(name) or _SECRET_VALUE.search(value))


def _put_program(bridge: Bridge) -> None:
    """The node program; modules of an earlier version stay, for jobs that run."""
    folder, storage, program = bridge.paths.bin, bridge.storage, ship.program()
    if storage.info(folder / program.modules) is None:
        storage.write(folder / program.modules, ship.packed(program.sources), 0o644)
    script = folder / layout.NODE_PROGRAM
    if storage.contents([script], len(program.script)) != [program.script]:
        storage.write(script, program.script, 0o644)


def _put_if_new(bridge: Bridge, source: Path, target: PurePosixPath) -> None:
    there = bridge.storage.info(target)
    with source.open("rb") as file:
        if there and there.plain and there.size == source.stat().st_size:
            if bridge.storage.sha256(target) == hashlib.file_digest(file, "sha256").hexdigest():
                return
            file.seek(0)
        bridge.storage.put(target, file, 0o755)


def _open_to_login_nodes(bridge: Bridge) -> None:
    """Let every account read bin/ and make a folder in sbatch/.

    There the setgid bit gives all that is made to the gateway's group, which may read it; the
    sticky bit keeps accounts from each other's, and nobody can list what there is.
    """
    storage, paths = bridge.storage, bridge.paths
    storage.permit(paths.bin, add=0o055)
    storage.make_folder(paths.sbatch)
    storage.take_group(paths.sbatch)
    storage.permit(paths.sbatch, add=0o3733, drop=0o7777)
    storage.permit(paths.root, add=0o011)


def _close_to_passers(bridge: Bridge) -> None:
    """Let no account but the bridge's, as which jobs run, come to what is theirs."""
    for closed in (layout.ENVIRONMENTS, layout.CACHE, layout.UPLOADS, layout.RUNS):
        bridge.storage.permit(bridge.paths.root / closed, drop=0o007)


def _open_datasets(bridge: Bridge) -> None:
    """Let all accounts come through to contents and catalogues, each of which has an ACL that says
    who may read it."""
    storage, root = bridge.storage, bridge.paths.root
    storage.make_folder(bridge.paths.catalogues)
    for folder in (bridge.paths.catalogues, bridge.paths.dataset_contents, root / layout.DATASETS):
        storage.permit(folder, add=0o711, drop=0o777)


def _open_to_passers(bridge: Bridge) -> None:
    """Let the accounts that jobs run as come through to what is theirs, and see nothing on the way.

    What was written before for the bridge's own jobs is closed to them.
    """
    root, storage = bridge.paths.root, bridge.storage
    for folder in (layout.ENVIRONMENTS, layout.CACHE):
        storage.make_folder(root / folder / layout.PRIVATE)
        storage.permit(root / folder / layout.PRIVATE, add=0o711, drop=0o777)
    for folder in (".", layout.ENVIRONMENTS, layout.CACHE, layout.RUNS):
        storage.permit(root / folder, add=0o711, drop=0o777)
    storage.permit(bridge.paths.bin, add=0o755, drop=0o777)
    storage.permit(bridge.paths.uploads, add=0o700, drop=0o777)
    for owner in storage.entries(root / layout.RUNS):
        storage.permit(root / layout.RUNS / owner, drop=0o007)
