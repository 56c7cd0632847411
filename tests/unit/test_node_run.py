from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uv
from shipped import put_program

from nias_bridge import pipconfig
from nias_bridge.node import datasets, layout

SECONDS = 50

SLEEPS = """
import time
open('output/partial', 'w').write('x')
print('sleeping')
time.sleep(60)
"""
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN){SLEEPS}"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shared")
    put_program(root / layout.BIN)
    (root / layout.BIN / layout.UV).symlink_to(uv.find_uv_bin())
    return root


@dataclass
class Node:
    """A run's folder, and jobs that are started in it as the batch script would."""

    run: Path
    shared: Path
    options: list[str] = field(default_factory=list)

    def start(self, job_id: int = 7, name: str = "nias-tok-p", **slurm: str) -> subprocess.Popen:
        variables = {
            "PATH": "/usr/bin:/bin",
            "SECRET": "of the submitting shell",
            "TMPDIR": str(self.run.parent),
            "SLURM_JOB_NAME": name,
            "SLURM_JOB_ID": str(job_id),
            "SLURM_CPUS_ON_NODE": "1",
            **slurm,
        }
        program = str(self.shared / layout.BIN / layout.NODE_PROGRAM)
        command = [sys.executable, "-I", "-S", *self.options, program, "run",
                   "--folder", str(self.run), "--shared", str(self.shared),
                   "--name", "nias-tok-p", "--token", "tok"]  # fmt: skip
        with (self.run / layout.LOG).open("ab") as log:
            return subprocess.Popen(
                command, env=variables, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    def finish(self, job_id: int = 7, **slurm: str) -> int:
        return self.start(job_id, **slurm).wait(SECONDS)

    @property
    def log(self) -> str:
        return (self.run / layout.LOG).read_text()

    def json(self, name: str) -> dict:
        return json.loads((self.run / name).read_text())

    @property
    def exit(self) -> dict:
        return self.json(layout.EXIT)

    def results(self, folder: str = ".") -> dict[str, bytes]:
        with zipfile.ZipFile(self.run / folder / layout.RESULTS) as found:
            return {name: found.read(name) for name in found.namelist()}


@pytest.fixture
def node(tmp_path: Path, shared: Path) -> Callable[..., Node]:
    def make(code: str, **files: str) -> Node:
        run = tmp_path / "runs" / "lab" / "p" / "1"
        run.mkdir(parents=True)
        with zipfile.ZipFile(run / layout.ARCHIVE, "w") as out:
            out.writestr("p/code.py", code)
            for name, content in files.items():
                out.writestr(f"p/{name.replace('__', '.')}", content)
        return Node(run, shared)

    return make


def wait_for(seen: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def descendants(process: int) -> list[int]:
    """The processes below this one: bubblewrap, the first one within the walls, the program."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [pid for child in map(int, children) for pid in (child, *descendants(child))]


def running_in(folder: Path) -> dict[int, str]:
    """The processes that have this as their current folder, and their command lines."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").readlink() == folder:
                found[int(process.name)] = (process / "cmdline").read_text()
    return found


def test_a_job_leaves_its_results_and_how_it_ended(node):
    job = node("import sys\nprint('one')\nprint('two', file=sys.stderr)\nprint('three', end='')\n"
               "open('output/a', 'w').write('x')")  # fmt: skip
    assert job.finish() == 0
    assert (job.exit["reason"], job.exit["exit_code"], job.exit["message"]) == ("finished", 0, "")
    assert (job.exit["job_id"], job.exit["token"]) == (7, "tok")
    assert job.exit["elsewhere"] == []
    assert set(job.exit["timings"]) == {"unpack", "environment", "code", "collect"}
    assert job.results() == {"a": b"x"}
    assert job.json(layout.PROGRESS)["phase"] == "finished"
    lines = job.log.splitlines()
    assert lines[1:6] == ["[nias] code.py starts.", "one", "two", "three", lines[5]]
    assert lines[5].startswith("[nias] code.py ended with exit code 0")
    assert lines[6] == "[nias] 1 file collected from output/ (1 byte)."


def test_files_written_beside_output_are_named(node):
    job = node(
        "import os, helper\nos.makedirs('plots/a')\nopen('data.csv', 'a').write('more')\n"
        "for name in ('plots/a/psd.png', 'result.npy', '.cache', 'output/x'): open(name, 'w')",
        helper__py="", data__csv="1\n", same__csv="",
    )  # fmt: skip
    assert job.finish() == 0
    assert job.exit["elsewhere"] == ["data.csv", "result.npy", "plots/a/psd.png"]


def test_the_exit_code_is_the_programs_and_results_come_all_the_same(node):
    job = node("open('output/a', 'w').write('x')\nraise SystemExit(3)")
    assert job.finish() == 3
    assert (job.exit["reason"], job.exit["exit_code"]) == ("finished", 3)
    assert job.results() == {"a": b"x"}


def test_a_program_that_a_signal_ended_is_told_so(node):
    job = node("import os; os.kill(os.getpid(), 9)")
    assert job.finish() == 137
    assert (job.exit["exit_code"], job.exit["signal"]) == (None, 9)
    assert "SIGKILL" in job.exit["message"]


def test_its_environment_is_clean_and_has_what_it_needs(node, shared):
    site = {"run_variables": {"LAB": "nias"}, "build_variables": {"HIDDEN": "1"}}
    (shared / layout.BIN / layout.SITE).write_text(json.dumps(site))
    job = node("import os, json, tempfile; open('output/e', 'w').write(json.dumps("
               "{**os.environ, 'cwd': os.getcwd(), 'tmp': tempfile.gettempdir()}))")  # fmt: skip
    try:
        assert job.finish() == 0
    finally:
        (shared / layout.BIN / layout.SITE).unlink()
    seen = json.loads(job.results()["e"])
    assert not {"SECRET", "HIDDEN"} & set(seen)
    assert (seen["LAB"], seen["OMP_NUM_THREADS"], seen["NIAS_RUN"]) == ("nias", "1", "lab/p/1")
    assert seen["cwd"] == str(job.run / "project")
    assert seen["NIAS_OUTPUT"] == str(job.run / "project" / "output")
    assert seen["PATH"].startswith(seen["VIRTUAL_ENV"])
    assert (seen["tmp"], seen["TMPDIR"], seen["HOME"]) == ("/tmp", "/tmp", "/home/me")
    assert not list(job.run.parent.glob("nias-7-*"))


# Claims


def test_the_second_comer_touches_nothing(node):
    job = node("print('ran')")
    assert job.finish(7) == 0
    before = {p: p.stat().st_mtime_ns for p in job.run.rglob("*") if p.name != layout.LOG}
    assert job.finish(8) == 75
    assert "Job 7 runs this already" in job.log
    assert job.log.count("ran") == 1
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert job.json(f"{layout.CLAIMS}/tok/job")["job_id"] == 7


def test_a_claim_that_is_not_yet_written_into_counts(node):
    job = node("print('ran')")
    (job.run / layout.CLAIMS / "tok").mkdir(parents=True)
    assert job.finish() == 75
    assert not (job.run / layout.PROJECT).exists()


def test_of_many_at_once_one_runs(node):
    job = node("print('ran')")
    jobs = [job.start(n) for n in range(1, 7)]
    assert sorted(j.wait(SECONDS) for j in jobs) == [0, 75, 75, 75, 75, 75]
    assert job.log.count("ran") == 1


def test_a_requeued_job_begins_afresh_but_another_one_does_not(node):
    job = node("import os; print('ran'); assert os.listdir('output') == []\n"
               "open('output/a', 'w').write('x')")  # fmt: skip
    assert job.finish(7) == 0
    assert job.finish(7, SLURM_RESTART_COUNT="1") == 0
    assert job.finish(8, SLURM_RESTART_COUNT="1") == 75
    assert job.log.count("ran") == 2


def test_a_job_given_to_sbatch_by_hand_has_a_folder_of_its_own(node):
    job = node("open('output/a', 'w').write('x')")
    assert job.finish(9, name="my-own") == 0
    assert job.results("by-hand-9") == {"a": b"x"}
    assert {p.name for p in job.run.iterdir()} == {"project.zip", "slurm.out", "by-hand-9"}


# What goes wrong


def test_a_bad_archive_is_told_in_its_sentence(node):
    job = node("")
    (job.run / layout.ARCHIVE).write_bytes(b"no zip")
    assert job.finish() == 1
    assert (job.exit["reason"], job.exit["message"]) == ("archive", "The file is not a zip.")


def test_requirements_that_can_not_work_are_named(node):
    job = node("", requirements__txt="numpy\n-e .\n")
    assert job.finish() == 1
    assert job.exit["reason"] == "environment"
    assert job.exit["details"].startswith("line 2: -e .: ")
    assert "line 2" in job.log


def test_the_mended_requirements_stand_in_for_the_projects_own(node):
    job = node("print('ran')", requirements__txt="-e .\n")
    (job.run / layout.MENDED_REQUIREMENTS).write_text("# nothing\n")
    assert job.finish() == 0


def test_an_installer_that_fails_is_quoted(node, shared):
    job = node("", requirements__txt="iniconfig==0.0.0.1\n")
    (shared / layout.BIN / layout.SITE).write_text(
        json.dumps({"build_variables": {"UV_OFFLINE": "1"}})
    )
    try:
        assert job.finish() == 1
    finally:
        (shared / layout.BIN / layout.SITE).unlink()
    assert "iniconfig" in job.exit["details"]
    assert job.exit["details"] in job.log


def test_an_output_that_the_program_removed_gives_empty_results(node):
    job = node("import os; os.rmdir('output')")
    assert job.finish() == 0
    assert job.results() == {}


def test_a_program_that_closes_its_outputs_does_not_end_ours(node):
    job = node("import os; os.close(1); os.close(2)")
    assert job.finish() == 0
    assert "files collected" in job.log


def test_a_job_that_was_told_to_stop_is_not_told_to_be_cancelled(node):
    job = node(SLEEPS)
    process = job.start()
    wait_for(lambda: "sleeping" in job.log)
    process.terminate()
    assert process.wait(SECONDS) == 143
    assert "told to stop" in job.exit["message"]
    assert "cancel" not in (job.exit["message"] + job.log).lower()


def test_the_peak_of_a_short_programs_memory_is_known(node):
    job = node("held = bytearray(300 << 20); held[::4096] = held[::4096]")
    assert job.finish() == 0
    assert 300 << 20 <= job.exit["max_rss"] < 420 << 20


@pytest.mark.parametrize("away", [False, True], ids=["beside it", "in a session of its own"])
def test_what_the_program_left_running_is_ended(node, away):
    job = node("import subprocess, sys\n"
               "subprocess.Popen([sys.executable, '-c', 'print(\"left\", flush=True);"
               f"import time; time.sleep(60)'], start_new_session={away})\n"
               "while 'left\\n' not in open('/proc/self/fd/1').read(): pass")  # fmt: skip
    started = time.monotonic()
    assert job.finish() == 0
    assert time.monotonic() - started < 40
    assert not running_in(job.run / layout.PROJECT)


def test_results_that_do_not_fit_on_the_disk_are_told(node, monkeypatch):
    job = node("import os; [open(f'output/{n}', 'wb').write(os.urandom(40_000)) for n in range(5)]")
    was = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, was[1]))
    try:
        process = job.start()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, was)
        signal.signal(signal.SIGXFSZ, ignored)
    assert process.wait(SECONDS) == 1
    assert job.exit["reason"] == "internal"
    assert "could not be collected: File too large" in job.exit["message"]
    assert job.exit["message"] in job.log
    assert not (job.run / layout.RESULTS).exists()


