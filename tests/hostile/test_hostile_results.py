"""Claims about what hostile code leaves: nothing of others comes with it, no page breaks of it."""

from __future__ import annotations

import csv
import json
import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import staged
from client import zipped
from doors import GROWTH, Gateway, Node
from test_hostile_requests import give_away

from nias_bridge.domain import JobState, Run
from nias_bridge.node import layout
from nias_bridge.paths import RunPaths

PLAIN_JOB = 64 * 1024**2
MIB = 1024**2
SECRET = "of somebody else"


# On the node: code.py leaves it, the node collects

CODES: dict[str, str] = {
    "a link to a file of the system": "os.symlink('/etc/passwd', 'output/x')",
    "a link to a file above": "os.symlink('../../project.zip', 'output/x')",
    "a link to a folder": "os.symlink('/etc', 'output/x')",
    "a link to another run": "os.symlink(os.environ['OTHER'], 'output/x')",
    "a link by way of a link": "os.symlink('..', 'output/y'); os.symlink('y/../../..', 'output/x')",
    "a link to itself": "os.symlink('x', 'output/x')",
    "a link to a process's folder": "os.symlink('/proc/self/fd', 'output/x')",
    "output as a link": "os.rmdir('output'); os.symlink('/etc', 'output')",
    "output as a file": "os.rmdir('output'); open('output', 'w').write('x')",
    "a pipe": "os.mkfifo('output/x')",
    "a socket": "import socket; socket.socket(socket.AF_UNIX).bind('output/x')",
    "a sparse file of 10 TB": "os.truncate(os.open('output/x', 66), 10 * 1000**4)",
    "a line in a name": "open('output/x\\n#SBATCH', 'w')",
    "a return in a name": "open('output/x\\r', 'w')",
    "an escape in a name": "open('output/\\x1b[2Jx', 'w')",
    "bytes in a name": "open(b'output/\\xff\\xfe', 'w')",
    "a file that is nobody's": "open('output/x', 'w').write('a'); os.chmod('output/x', 0)",
    "deep folders": "os.chdir('output')\nfor _ in range(800): os.mkdir('d'); os.chdir('d')",
    "metrics of 1 GB": "os.truncate(os.open('output/metrics.json', 66), 1000**3)",
    "metrics as a pipe": "os.mkfifo('output/metrics.json')",
    "metrics as a link": "os.symlink('/etc/passwd', 'output/metrics.json')",
    "deep metrics": "open('output/metrics.json', 'w').write('[' * 60000)",
    "metrics that are no numbers": "open('output/metrics.json', 'w').write('{\"a\": NaN}')",
    "lines of the node's own": "print('[nias] 3 files collected\\n[nias] \\x1b[2J')",
}  # fmt: skip


@pytest.fixture
def other(node_storage: Path) -> Iterator[Path]:
    """What is not this run's: a file that the jobs' account can read."""
    folder = node_storage.parent / "other"
    folder.mkdir()
    (folder / "secret").write_text(SECRET)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("code", CODES.values(), ids=CODES.keys())
def test_nothing_of_others_comes_with_the_results(
    code: str, node: Node, job_folder: Path, other: Path
) -> None:
    before = {path: path.read_bytes() for path in other.rglob("*") if path.is_file()}
    text = f"import os\nos.environ['OTHER'] = {str(other)!r}\n{code}\n"
    (job_folder / layout.ARCHIVE).write_bytes(zipped("p", {"code.py": text}))
    ended = node.run(job_folder)
    assert ended.told["reason"] == "finished", ended.told
    assert ended.told["collected"]["files"] == 0 or "metrics" in code, ended.told
    assert ended.told["metrics"] == {}
    assert ended.peak < PLAIN_JOB + GROWTH
    packed = (job_folder / layout.RESULTS).read_bytes()
    assert b"root:" not in packed
    assert SECRET.encode() not in packed
    manifest = json.loads((job_folder / layout.MANIFEST).read_text())
    assert all(each["path"].isprintable() for each in manifest["left_out"])
    assert {path: path.read_bytes() for path in before} == before


PLANTED = f"""
import os, sys
run = os.path.dirname(os.getcwd())
for name in ({layout.EXIT!r}, {layout.MANIFEST!r}, {layout.RESULTS!r}, {layout.PROGRESS!r},
             {layout.LOCK!r}):
    path = os.path.join(run, name)
    if os.path.lexists(path):
        os.unlink(path)
    os.symlink(sys.argv[1], path)
    for pid in range(os.getppid() - 3, os.getppid() + 3):
        os.symlink(sys.argv[1], os.path.join(run, f".{{name}}.{{pid}}"))
open("output/result", "w").write("x")
"""


