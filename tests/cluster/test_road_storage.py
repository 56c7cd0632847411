"""The whole road through a gateway that can't see the shared storage: all of it goes by SSH."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from accounts import do
from client import Client, zipped
from loginnode import LoginNode
from sites import client_of, jobs_named, served

from nias_bridge.localcluster import LocalCluster
from nias_bridge.node import serving
from nias_bridge.site import Site, command, running, said

CODE = """
import hashlib, sys, time
from pathlib import Path
print("first words", flush=True)
sent = Path("sent.bin").read_bytes()
Path("output/sum.txt").write_text(hashlib.sha256(sent).hexdigest())
Path("output/large.bin").write_bytes(sent * 4)
rows = "".join(f"{n},{n * n}\\n" for n in range(50))
Path("output/table.csv").write_text("hertz,power\\n" + rows)
"""
WAITS = """
import time
from pathlib import Path
for turn in range(600):
    print("turn", turn, flush=True)
    time.sleep(0.2)
"""
MIB = 1024 * 1024
SWEEP = "[sweep]\ngrid = { cutoff = [10, 20, 30] }\n"
SENT = os.urandom(3_000_000)


@pytest.fixture(scope="module")
def shared(login_node: LoginNode) -> Iterator[Path]:
    """Storage within a folder that is closed to all but the login node's account."""
    if os.geteuid() != 0:
        pytest.skip("only root can be two accounts")
    closed = Path(tempfile.mkdtemp(prefix="nias-closed-", dir="/tmp"))
    (closed / "shared").mkdir()
    for folder in (closed, closed / "shared"):
        shutil.chown(folder, login_node.user, login_node.user)
    yield closed / "shared"
    shutil.rmtree(closed)


@pytest.fixture(scope="module")
def outside(
    cluster: LocalCluster,
    login_node: LoginNode,
    shared: Path,
    nias: str,
    make_site: Callable[..., Site],
) -> Iterator[Site]:
    """A bridge whose gateway and poller are of another account than the one over there."""
    key = login_node.folder / "gateway"
    shutil.copy(login_node.login.key, key)
    shutil.chown(key, nias)
    made = make_site(
        cluster,
        storage="ssh",
        shared_root=shared,
        ssh_host=login_node.login.host,
        ssh_port=login_node.port,
        ssh_user=login_node.user,
        ssh_key=key,
        ssh_known_hosts=login_node.login.known_hosts,
        previews=True,
    )
    with served(made), running(made, "poll"):
        yield made


@pytest.fixture(scope="module")
def client(outside: Site) -> Client:
    return client_of(outside)


@pytest.fixture(scope="module")
def completed(client: Client) -> dict[str, Any]:
    run = client.upload(CODE, name="outside", more={"sent.bin": SENT})
    ended = client.ended(run["id"], seconds=120)
    assert ended["state"] == "COMPLETED", (ended, client.log(run["id"]))
    return ended


def test_the_gateways_account_can_not_see_the_storage_and_its_jobs_are_the_others(
    completed: dict[str, Any], shared: Path, nias: str, login_node: LoginNode
) -> None:
    assert do(nias, ["ls", shared]).returncode != 0
    folder = shared / "runs/lab/outside/1"
    assert {path.owner() for path in folder.iterdir()} == {login_node.user}
    assert completed["evidence"]["exit_code"] == 0


def test_log_files_results_and_ranges_come_through(
    client: Client, completed: dict[str, Any]
) -> None:
    run_id = completed["id"]
    assert "first words" in client.log(run_id)
    large = client.get(f"/api/v1/runs/{run_id}/files/large.bin")
    assert large == SENT * 4
    results = client.results(run_id)
    assert results["large.bin"] == SENT * 4
    assert results["sum.txt"] == hashlib.sha256(SENT).hexdigest().encode()
    for asked, start, end in (
        ("5000000-5000099", 5_000_000, 5_000_100),
        ("-7", len(large) - 7, len(large)),
        ("11999990-", 11_999_990, len(large)),
    ):
        words = {"Range": f"bytes={asked}"}
        got = client.get(f"/api/v1/runs/{run_id}/files/large.bin", words)
        assert got == large[start:end]
    with zipfile.ZipFile(io.BytesIO(client.get(f"/api/v1/runs/{run_id}/crate.zip"))) as crate:
        assert "ro-crate-metadata.json" in crate.namelist() and crate.testzip() is None