# The walls


def test_a_node_that_cannot_confine_it_refuses_the_run_and_says_why(node, tmp_path):
    job = node("open('output/ran', 'w')")
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho 'no namespaces here' >&2; exit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    assert job.finish(PATH=f"{tmp_path}:/usr/bin:/bin", SLURMD_NODENAME="n7") == 1
    assert job.exit["reason"] == "sandbox"
    assert job.exit["message"].startswith("bubblewrap does not work on the node n7")
    assert job.exit["details"] == "no namespaces here"
    assert job.exit["message"] in job.log
    assert "no namespaces here" in job.log
    assert job.results() == {}


def test_where_the_administrator_turned_it_off_it_runs_as_it_is(node, shared, tmp_path):
    (tmp_path / "bwrap").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    (shared / layout.BIN / layout.SITE).write_text('{"sandbox": "off"}')
    job = node("import os, sys; open('output/a', 'w').write(os.environ['HOME']); sys.exit(3)")
    try:
        assert job.finish(PATH=f"{tmp_path}:/usr/bin:/bin") == 3
    finally:
        (shared / layout.BIN / layout.SITE).unlink()
    assert Path(job.results()["a"].decode()).is_relative_to(job.run.parent)


LISTED = (
    "import os, pathlib; data = pathlib.Path(os.environ['NIAS_DATA'])\n"
    "print(data, [p.relative_to(data).as_posix() for p in sorted(data.glob('*/*'))])\n"
    "try: (data / 'eeg' / 'a').write_text('x')\n"
    "except OSError as error: print('kept:', error.strerror)\n"
)


