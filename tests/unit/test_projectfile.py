from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nias_bridge.node import parameters, projectfile, sweeptable
from nias_bridge.node.projectfile import Job, ProjectFile, ProjectFileError, Sweep


def read(text: str, **files: bytes) -> ProjectFile:
    given = {
        name.replace("_csv", ".csv").replace("_py", ".py"): data for name, data in files.items()
    }
    return projectfile.read(text, given.get, most_tasks=100)


def problems(text: str, **files: bytes) -> tuple[str, ...]:
    with pytest.raises(ProjectFileError) as raised:
        read(text, **files)
    return raised.value.problems


def sweep_of(table: bytes) -> Sweep:
    found = read('[sweep]\nfile = "sweep.csv"', sweep_csv=table).sweep
    assert found is not None
    return found


def test_all_that_a_project_can_say_is_read():
    text = """
        [job]
        time = "02:00:00"
        cpus = 4
        memory = "8G"
        gpus = 1
        partition = "long"
        python = "3.11"
        main = "./run.py"
        args = ["--fast", "é x"]
        requeue = false
        datasets = ["eeg-2024", "ana/emg"]
        [sweep]
        grid = { cutoff = [10, 20.5], window = ["hann", "hamming"] }
        max_parallel = 4
    """
    found = read(text, run_py=b"")
    assert found.job == Job(
        time="02:00:00",
        cpus=4,
        memory="8G",
        gpus=1,
        partition="long",
        python="3.11",
        main="run.py",
        args=("--fast", "é x"),
        requeue=False,
        datasets=("eeg-2024", "ana/emg"),
    )
    assert found.sweep == Sweep(
        parameters=("cutoff", "window"),
        tasks=(
            {"cutoff": 10, "window": "hann"},
            {"cutoff": 10, "window": "hamming"},
            {"cutoff": 20.5, "window": "hann"},
            {"cutoff": 20.5, "window": "hamming"},
        ),
        max_parallel=4,
    )


def test_an_empty_file_says_nothing():
    assert read("\ufeff\r\n# nothing\r\n") == ProjectFile(Job(), None)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("cpu = 4", "the key job.cpu is not known; did you mean cpus?"),
        ("walltime = 4", "the key job.walltime is not known; did you mean time?"),
        ("colour = 4", "the key job.colour is not known; known are time, cpus,"),
        ("time = 02:00:00", "job.time is 02:00:00; write a time in quotes"),
        ("time = 30", "job.time is 30; write a time in quotes"),
        ('time = "two hours"', "job.time is “two hours”; write a time in quotes"),
        ('time = "00:00:00"', "job.time"),
        ('time = "1:2:3:4"', "job.time"),
        ("cpus = 0", "job.cpus is 0; write a whole number from 1"),
        ("cpus = true", "job.cpus is true; write a whole number"),
        ('cpus = "4"', "job.cpus is “4”; write a whole number from 1, as in 4."),
        ("gpus = -1", "job.gpus is -1; write a whole number from 0"),
        ("memory = 8", 'job.memory is 8; write a size in quotes, as in "500M"'),
        ('memory = "8 GB"', "job.memory is “8 GB”"),
        ('memory = "0G"', "job.memory is “0G”"),
        ('partition = "a\\n#SBATCH -N9"', "job.partition is “a�#SBATCH -N9”"),
        ("python = 3.11", "job.python is 3.11; write a version in quotes"),
        ('python = "2.7"', "job.python is “2.7”"),
        ('main = "../code.py"', "job.main is “../code.py”; write the path of a .py file"),
        ('main = "/code.py"', "job.main"),
        ('main = "a\\\\code.py"', "job.main"),
        ('main = "C:/code.py"', "job.main"),
        ('main = "code.R"', "job.main"),
        ('main = ""', "job.main"),
        ('main = "other.py"', "job.main is “other.py”; the project has no such file."),
        ('args = "--fast"', "job.args is “--fast”; write a list of texts"),
        ("args = [3]", "job.args is [3]; write a list of texts"),
        ('args = ["a\\u0000"]', "job.args"),
        ('requeue = "no"', "job.requeue is “no”; write true or false"),
        ('datasets = ["../x"]', 'job.datasets is ["../x"]; write a list of datasets in quotes'),
    ],
)
def test_what_is_not_allowed_is_named_with_what_is(line, told):
    (problem,) = problems(f"[job]\n{line}")
    assert problem.startswith("nias.toml: ")
    assert told in problem


@pytest.mark.parametrize("time", ["30", "30:00", "02:00:00", "1-0", "1-12:30", "7-00:00:00"])
def test_every_format_of_slurm_for_times_is_taken(time):
    assert read(f'[job]\ntime = "{time}"').job.time == time


def test_all_problems_are_told_at_once():
    text = 'cpus = 3\n[job]\ncpus = "x"\nmemory = 3\n[sweep]\nmax_parallel = 0\n[jobs]\n'
    told = problems(text)
    assert len(told) == 6
    assert "nias.toml: the entry cpus is not known; write it under [job]." in told
    assert "nias.toml: the entry jobs is not known; did you mean job?" in told
    assert "nias.toml: [sweep] needs either file or grid, and not both." in told


def test_text_that_is_no_toml_is_told_with_its_line():
    (problem,) = problems("[job]\ntime = two")
    assert "line 2" in problem


def test_job_must_be_a_table():
    assert "write it as a table, [job]" in problems("job = 3")[0]


def test_an_older_python_says_what_it_needs(monkeypatch):
    monkeypatch.setattr(projectfile.toml, "READABLE", False)
    assert problems("") == ("nias.toml can only be read by Python 3.11 or newer on the node.",)


