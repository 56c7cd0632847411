#!/usr/bin/python3 -IS
"""All that the gateway may have done as root: give a run's folder to an account, and submit or
cancel its job as that account. Run through sudo; it believes nothing that it is told.

    run-as hand-over ACCOUNT OWNER/PROJECT/NUMBER
    run-as submit ACCOUNT OWNER/PROJECT/NUMBER JOBNAME LOG
    run-as cancel ACCOUNT JOBNAME JOBID
    run-as cancel-tasks ACCOUNT JOBID TASK,TASK,…

Where shared storage and Slurm are, and who the gateway is, stands in run-as.json beside it, which
belongs to root. As root it only makes folders over; sbatch and scancel are run as the account.
Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import errno
import grp
import json
import os
import pwd
import re
import signal
import stat
import struct
import sys
import time
from collections.abc import Callable

Site = dict[str, str]
ANSWER_SECONDS = 25  # then sbatch is ended: sudo's caller can't do it
UID_MIN = 1000
NOBODY = (65534, 65535, 2**32 - 2)
NO_LOGIN = ("nologin", "false")
PRIVILEGED = frozenset(
    [
        *("root", "sudo", "wheel", "admin", "adm", "sys", "daemon", "bin", "staff", "operator"),
        *("docker", "podman", "lxd", "lxc", "incus", "incus-admin", "libvirt", "libvirt-qemu"),
        *("disk", "kmem", "mem", "shadow", "utmp", "systemd-journal"),
        *("slurm", "slurmadmin", "munge", "mysql", "postgres"),
    ]
)
_ACCOUNT = r"[a-z_][a-z0-9_-]{0,31}"
_PROJECT = r"[A-Za-z0-9][A-Za-z0-9._~-]{0,63}"
_RUN = rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,63}}/{_PROJECT}/[1-9][0-9]{{0,8}}"
_JOB_NAME = rf"nias-[a-z0-9]{{1,32}}-{_PROJECT}"
_ANY_NAME = r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}"  # a person's own job can be called anything
_LOG = r"slurm[.]out|tasks-%a[.]out"
_JOB_ID = r"[1-9][0-9]{0,9}"
_TASKS = r"[0-9]{1,7}(?:,[0-9]{1,7})*"
WORDS = {
    "hand-over": (_ACCOUNT, _RUN),
    "submit": (_ACCOUNT, _RUN, _JOB_NAME, _LOG),
    "cancel": (_ACCOUNT, _ANY_NAME, _JOB_ID),
    "cancel-tasks": (_ACCOUNT, _JOB_ID, _TASKS),
}
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# POSIX ACLs as the kernel takes them: who, by a tag and an id, and what they may.
_USER_OBJ, _USER, _GROUP_OBJ, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_NO_ID = 2**32 - 1
_ACCESS, _DEFAULT = "system.posix_acl_access", "system.posix_acl_default"


class Refused(Exception):
    """What was asked is not allowed; the words say why."""


def main(arguments: list[str], config: str) -> int:
    """Do what is asked, or say why not; submitting and cancelling do not come back."""
    try:
        command, account_name, *words = checked(arguments)
        site = read_config(config)
        account = account_of(account_name, site)
        if command == "hand-over":
            hand_over(site, account, words[0])
            return 0
        become(account)
        argv = ARGVS[command](site, *words)
        signal.alarm(ANSWER_SECONDS)  # it outlives exec
        os.execve(argv[0], argv, environment(site, account))
    except Refused as error:
        sys.stderr.write(f"run-as: refused: {error}\n")
    except OSError as error:
        sys.stderr.write(f"run-as: failed: {error}\n")
    return 1


def checked(arguments: list[str]) -> list[str]:
    """The arguments, each of which looks as it should. Raises Refused."""
    patterns = WORDS.get(arguments[0] if arguments else "")
    if patterns is None or len(arguments) != len(patterns) + 1:
        raise Refused("these are not its arguments")
    for pattern, word in zip(patterns, arguments[1:]):
        if not re.fullmatch(pattern, word, re.ASCII):
            raise Refused(f"{word[:80]!a} can't be an argument here")
    return arguments


def read_config(path: str) -> Site:
    """What stands in the file, which root alone can have written. Raises Refused."""
    with open(os.open(path, _FILE), encoding="utf-8") as file:
        for status in (os.fstat(file.fileno()), os.stat(os.path.dirname(path))):
            if status.st_uid != 0 or status.st_mode & 0o022:
                raise Refused(f"{path} and its folder must be root's, and nobody else's to write")
        return dict(json.load(file))


def account_of(name: str, site: Site) -> pwd.struct_passwd:
    """The account, where a researcher's jobs may run as it. Raises Refused."""
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        raise Refused(f"there is no account {name}") from None
    gateway = pwd.getpwnam(site["gateway"])
    if account.pw_name != name or account.pw_uid < UID_MIN or account.pw_uid in NOBODY:
        raise Refused(f"{name} is the system's account, not a person's")
    if account.pw_uid == gateway.pw_uid:
        raise Refused(f"{name} is the gateway's own account")
    if os.path.basename(account.pw_shell) in NO_LOGIN or is_locked(name):
        raise Refused(f"the account {name} is disabled")
    groups = {group_name(number) for number in os.getgrouplist(name, account.pw_gid)}
    if privileged := groups & (PRIVILEGED | {group_name(gateway.pw_gid)}):
        raise Refused(f"{name} is in a privileged group ({', '.join(sorted(privileged))})")
    if site.get("only_group") and site["only_group"] not in groups:
        raise Refused(f"{name} is not in the group {site['only_group']}")
    return account