def content(shared: Path, sha256: str) -> None:
    folder = shared / layout.DATASETS / layout.CONTENT / sha256 / layout.CONTENT_FILES
    folder.mkdir(parents=True)
    (folder / "a").write_text("1")


def test_the_datasets_of_a_run_are_there_to_be_read_and_no_others(node, shared):
    content(shared, "1" * 64)
    content(shared, "2" * 64)
    job = node(LISTED)
    (job.run / layout.SEEN).write_text(json.dumps({"eeg": "1" * 64}))
    assert job.finish() == 0, job.log
    assert "/nias/data ['eeg/a']" in job.log
    assert "kept: Read-only file system" in job.log


def test_without_walls_they_are_links(node, shared):
    content(shared, "3" * 64)
    (shared / layout.BIN / layout.SITE).write_text('{"sandbox": "off"}')
    job = node(LISTED)
    (job.run / layout.SEEN).write_text(json.dumps({"eeg": "3" * 64}))
    try:
        assert job.finish() == 0, job.log
    finally:
        (shared / layout.BIN / layout.SITE).unlink()
    assert "['eeg/a']" in job.log


def test_a_dataset_that_is_not_there_ends_the_run_with_its_name(node):
    job = node("print('begun')")
    (job.run / layout.SEEN).write_text(json.dumps({"eeg": "4" * 64}))
    assert job.finish() != 0
    assert f"the dataset eeg ({'4' * 64}) is not on the shared storage" in job.exit["message"]
    assert "begun" not in job.log


