"""Claims about the Python client against a gateway that is served."""

from __future__ import annotations

import json
import threading
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
import staged
from apiflask import APIFlask
from client import zipped
from commanded import project

from nias_bridge.client import Client, NoAnswer, Refused
from nias_bridge.domain import JobState
from nias_bridge.errors import BadUpload, NotFound
from nias_bridge.services import desk
from nias_bridge.services.bridge import Bridge


def newest(bridge: Bridge) -> zipfile.ZipFile:
    """The zip of the run that was uploaded last."""
    return zipfile.ZipFile(staged.here(bridge).run(bridge.store.open_runs()[-1]).archive)


def end(bridge: Bridge, run_id: int, outputs: dict[str, bytes]) -> None:
    run = desk.find(bridge, run_id)
    staged.leave(bridge, run, outputs)
    staged.move(
        bridge, run, *staged.STARTED, JobState.COMPLETED,
        started_at=datetime.now(UTC), elapsed=2, exit_code=0,
    )  # fmt: skip


def test_a_folder_goes_there_and_its_files_come_back(
    client: Client, bridge: Bridge, tmp_path: Path
) -> None:
    run = client.submit(project(tmp_path), time="00:30", memory="1G", cpus=2)
    assert (run.project, run.number, run.state, run.ended) == ("psd-study", 1, "RECEIVED", False)
    assert run.told["resources"]["time"] == "00:30"
    assert run.page.endswith(f"/runs/{run.id}")
    ending = threading.Timer(0.5, end, [bridge, run.id, {"psd.npz": b"\0\1", "a/b.txt": b"b"}])
    ending.start()
    done = run.wait(30)
    ending.join()
    assert (done.state, done.exit_code) == ("COMPLETED", 0)
    assert done.accounting is not None
    assert done.accounting.elapsed_seconds == 2
    assert done.files["psd.npz"] == b"\0\1"
    assert set(done.files) == {"psd.npz", "a/b.txt"}
    with pytest.raises(KeyError):
        done.files["else"]
    saved = done.files.save(tmp_path / "back")
    assert {file.relative_to(tmp_path / "back").as_posix() for file in saved} == set(done.files)
    assert (tmp_path / "back" / "a" / "b.txt").read_bytes() == b"b"
    assert not list((tmp_path / "back").glob(".nias-*"))


def test_waiting_ends_at_the_time_that_was_given(client: Client, tmp_path: Path) -> None:
    run = client.submit(project(tmp_path))
    with pytest.raises(TimeoutError, match=r"Run 1 of “psd-study” has not ended after 0\.4 s"):
        run.wait(0.4)


def test_the_gateways_sentence_is_the_errors(client: Client, tmp_path: Path) -> None:
    folder = project(tmp_path)
    client.submit(folder)
    with pytest.raises(Refused, match="A project named “psd-study” is already there") as refused:
        client.submit(folder)
    assert (refused.value.status, refused.value.kind) == (409, "project-exists")
    assert refused.value.problem["next_number"] == 2
    assert client.submit(folder, again=True).number == 2


def test_a_run_is_found_by_id_name_or_number(client: Client, bridge: Bridge) -> None:
    first = staged.add(bridge, "psd-study")
    second = staged.add(bridge, "psd-study", again=True)
    other = staged.add(bridge, "psd-study-2")
    assert client.run(first.id).id == client.run(f"{first.id}").id == first.id
    assert client.run("psd-study").id == second.id
    assert client.run("psd-study/1").id == first.id
    assert [run.id for run in client.runs()] == [other.id, second.id, first.id]
    with pytest.raises(NotFound, match="no project “psd”"):
        client.run("psd")
    with pytest.raises(NotFound, match="no run 3 of a project “psd-study”"):
        client.run("psd-study/3")
    with pytest.raises(Refused, match="There is no run 999"):
        client.run(999)


def test_the_most_memory_is_the_nodes_word_where_slurm_saw_less(
    client: Client, bridge: Bridge
) -> None:
    run = staged.completed(bridge)
    assert run.report and client.run(run.id).peak_memory == run.report.max_rss
    more = 2 * (run.report.max_rss or 0)
    written = staged.here(bridge).run(run).exit
    written.write_text(json.dumps({**json.loads(written.read_text()), "max_rss": more}))
    assert client.run(run.id).peak_memory == more


