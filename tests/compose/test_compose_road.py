"""On the cluster of containers as it comes up: uploads, plain sbatch over ssh, further nodes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence

from client import Client
from containers import Containers, Record, eventually

SAYS_WHERE = """
import iniconfig, os, socket
from pathlib import Path
Path("output/where.txt").write_text(socket.gethostname())
"""
NEEDS = {"requirements.txt": "iniconfig\n"}
EATS = "held = []\nwhile True:\n    held.append(bytearray(16 << 20))\n"


def sleeping(seconds: float) -> str:
    return f"import time; time.sleep({seconds})\n"


def test_an_upload_runs_on_a_node_and_its_results_come_back(client: Client) -> None:
    run = client.ended(client.upload(SAYS_WHERE, more=NEEDS)["id"], seconds=120)
    assert run["state"] == "COMPLETED", client.log(run["id"])
    assert run["node"] in {"c1", "c2"}
    assert client.results(run["id"]) == {"where.txt": run["node"].encode()}


def test_the_page_lists_it_and_all_parts_say_that_they_are_well(client: Client) -> None:
    assert b"COMPLETED" in client.get("/")
    health = json.loads(client.get("/api/v1/health"))
    assert set(health.values()) == {"ok"}, health


def test_a_researcher_submits_by_sbatch_over_ssh_as_herself(containers: Containers) -> None:
    containers.authorize("ana", "ben")
    command = "sbatch --parsable --wait --wrap 'id -un; hostname' && cat slurm-*.out"
    job_id, person, node = containers.ssh("ana", f"cd $(mktemp -d -p .) && {command}").split()
    assert person == "ana"
    (record,) = (r for r in containers.records() if r.job_id == int(job_id))
    assert (record.user, record.node, record.state) == ("ana", node, "COMPLETED")
    assert job_id in containers.ssh("ben", "sacct --allusers --allocations --parsable2")


def test_more_memory_than_asked_ends_the_run_and_is_told(client: Client) -> None:
    run = client.ended(client.upload(EATS, memory="200M")["id"])
    assert run["state"] in {"OUT_OF_MEMORY", "FAILED"}, run
    assert run["diagnosis"]["correction"] == "Run again with 400 MB"


def test_code_can_be_kept_to_its_own_files_on_the_nodes(containers: Containers) -> None:
    sandbox = ("bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--unshare-pid")
    assert containers.inside("c1", *sandbox, "id", "-un", user="ana") == "ana\n"


def test_a_further_node_takes_jobs_and_no_slot_ever_has_two(
    containers: Containers, client: Client
) -> None:
    containers.up("--no-recreate", "--scale", "more=1")
    eventually(lambda: containers.nodes().get("c3") == "idle", seconds=30)
    runs = [client.upload(sleeping(1.5))["id"] for _ in range(9)]
    ended = [client.ended(run_id, seconds=120) for run_id in runs]
    assert {run["state"] for run in ended} == {"COMPLETED"}
    assert {run["node"] for run in ended} == {"c1", "c2", "c3"}
    names = {run["job_name"] for run in ended}
    eventually(lambda: names <= {r.name for r in containers.records() if r.end}, seconds=20)
    assert no_overlap([r for r in containers.records() if r.user == "nias"])


def no_overlap(records: Sequence[Record]) -> bool:
    """Whether each node had one job at a time: the next starts when the one before has ended."""
    by_node = sorted((r.node, r.start, r.end) for r in records if r.start and r.end)
    return bool(by_node) and all(
        later[0] != earlier[0] or later[1] >= earlier[2]
        for earlier, later in itertools.pairwise(by_node)
    )


def test_nothing_listens_beyond_this_machine(containers: Containers) -> None:
    ids = containers.compose("ps", "--quiet").split()
    told = json.loads(containers.engine.run("inspect", *ids).stdout)
    published = {
        binding["HostIp"]
        for one in told
        for bindings in one["HostConfig"]["PortBindings"].values()
        for binding in bindings
    }
    assert published == {"127.0.0.1"}


def test_the_image_has_no_key_and_no_password(containers: Containers) -> None:
    script = (
        "ls /etc/munge /etc/ssh/keys /etc/nias-bridge /var/lib/mysql /var/lib/postgresql |"
        " grep -v :$ | grep .; find / -xdev -name 'ssh_host_*' -o -xdev -name munge.key;"
        " awk -F: '$2 !~ /^[*!]/' /etc/shadow"
    )
    argv = ("run", "--rm", "--network=none", "--entrypoint=sh", containers.image, "-c", script)
    assert containers.engine.run(*argv).stdout == ""


def test_without_a_key_nobody_logs_in(containers: Containers) -> None:
    told = containers.inside("login", "sshd", "-T")
    assert "passwordauthentication no" in told
    assert "kbdinteractiveauthentication no" in told