READS_LATE = """
import os, time
from pathlib import Path
eeg = Path(os.environ["NIAS_DATA"]) / "eeg"
opened = (eeg / "a").open()
print("has it open", flush=True)
while os.listdir(eeg):
    time.sleep(0.02)
print("goes on with", repr(opened.read()), "and sees", os.listdir(eeg), flush=True)
"""


def test_of_content_that_is_removed_under_a_job_what_is_open_stays(node, shared):
    """So the database refuses to delete what an open run sees: no mount would keep it."""
    content(shared, "5" * 64)
    place = shared / layout.DATASETS / layout.CONTENT
    (place / ("5" * 64) / layout.CONTENT_FILES / "b").write_text("2")
    job = node(READS_LATE)
    (job.run / layout.SEEN).write_text(json.dumps({"eeg": "5" * 64}))
    process = job.start()
    wait_for(lambda: "has it open" in job.log)
    datasets.drop(str(place), "5" * 64, (place / ("5" * 64)).stat().st_mtime_ns)
    assert process.wait(SECONDS) == 0, job.log
    assert "goes on with '1' and sees []" in job.log


def test_without_walls_too_all_is_ended_when_slurm_wants_it(node, shared):
    (shared / layout.BIN / layout.SITE).write_text('{"sandbox": "off"}')
    job = node(STUBBORN)
    process = job.start()
    try:
        wait_for(lambda: "sleeping" in job.log)
    finally:
        (shared / layout.BIN / layout.SITE).unlink()
    process.terminate()
    assert process.wait(SECONDS) == 143
    assert not running_in(job.run / layout.PROJECT)
    assert job.results() == {"partial": b"x"}


