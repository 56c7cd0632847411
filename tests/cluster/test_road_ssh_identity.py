"""Jobs as their owners' accounts where the gateway reaches Slurm on a login node alone, and knows
none of the accounts there."""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import granted
import loginnode
import pytest
from accounts import a_place_for_it, account, do, once_unlocked
from client import Client
from loginnode import LoginNode
from promised import missing
from sites import jobs_named, served
from unixlab import SAYS_WHO, WAITS, Lab, Researcher, alice_at_work, recorded

from nias_bridge import site as sites
from nias_bridge.localcluster import LocalCluster
from nias_bridge.site import Site, SiteError, running, said
from nias_bridge.slurm.ssh import Connection, SshRunner
from nias_bridge.slurm.sudo import SudoAs

PROGRAM = (sys.executable, "-m", "nias_bridge.cli")  # what site.command begins with


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[None]:
    """The gateway's programs run on a machine of their own: one whose /etc was copied before the
    test's accounts and its rule of sudo's were made."""
    with tempfile.TemporaryDirectory(prefix="nias-etc-") as made:
        etc = Path(made) / "etc"
        copied = subprocess.run(
            ["cp", "-a", "/etc", etc], capture_output=True, text=True, check=False
        )
        # Other tests make accounts meanwhile: files for a moment, of which none is wanted here.
        told = [line for line in copied.stderr.splitlines() if "No such file" not in line]
        assert told == []
        Path(made).chmod(0o755)
        try:
            subprocess.run(["unshare", "--mount", "true"], check=True, capture_output=True)
        except subprocess.CalledProcessError as error:
            missing(f"no mounts of its own here: {error.stderr!r}")
        command = sites.command

        def on_its_machine(site: Site, *words: str) -> dict[str, Any]:
            called = command(site, *words)
            user = called.pop("user")
            become = ["setpriv", f"--reuid={user}", f"--regid={called.pop('group')}"]
            become += ["--clear-groups", "--pdeathsig", "TERM", "--", *called["args"]]
            mount = f'mount --bind {etc} /etc && exec "$@"'
            called.pop("extra_groups")
            return {
                **called,
                "args": ["unshare", "--mount", "sh", "-c", mount, "sh", *become],
            }

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sites, "SERVICE_USER", loginnode.ACCOUNT)
            patch.setattr(sites, "command", on_its_machine)
            yield


@contextmanager
def put_in_place(site: Site, program: Path) -> Iterator[None]:
    """What the printed script does as root on the login node."""
    sudoers = Path("/etc/sudoers.d", f"nias-test-{secrets.token_hex(3)}")
    script = said(site, "print-run-as", "--sudoers", str(sudoers))
    done = subprocess.run(
        ["/usr/bin/python3", "-I", "-"], input=script, capture_output=True, text=True, check=False
    )
    try:
        told = f"{program} is in place; {sudoers} lets {loginnode.ACCOUNT} call it.\n"
        assert (done.stdout, done.stderr) == (told, "")
        yield
    finally:
        sudoers.unlink(missing_ok=True)
        shutil.rmtree(program.parent, ignore_errors=True)


def linked(site: Site, handle: str, unix: str) -> Researcher:
    """Somebody new, linked by the command, which asks the login node for the account."""
    email = f"{handle}@lab.org"
    said(site, "user", "add", email, "--unix-account", unix)
    return Researcher(handle, unix, Client(site.url, said(site, "token", "add", email)))


@contextmanager
def a_distant_lab(
    cluster: LocalCluster, login_node: LoginNode, make_site: Callable[..., Site], **settings: Any
) -> Iterator[Lab]:
    program, login = a_place_for_it(), login_node.login
    key = login_node.folder / "gateway-of-people"
    shutil.copy(login.key, key)
    shutil.chown(key, login.user)
    with ExitStack() as stack:
        alice, bob = (stack.enter_context(account(word)) for word in ("alice", "bob"))
        made = make_site(
            cluster,
            identity="unix",
            run_as=program,
            ssh_host=login.host,
            ssh_port=login.port,
            ssh_user=login.user,
            ssh_key=key,
            ssh_known_hosts=login.known_hosts,
            **settings,
        )
        stack.enter_context(put_in_place(made, program))
        stack.enter_context(served(made))
        stack.enter_context(running(made, "poll"))
        yield Lab(made, program, linked(made, "alice", alice), linked(made, "bob", bob))