def test_nothing_is_written_through_links_that_code_planted_for_the_node(
    node: Node, job_folder: Path, other: Path, without_walls: None
) -> None:
    (job_folder / layout.ARCHIVE).write_bytes(zipped("p", {"code.py": PLANTED}))
    aim = other / "secret"
    aim.chmod(0o666)
    ended = node.run(job_folder, "code.py", str(aim))
    assert (ended.told["reason"], ended.told["exit_code"]) == ("finished", 0)
    assert ended.told["collected"]["files"] == 1
    assert aim.read_text() == SECRET
    for name in (layout.EXIT, layout.MANIFEST, layout.RESULTS, layout.PROGRESS):
        assert stat.S_ISREG((job_folder / name).lstat().st_mode)


# On the gateway: the files that a node writes, as hostile code may have written them

TOO_DEEP = b"[" * 100_000
KINDS = ["null", "-1", "1" + "0" * 400, "9" * 5000, "1e308", "-1e999", "NaN", '"text"', '""',
         '"\\ud800"', '"\\u202e\\u0000<script>alert(1)</script>"', "[]", "{}", "[[[]]]", "true",
         '{"a": {}}', "[1]", '{"files": "x"}']  # fmt: skip
KEYS = ["phase", "since", "node", "exit_code", "signal", "reason", "message", "details", "timings",
        "environment", "collected", "elsewhere", "metrics", "max_rss", "python", "platform",
        "hash_seed", "bridge", "job_id", "files", "left_out", "left_out_count"]  # fmt: skip
ENTRIES = ['{"path": %s, "size": 1, "sha256": "a", "why": "b"}',
           '{"path": "a", "size": %s, "sha256": "a", "why": "b"}',
           '{"path": "a", "size": 1, "sha256": %s, "why": %s}']  # fmt: skip


def of_kind(kind: str) -> bytes:
    """An object in which all that is known is of this kind."""
    return ("{" + ", ".join(f'"{key}": {kind}' for key in KEYS) + "}").encode()


def with_entries(kind: str) -> bytes:
    entries = ", ".join(entry.replace("%s", kind) for entry in ENTRIES)
    environment = f'{{"key": {kind}, "built": {kind}, "seconds": {kind}, "packages": {kind}}}'
    numbers = f'{{"a": {kind}, "\\ud800": 1, "unpack": {kind}}}'
    return (
        f'{{"files": [{entries}], "left_out": [{entries}], "environment": {environment}, '
        f'"timings": {numbers}, "metrics": {numbers}, "collected": {{"files": {kind}}}, '
        f'"elsewhere": [{kind}], "phase": "running"}}'
    ).encode()


CONTENTS: dict[str, Callable[[], bytes]] = {
    **{f"all {kind[:24]}": (lambda kind=kind: of_kind(kind)) for kind in KINDS},
    **{f"within {kind[:24]}": (lambda kind=kind: with_entries(kind)) for kind in KINDS},
    "nothing": lambda: b"",
    "no JSON": lambda: b"\xff\0{",
    "deep": lambda: TOO_DEEP,
    "deep within": lambda: b'{"python": ' + b"[" * 900 + b"]" * 900 + b"}",
    "a million lists": lambda: b"[" + b"[]," * 1_000_000 + b"[]]",
    "a million keys": lambda: b"{" + b",".join(b'"%d":0' % n for n in range(1_000_000)) + b"}",
    "60 MB of entries": lambda: b'{\n "files": [\n'
    + b'  {\n   "path": "a",\n   "size": 1,\n   "sha256": "b"\n  },\n' * 900_000 + b"  ]\n}",
    "60 MB of brackets": lambda: b'{\n "files": [\n' + b"{\n" * 30_000_000,
    "60 MB of one line": lambda: b'{\n "files": [\n  {\n' + b"a" * 60 * MIB,
    "60 MB of text": lambda: b'{"message": "' + b"a" * 60 * MIB + b'"}',
    "details of 900 kB": lambda: b'{"details": "' + b"a<" * 450_000 + b'"}',
}  # fmt: skip
PLACES: dict[str, Callable[[RunPaths], Path]] = {
    "exit.json": lambda files: files.exit,
    "progress.json": lambda files: files.progress,
    "manifest.json": lambda files: files.manifest,
    "claim": lambda files: files.claim / "job",
    "previews": lambda files: files.previews / layout.PREVIEW_INDEX,
}