def test_a_sweep_is_made_of_values(client: Client, bridge: Bridge, tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    run = client.submit(
        project(tmp_path, nias__toml='[job]\ntime = "10"'),
        sweep={"cutoff": numpy.arange(10, 30, 10), "window": ["hann", 'é"\\'], "dB": [True]},
    )
    assert run.tasks == 4
    assert run.told["resources"]["time"] == "10"
    tasks = run.sweep()
    assert dict(tasks[0].parameters) == {"cutoff": 10, "window": "hann", "dB": True}
    assert dict(tasks[3].parameters) == {"cutoff": 20, "window": 'é"\\', "dB": True}
    folder = project(tmp_path, "other", nias__toml="[sweep]\ngrid = { a = [1] }")
    with pytest.raises(BadUpload, match="has a \\[sweep\\] already"):
        client.submit(folder, sweep={"a": [1]})
    with pytest.raises(BadUpload, match="can't be a value of a sweep"):
        client.submit(project(tmp_path, "third"), sweep={"a": [object()]})


def test_each_task_of_a_sweep_has_its_files(client: Client, bridge: Bridge) -> None:
    run = client.run(staged.swept(bridge).id)
    ended = [task for task in run.sweep() if task.ended]
    assert [task.metrics["rms"] for task in ended] == [10.5, 2.0, 30.0]
    assert ended[0].files["response.png"] == staged.picture()


def test_the_log_is_told_in_parts_until_the_end(client: Client, bridge: Bridge) -> None:
    staged_run = staged.running(bridge)
    run = client.run(staged_run.id)
    assert "".join(run.log()) == "[nias] code.py starts\nepoch 1\n"
    parts = run.log(follow=True)
    assert next(parts).endswith("epoch 1\n")
    staged.say(bridge, staged_run, "epoch 2 µV\n")
    assert next(parts) == "epoch 2 µV\n"
    staged.move(bridge, staged_run, JobState.COMPLETED, exit_code=0)
    assert list(parts) == []


def test_a_run_is_cancelled_and_run_again(client: Client, bridge: Bridge) -> None:
    run = client.run(staged.running(bridge).id)
    assert run.cancel().told["cancel_asked"]
    done = client.run(staged.completed(bridge).id)
    assert done.again().number == 2
    with pytest.raises(Refused, match="no list of what was installed"):
        done.again(exactly=True)


def test_a_wrong_token_is_told(served: tuple[str, APIFlask], bridge: Bridge) -> None:
    with pytest.raises(Refused, match="token is unknown") as refused:
        Client(served[0], "nias_wrong").run(1)
    assert refused.value.status == 401


def test_nobody_there_is_told(served: tuple[str, APIFlask]) -> None:
    with pytest.raises(NoAnswer, match=r"http://127\.0\.0\.1:9 can’t be reached"):
        Client("http://127.0.0.1:9", "t").run(1)


def test_a_zip_is_sent_as_it_is(client: Client, bridge: Bridge, tmp_path: Path) -> None:
    file = tmp_path / "psd-study.zip"
    file.write_bytes(zipped("psd-study", {"code.py": "print(1)"}))
    client.submit(file)
    run = bridge.store.open_runs()[-1]
    assert staged.here(bridge).run(run).archive.read_bytes() == file.read_bytes()
    with pytest.raises(BadUpload, match="for a folder only"):
        client.submit(file, sweep={"a": [1]})


def test_what_tools_left_and_earlier_output_stay_at_home(
    client: Client, bridge: Bridge, tmp_path: Path
) -> None:
    folder = project(tmp_path)
    for path in (".git/HEAD", "env/pyvenv.cfg", "env/lib/x.py", "__pycache__/code.pyc",
                 "output/old.png", "data/a.csv", "data/output/kept.csv"):  # fmt: skip
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("x")
    client.submit(folder)
    with newest(bridge) as sent:
        assert sorted(sent.namelist()) == [
            "psd-study/code.py", "psd-study/data/a.csv", "psd-study/data/output/kept.csv",
            "psd-study/output/",
        ]  # fmt: skip


def test_a_link_to_a_folder_is_not_left_out_in_silence(client: Client, tmp_path: Path) -> None:
    folder = project(tmp_path)
    (folder / "data").symlink_to(tmp_path)
    with pytest.raises(BadUpload, match="data is a link to a folder"):
        client.submit(folder)


def test_what_is_no_project_is_not_sent(client: Client, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadUpload, match=r"has no code\.py"):
        client.submit(tmp_path / "empty")
    with pytest.raises(BadUpload, match="There is no folder or zip"):
        client.submit(tmp_path / "nowhere")
