"""Code that tries to get at others, at Slurm or at the bridge, on a real Slurm: it gets nothing."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from client import Client
from sites import client_of, served

from nias_bridge.localcluster import LocalCluster
from nias_bridge.node import layout
from nias_bridge.site import Site, running, said

HOSTILE = Path(__file__).with_name("hostile.py")
DAEMON = "import time; print('daemon lives', flush=True); time.sleep(600)"
# What the same code gets where the administrator turned the sandbox off.
WITHOUT_WALLS = (
    *("read_another_runs_zip", "list_shared_storage", "list_whose_runs_there_are"),
    *("read_the_settings", "read_the_database", "read_a_file_in_the_nodes_tmp"),
    *("read_slurms_configuration", "speak_to_munge", "ask_slurm", "ask_the_accounting"),
    *("submit_a_job", "cancel_another_job", "see_other_processes"),
    *("read_the_supervisors_variables", "write_into_the_environment", "write_its_own_end"),
    *("write_into_the_cache_of_packages", "replace_the_node_program", "list_slurmds_spool"),
)
VICTIM = "victim@example.org"
Slurm = Callable[..., str]


@pytest.fixture(scope="module")
def hostile(
    cluster: LocalCluster, slurm: Slurm, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., tuple[dict[str, Any], Path]]]:
    """Sends the hostile code to a site; returns its run and the folder of its victim's."""
    left = Path("/tmp/nias-left-by-somebody")
    left.write_text("somebody's")
    conf = cluster.slurm_conf.read_text()

    def send(site: Site, ways: tuple[str, ...] = ()) -> tuple[dict[str, Any], Path]:
        client = client_of(site)
        said(site, "user", "add", VICTIM)
        her = Client(site.url, said(site, "token", "add", VICTIM))
        victim = her.ended(her.upload("open('output/mine', 'w').write('secret')")["id"])
        folder = folder_of(site, victim)
        held = ("sbatch", "--parsable", "--hold", "--job-name=held", "--chdir=/", "--wrap=true")
        known = {
            "victim": str(folder),
            "shared": str(site.state / "shared"),
            "settings": str(site.config),
            "database": str(site.state / "db" / "nias.db"),
            "in_tmp": str(left),
            "slurm_conf": str(cluster.slurm_conf),
            "slurm_conf_text": conf,
            "munge": re.findall(r"AuthInfo=socket=([^,\s]+)", conf)[0],
            "spool": re.findall(r"SlurmdSpoolDir=(\S+)/%n", conf)[0],
            "held_job": slurm(*held, user=site.user).strip(),
            "processes": processes_of(site),
            "daemon": DAEMON,
            "ways": ways,
        }
        run = client.upload(HOSTILE.read_text(), more={"known.json": json.dumps(known)})
        return client.ended(run["id"], seconds=170) | {"known": known}, folder

    yield send
    left.unlink()
    slurm("scancel", "--name=held")
    slurm("scancel", "--name=stolen")


def folder_of(site: Site, run: dict[str, Any]) -> Path:
    (found,) = site.state.glob(f"shared/runs/*/{run['project']}*/{run['number']}")
    return found