@pytest.fixture(scope="module")
def lab(
    cluster: LocalCluster,
    login_node: LoginNode,
    make_site: Callable[..., Site],
    nias: str,
    elsewhere: None,
) -> Iterator[Lab]:
    with a_distant_lab(cluster, login_node, make_site) as made:
        yield made


@pytest.fixture
def afar(
    cluster: LocalCluster,
    login_node: LoginNode,
    make_site: Callable[..., Site],
    nias: str,
    elsewhere: None,
) -> Iterator[Lab]:
    """… and storage is the login node's alone too."""
    with a_distant_lab(cluster, login_node, make_site, storage="ssh") as made:
        yield made


at_work = pytest.fixture(alice_at_work)
folder = pytest.fixture(granted.a_folder)
home = pytest.fixture(granted.a_home)


def test_a_job_runs_as_its_owners_account_which_the_login_node_alone_knows(
    lab: Lab, slurm: Callable[..., str]
) -> None:
    etc = Path("/etc/passwd").read_text()
    for who in (lab.alice, lab.bob):
        assert who.account in etc and who.account not in _accounts_of_the_gateway(lab)
        run = who.client.ended(who.client.upload(SAYS_WHO)["id"])
        assert run["state"] == "COMPLETED", who.client.log(run["id"])
        assert who.client.results(run["id"])["who.txt"] == f"{who.uid} {who.account}".encode()
        assert recorded(slurm, run) == (who.account, "COMPLETED")
        assert lab.folder(who, run).stat().st_uid == who.uid
        other = lab.bob if who is lab.alice else lab.alice
        assert "Permission denied" in do(other.account, ["ls", lab.folder(who, run)]).stderr


