"""Claims about the command `nias`, against a gateway that is served."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
import staged
from apiflask import APIFlask
from commanded import Nias, project, within

import nias_bridge
from nias_bridge import terminal
from nias_bridge.client import Client, NotLoggedIn, Run
from nias_bridge.client import login as logins
from nias_bridge.domain import JobState
from nias_bridge.nias import main
from nias_bridge.services.bridge import Bridge

PAGE = (Path(__file__).parents[3] / "docs" / "client.md").read_text()
BLOCKED = ("fcntl", "grp", "pwd", "resource", "termios", "tty", "pty", "syslog")


# What Windows' os and signal have not, beyond what is asked for by name where it is there.
GONE = ("O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "O_SYNC", "chown", "confstr")
GONE += ("fchmod", "fchown", "fork", "fwalk", "getegid", "geteuid", "getgid", "getpgid")
GONE += ("getpriority", "getuid", "killpg", "lchown", "mkfifo", "nice", "pread", "pwrite")
GONE += ("sched_getaffinity", "setsid", "statvfs", "sysconf", "uname")
NO_SIGNALS = ("SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGUSR1")


def python(code: str, encoding: str = "utf-8", **variables: str) -> str:
    """What it prints to a pipe of this encoding; where it fails, why."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        encoding=encoding,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": encoding, **variables},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_works_where_nothing_is_posix(tmp_path: Path) -> None:
    folder = tmp_path / "psd"
    folder.mkdir()
    (folder / "tune.py").write_text("import numpy\nprint('ä')\n", encoding="utf-8")
    modules = ["nias_bridge.nias", "rich.progress"]
    for part in ("client", "project"):
        files = (Path(nias_bridge.__file__).parent / part).glob("*.py")
        modules += [f"nias_bridge.{part}.{file.stem}" for file in files if "__" not in file.stem]
    told = python(
        # What others' packages do where these are gone is theirs.
        "import os, shutil, signal, subprocess, sys, tempfile, zipfile, httpx, rich.progress\n"
        f"sys.modules.update(dict.fromkeys({BLOCKED}))\n"
        f"for name in {GONE}: hasattr(os, name) and delattr(os, name)\n"
        f"for name in {NO_SIGNALS}: delattr(signal, name)\n"
        f"import {', '.join(modules)}\n"
        "from nias_bridge.client import login; from nias_bridge.nias import main\n"
        "from nias_bridge.project import data\n"
        "main(['--help'], standalone_mode=False)\n"
        f"main(['init', {str(folder)!r}, '--json'], standalone_mode=False)\n"
        f"print(data.packed({str(folder)!r}, lambda done, whole: None).filename)\n"
        "for token in 'first', 'second': login.keep(login.Login('https://nias.lab.org', token))\n"
        "print(login.known().token)\n"
        f"main(['check', {str(folder)!r}], standalone_mode=False)",
        encoding="cp1252",
        XDG_CONFIG_HOME=str(tmp_path / "kept"),
    )
    assert told.startswith("Usage:")
    assert "psd.zip\nsecond\npsd can be submitted: " in told


def test_json_reaches_a_program_whatever_its_pipes_encoding(tmp_path: Path) -> None:
    folder = tmp_path / "Łódź"
    folder.mkdir()
    (folder / "code.py").write_text("print(1)\n", encoding="utf-8")
    told = python(
        "from nias_bridge.nias import main\n"
        f"main(['check', {str(folder)!r}, '--json'], standalone_mode=False)",
        encoding="cp1252",
    )
    assert json.loads(told)["project"] == "Łódź"


def test_help_answers_without_what_the_gateway_needs() -> None:
    loaded = python(
        "import sys; from nias_bridge.nias import main\n"
        "main(['submit', '--help'], standalone_mode=False); print(*sys.modules)"
    ).split()
    heavy = ("flask", "sqlalchemy", "pydantic", "alembic", "paramiko", "gunicorn", "httpx", "rich")
    assert "nias_bridge.nias" in loaded
    assert not set(heavy) & set(loaded)