@pytest.mark.parametrize(
    ("grid", "told"),
    [
        ("{}", "write lists by name"),
        ("[1]", "write lists by name"),
        ("{ a = 1 }", "sweep.grid.a is 1; write a list of at least one value"),
        ("{ a = [] }", "write a list of at least one value"),
        ("{ a = [[1]] }", "texts, numbers, true and false only"),
        ("{ a = [2024-01-01] }", "texts, numbers, true and false only"),
        ("{ a = [nan] }", "inf, or nan"),
        ("{ a = [1, 1] }", "the same value twice"),
        ('{ a = ["x\\ny"] }', "line breaks"),
        ("{ fs = [1], FS = [2] }", "“FS” and “fs” would both be NIAS_PARAM_FS"),
        ('{ "2nd" = [1] }', "“2nd” can't be a parameter's name"),
        ("{ a = [1,2,3,4,5,6,7,8,9,10,11], b = [1,2,3,4,5,6,7,8,9,10] }", "makes 110 tasks"),
    ],
)
def test_a_grid_that_makes_no_sweep_is_told(grid, told):
    (problem,) = problems(f"[sweep]\ngrid = {grid}")
    assert told in problem


def test_numbers_and_truth_values_that_are_equal_are_still_different_values():
    found = read("[sweep]\ngrid = { a = [1, 1.0, true] }").sweep
    assert found is not None
    assert len(found.tasks) == 3


@pytest.mark.parametrize(
    "table",
    [
        b"cutoff,window\n10,hann\n20.5,hamming\n",
        b"\xef\xbb\xbfcutoff;window\r\n10;hann\r\n20,5;hamming\r\n;\r\n",
        b"\r\ncutoff\twindow\r\n10\thann\r\n\r\n20.5\t hamming \r\n",
        "cutoff\twindow\n10\thann\n20.5\thamming\n".encode("utf-16"),
        b'sep=;\r\n"cutoff";"window"\r\n"10";"hann"\r\n"2,05e1";"hamming"\r\n',
    ],
)
def test_tables_are_read_as_peoples_programs_write_them(table):
    assert sweep_of(table) == Sweep(
        ("cutoff", "window"),
        ({"cutoff": 10, "window": "hann"}, {"cutoff": 20.5, "window": "hamming"}),
    )


def test_header_names_become_names_that_programs_can_use():
    names = sweep_of("Fs (Hz),freqüência-alta, n.b \n1,2,3".encode()).parameters
    assert names == ("Fs_Hz", "frequencia_alta", "n_b")


def test_what_only_looks_like_a_number_stays_text():
    rows = sweep_of(b"a\n007\n1e999\n1_000\n+5\n-0.50\n0.5.1\ntrue\n99999999999999999999x").tasks
    assert [row["a"] for row in rows] == [
        "007", "1e999", "1_000", 5, -0.5, "0.5.1", "true", "99999999999999999999x",
    ]  # fmt: skip


def test_repeated_rows_are_repeated_tasks():
    assert len(sweep_of(b"seed\n1\n1\n").tasks) == 2


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (b"", ["sweep.csv: it needs a first line with the names"]),
        (b"a,b\n", ["sweep.csv: it needs a first line with the names"]),
        (
            b"a,b\n1,2\n3\n4,5,6",
            ["line 3: it has 1 cells; the first line has 2.", "line 4: it has"],
        ),
        (b"a,b\n1,\n", ["sweep.csv: line 2: “b” is empty."]),
        (b"a,\n1,2\n", ["column 2 has no name."]),
        (b"a,A\n1,2\n", ["“A” and “a” would both be NIAS_PARAM_A"]),
        (b"a b,a-b\n1,2\n", ["“a-b” and “a b” would both be NIAS_PARAM_A_B"]),
        (b"1a\n1\n", ["“1a” can't be a parameter's name"]),
        ("周波数\n1\n".encode(), ["“周波数” can't be a parameter's name"]),
        (b'a\n"x\ny"\n', ["line 3: a value can't have line breaks"]),
        (b'a\n"x', ["can't be read as a table"]),
        (b"a\n" + b"1\n" * 101, ["it has more tasks than are taken; these are at most 100."]),
        (b"x" * 17_000_000, ["it is larger than 4 MB."]),
    ],
)
def test_a_table_that_makes_no_sweep_is_told_by_line(table, told):
    found = problems('[sweep]\nfile = "sweep.csv"', sweep_csv=table)
    assert len(found) == len(told)
    assert all(want in have for want, have in zip(told, found, strict=True))


def test_a_table_with_many_problems_names_the_first_of_them():
    found = sweeptable.read(b"a,b\n" + b"1\n" * 50, most_rows=100).problems
    assert len(found) == 21
    assert found[-1] == "and 30 more problems."


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ('"../sweep.csv"', "write the path of a .csv file within the project"),
        ('"none.csv"', "sweep.file is “none.csv”; the project has no such file."),
        ("3", "write the path of a .csv file"),
    ],
)
def test_a_sweep_file_that_is_not_there_is_told(file, told):
    assert told in problems(f"[sweep]\nfile = {file}")[0]


def test_a_task_is_told_its_parameters_by_its_environment():
    assert parameters.variables({"Cutoff": 20.5, "window": "é", "fast": True}) == {
        "NIAS_PARAM_CUTOFF": "20.5",
        "NIAS_PARAM_WINDOW": "é",
        "NIAS_PARAM_FAST": "true",
        "NIAS_PARAMS": '{"Cutoff": 20.5, "window": "é", "fast": true}',
    }


@given(st.binary(max_size=60))
def test_no_bytes_break_the_reading_of_a_table(data):
    sweeptable.read(data, most_rows=10)


@given(st.text(max_size=60))
def test_no_text_breaks_the_reading_of_the_file(text):
    try:
        read(text)
    except ProjectFileError as error:
        assert error.problems
