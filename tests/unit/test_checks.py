"""What a site's examination makes of what it is told; the rest is tried on a real Slurm."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nias_bridge.checks import database, folder, machine, nodes, report, storage
from nias_bridge.checks.clocks import graded_clock
from nias_bridge.checks.examination import examine
from nias_bridge.checks.points import Finding, Grade, Result, exit_status, fault, unknown, well
from nias_bridge.checks.subject import Subject, Wanted
from nias_bridge.errors import Unreachable
from nias_bridge.node import probe
from nias_bridge.node.mounts import Mount, mount_of
from nias_bridge.paths import SharedPaths
from nias_bridge.settings import Settings
from nias_bridge.slurm.answers import Output
from nias_bridge.storage import mounted

TABLE = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,errors=remount-ro
30 22 0:40 / /shared/our\\040lab rw,relatime shared:9 - nfs4 storage:/export rw,vers=4.2,hard
31 22 0:41 / /shared rw,relatime shared:9 - lustre 10.0.0.1@tcp:/l rw,localflock
32 31 0:42 / /shared/scratch rw - nfs storage:/old rw,vers=3,soft,nolock
"""


@pytest.fixture
def subject(tmp_path: Path) -> Callable[..., Subject]:
    """A site whose Slurm does not answer."""

    def make(**settings: Any) -> Subject:
        given = {
            "shared_root": tmp_path,
            "database_url": f"sqlite:///{tmp_path}/nias.db",
            "secret_key": "0123456789abcdef0123456789abcdef",
        }
        asked: list[Any] = []

        storage, root = mounted(tmp_path)

        def silent(argv: Any) -> Output:
            asked.append(argv)
            raise Unreachable(f"There is no answer to question {len(asked)}.")

        def unreachable() -> Any:
            raise AssertionError("the way to Slurm is not opened where slurmctld is silent")

        return Subject(
            settings=Settings(**{**given, **settings}),
            paths=SharedPaths(root, root),
            storage=storage,
            file=None,
            run=silent,
            system=silent,
            open_scheduler=unreachable,
            wanted=Wanted(wait=1),
        )

    return make