@pytest.mark.parametrize("code", [0, 1, 3, 127, 130, 137, 143, 255])
def test_an_exit_code_is_never_taken_for_a_signal(node, code):
    job = node(f"raise SystemExit({code})")
    assert job.finish() == code
    assert (job.exit["exit_code"], job.exit["signal"]) == (code, None)


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGSEGV, signal.SIGTERM, signal.SIGPIPE])
def test_a_signal_is_never_taken_for_an_exit_code(node, number):
    job = node(f"import os, signal; signal.signal({number}, signal.SIG_DFL);"
               f"os.kill(os.getpid(), {number})")  # fmt: skip
    assert job.finish() == 128 + number
    assert (job.exit["exit_code"], job.exit["signal"]) == (None, number)


def test_the_program_inherits_neither_our_files_nor_our_way_with_signals(node):
    job = node("import json, os, signal; status = open('/proc/self/status').read()\n"
               "kept = {name: int(value, 16) for name, value in (line.split(':', 1)"
               " for line in status.splitlines() if line.startswith(('SigBlk', 'SigIgn')))}\n"
               "json.dump({**kept, 'files': sorted(os.listdir('/proc/self/fd'))},"
               " open('output/a', 'w'))")  # fmt: skip
    assert job.finish() == 0
    seen = json.loads(job.results()["a"])
    python_ignores = 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1
    libcs_own = 1 << 31 | 1 << 32
    # Whoever started the tests may have had them ignore some, as nohup and “&” do.
    given = [n for n in signal.valid_signals() if signal.getsignal(n) is signal.SIG_IGN]
    not_ours = libcs_own | sum(1 << n - 1 for n in given) & ~python_ignores
    assert (seen["SigBlk"], seen["SigIgn"] & ~not_ours) == (0, python_ignores)
    assert {"0", "1", "2"} <= set(seen["files"]) and len(seen["files"]) <= 5


def test_when_its_supervisor_is_killed_the_program_ends_too(node):
    job = node(SLEEPS)
    process = job.start()
    wait_for(lambda: "sleeping" in job.log)
    process.kill()
    process.wait(SECONDS)
    wait_for(lambda: not running_in(job.run / layout.PROJECT))


# Signals


def test_near_the_time_limit_partial_results_are_collected_and_slurm_ends_the_job(node):
    job = node(SLEEPS)
    process = job.start()
    wait_for(lambda: "sleeping" in job.log)
    process.send_signal(signal.SIGUSR1)
    wait_for((job.run / layout.EXIT).exists)
    assert job.exit["reason"] == "time limit"
    assert job.results() == {"partial": b"x"}
    assert process.poll() is None
    process.terminate()
    assert process.wait(SECONDS) == 143


@pytest.mark.parametrize("code", [SLEEPS, STUBBORN], ids=["obeys", "ignores it"])
def test_a_cancelled_job_collects_what_there_is(node, code):
    job = node(code)
    process = job.start()
    wait_for(lambda: "sleeping" in job.log)
    for _ in range(3):
        process.terminate()
        time.sleep(0.01)
    assert process.wait(SECONDS) == 143
    assert (job.exit["reason"], job.exit["exit_code"]) == ("told to stop", None)
    assert job.results() == {"partial": b"x"}


