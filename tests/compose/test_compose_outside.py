"""By its overlay the gateway is outside the cluster: all of it goes through the login node."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from urllib.error import HTTPError

import chromium
import pytest
from client import Client, zipped
from containers import OUTSIDE, Containers, eventually
from playwright.sync_api import expect

TALKS = """
import time
print("it has begun", flush=True)
time.sleep(8)
open("output/a.txt", "w").write("what came of it")
"""
SLEEPS = "import time\nprint('executed', flush=True)\ntime.sleep({seconds})\n"
SQUARES = """
import os
open("output/square.txt", "w").write(str(int(os.environ["NIAS_PARAM_N"]) ** 2))
"""
SWEEP = {"nias.toml": "[sweep]\ngrid = { n = [3, 4, 5] }\n"}


@pytest.fixture(scope="module")
def outside(containers: Containers) -> Iterator[Containers]:
    with containers.overlaid(OUTSIDE) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def ana(outside: Containers) -> Client:
    return outside.client_of("ana")


@pytest.fixture(scope="module")
def ben(outside: Containers) -> Client:
    return outside.client_of("ben")


def test_the_gateway_has_nothing_of_slurm_and_no_storage_and_knows_the_login_node_alone(
    outside: Containers,
) -> None:
    look = (
        "dpkg-query --show | grep -iE 'slurm|munge'; command -v sbatch munge sinfo; "
        "ls -A /etc/munge /run/munge /etc/slurm; grep ' /shared' /proc/mounts; "
        "getent hosts login slurmctld slurmdbd c1 c2 | awk '{print $2}'"
    )
    assert outside.inside("gateway", "sh", "-c", f"({look}) 2>/dev/null").split() == ["login"]


def test_an_upload_by_the_page_its_log_while_it_runs_and_its_results(outside: Containers) -> None:
    link = outside.bridge("user", "link", "ana@example.org")
    with chromium.launched() as browser:
        page = browser.new_page(base_url=outside.url)
        page.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        page.goto(re.findall(r"https?://\S+", link)[0])
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("link", name="Ana Costa")).to_be_visible()
        page.goto("/upload")
        body = zipped("From outside", {"code.py": TALKS, "requirements.txt": ""})
        page.locator("#file").set_input_files(
            {"name": "project.zip", "mimeType": "application/zip", "buffer": body}
        )
        page.get_by_role("button", name="Run it").click()
        expect(page.get_by_text("it has begun")).to_be_visible()
        expect(page.locator("#status")).to_contain_text("Running")
        expect(page.locator("#status")).to_contain_text("Completed")
        with page.expect_download() as download:
            page.get_by_role("link", name="Download results").click()
        with zipfile.ZipFile(download.value.path()) as results:
            assert results.read("a.txt") == b"what came of it"


def test_a_sweep_is_run_and_comes_back_task_by_task(ana: Client) -> None:
    run = ana.ended(ana.upload(SQUARES, more=SWEEP)["id"])
    assert run["state"] == "COMPLETED"
    squares = {
        content for name, content in ana.results(run["id"]).items() if name.endswith("square.txt")
    }
    assert squares == {b"9", b"16", b"25"}


def test_a_run_is_cancelled(ana: Client) -> None:
    run = ana.upload(SLEEPS.format(seconds=600))
    ana.wait(run["id"], lambda run: run["state"] == "RUNNING")
    ana.cancel(run["id"])
    assert ana.ended(run["id"])["state"] == "CANCELLED"


def test_neither_researcher_sees_the_others_runs(ana: Client, ben: Client) -> None:
    run = ben.ended(ben.upload("open('output/whose', 'w').write('ben')\n")["id"])
    assert (run["state"], ben.results(run["id"])) == ("COMPLETED", {"whose": b"ben"})
    with pytest.raises(HTTPError, match="404"):
        ana.results(run["id"])


def test_a_project_by_plain_sbatch_is_on_its_owners_page(outside: Containers, ben: Client) -> None:
    outside.authorize("ben")
    code = "open('output/by', 'w').write('sbatch')"
    job_id = outside.sbatch("ben", "from-login", code)
    eventually(lambda: ben.run_of_job(job_id)["ended"], seconds=60)
    run = ben.run_of_job(job_id)
    assert (run["state"], run["origin"]) == ("COMPLETED", "sbatch")
    assert ben.results(run["id"]) == {"by": b"sbatch"}


@pytest.mark.parametrize("killed", ["login", "gateway"])
def test_what_is_killed_in_the_middle_takes_no_run_with_it(
    outside: Containers, ana: Client, killed: str
) -> None:
    runs = [ana.upload(SLEEPS.format(seconds=5))["id"] for _ in range(3)]
    ana.wait(runs[0], lambda run: run["state"] == "RUNNING")
    outside.kill(killed)
    outside.start(killed)
    ended = [ana.ended(run_id, seconds=120) for run_id in runs]
    assert {run["state"] for run in ended} == {"COMPLETED"}
    assert [ana.log(run_id).splitlines().count("executed") for run_id in runs] == [1, 1, 1]
