"""The road of one upload on a real Slurm: every kind of end is told as what it was."""

from __future__ import annotations

import json
import urllib.error
import zipfile
from collections.abc import Callable
from glob import glob
from typing import Any

import pytest
from client import Client
from sites import client_of, served

from nias_bridge.localcluster import LocalCluster
from nias_bridge.site import Site, running, said

WRITES_A_RESULT = """
from pathlib import Path
Path("output/answer.txt").write_text("42\\n")
print("said on stdout", flush=True)
"""


@pytest.fixture(scope="module")
def completed(client: Client) -> dict[str, Any]:
    run = client.upload(WRITES_A_RESULT, name="Análise EMG 2")
    assert run["state"] == "RECEIVED"
    return client.ended(run["id"])


@pytest.fixture(scope="module")
def timed_out(client: Client) -> int:
    """Started first, looked at last: Slurm's time limits are whole minutes."""
    code = WRITES_A_RESULT + "import time; time.sleep(600)\n"
    return int(client.upload(code, time="1")["id"])


@pytest.fixture(scope="module", autouse=True)
def _slow_ones_first(timed_out: int) -> None:
    """The minute of the time limit passes while the other tests run."""


def test_what_the_code_left_in_output_comes_back(client: Client, completed: dict[str, Any]) -> None:
    assert completed["state"] == "COMPLETED", completed
    assert completed["exit_code"] == 0
    assert client.results(completed["id"]) == {"answer.txt": b"42\n"}
    assert client.get(f"/api/v1/runs/{completed['id']}/files/answer.txt") == b"42\n"


def test_the_log_has_what_the_code_said(client: Client, completed: dict[str, Any]) -> None:
    assert "said on stdout" in client.log(completed["id"])


def test_the_accounting_record_is_slurms_own(
    completed: dict[str, Any], slurm: Callable[..., str]
) -> None:
    line = slurm(
        *("sacct", "-XnP", "--starttime=now-1hour", f"--jobs={completed['job_id']}"),
        "--format=JobID,State,AllocCPUS,NodeList",
    ).strip()
    job_id, state, cpus, node = line.split("|")
    assert (completed["job_id"], completed["state"]) == (int(job_id), state)
    assert completed["accounting"]["cpus"] == int(cpus)
    assert completed["node"] == node


def test_the_peak_of_a_short_runs_memory_is_true_though_slurm_looks_now_and_then(
    client: Client,
) -> None:
    run = client.ended(client.upload("held = b'x' * (300 << 20)\n")["id"])
    assert run["peak_memory"]["bytes"] >= 300 << 20
    assert run["evidence"]["max_rss_bytes"] >= 300 << 20


def test_a_project_keeps_its_name_and_gets_a_safe_one_for_slurm(
    completed: dict[str, Any],
) -> None:
    assert completed["project"] == "Análise EMG 2"
    assert completed["job_name"].isascii()


def test_a_failed_run_has_its_codes_exit_code_and_what_it_had_written(client: Client) -> None:
    run = client.ended(client.upload(WRITES_A_RESULT + "import sys; sys.exit(3)\n")["id"])
    assert (run["state"], run["exit_code"]) == ("FAILED", 3)
    assert client.results(run["id"]) == {"answer.txt": b"42\n"}


def test_a_cancelled_run_is_cancelled_and_keeps_what_it_had_written(client: Client) -> None:
    run_id = client.upload(WRITES_A_RESULT + "import time; time.sleep(600)\n")["id"]
    client.wait(run_id, lambda run: "said on stdout" in client.log(run_id))
    client.cancel(run_id)
    run = client.ended(run_id)
    assert run["state"] == "CANCELLED"
    assert client.results(run_id) == {"answer.txt": b"42\n"}


def test_scancel_on_the_command_line_is_told_alike(
    client: Client, slurm: Callable[..., str]
) -> None:
    run_id = client.upload("import time; time.sleep(600)\n")["id"]
    run = client.wait(run_id, lambda run: run["state"] == "RUNNING")
    slurm("scancel", str(run["job_id"]))
    assert client.ended(run_id)["state"] == "CANCELLED"