def test_what_is_shown_of_files_comes_through(client: Client, completed: dict[str, Any]) -> None:
    told = json.loads(client.get(f"/api/v1/runs/{completed['id']}/files"))["files"]
    shown = {file["path"]: file["preview"] for file in told}
    assert shown["table.csv"]["rows"][:2] == [["hertz", "power"], ["0", "0"]]
    assert shown["table.csv"]["plots"]
    for plot in shown["table.csv"]["plots"]:
        assert client.get(plot).startswith(b"<svg ")


def test_a_running_job_is_watched_and_cancelled(client: Client) -> None:
    run_id = client.upload(WAITS)["id"]
    client.wait(run_id, lambda run: "turn 3" in client.log(run_id))
    client.cancel(run_id)
    assert client.ended(run_id)["state"] == "CANCELLED"


def test_it_runs_again(client: Client, completed: dict[str, Any]) -> None:
    again = client.post(f"/api/v1/runs/{completed['id']}/again")
    ended = client.ended(again["id"], seconds=120)
    assert (ended["state"], ended["number"]) == ("COMPLETED", 2)


def test_a_sweeps_results_are_one_zip(client: Client) -> None:
    code = "import os\nopen('output/it', 'w').write(os.environ['NIAS_PARAM_CUTOFF'])\n"
    run = client.ended(client.upload(code, more={"nias.toml": SWEEP})["id"], seconds=120)
    assert run["state"] == "COMPLETED", run
    packed = client.results(run["id"])
    found = sorted(content for name, content in packed.items() if name.endswith("/it"))
    assert found == [b"10", b"20", b"30"]


def test_what_is_removed_is_gone_over_there(client: Client, shared: Path) -> None:
    run = client.ended(client.upload("print(1)\n", name="brief")["id"], seconds=120)
    client.post(f"/api/v1/runs/{run['id']}/remove")
    client.wait(run["id"], lambda told: not (shared / "runs/lab/brief/1/project").exists())
    assert (shared / "runs/lab/brief/1/slurm.out").exists()


COPIES = """
import shutil
shutil.copyfile("sent.bin", "output/large.bin")
"""


def test_a_large_file_goes_through_in_both_directions_and_the_gateway_stays_small(
    outside: Site, client: Client, tmp_path: Path
) -> None:
    large, packed = tmp_path / "sent.bin", tmp_path / "large.zip"
    with large.open("wb") as file:
        for _ in range(300):
            file.write(os.urandom(MIB))
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("large/code.py", COPIES)
        archive.write(large, "large/sent.bin")
    before = highest_after(outside, lambda: None)
    with packed.open("rb") as body:
        request = urllib.request.Request(
            f"{client.url}/api/v1/runs?filename=large.zip",
            data=body,
            headers={**client.known, "Content-Length": str(packed.stat().st_size)},
        )
        run: dict[str, Any] = {}

        def send() -> None:
            with urllib.request.urlopen(request, timeout=120) as answer:
                run.update(json.load(answer))

        assert highest_after(outside, send) - before < 32 * MIB
    ended = client.ended(run["id"], seconds=120)
    assert ended["state"] == "COMPLETED", ended
    path = f"{client.url}/api/v1/runs/{run['id']}/files/large.bin"
    digest = hashlib.sha256()

    def fetch() -> None:
        request = urllib.request.Request(path, headers=client.known)
        with urllib.request.urlopen(request, timeout=120) as answer:
            while piece := answer.read(MIB):
                digest.update(piece)

    assert highest_after(outside, fetch) - before < 32 * MIB
    with large.open("rb") as file:
        assert digest.hexdigest() == hashlib.file_digest(file, "sha256").hexdigest()


def highest_after(site: Site, call: Callable[[], object]) -> int:
    """The most memory that the gateway's processes have while this is done, in bytes."""
    pids = gateway(site)
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    call()
    told = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
    return sum(int(re.search(r"^VmHWM:\s+(\d+)", text, re.MULTILINE)[1]) for text in told) * 1024  # type: ignore[index]


def gateway(site: Site) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            settings = f"NIAS_BRIDGE_CONFIG={site.config}\0".encode()
            if b"serve" in words and settings in (process / "environ").read_bytes():
                found.append(int(process.name))
    return found


