"""Claims about what Hypothesis makes up: whatever it is, it is taken or refused in a sentence."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import badzips
from badzips import CODE, DEFLATED, STORED, STREAMED, UTF8, Entry, pack
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nias_bridge.node import archive, needs, projectfile, requirements

# How many are made up for each claim; set it higher to look for longer.
EXAMPLES = int(os.environ.get("NIAS_HOSTILE_EXAMPLES", "1000"))
LIMITS = archive.Limits(unpacked_bytes=10_000_000, files=100, ratio=200)
many = settings(
    max_examples=EXAMPLES,
    deadline=10_000,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

pieces = st.sampled_from(
    ["..", ".", "", "p", "a", "A", "é", "e\u0301", "code.py", "output", "C:", "\\", "/", "\0", "\n",
     "\u202e", "__MACOSX", "._a", "a" * 255, "~", "%2e%2e", "nias.toml", "requirements.txt"]
)  # fmt: skip
names = st.lists(st.one_of(pieces, st.text(max_size=8)), max_size=6).map("/".join) | st.binary(
    max_size=20
)
sizes = st.none() | st.sampled_from([0, 1, 100, 2**31, badzips.FULL])


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    name = draw(names)
    content = draw(st.binary(max_size=64) | st.just(bytes(50_000)))
    kinds = (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR)
    return badzips.entry(
        name,
        content,
        method=draw(st.sampled_from([STORED, DEFLATED, 9, 12, 14, 99])),
        flags=draw(st.sampled_from([0, UTF8, UTF8 | STREAMED, 1])),
        mode=draw(st.sampled_from(kinds)) | draw(st.sampled_from([0, 0o644, 0o4777])),
        data=draw(st.none() | st.binary(max_size=64)),
        size=draw(sizes),
        packed=draw(sizes),
        crc=draw(st.none() | st.just(7)),
        local_name=draw(st.none() | st.binary(max_size=8)),
        offset=draw(st.none() | st.integers(0, 300)),
        extra=draw(st.binary(max_size=24)),
    )


@many
@given(
    made=st.lists(entries(), max_size=5),
    before=st.sampled_from([b"", b"PK", b"GIF89a"]),
    after=st.binary(max_size=9),
    count=st.none() | st.integers(0, 9),
)
def test_a_zip_is_unpacked_into_its_folder_or_refused_in_a_sentence(
    tmp_path_factory, made, before, after, count
):
    top = tmp_path_factory.mktemp("zip")
    zipped, target = top / "p.zip", top / "inner" / "project"
    zipped.write_bytes(pack(CODE, *made, before=before, after=after, count=count))
    try:
        inventory = archive.unpack(zipped, target, LIMITS, "p.zip")
    except archive.ArchiveError as error:
        assert str(error).isprintable()
        assert len(str(error)) < 1000
    else:
        assert sum(entry.size for entry in inventory.entries) <= LIMITS.unpacked_bytes
    assert {path.name for path in top.iterdir()} <= {"p.zip", "inner"}
    assert {path.name for path in (top / "inner").glob("*")} <= {"project"}
    for path in target.rglob("*"):
        kind = path.lstat().st_mode
        assert stat.S_ISDIR(kind) or stat.S_IMODE(kind) in (0o600, 0o644, 0o755)
        assert stat.S_ISDIR(kind) or stat.S_ISREG(kind)


words = st.sampled_from(
    ["numpy", "==", "1.2", ">=", "[", "]", "(", ")", ";", "@", " ", "\\\n", "\n", "#", "--hash=",
     "sha256:00", "-r", "-e", "--index-url", "http://evil/", "file:///x", "git+https://x",
     "${SECRET}", "python_version", "'3'", '"', "'", "<", "and", "or", "\0", "\r", "\t", "~", "../",
     "C:\\", "x.whl", "é", "*", ",", "!=", "$(id)", "`"]
)  # fmt: skip
lines = st.lists(words | st.text(max_size=5), max_size=12).map("".join)


@many
@given(text=lines)
@example(text="numpy; python_version > '3' --index-url http://evil/")
def test_what_is_taken_of_a_requirement_is_a_package_and_no_more(text):
    for wanted in (text, requirements.mend(text)):
        taken, problems = requirements.parse(wanted)
        for line in taken:
            assert "\n" not in line and "\0" not in line
            assert "$" not in line and "://" not in line and "@" not in line
            assert line[0] not in "-./~" and not line.startswith("git+")
            bare = line.partition(" --hash")[0]
            assert " -" not in bare
        assert all(problem.why for problem in problems)


keys = st.sampled_from(
    ["job", "sweep", "grid", "file", "time", "memory", "cpus", "gpus", "main", "args", "python",
     "partition", "requeue", "datasets", "max_parallel", "wrap", "uid", "a", "a.b", '"x y"', "é"]
)  # fmt: skip
values = st.recursive(
    st.sampled_from(["1", "-1", "0xffffffffffffffffff", "inf", "nan", "true", '"30"', '"8G"',
                     '"../x.py"', '"a\\u0000"', '"--wrap=id"', '"a\\n#SBATCH --uid=0"',
                     "1979-05-27", "9" * 4400, '"code.py"', '"x.csv"', "1e999", '"""x"""']),
    lambda inner: st.lists(inner, max_size=3).map(lambda v: f"[{', '.join(v)}]")
    | st.dictionaries(keys, inner, max_size=3).map(
        lambda v: "{" + ", ".join(f"{name} = {value}" for name, value in v.items()) + "}"
    ),
    max_leaves=6,
)  # fmt: skip
pairs = st.lists(st.tuples(keys, values).map(" = ".join), max_size=4).map("\n".join)
headings = st.sampled_from(["[job]", "[sweep]", "[sweep.grid]", "", "[[job]]"])
tomls = st.tuples(pairs, headings, pairs)


@many
@given(parts=tomls, noise=st.text(max_size=3), table=st.binary(max_size=60))
def test_a_nias_toml_is_read_or_refused_in_sentences(parts, noise, table):
    files = {"code.py": b"", "x.csv": table}
    try:
        said = projectfile.read("\n".join(parts) + noise, files.get, most_tasks=50)
    except projectfile.ProjectFileError as error:
        assert error.problems
        assert all(len(problem) < 2000 for problem in error.problems)
        return
    job = said.job
    for word in (job.time, job.memory, job.partition, job.python, job.main):
        assert word is None or (word.isprintable() and " " not in word and word[0] != "-")
    assert not any("\0" in argument for argument in job.args)
    assert ".." not in Path(job.main).parts and not Path(job.main).is_absolute()
    for task in said.sweep.tasks if said.sweep else ():
        assert not any("\n" in str(value) or "\0" in str(value) for value in task.values())


@many
@given(file=st.sampled_from(needs.FILES), parts=tomls, line=lines, code=st.text(max_size=40))
def test_what_a_project_needs_is_read_or_refused_in_a_sentence(file, parts, line, code):
    script = f"# /// script\n# dependencies = [{line!r}]\n# ///\n{code}"
    project = {file: "\n".join(parts).encode(), "code.py": script.encode("utf-8", "replace")}
    for files in (project, {"code.py": project["code.py"]}):
        try:
            found = needs.read(files.get)
        except needs.NeedsError as error:
            assert str(error)
        else:
            requirements.parse(found.text)
