"""On the cluster of containers as it comes up: uploads, plain sbatch over ssh, who gets in."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from client import Client
from containers import Containers, eventually

SBATCH = Path(__file__).parents[2] / "docs/sbatch.md"

SAYS_WHERE = """
import iniconfig, os, socket
from pathlib import Path
Path("output/where.txt").write_text(socket.gethostname())
"""
NEEDS = {"requirements.txt": "iniconfig\n"}
EATS = "held = []\nwhile True:\n    held.append(bytearray(16 << 20))\n"


def test_an_upload_runs_on_a_node_and_its_results_come_back(client: Client) -> None:
    run = client.ended(client.upload(SAYS_WHERE, more=NEEDS)["id"], seconds=120)
    assert run["state"] == "COMPLETED", client.log(run["id"])
    assert run["node"] in {"c1", "c2"}
    assert client.results(run["id"]) == {"where.txt": run["node"].encode()}


def test_code_sees_its_own_files_alone(client: Client, containers: Containers) -> None:
    code = """
import os
print([path for path in ("/shared/home", "/run/munge", "/etc/slurm") if os.path.exists(path)])
"""
    run = client.ended(client.upload(code)["id"])
    assert "[]" in client.log(run["id"]).splitlines()
    assert containers.inside("c1", "ls", "/shared/home").split() == ["ana", "ben"]


def test_the_page_lists_it_and_all_parts_say_that_they_are_well(client: Client) -> None:
    assert b"COMPLETED" in client.get("/")
    health = json.loads(client.get("/api/v1/health"))
    assert set(health.values()) == {"ok"}, health


def test_the_doctor_finds_the_site_well_but_for_an_address_that_is_not_the_containers_own(
    containers: Containers,
) -> None:
    told = json.loads(containers.bridge("doctor", "--json"))
    unwell = {
        (point["grade"], point["point"]): point["seen"]
        for point in told["points"]
        if point["grade"] not in ("well", "skipped")
    }
    assert unwell.keys() == {("warning", "gateway")}, unwell
    assert f"{containers.url} does not answer" in unwell["warning", "gateway"]


def test_a_researcher_submits_by_sbatch_over_ssh_as_herself(containers: Containers) -> None:
    containers.authorize("ana", "ben")
    command = "sbatch --parsable --wait --wrap 'id -un; hostname' && cat slurm-*.out"
    job_id, person, node = containers.ssh("ana", f"cd $(mktemp -d -p .) && {command}").split()
    assert person == "ana"

    def recorded() -> list[tuple[str, str, str]]:
        found = [r for r in containers.records() if r.job_id == int(job_id)]
        return [(r.user, r.node, r.state) for r in found]

    # The record of a job that has just ended may lag, and have another's name for a while.
    eventually(lambda: recorded() == [("ana", node, "COMPLETED")], seconds=20)
    assert job_id in containers.ssh("ben", "sacct --allusers --allocations --parsable2")


def test_projects_by_plain_sbatch_are_on_their_owners_pages_and_in_sacct_as_documented(
    containers: Containers,
) -> None:
    containers.authorize("ana", "ben")
    clients = {person: containers.client_of(person) for person in ("ana", "ben")}
    code = "import getpass; open('output/who.txt', 'w').write(getpass.getuser())"
    jobs = {person: containers.sbatch(person, "by-sbatch", code) for person in clients}
    for person, job_id in jobs.items():
        eventually(lambda: clients[person].run_of_job(job_id)["ended"], seconds=60)  # noqa: B023
        run = clients[person].run_of_job(job_id)
        assert (run["state"], run["origin"], run["project"]) == ("COMPLETED", "sbatch", "by-sbatch")
        assert clients[person].results(run["id"]) == {"who.txt": person.encode()}
    with pytest.raises(AssertionError, match="is not on the page"):
        clients["ana"].run_of_job(jobs["ben"])

    queries = re.findall(r"^\$ (sacct --name=.+|sacct --starttime.+)$", SBATCH.read_text(), re.M)
    assert len(queries) == 3
    for query in queries:

        def told(person: str, query: str = query) -> bool:
            printed = containers.ssh("ben", query)
            return re.search(rf"^{jobs[person]}\b", printed, re.MULTILINE) is not None

        eventually(lambda told=told: told("ben"), seconds=20)  # its name may come late
        assert not told("ana"), query


def test_more_memory_than_asked_ends_the_run_and_is_told(client: Client) -> None:
    run = client.ended(client.upload(EATS, memory="200M")["id"])
    assert run["state"] in {"OUT_OF_MEMORY", "FAILED"}, run
    assert run["diagnosis"]["correction"] == "Run again with 400 MB"


def test_slurm_leaves_cgroups_alone_where_the_engine_mounts_them_read_only(
    containers: Containers,
) -> None:
    """Where these are of version 2, slurmd would make some all the same, and end."""
    # What the node has from slurmctld, in its cache.
    found = ("find", "/run", "/var", "-name", "cgroup.conf", "-exec", "cat", "{}", "+")
    told = containers.inside("c1", *found)
    assert "CgroupPlugin=disabled" in told.splitlines()


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