def tus(client: Client, method: str, path: str, body: bytes = b"", **more: str) -> dict[str, str]:
    words = {name.replace("_", "-"): value for name, value in more.items()}
    request = urllib.request.Request(
        path if path.startswith("http") else f"{client.url}{path}",
        data=body or None,
        headers={**client.known, "Tus-Resumable": "1.0.0", **words},
        method=method,
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return dict(answer.headers)


def test_an_upload_in_pieces_goes_on_after_the_connection_died(
    client: Client, login_node: LoginNode
) -> None:
    sent = zipped("in-pieces", {"code.py": CODE, "sent.bin": SENT})
    name = base64.b64encode(b"in-pieces.zip").decode()
    told = tus(
        *(client, "POST", "/api/v1/uploads"),
        **{"Upload_Length": str(len(sent)), "Upload_Metadata": f"filename {name}"},
    )
    where, half = told["Location"], len(sent) // 2
    piece = {"Content_Type": "application/offset+octet-stream"}
    tus(client, "PATCH", where, sent[:half], Upload_Offset="0", **piece)
    login_node.signal(signal.SIGKILL)
    offset = int(tus(client, "HEAD", where)["Upload-Offset"])
    assert offset == half
    tus(client, "PATCH", where, sent[offset:], Upload_Offset=str(offset), **piece)
    run = client.post(f"/api/v1/runs?upload={where.rpartition('/')[2]}")
    ended = client.ended(run["id"], seconds=120)
    assert client.results(run["id"])["sum.txt"] == hashlib.sha256(SENT).hexdigest().encode(), ended


def test_gateway_and_poller_keep_a_connection_each_whatever_is_asked(
    client: Client, completed: dict[str, Any], login_node: LoginNode
) -> None:
    before = login_node.logins()
    for _ in range(20):
        client.run(completed["id"])
        client.log(completed["id"])
    assert login_node.logins() == before
    assert 2 <= len(login_node.programs(serving.NAME)) <= 8


def test_connections_that_die_again_and_again_lose_no_run_and_start_none_twice(
    client: Client, login_node: LoginNode, slurm: Callable[..., str]
) -> None:
    runs = [client.upload("print(1)\n") for _ in range(4)]
    for run in runs:
        login_node.signal(signal.SIGKILL)
        client.wait(run["id"], lambda told: told["state"] not in ("RECEIVED", "STAGED"))
    for run in runs:
        ended = client.ended(run["id"], seconds=120)
        assert ended["state"] == "COMPLETED", ended
        assert jobs_named(slurm, ended["job_name"]) == [str(ended["job_id"])]


def test_the_administrators_commands_work_too(outside: Site, shared: Path) -> None:
    assert "MB" in said(outside, "env", "list")
    assert said(outside, "install-shared") == f"{shared}/bin is up to date."


def test_the_doctor_looks_at_it_over_there_by_a_job_too(outside: Site, shared: Path) -> None:
    called = command(outside, "doctor", "--json")
    done = subprocess.run(**called, capture_output=True, text=True, timeout=120, check=False)
    points = json.loads(done.stdout)["points"]
    found = {(one["part"], one["point"]): one["grade"] for one in points}
    for part, point in (
        ("Shared storage", "writing"),
        ("Shared storage", "hard links"),
        ("Shared storage", "node program"),
        ("Nodes", "probe job"),
    ):
        assert found[part, point] == "well", done.stdout
    assert found["Shared storage", "mount"] == "skipped"
    assert not (shared / "doctor").exists()


def test_a_storage_that_is_away_is_told_and_mended_without_a_restart(
    client: Client, completed: dict[str, Any], login_node: LoginNode
) -> None:
    known = login_node.login.known_hosts
    right = known.read_text()
    known.write_text("")
    login_node.signal(signal.SIGKILL)
    try:
        for path in ("/api/v1/health", f"/api/v1/runs/{completed['id']}/log?offset=0"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                client.get(path)
            with refused.value as answer:
                assert (answer.code, b"has no key of" in answer.read()) == (503, True)
        assert client.get("/api/v1/live")
    finally:
        known.write_text(right)
    deadline = time.monotonic() + 20
    while not well(client):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert "first words" in client.log(completed["id"])


def well(client: Client) -> bool:
    try:
        return bool(client.get("/api/v1/health"))
    except urllib.error.HTTPError as error:
        error.close()
        return False
