"""Claims about the limits that Slurm's own partitions set to what a run asks for."""

from __future__ import annotations

from pathlib import Path

import pytest
import staged
from client import zipped
from flask.testing import FlaskClient
from sqlalchemy import create_engine, text
from werkzeug.test import TestResponse

from nias_bridge.cluster import NodeReport, PartitionReport
from nias_bridge.poller import Rounds
from nias_bridge.script import render
from nias_bridge.services import wishes
from nias_bridge.services.bridge import Bridge
from nias_bridge.slurm.fake import FakeScheduler

HOUR = 3600
MAIN = PartitionReport(name="main", state="UP", default=True, max_time=24 * HOUR)
SHORT = PartitionReport(name="short", state="UP", max_time=HOUR // 2)
GPU = PartitionReport(name="gpu", state="UP")
OLD = PartitionReport(name="old", state="DRAIN")


def node(name: str, *partitions: str, cpus: int = 4, gpus: int | None = 0) -> NodeReport:
    return NodeReport(
        name=name, state="IDLE", cpus=cpus, cpus_used=0, memory=8 * staged.GIB, memory_used=0,
        gpus=gpus, partitions=partitions,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _cluster(bridge: Bridge) -> None:
    nodes = (node("n1", "main", "short", "old"), node("g1", "gpu", cpus=64, gpus=2))
    staged.show_cluster(bridge, nodes=nodes, partitions=(MAIN, SHORT, GPU, OLD))


def send(web: FlaskClient, toml: str = "", **query: str) -> TestResponse:
    body = zipped("p", {"code.py": "", "nias.toml": f"[job]\n{toml}\n"})
    return web.post("/api/v1/runs", query_string={"filename": "p.zip", **query}, data=body)


@pytest.mark.parametrize(
    ("toml", "sentence"),
    [
        (
            'time = "2-00:00:00"',
            "job.time is 2-00:00:00; a job in partition main may take at most 1-00:00:00.",
        ),
        (
            'time = "01:00:00"\npartition = "short"',
            "job.time is 01:00:00; a job in partition short may take at most 00:30:00.",
        ),
        ("gpus = 1", "job.gpus is 1; a job in partition main has none."),
        ('gpus = 3\npartition = "gpu"', "job.gpus is 3; a job in partition gpu has at most 2."),
        ("cpus = 64", "job.cpus is 64; a job in partition main has at most 4."),
        ('partition = "old"', "job.partition is old; there is gpu, main, short."),
    ],
)
def test_nias_toml_is_held_to_the_partition_that_it_names_or_else_the_default_one(
    web: FlaskClient, toml: str, sentence: str
) -> None:
    assert send(web, toml).get_json()["problems"] == [f"nias.toml: {sentence}"]


def test_what_the_partition_has_may_be_asked_for(web: FlaskClient) -> None:
    asked = 'gpus = 2\ncpus = 64\ntime = "30-00"\npartition = "gpu"'
    assert send(web, asked).status_code == 202


def test_the_form_and_the_file_together_are_held_to_the_forms_partition(web: FlaskClient) -> None:
    answer = send(web, 'time = "02:00:00"', partition="short")
    told = answer.get_json()
    assert (answer.status_code, told["field"]) == (400, "time")
    assert told["detail"] == (
        "time is 02:00:00; a job in partition short may take at most 00:30:00."
    )
    assert send(web, "", gpus="2", partition="gpu").status_code == 202
    assert send(web, "", gpus="2").get_json()["field"] == "gpus"


def test_a_run_that_names_no_time_takes_no_more_than_its_partition_allows(
    web: FlaskClient, bridge: Bridge
) -> None:
    run = bridge.store.run(send(web, 'partition = "short"').get_json()["id"])
    assert "#SBATCH --time=00:30:00\n" in render(run, bridge.paths, bridge.settings)
    usual = bridge.store.run(send(web, "", again="1").get_json()["id"])
    assert usual.resources.time is None


def test_the_sites_own_limits_hold_where_they_are_less(bridge: Bridge) -> None:
    site = bridge.settings.model_copy(
        update={"time_max": "00:10:00", "gpus_max": 1, "partition": "gpu", "partitions": ("gpu",)}
    )
    limits = wishes.limits_of(site, bridge.store.cluster())
    assert (limits.time, limits.gpus, limits.cpus) == (600, 1, 64)
    assert (limits.partition, limits.partitions) == ("gpu", ("gpu",))


def test_a_view_of_the_cluster_that_an_earlier_version_kept_can_be_read(
    bridge: Bridge, tmp_path: Path
) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/nias.db")
    with engine.begin() as connection:
        view = (
            '{"at": null, "pending": 1, "running": 0, "problem": "", "nodes": [{"name": "n1", '
            '"state": "IDLE", "cpus": 4, "cpus_used": 0, "memory": 8589934592, "memory_used": 0, '
            '"partitions": ["main", "long"], "reason": ""}]}'
        )
        connection.execute(text("UPDATE cluster_view SET view = :view"), {"view": view})
    engine.dispose()
    limits = wishes.limits_of(bridge.settings, bridge.store.cluster())
    assert (limits.partitions, limits.partition) == (("long", "main"), None)
    assert (limits.cpus, limits.gpus, limits.time) == (4, None, None)


def test_the_poller_keeps_what_it_last_heard_of_the_partitions(bridge: Bridge) -> None:
    slurm = FakeScheduler()
    rounds = Rounds(bridge, slurm)
    rounds.view_cluster()
    told = bridge.store.cluster()
    assert told.partitions == (PartitionReport(name="main", state="UP", default=True),)
    slurm.unreachable(queue=True)
    rounds.view_cluster()
    later = bridge.store.cluster()
    assert (later.partitions, later.nodes) == (told.partitions, told.nodes)
    assert later.problem