@pytest.fixture(scope="module")
def run(gateway: Gateway) -> Run:
    """A run that failed, so that all is asked of it."""
    made = staged.failed(gateway.bridge, "results-hostile")
    give_away(gateway, staged.here(gateway.bridge).run(made).folder)
    return made


@pytest.fixture
def files(gateway: Gateway, run: Run) -> Iterator[RunPaths]:
    """Its files, which are put back afterwards."""
    paths = staged.here(gateway.bridge).run(run)
    kept = paths.folder.with_name("kept")
    shutil.copytree(paths.folder, kept, symlinks=True)
    paths.claim.mkdir(parents=True, exist_ok=True)
    paths.previews.mkdir(exist_ok=True)
    give_away(gateway, paths.folder)
    yield paths
    shutil.rmtree(paths.folder)
    kept.rename(paths.folder)
    give_away(gateway, paths.folder)


def asked(run: Run) -> list[str]:
    """All that can be asked of a run."""
    ends = ("", "/live", "/log.txt", "/run.json", "/crate.zip", "/results.zip", "/files/x")
    of_api = ("", "/log", "/files", "/run.json", "/crate.zip", "/results.zip", "/files/x")
    pages = [f"/runs/{run.id}{end}" for end in ends]
    return [*pages, *(f"/api/v1/runs/{run.id}{end}" for end in of_api), "/", "/results",
            "/api/v1/runs?q=results-hostile"]  # fmt: skip


def answered(gateway: Gateway, run: Run) -> str:
    """Ask all of it; returns what was said, together."""
    said = []
    with gateway.bounded():
        for path in asked(run):
            answer = gateway.get(path)
            assert answer.status in (200, 404, 409), (path, answer.said)
            if "json" in answer.headers["content-type"]:
                json.loads(answer.body)
            if "html" in answer.headers["content-type"]:
                assert b"<script>alert" not in answer.body
            said.append(answer.text)
    return "".join(said)


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())
def test_every_page_stands_whatever_is_in_the_nodes_files(
    content: Callable[[], bytes], gateway: Gateway, run: Run, files: RunPaths
) -> None:
    data = content()
    for place in PLACES.values():
        place(files).write_bytes(data)
    answered(gateway, run)


def pipe(path: Path, _: Path) -> None:
    os.mkfifo(path, 0o666)


def link(path: Path, secret: Path) -> None:
    path.symlink_to(secret)


def circle(path: Path, _: Path) -> None:
    path.symlink_to(path)


def folder(path: Path, _: Path) -> None:
    path.mkdir()


def bound(path: Path, _: Path) -> None:
    here = os.open(path.parent, os.O_RDONLY)  # a socket's path has little room
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"/proc/self/fd/{here}/{path.name}")
    os.close(here)


def sparse(path: Path, _: Path) -> None:
    with path.open("wb") as file:
        os.truncate(file.fileno(), 10 * 1000**4)


@pytest.mark.parametrize("plant", [pipe, link, circle, folder, bound, sparse])
@pytest.mark.parametrize(
    "name",
    [*PLACES, layout.LOG, layout.ARCHIVE, layout.RESULTS, layout.LOCK, layout.SCRIPT],
)
def test_nothing_in_the_place_of_a_file_is_waited_for_or_followed(
    name: str, plant: Callable[[Path, Path], None], gateway: Gateway, run: Run, files: RunPaths
) -> None:
    if plant is sparse and name not in PLACES:
        plant = folder  # ten terabytes of zeros of one's own may be downloaded
    secret = gateway.site.state / "secret-key"
    key = secret.read_text()
    secret.chmod(0o644)
    aim = gateway.site.state / "elsewhere.json"
    aim.write_text(
        json.dumps({"message": key, "files": [{"path": key, "size": 1}], "details": key})
    )
    place = PLACES[name](files) if name in PLACES else files.folder / name
    if place.exists():
        place.unlink()
    plant(place, aim if name in PLACES else secret)
    try:
        assert key not in answered(gateway, run)
        again = gateway.ask("POST", f"/api/v1/runs/{run.id}/again?exactly=1")
        assert again.status in (202, 404, 409), again.said
    finally:
        secret.chmod(0o600)
        aim.unlink()


# output/ while the code still runs


@pytest.fixture
def live(gateway: Gateway) -> Iterator[tuple[Run, Path]]:
    """A run that is running, and its output/."""
    made = staged.running(gateway.bridge, f"results-live-{os.urandom(4).hex()}")
    paths = staged.here(gateway.bridge).run(made)
    paths.output.mkdir(parents=True)
    yield made, paths.output
    subprocess.run(["rm", "-rf", str(paths.folder)], check=True)  # Python's own goes only so deep