def test_a_login_is_kept_for_its_user_alone(
    served: tuple[str, APIFlask], token: str, home: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    nias = within(tmp_path / "here", monkeypatch)
    done = nias("login", "--with-token", input="nias_wrong\n")
    assert done.exit_code == 65, "there is no address"
    done = nias("login", "--url", served[0], "--with-token", input="nias_wrong\n")
    assert (done.exit_code, "token is unknown" in done.stderr) == (77, True)
    assert not home.exists(), "what does not work is not kept"
    done = nias("login", input=f"{served[0]}/\n{token}\n")
    assert (done.exit_code, done.stdout) == (0, f"Logged in at {served[0]}.\n")
    assert token not in done.output
    (file,) = home.rglob("*.json")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert nias("list").exit_code == 0
    monkeypatch.setenv("NIAS_URL", "https://elsewhere.lab.org")
    with pytest.raises(NotLoggedIn, match=r"No token is known for https://elsewhere.lab.org"):
        Client()


def test_who_is_not_logged_in_is_told_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = within(tmp_path / "here", monkeypatch)("list")
    assert (done.exit_code, "Run “nias login”" in done.stderr) == (77, True)


@pytest.mark.parametrize(
    ("url", "clear"),
    [("http://nias.lab.org", True), ("https://nias.lab.org", False), ("http://localhost:1", False)],
)
def test_a_token_in_the_clear_is_noticed(url: str, clear: bool) -> None:
    assert logins.Login(url, "t").in_the_clear is clear


def test_a_project_is_sent_watched_and_fetched(nias: Nias, bridge: Bridge) -> None:
    project(Path())
    done = nias("submit", "psd-study", "--time", "30", "--cpus", "2")
    assert done.exit_code == 0, done.output
    run = bridge.store.open_runs()[-1]
    assert done.stdout.startswith(f"psd-study, run 1: RECEIVED. Its id is {run.id}; http://")
    assert (run.resources.time, run.resources.cpus) == ("30", 2)
    run = staged.move(bridge, run, *staged.STARTED, JobState.COMPLETED, elapsed=3, exit_code=0)
    staged.say(bridge, run, "peak at 50 Hz\n")
    staged.leave(bridge, run, {"psd.npz": b"\1", "a/b.txt": b"b"})
    assert nias("log", "-f", "psd-study").stdout == "peak at 50 Hz\n"
    assert json.loads(nias("log", "psd-study", "--json").stdout) == {"text": "peak at 50 Hz\n"}
    shown = nias("show", "psd-study/1").stdout
    assert shown.startswith("psd-study, run 1: COMPLETED\n")
    assert "exit code  0" in shown
    assert json.loads(nias("show", str(run.id), "--json").stdout)["state"] == "COMPLETED"
    assert nias("results", "psd-study").exit_code == 0
    assert Path("psd-study-1/a/b.txt").read_bytes() == b"b"
    assert nias("results", "psd-study", "-o", "r.zip").stdout == "r.zip\n"
    assert Path("r.zip").read_bytes() == staged.here(bridge).run(run).results.read_bytes()
    listed = nias("list").stdout.splitlines()
    assert listed[1].split()[:4] == [str(run.id), "psd-study", "1", "COMPLETED"]
    assert json.loads(nias("list", "psd", "--json").stdout)[0]["id"] == run.id
    assert json.loads(nias("list", "nothing", "--json").stdout) == []
    again = nias("again", "psd-study", "--json")
    assert json.loads(again.stdout)["number"] == 2
    cancelled = nias("cancel", "psd-study")
    assert "it will be cancelled" in cancelled.stdout


def test_why_a_run_did_not_begin_is_told(nias: Nias, bridge: Bridge) -> None:
    run = staged.add(bridge, "psd-study")
    staged.move(bridge, run, *staged.STARTED, JobState.FAILED, exit_code=1)
    staged.leave(bridge, run, {}, reason="archive", message="This can't be run: it is no zip.")
    assert "\nThis can't be run: it is no zip.\n" in nias("show", "psd-study").stdout


def test_of_a_sweep_a_task_has_the_log(nias: Nias, bridge: Bridge) -> None:
    staged.swept(bridge)
    done = nias("log", "filter-bank")
    assert (done.exit_code, "name a task" in done.stderr) == (2, True)
    assert nias("log", "filter-bank", "--task", "1").stdout == "filtering\n"


def test_waiting_ends_with_the_status_of_the_code(
    nias: Nias, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = staged.failed(bridge)
    staged.completed(bridge)

    def sent(self: Client, project: Any, **_asked: Any) -> Run:
        return self.run(str(project))

    monkeypatch.setattr(Client, "submit", sent)
    Path("emg-onset").mkdir()
    Path("power-spectrum").mkdir()
    done = nias("submit", "emg-onset", "--wait")
    assert done.exit_code == 1
    assert "emg-onset, run 1: FAILED" in done.stdout
    assert "The program looks for" in done.stdout, "what the failure doctor says"
    assert "emg-onset, run 1: FAILED" in done.stderr, "its states, as they come"
    assert json.loads(nias("submit", "emg-onset", "--wait", "--json").stdout)["id"] == ended.id
    done = nias("submit", "power-spectrum", "--download", "back")
    assert done.exit_code == 0
    assert Path("back/spectrum.csv").is_file()


@pytest.mark.parametrize(
    ("state", "exit_code", "signal", "status"),
    [
        ("COMPLETED", 0, None, 0),
        ("FAILED", 3, None, 3),
        ("FAILED", 0, 11, 139),
        ("FAILED", None, None, 1),
        ("TIMEOUT", 0, None, 124),
        ("OUT_OF_MEMORY", 0, None, 137),
        ("CANCELLED", 0, 15, 143),
        ("REJECTED", None, None, 65),
        ("NODE_FAIL", None, None, 75),
        ("a word of a later Slurm", None, None, 75),
    ],
)
def test_each_end_has_its_status(
    client: Client, bridge: Bridge, state: str, exit_code: int | None, signal: int | None,
    status: int,
) -> None:  # fmt: skip
    run = client.run(staged.completed(bridge).id)
    assert run.accounting is not None
    told = replace(run.accounting, signal=signal)
    run = replace(run, state=state, exit_code=exit_code, accounting=told)
    assert terminal.exit_status(run) == status


def test_errors_are_sentences_and_for_programs_json(nias: Nias) -> None:
    project(Path())
    assert nias("submit", "psd-study").exit_code == 0
    done = nias("submit", "psd-study")
    assert done.exit_code == 65
    assert done.stderr.startswith("Error: A project named “psd-study” is already there")
    problem = json.loads(nias("submit", "psd-study", "--json").stderr)
    assert (problem["type"], problem["next_number"]) == ("urn:nias-bridge:project-exists", 2)
    done = nias("list", env={"NIAS_URL": "http://127.0.0.1:9"})
    assert (done.exit_code, "can’t be reached" in done.stderr) == (69, True)
    assert nias("submit", "psd-study", "--cpus", "none").exit_code == 2


def test_a_refusal_names_the_option_that_mends_it(nias: Nias) -> None:
    project(Path(), requirements__txt="torch==2.3.0+cu121\n")
    assert nias("submit", "psd-study").stderr.endswith("With --mend these lines are mended.\n")
    assert nias("submit", "psd-study", "--mend").exit_code == 0
    assert nias("submit", "psd-study", "--mend").stderr.endswith("With --again it is run 2.\n")
    project(Path(), "other", requirements__txt="numpy @ file:///tmp/numpy\n")
    assert "--mend" not in nias("submit", "other").stderr


def test_what_was_warned_of_is_told_in_the_words_of_check(nias: Nias) -> None:
    code = "import cv2, lab_tools\nx = open('C:/Users/ana/emg.csv')\n"
    project(Path(), code__py=code)
    told = [line for line in nias("check", "psd-study").stdout.splitlines() if "can be" not in line]
    assert len(told) == 4
    assert nias("submit", "psd-study").stderr.splitlines() == told


def test_every_command_answers_in_json_and_is_on_its_page() -> None:
    commands = {**main.commands}
    group = commands.pop("datasets")
    assert isinstance(group, click.Group)
    commands |= {f"datasets {name}": command for name, command in group.commands.items()}
    for name, command in commands.items():
        assert any("--json" in param.opts for param in command.params), name
        assert f"nias {name}" in PAGE or f"**`{name}`**" in PAGE, name


def test_a_place_that_can_not_be_written_to_is_told(nias: Nias, bridge: Bridge) -> None:
    staged.completed(bridge)
    done = nias("results", "power-spectrum", "-o", "nowhere/r.zip")
    assert done.exit_code == 65
    assert done.stderr.startswith("Error: nowhere/r.zip")
    assert "No such file or directory" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_told_how_to_complete(shell: str) -> None:
    asked = {**os.environ, "_NIAS_COMPLETE": f"{shell}_source"}
    code = "from nias_bridge.nias import main; main(prog_name='nias')"
    argv = [sys.executable, "-c", code]
    told = subprocess.run(argv, env=asked, capture_output=True, text=True, timeout=60, check=True)
    assert "_NIAS_COMPLETE" in told.stdout, told.stderr


def test_names_of_runs_are_completed(nias: Nias, bridge: Bridge) -> None:
    staged.add(bridge, "psd-study")
    staged.add(bridge, "emg")
    asked = {"COMP_WORDS": "nias show p", "COMP_CWORD": "2", "_NIAS_COMPLETE": "bash_complete"}
    assert nias(env=asked, prog_name="nias").stdout == "plain,psd-study\n"
    assert nias(env={**asked, "NIAS_TOKEN": "x"}, prog_name="nias").stdout.strip() == ""