TIDIES_UP = f"""
import signal, sys, time
def tidy_up(*_):
    time.sleep(0.3)
    open('output/tidied', 'w').write('x')
    sys.exit(143)
signal.signal(signal.SIGTERM, tidy_up)
{SLEEPS}"""


@pytest.mark.parametrize(
    ("code", "left"),
    [(SLEEPS, {"partial": b"x"}), (TIDIES_UP, {"partial": b"x", "tidied": b"x"})],
    ids=["ends", "tidies up"],
)
def test_a_signal_to_all_processes_at_once_is_a_cancel_too(node, code, left):
    job = node(code)
    process = job.start()
    wait_for(lambda: "sleeping" in job.log)
    for one in descendants(process.pid):
        with contextlib.suppress(ProcessLookupError):  # it ended with the one before
            os.kill(one, signal.SIGTERM)
    time.sleep(0.05)
    process.terminate()
    assert process.wait(SECONDS) == 143
    assert job.exit["reason"] == "told to stop"
    assert job.results() == left


def test_a_cancel_while_installing_ends_the_installer(node, tmp_path):
    job = node("", requirements__txt="anything\n")
    job.shared = tmp_path / "other"
    (job.shared / layout.BIN).mkdir(parents=True)
    put_program(job.shared / layout.BIN)
    installer = job.shared / layout.BIN / layout.UV
    installer.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60\n")
    installer.chmod(0o755)
    process = job.start()
    wait_for((tmp_path / "pid").exists)
    wait_for((tmp_path / "pid").read_text)
    process.terminate()
    assert process.wait(SECONDS) == 143
    assert job.exit["reason"] == "told to stop"
    installers = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}")
    wait_for(lambda: not installers.exists())
    assert not list((job.shared / layout.ENVIRONMENTS).glob(".building-*"))


# The program file


def test_another_python_runs_it_from_its_sources(tmp_path):
    put_program(tmp_path)
    (modules,) = tmp_path.glob("*.zip")
    with zipfile.ZipFile(modules) as whole:
        content = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(modules, "w") as sources:
        for name, data in content.items():
            sources.writestr(name, b"\0\0\r\n" + data[4:] if name.endswith("c") else data)
    told = subprocess.run(
        [sys.executable, "-I", tmp_path / layout.NODE_PROGRAM], check=False, capture_output=True
    )
    assert (told.returncode, told.stderr[:20]) == (2, b"usage: nias-node.py ")


def test_a_job_survives_that_the_program_is_replaced(node, tmp_path, shared):
    job = node("import time, os\nprint('waits')\nwhile not os.path.exists('go'): time.sleep(.01)")
    job.shared = tmp_path / "other"
    (job.shared / layout.BIN).mkdir(parents=True)
    (job.shared / layout.ENVIRONMENTS).symlink_to(shared / layout.ENVIRONMENTS)
    program = job.shared / layout.BIN / layout.NODE_PROGRAM
    put_program(program.parent)
    process = job.start()
    wait_for(lambda: "waits" in job.log)
    program.unlink()
    program.write_bytes(b"not a program")
    (job.run / layout.PROJECT / "go").touch()
    assert process.wait(SECONDS) == 0
    assert job.results() == {}


def test_a_job_whose_environment_is_there_imports_nothing_that_takes_long(node):
    job = node("open('output/a', 'w').write('x')")
    assert job.finish() == 0  # its environment is there now
    (job.run / layout.SWEEP).write_text('[{"n": 1}]')
    job.options = ["-X", "importtime"]
    assert job.finish(8) == 0
    imported = {line.rpartition("|")[2].strip() for line in job.log.splitlines()}
    assert "nias_bridge.node.environment" in imported
    slow = {"ast", "asyncio", "concurrent.futures", "dataclasses", "inspect", "socket", "tomllib"}
    ours = {"building", "installer", "blame", "bytecode", "preview.__main__"}
    assert not imported & (slow | {f"nias_bridge.node.{name}" for name in ours})


# Environments