@pytest.mark.parametrize(
    ("path", "type_", "grade", "words"),
    [
        ("/var/lib/nias", "ext4", Grade.WELL, "ext4"),
        ("/shared/our lab/nias", "nfs4", Grade.WELL, "nfs4"),
        ("/shared/nias", "lustre", Grade.FAULT, "localflock"),
        ("/shared/scratch", "nfs", Grade.FAULT, "soft"),
        ("/shared/scratchy", "lustre", Grade.FAULT, "localflock"),
    ],
)
def test_the_mount_of_a_folder_is_known_with_what_in_it_is_harmful(
    tmp_path: Path, path: str, type_: str, grade: Grade, words: str
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(TABLE)
    mount = mount_of(Path(path), str(table))
    assert (mount.type, mount.network) == (type_, type_ != "ext4")
    finding = storage.graded_mount(mount._asdict())
    assert finding.grade is grade and words in finding.seen


@pytest.mark.parametrize(("identity", "grade"), [("service", Grade.WARNING), ("unix", Grade.WELL)])
def test_nfs_of_version_3_is_as_it_should_be_where_acls_are_needed(
    subject: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch, identity: str, grade: Grade
) -> None:
    mount = Mount("nfs", ("rw", "vers=3", "hard"))
    monkeypatch.setattr("nias_bridge.node.mounts.mount_of", lambda _: mount)
    assert storage.mount(subject(identity=identity)).grade is grade
    soft = Mount("nfs", ("rw", "vers=3", "soft"))
    monkeypatch.setattr("nias_bridge.node.mounts.mount_of", lambda _: soft)
    assert storage.mount(subject(identity=identity)).grade is Grade.FAULT


def test_a_database_that_everybody_may_read_is_a_fault_where_its_folder_lets_them(
    subject: Callable[..., Subject],
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        place, file = Path(made), Path(made) / "nias.db"
        file.touch()
        looked_at = subject(database_url=f"sqlite:///{file}")
        for file_mode, place_mode, grade in (
            (0o644, 0o755, Grade.FAULT),
            (0o644, 0o750, Grade.WELL),
            (0o640, 0o755, Grade.WELL),
        ):
            file.chmod(file_mode)
            place.chmod(place_mode)
            assert database.kind(looked_at).grade is grade, (file_mode, place_mode)


def test_this_machines_own_mounts_are_read() -> None:
    assert mount_of(Path("/proc")).type == "proc"
    assert mount_of(Path("/nowhere/at/all")) == mount_of(Path("/"))


def test_where_slurm_is_silent_all_other_points_are_looked_at_and_it_is_asked_once(
    subject: Callable[..., Subject],
) -> None:
    found = {(r.part, r.point): r.finding for r in examine(subject())}
    assert found["Slurm", "slurmctld"].grade is Grade.FAULT
    assert found["Shared storage", "writing"].grade is Grade.WELL
    silent = {f.seen for (part, _), f in found.items() if part == "Slurm"} - {
        "no runs are hidden from the bridge"
    }
    assert silent == {"There is no answer to question 1."}
    assert found["Nodes", "probe job"].grade is Grade.UNKNOWN
    assert exit_status(Result(*key, finding) for key, finding in found.items()) == 1


def test_a_point_that_fails_itself_hides_no_other(
    subject: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "shipped_version", lambda _: 1 / 0)
    found = {(r.part, r.point): r.finding for r in examine(subject())}
    assert found["Shared storage", "node program"] == unknown("ZeroDivisionError: division by zero")
    assert found["Shared storage", "mount"].grade is not Grade.UNKNOWN


@pytest.mark.parametrize(
    ("told", "grade"),
    [(99.5, Grade.WELL), (102.0, Grade.WELL), (110.0, Grade.WARNING), (20.0, Grade.FAULT)],
)
def test_clocks_are_apart_by_what_their_order_cannot_explain(told: float, grade: Grade) -> None:
    assert graded_clock("n1", told, 100.0, 101.5).grade is grade


@pytest.mark.parametrize(
    ("switch", "value", "mend"),
    [
        ("user.max_user_namespaces", "0", "max_user_namespaces=15000"),
        ("kernel.unprivileged_userns_clone", "0", "userns_clone=1"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "AppArmor profile"),
        ("user.max_user_namespaces", "15000", "bwrap --unshare-user"),
    ],
)
def test_walls_that_do_not_stand_are_told_with_the_switch_that_forbids_them(
    subject: Callable[..., Subject], switch: str, value: str, mend: str
) -> None:
    told = {"walls": "bubblewrap does not work: no namespace", "switches": {switch: value}}
    finding = nodes.walls(subject(), told)
    assert finding.grade is Grade.FAULT and mend in finding.mend


@pytest.mark.parametrize(
    ("config", "limit", "grade"),
    [
        ({"SelectTypeParameters": "CR_CORE"}, 1, Grade.WARNING),
        ({"SelectTypeParameters": "CR_CORE_MEMORY"}, 500, Grade.WELL),
        ({"SelectTypeParameters": "CR_CORE_MEMORY"}, None, Grade.WARNING),
        (
            {"SelectTypeParameters": "CR_CPU_MEMORY", "JobAcctGatherParams": "OverMemoryKill"},
            None,
            Grade.WELL,
        ),
    ],
)
def test_memory_is_kept_by_the_kernel_by_looking_or_by_nobody(
    subject: Callable[..., Subject], config: dict[str, str], limit: int | None, grade: Grade
) -> None:
    told = "".join(f"{name} = {value}\n" for name, value in config.items())
    examined = subject()
    object.__setattr__(examined, "run", lambda _: Output(0, told, ""))
    finding = nodes.memory(examined, {"memory_limit": limit, "memory": 1000})
    assert finding.grade is grade


def test_a_gateway_whose_locks_are_not_the_nodes_is_told(subject: Callable[..., Subject]) -> None:
    finding = nodes.locks(subject(), {"lock": "what the gateway had locked was free here"})
    assert finding.grade is Grade.FAULT and "was free here" in finding.seen


@pytest.mark.parametrize(("identity", "grade"), [("unix", Grade.FAULT), ("service", Grade.SKIPPED)])
def test_a_storage_without_acls_is_a_fault_where_jobs_are_their_owners(
    subject: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch, identity: str, grade: Grade
) -> None:
    asked = subject(identity=identity)
    assert storage.acls(asked).grade is Grade.WELL

    def refuse(*_args: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", refuse)
    assert storage.acls(asked).grade is grade
    assert "no POSIX ACLs (Operation not supported)" in storage.acls(asked).seen
    assert list(Path(asked.paths.root).iterdir()) == []


def test_the_probe_tells_whether_a_lock_of_the_gateways_holds(tmp_path: Path) -> None:
    (tmp_path / probe.HELD).touch()
    asked = {"token": "t", "pythons": ["python3"], "sandbox": False, "locked": True}
    told = probe.facts(tmp_path, tmp_path, {**asked, "build_variables": {}})
    assert told["lock"] == "what the gateway had locked was free here"
    assert told["pythons"]["python3"]["version"].startswith("3.")
    assert told["uv"] == {"missing": f"{tmp_path}/bin/uv"}
    assert json.loads(json.dumps(told))["memory"] == told["memory"]


@pytest.mark.parametrize(
    ("findings", "status"),
    [
        ((well(""),), 0),
        ((well(""), unknown("")), 2),
        ((unknown(""), fault("", "")), 1),
        ((Finding(Grade.WARNING, ""), Finding(Grade.SKIPPED, "")), 0),
    ],
)
def test_the_exit_status_is_that_of_the_worst(findings: tuple[Finding, ...], status: int) -> None:
    assert exit_status(Result("", "", finding) for finding in findings) == status


def test_lines_say_what_was_seen_and_beneath_it_the_mend() -> None:
    results = [
        Result("Slurm", "clock", well("slurmctld has the same time")),
        Result("Nodes", "uv", fault("uv does not run there: it is broken", "make it whole"), "gpu"),
    ]
    assert list(report.lines(iter(results), 60, lambda text, _: text)) == [
        "Slurm",
        "  ✓ well     clock           slurmctld has the same time",
        "",
        "Nodes of the partition gpu",
        "  ✗ fault    uv              uv does not run there: it is",
        "                             broken",
        "                             → make it whole",
        "",
        "2 points: 1 well, 0 warnings, 1 fault.",
    ]


def test_what_lets_jobs_be_others_is_put_in_place_where_slurms_commands_are_run(
    subject: Callable[..., Subject],
) -> None:
    def nothing(_: Any) -> Output:
        return Output(1, "", "No such file or directory")

    def mend(**settings: Any) -> str:
        found = machine.identity(replace(subject(identity="unix", **settings), system=nothing))
        assert found.grade is Grade.FAULT
        return found.mend

    assert "nias-bridge install-run-as --gateway" in mend()
    assert "as root on login.lab: what `nias-bridge print-run-as`" in mend(ssh_host="login.lab")