def test_more_memory_than_asked_ends_out_of_memory(client: Client) -> None:
    eats = "held = []\nwhile True:\n    held.append(bytearray(16 << 20))\n"
    run = client.ended(client.upload(eats, memory="200M")["id"])
    assert run["state"] in {"OUT_OF_MEMORY", "CANCELLED"}, run
    assert run["state"] == "OUT_OF_MEMORY" or "memory" in json.dumps(run).lower()
    assert run["diagnosis"]["correction"] == "Run again with 400 MB"


def test_a_run_that_lacked_a_package_runs_again_corrected(client: Client) -> None:
    run = client.upload("import yaml\nprint(yaml.safe_load('[1, 2]'))\n")
    assert [warning["package"] for warning in run["warnings"]] == ["pyyaml"]
    run = client.ended(run["id"])
    assert run["diagnosis"]["correction"] == "Run again with pyyaml", client.log(run["id"])
    rule = run["diagnosis"]["rule"]
    again = client.post(f"/api/v1/runs/{run['id']}/correct?rule={rule}")
    assert client.ended(again["id"])["state"] == "COMPLETED"
    assert "[1, 2]" in client.log(again["id"])


def test_what_a_running_job_uses_is_told(client: Client) -> None:
    run_id = client.upload("import time; time.sleep(600)\n")["id"]
    run = client.wait(run_id, lambda run: run["ended"] or all_is_told(run["usage"] or {}))
    client.cancel(run_id)
    assert run["state"] == "RUNNING"
    assert run["usage"]["measured_at"] and 0 <= run["usage"]["cpu"] <= 1
    assert 0 < run["usage"]["max_rss_bytes"] < run["usage"]["memory_asked_bytes"]


def all_is_told(usage: dict[str, Any]) -> bool:
    """Slurm knows some of it a little later than the rest."""
    return bool(usage.get("max_rss_bytes") and usage.get("memory_asked_bytes"))


def test_a_requirement_that_does_not_exist_is_named(client: Client) -> None:
    wrong = {"requirements.txt": "no-such-package-as-this-one==1.0\n"}
    run = client.ended(client.upload("print(1)\n", more=wrong)["id"])
    assert run["state"] == "FAILED"
    assert "no-such-package-as-this-one" in run["evidence"]["message"] + run["evidence"]["details"]


def test_what_slurm_refuses_is_rejected_in_its_own_words(
    cluster: LocalCluster, make_site: Callable[..., Site]
) -> None:
    astray = make_site(cluster, partition="nowhere")
    with served(astray), running(astray, "poll"):
        client = client_of(astray)
        run = client.ended(client.upload("print(1)\n")["id"])
    assert run["state"] == "REJECTED"
    assert "invalid partition" in run["note"].lower()


def test_what_no_node_has_is_refused_at_upload(client: Client) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        client.upload("print(1)\n", gpus="1")
    with refused.value as answer:
        assert answer.code == 400


def test_nias_toml_says_what_is_run_with_what_and_for_how_long(client: Client) -> None:
    toml = '[job]\nmain = "lib/other.py"\nargs = ["--a", "b c"]\ntime = "7"\n'
    other = "import sys; print('got', sys.argv)\n"
    more = {"nias.toml": toml, "lib/other.py": other}
    run = client.ended(client.upload("print('not this')\n", more=more)["id"])
    assert run["state"] == "COMPLETED"
    assert "got ['lib/other.py', '--a', 'b c']" in client.log(run["id"])
    assert run["accounting"]["time_limit_seconds"] == 7 * 60