def _accounts_of_the_gateway(lab: Lab) -> str:
    """What its own machine has in /etc/passwd."""
    called = sites.command(lab.site)
    called["args"] = [*called["args"][: -len(PROGRAM)], "cat", "/etc/passwd"]
    return subprocess.run(**called, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def astray(lab: Lab, login_node: LoginNode) -> Iterator[SudoAs]:
    """What a gateway that was led astray could ask of the login node."""
    connection = Connection(login_node.login, timeout=10)
    yield SudoAs(SshRunner(connection, timeout=15), lab.program, lab.shared / "runs")
    connection.close()


def test_a_job_is_cancelled_as_its_owner_and_by_nobody_else(
    lab: Lab, astray: SudoAs, at_work: dict[str, Any], slurm: Callable[..., str]
) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        lab.bob.client.cancel(at_work["id"])
    job, name = at_work["job_id"], at_work["job_name"]
    assert "denied" in astray.cancel(lab.bob.account, job, name=name).stderr
    script = lab.folder(lab.alice, at_work) / "job.sbatch"
    stolen = astray.submit(lab.bob.account, script, name=name, log=script.with_name("slurm.out"))
    assert "belongs to neither the gateway nor" in stolen.stderr
    assert lab.alice.client.run(at_work["id"])["state"] == "RUNNING"
    lab.alice.client.cancel(at_work["id"])
    run = lab.alice.client.ended(at_work["id"])
    assert recorded(slurm, run) == (lab.alice.account, f"CANCELLED by {lab.alice.uid}")


def test_one_task_of_a_sweep_is_cancelled_as_its_owner_and_by_nobody_else(
    lab: Lab, astray: SudoAs
) -> None:
    bob = lab.bob.client
    code = "import os, time; time.sleep(600 * int(os.environ['NIAS_PARAM_LONG']))\n"
    toml = "[sweep]\ngrid = { long = [0, 1] }\n"
    run_id = bob.upload(code, more={"nias.toml": toml})["id"]
    run = bob.wait(run_id, lambda run: run["state"] == "RUNNING")
    assert "denied" in astray.cancel_tasks(lab.alice.account, run["job_id"], [1]).stderr
    bob.post(f"/api/v1/runs/{run_id}/tasks/1/cancel")
    bob.ended(run_id)
    listed = json.loads(bob.get(f"/api/v1/runs/{run_id}/tasks"))
    assert [task["state"] for task in listed["tasks"]] == ["COMPLETED", "CANCELLED"]


@pytest.fixture
def answers_late(lab: Lab) -> Iterator[Path]:
    """An sbatch that has submitted, and does not say so before its file `go` is there."""
    told = lab.program.with_name(f"{lab.program.name}.json")
    kept = told.read_text()
    folder = Path(tempfile.mkdtemp(prefix="nias-late-"))
    folder.chmod(0o777)
    real = json.loads(kept)["slurm_bin"]
    late = folder / "sbatch"
    late.write_text(
        f'#!/bin/sh\nid=$({real}/sbatch "$@") || exit\ntouch {folder}/submitted\n'
        f"until test -e {folder}/go; do sleep 0.1; done\necho $id\n"
    )
    late.chmod(0o755)
    (folder / "scancel").symlink_to(f"{real}/scancel")
    told.write_text(json.dumps({**json.loads(kept), "slurm_bin": str(folder)}))
    yield folder
    (folder / "go").touch()
    told.write_text(kept)
    shutil.rmtree(folder, ignore_errors=True)


def test_a_connection_that_drops_in_mid_submission_leaves_one_job_that_is_found_by_its_name(
    lab: Lab, login_node: LoginNode, answers_late: Path, slurm: Callable[..., str]
) -> None:
    run = lab.alice.client.upload(SAYS_WHO)
    deadline = time.monotonic() + 30
    while not (answers_late / "submitted").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    login_node.signal(signal.SIGKILL)
    run = lab.alice.client.ended(run["id"])
    assert run["state"] == "COMPLETED", run
    assert jobs_named(slurm, run["job_name"]) == [str(run["job_id"])]
    assert recorded(slurm, run) == (lab.alice.account, "COMPLETED")
    assert f"run {run['id']}: " in lab.site.log("poll").read_text()
    assert "Looking for its job by name" in lab.site.log("poll").read_text()


def test_connections_that_die_again_and_again_lose_no_run_and_start_none_twice(
    lab: Lab, login_node: LoginNode, slurm: Callable[..., str]
) -> None:
    clients = [lab.alice.client, lab.bob.client]
    runs = [(client, client.upload(SAYS_WHO)["id"]) for client in clients * 2]
    for client, run_id in runs:
        login_node.signal(signal.SIGKILL)
        client.wait(run_id, lambda told: told["state"] != "RECEIVED")
    for client, run_id in runs:
        ended = client.ended(run_id)
        assert ended["state"] == "COMPLETED", ended
        assert jobs_named(slurm, ended["job_name"]) == [str(ended["job_id"])]


def test_who_was_unlinked_is_told_so_and_the_job_that_runs_is_cancelled_all_the_same(
    lab: Lab, at_work: dict[str, Any], slurm: Callable[..., str]
) -> None:
    said(lab.site, "user", "account", lab.alice.email)
    try:
        with pytest.raises(urllib.error.HTTPError, match="403") as refused:
            lab.alice.client.upload(SAYS_WHO)
        assert "ask the administrator to link one" in json.load(refused.value)["detail"]
        lab.alice.client.cancel(at_work["id"])
        run = lab.alice.client.ended(at_work["id"])
        assert recorded(slurm, run) == (lab.alice.account, f"CANCELLED by {lab.alice.uid}")
    finally:
        said(lab.site, "user", "account", lab.alice.email, lab.alice.account)


def test_an_account_that_is_locked_on_the_login_node_runs_nothing(lab: Lab) -> None:
    with account("carol", "--password", "$6$salt$hash") as unix:
        carol = linked(lab.site, "carol", unix)
        once_unlocked(["usermod", "--lock", unix])
        run = carol.client.ended(carol.client.upload(SAYS_WHO)["id"])
        assert run["state"] == "REJECTED"
        assert f"the account {unix} is disabled" in run["note"]
        once_unlocked(["usermod", "--unlock", unix])
        run = carol.client.ended(carol.client.upload(SAYS_WHO)["id"])
        assert run["state"] == "COMPLETED", carol.client.log(run["id"])


@pytest.mark.parametrize("refused", ["no-such-account", "root", loginnode.ACCOUNT])
def test_what_the_login_node_does_not_know_as_a_persons_is_not_linked(
    refused: str, lab: Lab
) -> None:
    with pytest.raises(SiteError, match=r"no Unix account|account of the system"):
        said(lab.site, "user", "account", lab.bob.email, refused)


def test_who_is_in_a_privileged_group_there_is_not_linked(lab: Lab) -> None:
    with account("dave", "--groups", "disk") as unix, pytest.raises(SiteError, match="group disk"):
        said(lab.site, "user", "account", lab.bob.email, unix)


def test_what_she_gives_to_sbatch_on_the_login_node_is_hers_here_and_cancelled_as_her(
    lab: Lab, slurm: Callable[..., str], cluster: LocalCluster
) -> None:
    alice = lab.alice
    with tempfile.TemporaryDirectory(prefix="nias-home-") as made:
        Path(made).chmod(0o755)
        project = Path(made) / "by-hand"
        project.mkdir()
        (project / "code.py").write_text(WAITS)
        environment = {"SLURM_CONF": str(cluster.slurm_conf), "PATH": "/usr/bin:/bin"}
        given = ["sbatch", "--parsable", lab.shared / "bin" / "nias.sbatch", project]
        job_id = int(do(alice.account, given, env=environment).stdout)

        def mine() -> dict[str, Any]:
            runs = json.loads(alice.client.get("/api/v1/runs"))["runs"]
            return next((run for run in runs if run["job_id"] == job_id), {})

        deadline = time.monotonic() + 60
        # Her log is looked for in the folder that is the account's, by its number there.
        while not (run := mine()) or "secret words" not in alice.client.log(run["id"]):
            assert time.monotonic() < deadline, run
            time.sleep(0.2)
    assert run["origin"] == "sbatch"
    alice.client.cancel(run["id"])
    assert alice.client.ended(run["id"])["state"] == "CANCELLED"
    assert recorded(slurm, run) == (alice.account, f"CANCELLED by {alice.uid}")


@pytest.mark.parametrize("where", ["lab", "afar"])
def test_a_dataset_is_read_by_her_and_by_whom_she_shares_it_with_as_long_as_she_does(
    where: str, request: pytest.FixtureRequest, cluster: LocalCluster, folder: Path, home: Path
) -> None:
    lab: Lab = request.getfixturevalue(where)
    eeg = granted.nias_of(lab.site, lab.alice).datasets.put(folder)
    content = granted.content_of(lab, eeg)
    state, log = granted.ended(lab.alice, "reads-eeg")
    assert (state, "first is 1,2,3" in log, "WROTE" in log) == ("COMPLETED", True, False), log
    assert granted.reach(lab.bob, content) == granted.OUT
    with pytest.raises(urllib.error.HTTPError, match="422"):
        granted.submit(lab.bob, "bob-reads", "alice/eeg")
    eeg.share([lab.bob.email])
    state, log = granted.ended(lab.bob, "bob-reads", "alice/eeg")
    assert (state, "first is 1,2,3" in log) == ("COMPLETED", True), log
    granted.until(lambda: granted.is_told(lab, lab.bob, content))
    by_sbatch = partial(granted.by_plain_sbatch, lab, cluster, home, "alice/eeg")
    assert "first is 1,2,3" in by_sbatch(lab.bob)
    eeg.share([])
    granted.until(lambda: granted.reach(lab.bob, content) == granted.OUT)
    granted.until(lambda: "is no dataset of yours" in by_sbatch(lab.bob))
    assert granted.reach(lab.alice, content) == granted.IN