@pytest.fixture
def index(shared):
    """The package index as the gateway's own environment names it."""
    site = shared / layout.BIN / layout.SITE
    found = pipconfig.told()
    site.write_text(json.dumps({"build_variables": found}))
    yield
    site.unlink()


@pytest.mark.usefixtures("index")
def test_what_was_installed_is_kept_with_the_run_and_compiled_once_that_has_its_results(node):
    job = node("import iniconfig", requirements__txt="iniconfig==2.0.0\n")
    assert job.finish() == 0
    assert list(job.shared.glob("cache/compiled/*/*/iniconfig/__pycache__/*.pyc"))
    lock = (job.run / layout.LOCK).read_text()
    assert lock.splitlines()[1] == "iniconfig==2.0.0 \\"
    assert lock.count("--hash=sha256:") == 1


@pytest.mark.usefixtures("index")
def test_a_script_that_names_its_own_packages_gets_them(node):
    block = '# /// script\n# dependencies = ["iniconfig==2.0.0"]\n# ///\n'
    job = node(f"{block}import iniconfig")
    assert job.finish() == 0
    assert "There is no requirements.txt: the packages are those that code.py names." in job.log


@pytest.mark.usefixtures("index")
def test_an_environment_is_in_use_as_long_as_its_job_lives(node, shared):
    job = node(SLEEPS, requirements__txt="iniconfig==2.0.0\n")
    process = job.start()
    wait_for(lambda: "sleeping" in job.log)
    key = job.json(layout.PROGRESS)["environment"]["key"]
    with (shared / layout.ENVIRONMENTS / f"{key}.use").open("r+") as use:
        with pytest.raises(BlockingIOError):
            fcntl.flock(use, fcntl.LOCK_EX | fcntl.LOCK_NB)
        process.kill()
        process.wait(SECONDS)
        fcntl.flock(use, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.usefixtures("index")
def test_an_environment_that_lost_a_module_is_told_and_built_anew_for_the_next_run(node, shared):
    job = node("import pluggy._hooks, os; open('output/a', 'w')",
               requirements__txt="pluggy==1.5.0\n")  # fmt: skip
    assert job.finish(7) == 0
    folder = shared / layout.ENVIRONMENTS / job.exit["environment"]["key"]
    package = next(folder.glob("lib/*/site-packages/pluggy"))
    was = package.stat()
    (package / "_hooks.py").unlink()
    os.utime(package, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert job.finish(7, SLURM_RESTART_COUNT="1") == 1
    assert "The environment had lost files" in job.exit["message"]
    assert job.finish(7, SLURM_RESTART_COUNT="2") == 0
    assert job.exit["environment"]["built"]


def test_a_task_of_a_sweep_has_its_parameters_its_claim_and_its_own_output(node):
    job = node("import os; open('output/a', 'w').write(os.environ['NIAS_PARAM_N'])")
    (job.run / layout.SWEEP).write_text('[{"n": 10}, {"n": 20}]')
    task = {"SLURM_ARRAY_JOB_ID": "7"}
    assert job.finish(8, SLURM_ARRAY_TASK_ID="0", **task) == 0
    assert job.finish(7, SLURM_ARRAY_TASK_ID="1", **task) == 0
    assert job.finish(9, SLURM_ARRAY_TASK_ID="1", **task) == layout.ALREADY_RUN
    assert job.results("tasks/0") == {"a": b"10"}
    assert job.results("tasks/1") == {"a": b"20"}
    assert job.json("tasks/1/exit.json")["job_id"] == 7
    assert not (job.run / layout.EXIT).exists()


def test_a_task_that_the_sweep_does_not_have_says_so(node):
    job = node("print('never')")
    (job.run / layout.SWEEP).write_text('[{"n": 10}]')
    assert job.finish(SLURM_ARRAY_JOB_ID="7", SLURM_ARRAY_TASK_ID="5") == 1
    assert "sweep.json has no task 5" in job.json("tasks/5/exit.json")["message"]
