"""Settings become a bridge: the one place that names concrete classes."""

from __future__ import annotations

import logging
import os
from pathlib import Path, PurePosixPath

from nias_bridge.checks.subject import Subject, Wanted
from nias_bridge.errors import SettingsError, StorageUnreachable
from nias_bridge.node import layout
from nias_bridge.paths import SharedPaths
from nias_bridge.ports import Scheduler
from nias_bridge.services import provision
from nias_bridge.services.bridge import Bridge
from nias_bridge.settings import CONFIG_VARIABLE, DEFAULT_CONFIG, Settings
from nias_bridge.slurm.cli import CliScheduler
from nias_bridge.slurm.files import LoginFiles
from nias_bridge.slurm.getent import Getent
from nias_bridge.slurm.local import LocalRunner
from nias_bridge.slurm.native import beside
from nias_bridge.slurm.ssh import Connection, Login, SshRunner
from nias_bridge.slurm.sudo import SudoAs
from nias_bridge.storage import Storage, mounted
from nias_bridge.store import open_store

log = logging.getLogger(__name__)


def open_connection(settings: Settings) -> Connection | None:
    """The one connection of a process to the login node, where the settings name one; nothing is
    sent yet."""
    if settings.ssh_host is None:
        return None
    login = Login(
        host=settings.ssh_host,
        port=settings.ssh_port,
        user=settings.ssh_user,
        key=settings.ssh_key,
        certificate=settings.ssh_certificate,
        known_hosts=settings.ssh_known_hosts,
    )
    return Connection(login, settings.slurm_timeout)


def open_gateway(settings: Settings) -> Bridge:
    """As `open_bridge`, with the folders that uploads need, where the storage is to be had."""
    bridge = open_bridge(settings)
    try:
        provision.make_folders(bridge)
    except StorageUnreachable as error:  # the pages know much without it; the poller tries again
        log.warning("%s", error)
    return bridge


def open_bridge(settings: Settings, connection: Connection | None = None) -> Bridge:
    """A bridge whose database is at this version's schema; shared storage is not looked at yet.

    Raises OldSchema, SettingsError. connection: that of the process, where it has one already.
    """
    if settings.identity == "unix":
        os.umask(0o077)  # what is written for a run is nobody else's, until it is handed over
    there = connection or open_connection(settings)
    storage, root = _open_storage(settings, there)
    return Bridge(
        settings=settings,
        paths=SharedPaths(root, settings.root_on_cluster),
        storage=storage,
        store=open_store(settings.database_url),
        accounts=Getent(_system(settings, there)),
    )


def open_subject(settings: Settings, wanted: Wanted) -> Subject:
    """What `nias-bridge doctor` examines. Nothing is opened yet, nor written."""
    folder, conf, timeout = settings.slurm_bin, settings.slurm_conf, settings.slurm_timeout
    there = open_connection(settings)
    storage, root = _open_storage(settings, there)
    file = Path(os.environ.get(CONFIG_VARIABLE, DEFAULT_CONFIG))
    return Subject(
        settings=settings,
        paths=SharedPaths(root, settings.root_on_cluster),
        storage=storage,
        file=file if file.is_file() else None,
        run=SshRunner(there, folder, conf, timeout)
        if there
        else LocalRunner(folder, conf, timeout),
        system=_system(settings, there),
        open_scheduler=lambda: open_scheduler(settings, there),
        wanted=wanted,
    )


def open_scheduler(settings: Settings, connection: Connection | None = None) -> Scheduler:
    """The way to Slurm that the settings name. Raises SettingsError.

    connection: that of the process, where it has one already.
    """
    folder, conf, timeout = settings.slurm_bin, settings.slurm_conf, settings.slurm_timeout
    there, as_user = connection or open_connection(settings), None
    if settings.identity == "unix":
        runs = settings.root_on_cluster / layout.RUNS
        as_user = SudoAs(_system(settings, there), settings.run_as, runs)
        log.info("Jobs are submitted as their owners' accounts.")
    if there:
        log.info("Slurm is asked by its commands on %s.", there.login)
        return CliScheduler(SshRunner(there, folder, conf, timeout), as_user)
    here = LocalRunner(folder, conf, timeout)
    if as_user:
        log.info("Slurm is asked by its commands.")
        return CliScheduler(here, as_user)
    if settings.slurm_via == "command-line":
        log.info("Slurm is asked by its commands, as slurm_via says.")
        return CliScheduler(here)
    return _native_where_it_fits(here, must_fit=settings.slurm_via == "pyslurm")


def _open_storage(settings: Settings, there: Connection | None) -> tuple[Storage, PurePosixPath]:
    """Shared storage by the way that the settings name, and where it is there."""
    if settings.storage == "mounted" or there is None:
        return mounted(settings.shared_root)
    root = PurePosixPath(settings.shared_root)
    umask = 0o077 if settings.identity == "unix" else 0o027
    log.info("Shared storage is %s on %s.", root, there.login)
    return Storage(LoginFiles(there, root, settings.python, umask, settings.slurm_timeout)), root


def _system(settings: Settings, there: Connection | None) -> LocalRunner | SshRunner:
    """Runs what is none of Slurm's commands on the machine where these are run."""
    if there is None:
        return LocalRunner(timeout=settings.slurm_timeout)
    return SshRunner(there, timeout=settings.slurm_timeout)


def _native_where_it_fits(here: LocalRunner, *, must_fit: bool) -> Scheduler:
    native = beside(here)
    why = native.unfit()
    if not why:
        log.info("Slurm is asked by pyslurm, which is there and fits the cluster.")
        return native
    native.worker.close()
    if must_fit:
        raise SettingsError(f"slurm_via is “pyslurm”, but {why}. Set it to “auto” to do without.")
    log.info("Slurm is asked by its commands: %s.", why)
    return native.by_command