def processes_of(site: Site) -> list[int]:
    """The gateway and the poller: they run as the account that jobs run as."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            variables = (process / "environ").read_bytes()
        except OSError:
            continue
        if f"NIAS_BRIDGE_CONFIG={site.config}\0".encode() in variables:
            found.append(int(process.name))
    return found


@pytest.fixture(scope="module")
def tried(
    site: Site, hostile: Callable[..., tuple[dict[str, Any], Path]]
) -> tuple[dict[str, Any], Path]:
    return hostile(site)


def got(client: Client, run: dict[str, Any]) -> dict[str, Any]:
    report = json.loads(client.results(run["id"])["report.json"])
    return {way: ast.literal_eval(what) for way, what in report.items()}


def test_by_none_of_the_ways_does_it_get_anything(
    client: Client, tried: tuple[dict[str, Any], Path]
) -> None:
    run, _ = tried
    assert run["state"] == "COMPLETED", client.log(run["id"])
    report = got(client, run)
    assert set(report) > set(WITHOUT_WALLS)
    assert {way: what for way, what in report.items() if what} == {}, client.log(run["id"])


def test_it_kills_nobody(client: Client, site: Site, tried: tuple[dict[str, Any], Path]) -> None:
    run, _ = tried
    assert run["known"]["processes"]
    assert set(run["known"]["processes"]) <= set(processes_of(site))
    assert client.log(run["id"]).rstrip().count("it lives") == 1
    assert run["evidence"]["reason"] == "finished"


def test_nothing_of_it_lives_on(tried: tuple[dict[str, Any], Path]) -> None:
    assert tried[0]["ended"]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            assert b"daemon lives" not in (process / "cmdline").read_bytes()
        except OSError:
            continue


def test_nothing_outside_its_folder_was_touched(
    site: Site, client: Client, tried: tuple[dict[str, Any], Path]
) -> None:
    run, victim = tried
    assert not list(site.state.rglob("planted*"))
    assert not list(site.state.rglob("stolen"))
    own = folder_of(site, run)
    assert json.loads((own / layout.EXIT).read_text())["token"]
    assert (own / layout.LOG).exists() and not (own / "other.out").exists()
    assert (victim / layout.PROJECT / layout.OUTPUT / "mine").read_text() == "secret"
    assert set(client.results(run["id"])) == {"report.json"}


def test_slurm_has_no_job_of_it_and_the_others_still(
    slurm: Slurm, tried: tuple[dict[str, Any], Path]
) -> None:
    names = slurm("squeue", "--noheader", "--format=%i %j").splitlines()
    assert f"{tried[0]['known']['held_job']} held" in [" ".join(n.split()) for n in names]
    assert not [name for name in names if "stolen" in name]


def test_a_link_in_place_of_output_brings_nothing_of_others(
    client: Client, site: Site, tried: tuple[dict[str, Any], Path]
) -> None:
    _, victim = tried
    code = f"import os; os.rmdir('output'); os.symlink('{victim}/project/output', 'output')"
    run = client.ended(client.upload(code)["id"])
    assert run["state"] == "COMPLETED", client.log(run["id"])
    assert client.results(run["id"]) == {}
    manifest = json.loads((folder_of(site, run) / layout.MANIFEST).read_text())
    assert manifest["left_out"][0]["why"] == "it is not a folder any more"


def test_what_programs_are_used_to_works(client: Client) -> None:
    code = """
import getpass, multiprocessing, socket, subprocess, sys, tempfile, threading
from multiprocessing import shared_memory
from pathlib import Path

def double(n):
    return 2 * n

if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool:
        assert pool.map(double, range(4)) == [0, 2, 4, 6]
    memory = shared_memory.SharedMemory(create=True, size=1 << 20)
    memory.buf[0] = 7
    memory.close(); memory.unlink()
    seen = []
    thread = threading.Thread(target=seen.append, args=(1,))
    thread.start(); thread.join()
    assert seen == [1]
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"x" * 100_000)
    (Path.home() / ".config").mkdir()
    socket.create_server(("127.0.0.1", 0)).close()
    told = subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True, check=True)
    Path("output/answer").write_text(told.stdout.decode() + getpass.getuser())
"""
    run = client.ended(client.upload(code)["id"])
    assert run["state"] == "COMPLETED", client.log(run["id"])
    assert client.results(run["id"])["answer"].decode().split() == ["42", "nias"]


def test_the_attempts_are_real_ones_for_without_walls_each_gets_something(
    cluster: LocalCluster, make_site: Callable[..., Site], hostile: Callable[..., Any]
) -> None:
    with served(make_site(cluster, sandbox="off")) as open_site, running(open_site, "poll"):
        run, _ = hostile(open_site, WITHOUT_WALLS)
        client = client_of(open_site)
        report = got(client, run)
        nothing = [way for way in WITHOUT_WALLS if not report[way]]
        assert nothing == [], client.log(run["id"])