def group_name(number: int) -> str:
    """The group's name, else its number."""
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def is_locked(name: str) -> bool:
    """Whether this machine's own list has the account expired, or its password locked."""
    with open("/etc/shadow", encoding="utf-8") as lines:
        for line in lines:
            fields = line.rstrip("\n").split(":")
            if fields[0] == name:
                password, expires = fields[1], fields[7]
                was_set = password.startswith("!") and password.strip("!*") != ""
                return was_set or bool(expires and int(expires) * 86400 <= time.time())
    return False


def hand_over(site: Site, account: pwd.struct_passwd, run: str) -> None:
    """Make the run's folder, and its owner's own environments and caches, the account's.

    The gateway may go on reading and writing there; nobody else may. Each step opens the next
    folder from within the last one, and none of them may be a link.
    """
    gateway = pwd.getpwnam(site["gateway"])
    owner, project, number = run.split("/")
    shared = os.open(site["shared"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for place in ("envs", "cache"):
        private = enter(enter(shared, place, gateway), "private", gateway)
        give_folder(private, owner, account, gateway)
    folder = enter(shared, "runs", gateway)
    for part in (owner, project):
        folder = enter(folder, part, gateway)
        put_acl(folder, _ACCESS, acl(7, account.pw_uid, 1))
    give_folder(folder, number, account, gateway)


def enter(folder: int, name: str, gateway: pwd.struct_passwd) -> int:
    """The gateway's own folder of this name, opened. Raises Refused."""
    inner = os.open(name, _FOLDER, dir_fd=folder)
    if os.fstat(inner).st_uid != gateway.pw_uid:
        raise Refused(f"the folder {name} is not the gateway's")
    return inner


def give_folder(
    above: int, name: str, account: pwd.struct_passwd, gateway: pwd.struct_passwd
) -> None:
    """A folder and the plain files in it become the account's; one that is stays as it is.

    The folder itself comes last: before, the account can't get in to put something else there.
    """
    folder = os.open(name, _FOLDER, dir_fd=above)
    holder = os.fstat(folder).st_uid
    if holder == account.pw_uid:
        return
    if holder != gateway.pw_uid:
        raise Refused(f"the folder {name} belongs to neither the gateway nor {account.pw_name}")
    for inner in os.listdir(folder):
        file = os.open(inner, _FILE, dir_fd=folder)
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise Refused(f"{inner} in the folder {name} is not a plain file")
        if status.st_uid not in (gateway.pw_uid, account.pw_uid):
            raise Refused(f"{inner} in the folder {name} belongs to somebody else")
        put_acl(file, _ACCESS, acl(6, gateway.pw_uid, 6))
        os.fchown(file, account.pw_uid, account.pw_gid)
        os.close(file)
    for kind in (_ACCESS, _DEFAULT):
        put_acl(folder, kind, acl(7, gateway.pw_uid, 7))
    os.fchown(folder, account.pw_uid, account.pw_gid)


def put_acl(file: int, kind: str, entries: bytes) -> None:
    """Give an open file or folder an ACL. Raises OSError."""
    try:
        os.setxattr(file, kind, entries)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            words = "shared storage has no POSIX ACLs here (NFS has them in version 3 alone)"
            raise OSError(errno.ENOTSUP, words) from None
        raise


def acl(own: int, user: int, users: int) -> bytes:
    """The owner may do `own`, one further user `users` (bits as of chmod), nobody else anything."""
    entries = (
        (_USER_OBJ, own, _NO_ID),
        (_USER, users, user),
        (_GROUP_OBJ, 0, _NO_ID),
        (_MASK, users, _NO_ID),
        (_OTHER, 0, _NO_ID),
    )
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def become(account: pwd.struct_passwd) -> None:
    """From here on this process is the account's, for good."""
    os.initgroups(account.pw_name, account.pw_gid)
    os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
    os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
    os.umask(0o077)
    os.chdir("/")


def environment(site: Site, account: pwd.struct_passwd) -> dict[str, str]:
    """All that sbatch gets, and so all that it hands on to the job."""
    told = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "USER": account.pw_name,
        "LOGNAME": account.pw_name,
        "HOME": account.pw_dir,
    }
    return {**told, "SLURM_CONF": site["slurm_conf"]} if site.get("slurm_conf") else told


def sbatch(site: Site, run: str, name: str, log: str) -> list[str]:
    """As the gateway itself would call it; what the job needs is in the script."""
    folder = os.path.join(site["shared"], "runs", run)
    return [
        os.path.join(site["slurm_bin"], "sbatch"),
        "--parsable",
        f"--job-name={name}",
        f"--output={folder}/{log}",
        "--open-mode=append",
        f"--chdir={folder}",
        f"{folder}/job.sbatch",
    ]


def scancel(site: Site, name: str, job_id: str) -> list[str]:
    """Id and name must fit: Slurm gives a lost job's id to the next one."""
    return [os.path.join(site["slurm_bin"], "scancel"), f"--name={name}", job_id]


def scancel_tasks(site: Site, job_id: str, tasks: str) -> list[str]:
    """With a name scancel would end all tasks that wait."""
    named = [f"{job_id}_{task}" for task in tasks.split(",")]
    return [os.path.join(site["slurm_bin"], "scancel"), *named]


ARGVS: dict[str, Callable[..., list[str]]] = {
    "submit": sbatch,
    "cancel": scancel,
    "cancel-tasks": scancel_tasks,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], f"{os.path.abspath(__file__)}.json"))