def test_the_same_requirements_reuse_one_environment(client: Client) -> None:
    needs = {"requirements.txt": "iniconfig\n"}
    code = "import iniconfig; print('imported')\n"
    client.ended(client.upload(code, more=needs)["id"])
    run = client.ended(
        client.upload(code, more={"requirements.txt": "# pinned\nIniConfig \n"})["id"]
    )
    assert run["state"] == "COMPLETED"
    assert run["evidence"]["environment"]["built"] is False


def test_code_py_runs_once_though_the_standard_library_has_a_module_of_its_name(
    client: Client,
) -> None:
    code = """
import pdb, doctest, multiprocessing
print("the program runs")
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.apply(abs, (-7,)))
"""
    run = client.ended(client.upload(code)["id"])
    assert run["state"] == "COMPLETED", client.log(run["id"])
    # Once by itself, and once as __mp_main__ in the child that it asked for.
    assert client.log(run["id"]).count("the program runs") == 2


def test_run_again_makes_run_2_and_leaves_run_1_as_it_was(
    client: Client, completed: dict[str, Any]
) -> None:
    before = client.results(completed["id"])
    again = client.upload(
        "from pathlib import Path; Path('output/answer.txt').write_text('43')",
        name="Análise EMG 2",
        again="1",
    )
    assert again["number"] == 2
    assert client.ended(again["id"])["state"] == "COMPLETED"
    assert client.results(again["id"]) == {"answer.txt": b"43"}
    assert client.results(completed["id"]) == before


def test_job_sbatch_can_be_given_to_sbatch_by_hand(
    client: Client, completed: dict[str, Any], site: Any, slurm: Callable[..., str]
) -> None:
    """It runs the project once more, beside the run, which stays as it is."""
    before = client.results(completed["id"])
    (script,) = site.state.glob(f"shared/runs/*/Analise-EMG-2~*/{completed['number']}/job.sbatch")
    job_id = slurm("sbatch", "--parsable", "--wait", str(script), user=site.user).strip()
    with zipfile.ZipFile(script.parent / f"by-hand-{job_id}" / "results.zip") as packed:
        assert packed.read("answer.txt") == b"42\n"
    assert client.results(completed["id"]) == before
    assert client.run(completed["id"])["job_id"] == completed["job_id"]


def test_time_runs_out_and_what_was_written_is_there(client: Client, timed_out: int) -> None:
    run = client.ended(timed_out, seconds=150)
    assert run["state"] == "TIMEOUT"
    assert client.results(timed_out) == {"answer.txt": b"42\n"}


def test_what_the_code_left_in_its_home_is_gone_with_the_job(client: Client) -> None:
    code = """
from pathlib import Path
locked = Path.home() / "locked"
locked.mkdir()
(locked / "file").touch()
locked.chmod(0o500)
"""
    run = client.ended(client.upload(code)["id"])
    assert run["state"] == "COMPLETED", client.log(run["id"])
    # There may be a folder of another Slurm's job of that number.
    assert not glob(f"/tmp/nias-{run['job_id']}-*/**/locked", recursive=True)  # noqa: PTH207  # folders go meanwhile


def test_who_sends_one_run_does_not_wait_for_all_of_anothers_many(
    site: Site, client: Client
) -> None:
    said(site, "user", "add", "bento@example.org")
    bento = Client(site.url, said(site, "token", "add", "bento@example.org"))
    busy = [client.upload("import time; time.sleep(600)\n")["id"] for _ in range(2)]
    for run_id in busy:
        client.wait(run_id, lambda run: run["state"] == "RUNNING")
    naps = "import time; time.sleep(2)\n"
    many = [client.upload(naps)["id"] for _ in range(8)]
    last = bento.upload(naps)["id"]
    for known, run_id in (*((client, run_id) for run_id in many), (bento, last)):
        known.wait(run_id, lambda run: run["state"] == "PENDING")
    for run_id in busy:
        client.cancel(run_id)
    one = bento.ended(last)["started_at"]
    later = [client.ended(run_id)["started_at"] for run_id in many]
    assert sum(started > one for started in later) >= 6  # one may start beside it