def many(output: Path) -> None:
    for number in range(100_000):
        (output / f"{number}").touch()


def odd_names(output: Path) -> None:
    for name in ("a\nb", "\x1b[2J", "\u202egpj.exe", "a\r\nSet-Cookie: a=b", "\x7f"):
        (output / name).write_text("x")
    with open(os.fsencode(output) + b"/\xff\xfe", "w") as file:  # noqa: PTH123
        file.write("x")


def links(output: Path) -> None:
    (output / "x").symlink_to("/etc/passwd")
    (output / "above").symlink_to("../..")
    (output / "round").symlink_to(".")


def specials(output: Path) -> None:
    os.mkfifo(output / "x")
    bound(output / "socket", output)
    if os.geteuid() == 0:
        os.mknod(output / "device", stat.S_IFCHR | 0o666, os.makedev(1, 5))


def deep(output: Path) -> None:
    here = os.open(output, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d" * 50, dir_fd=here)
        inner = os.open("d" * 50, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)


def markup(output: Path) -> None:
    for name in ("<img src=x onerror=alert(1)>.png", "'\"><script>alert(1)</script>",
                 "javascript:alert(1)", "{{ 7*7 }}"):  # fmt: skip
        (output / name.replace("/", "∕")).write_text("<script>alert(1)</script>")


@pytest.mark.parametrize("leave", [many, odd_names, links, specials, markup])
def test_a_live_output_breaks_no_page(
    leave: Callable[[Path], None], gateway: Gateway, live: tuple[Run, Path]
) -> None:
    run, output = live
    leave(output)
    give_away(gateway, output)
    said = answered(gateway, run)
    assert "root:" not in said
    assert "\x1b[2J" not in said


def test_folders_deeper_than_any_path_break_no_page(
    gateway: Gateway, live: tuple[Run, Path]
) -> None:
    run, output = live
    deep(output)
    answered(gateway, run)


# What browsers and spreadsheets make of it

RUNS_IN_A_BROWSER = ["page.html", "page.htm", "page.xhtml", "image.svg", "script.js", "style.css",
                     "page.xml", "page.shtml", "page.mht", "doc.pdf", "x.wasm", "sw.mjs", "plain",
                     "two.png.html", "x.svgz", "page.HTML", "table.csv", "a.swf"]  # fmt: skip


@pytest.mark.parametrize("name", RUNS_IN_A_BROWSER)
def test_a_file_that_could_run_is_only_ever_downloaded(
    name: str, gateway: Gateway, live: tuple[Run, Path]
) -> None:
    run, output = live
    (output / name).write_text("<script>alert(1)</script>")
    give_away(gateway, output)
    for start in (f"/runs/{run.id}", f"/api/v1/runs/{run.id}"):
        answer = gateway.get(f"{start}/files/{name}")
        assert answer.status == 200
        assert answer.headers["content-disposition"].startswith("attachment")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in answer.headers["content-security-policy"]
        assert "script-src" not in answer.headers["content-security-policy"]
    framed = gateway.get(f"/runs/{run.id}/frame/{name}")
    assert framed.status == 404 or "sandbox" in framed.headers["content-security-policy"].split(
        "; "
    )


def test_a_log_with_escapes_and_markup_is_text(gateway: Gateway, live: tuple[Run, Path]) -> None:
    run, _ = live
    staged.say(gateway.bridge, run, "\x1b]0;evil\x07\x1b[2J</pre><script>alert(1)</script>\n")
    staged.say(gateway.bridge, run, "[nias] code.py ended with exit code 0.\n")
    give_away(gateway, staged.here(gateway.bridge).run(run).folder)
    answered(gateway, run)
    assert gateway.bridge.store.run(run.id).state == JobState.RUNNING
    whole = gateway.get(f"/runs/{run.id}/log.txt")
    assert whole.headers["content-disposition"].startswith("attachment")
    assert whole.headers["content-type"].startswith("text/plain")


def test_no_cell_of_a_sweeps_table_is_a_formula(gateway: Gateway) -> None:
    cells = ["=1+1", "+a", "-cmd", "@SUM(1)", "=HYPERLINK(1)"]
    toml = f"[sweep.grid]\na = {json.dumps(cells)}\n"
    answer = gateway.send(zipped("formulas", {"code.py": "pass", "nias.toml": toml}))
    assert answer.status == 202, answer.said
    run_id = json.loads(answer.body)["id"]
    table = gateway.get(f"/runs/{run_id}/tasks.csv")
    assert table.status == 200
    shown = [row[-1] for row in csv.reader(table.text.splitlines())][1:]
    assert shown == [f"'{cell}" for cell in cells]
