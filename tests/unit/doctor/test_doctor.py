from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nias_bridge.domain import JobState, Resources, SlurmReport
from nias_bridge.services.doctor import Diagnosis, Remedy, Symptoms, diagnose
from nias_bridge.services.rules import NOTICES, RULES

RECORDED = Path(__file__).parent / "recorded"
# What the node itself writes around the program's words.
BEFORE = "[nias] Environment reused in 0.02 s (3 packages).\n[nias] code.py starts.\n"
AFTER = "[nias] code.py ended after 0.1 s.\n[nias] 0 files collected from output/ (0 bytes).\n"
REQUIREMENTS = ("numpy==2.0.0", "pandas", "opencv-python==4.9.0.80")
REPORT = SlurmReport(
    job_id=7,
    name="nias-x-demo",
    state=JobState.FAILED,
    time_limit=3600,
    memory_asked=2 * 1024**3,
    max_rss=2 * 1024**3,
)
NOTHING = Symptoms(
    state=JobState.FAILED,
    exit_code=1,
    signal=None,
    reason="finished",
    words="",
    details="",
    resources=Resources(),
    report=REPORT,
    requirements=REQUIREMENTS,
    project="demo",
    outputs=0,
    most_memory=64 * 1024**3,
    has_gpus=True,
)


def recorded(name: str, *requirements: str) -> Symptoms:
    """The symptoms of a run that ended as the recorded program or installer did."""
    how, told = (RECORDED / f"{name}.txt").read_text().split("\n", 1)
    kind, number = how.split()
    symptoms = replace(NOTHING, requirements=requirements or REQUIREMENTS)
    if name.endswith(("_uv", "_uv05", "_pip")):
        return replace(symptoms, exit_code=None, reason="environment", details=told, words=told)
    log = f"{BEFORE}{told}{AFTER}"
    if kind == "signal":
        return replace(symptoms, exit_code=None, signal=int(number), words=log)
    return replace(symptoms, exit_code=int(number), words=log)


def told(symptoms: Symptoms) -> Diagnosis:
    found = diagnose(symptoms)
    assert found is not None
    return found


PROGRAMS = [
    ("memory_python", "memory-error", "ran out of memory (code.py, line 1)"),
    ("memory_numpy", "memory-error", "It asked for 7.28 TiB at once."),
    ("memory_cpp", "memory-error", "ran out of memory"),
    ("killed", "killed", "too little memory"),
    ("segfault", "segmentation-fault", "crashed inside a compiled package"),
    ("segfault_told", "segmentation-fault", "crashed inside a compiled package"),
    ("illegal_instruction", "illegal-instruction", "processor"),
    ("aborted", "aborted", "gave up"),
    ("bus_error", "bus-error", "bus error"),
    ("missing_cv2", "missing-package", "imports cv2 (code.py, line 2)"),
    ("missing_yaml", "missing-package", "its package is pyyaml"),
    ("missing_own", "missing-module", "imports utils (code.py, line 1)"),
    ("missing_unknown", "missing-module", "imports qzxfilter"),
    ("missing_colab", "notebook-service", "google.colab exists only on Colab"),
    ("missing_windows", "windows-module", "winsound exists on Windows only"),
    ("missing_removed", "module-gone", "distutils is no longer part of Python since 3.12"),
    ("missing_removed_imp", "module-gone", "imp is no longer part of Python since 3.12"),
    ("missing_part", "no-part-of-package", "no part scipy.io.wavfiles"),
    ("missing_caught", "python-error", "(code.py, line 8): IndexError: list index out of range"),
    ("hidden_by_file", "hidden-module", "has the name of a module"),
    ("hidden_circular", "hidden-module", "it needs (random)"),
    ("hidden_standard", "hidden-module", "it needs (random)"),
    ("no_libgl", "opencv-needs-headless", "OpenCV was installed with its windows"),
    ("no_library", "system-library", "needs (PortAudio)"),
    ("no_library_so", "system-library", "needs (libfftw3.so.3)"),
    ("import_name", "import-name", "version of scipy.integrate has no simps"),
    ("import_name_own", "own-import", "The project's filters has no bandpass"),
    ("module_attribute", "module-attribute", "version of scipy.signal has no hann"),
    ("pkg_resources", "needs-older-setuptools", "imports pkg_resources (code.py, line 1)"),
    ("numpy_abi", "numpy-too-new", "NumPy 2 was installed"),
    ("numpy_array_api", "numpy-too-new", "NumPy 2 was installed"),
    ("numpy_removed_2", "numpy-too-new", "NumPy 2 was installed"),
    ("numpy_removed_124", "numpy-alias", "no longer has np.float (code.py, line 2)"),
    ("pandas_append", "pandas-append", "no longer has .append"),
    ("pandas_key", "no-column", "no column 'Time' (code.py, line 3)"),
    ("key", "no-key", "looks for 'rate' (code.py, line 2)"),
    ("environment_variable", "environment-variable", "variable EEG_ROOT"),
    ("path_windows", "foreign-path", r"opens C:\Users\ana\dados\emg.csv (code.py, line 1)"),
    ("path_pandas", "foreign-path", "/content/drive/MyDrive/emg.csv (code.py, line 2)"),
    ("path_home", "foreign-path", "/home/ana/emg.npy"),
    ("path_soundfile", "foreign-path", r"D:\audio\a.wav"),
    ("path_share", "foreign-path", r"\\labserver\dados\emg.csv"),
    ("path_relative", "no-such-file", "opens data/EMG.csv (code.py, line 1)"),
    ("path_output_folder", "no-output-folder", "folder output/figures is not there"),
    ("folder_exists", "folder-exists", "makes the folder output"),
    ("permission", "not-writable", "may not write to /usr/results.csv"),
    ("read_only", "not-writable", "may not write to data/x.txt"),
    ("disk_full", "disk-full", "The disk is full"),
    ("too_many_files", "too-many-files", "too many files open"),
    ("cannot_start_thread", "no-threads", "more threads than it may"),
    ("pickle_refused", "pickled-array", "Python objects"),
    ("syntax", "syntax", "(code.py, line 2): '(' was never closed"),
    ("syntax_print", "python-2", "Python 2 (code.py, line 1)"),
    ("syntax_notebook", "notebook-code", "only a notebook understands (code.py, line 2)"),
    ("syntax_notebook_install", "notebook-code", "only a notebook understands (code.py, line 1)"),
    ("notebook_name", "notebook-code", "only a notebook understands"),
    ("notebook_display", "notebook-code", "only a notebook understands"),
    ("indentation", "indentation", "(code.py, line 3)"),
    ("tabs", "indentation", "(code.py, line 3)"),
    ("unicode", "text-encoding", "not in the encoding that the code expects (code.py, line 1)"),
    ("unicode_source", "source-encoding", "(names.py, line 1)"),
    ("input", "input", "asks a question with input() (code.py, line 1)"),
    ("tkinter", "no-screen", "open a window (code.py, line 2)"),
    ("matplotlib_tk", "no-screen", "open a window (code.py, line 4)"),
    ("qt", "no-screen", "open a window"),
    ("imshow_headless", "no-screen", "open a window (code.py, line 2)"),
    ("network_name", "no-network", "could not reach a server (code.py, line 2)"),
    ("network_requests", "no-network", "could not reach a server"),
    ("network_refused", "no-network", "could not reach a server"),
    ("certificate", "certificate", "server is the right one"),
    ("spawn", "main-guard", "runs the whole program again"),
    ("spawn_twice", "main-guard", "runs the whole program again"),
    ("recursion", "recursion", "calls itself without end (code.py, line 2)"),
    ("assertion", "assertion", "(code.py, line 2). the rate must be positive"),
    ("assertion_bare", "assertion", "did not hold (code.py, line 2)."),
    ("exit_message", "ended-itself", "code 1. Its last words were: “no channel named EMG1”"),
    ("exit_number", "ended-itself", "exit code 3. Its last words were: “calibration failed”"),
    ("argparse", "arguments", "the following arguments are required: --input"),
    ("argv", "arguments", "expects arguments"),
    ("value_error", "python-error", "(code.py, line 5): ValueError: Digital filter critical"),
    ("name_error", "python-error", "(code.py, line 1): NameError: name 'signal' is not defined"),
    ("gpu_cupy", "no-gpu", "wants a GPU (code.py, line 2)"),
    ("gpu_numba", "no-gpu", "wants a GPU"),
    ("gpu_jax", "no-gpu", "wants a GPU"),
    ("gpu_torch", "no-gpu", "wants a GPU"),
    ("gpu_torch_load", "model-of-gpu", "The model was saved on a GPU"),
]

INSTALLERS = [
    ("no_version", "heartpy==9.9", "no-such-version", "requirements.txt asks for (heartpy==9.9)"),
    ("no_version_above", "heartpy>=9", "no-such-version", "asks for (heartpy>=9)"),
    ("no_package", "nunpy-signal-tolbox", "no-such-package", "has no nunpy-signal-tolbox"),
    ("no_package_typo", "sikit-learn", "no-such-package", "Did you mean scikit-learn?"),
    ("conflict", "scipy==1.11.0 numpy==1.20.0", "conflict", "exclude each other"),
    ("conflict_two", "mne==1.6.0 pooch==1.0.0", "conflict", "exclude each other"),
    ("requires_newer_python", "scipy==1.16.0", "needs-other-python", "scipy==1.16.0 can't be"),
    ("other_platform", "pywin32==306", "windows-package", "pywin32 exists for Windows only"),
    ("sklearn", "sklearn", "sklearn-renamed", "The package is called scikit-learn"),
    ("no_header", "PyAudio==0.2.14", "no-header", "(portaudio.h)"),
    ("no_compiler", "PyAudio==0.2.14", "no-compiler", "no compiler"),
    ("build_broken", "numpy==1.21.0", "too-old-for-python", "too old for the cluster's Python"),
    ("unreachable", "heartpy", "index-unreachable", "could not be reached"),
]


@pytest.mark.parametrize(("name", "rule", "part"), PROGRAMS)
def test_a_program_that_failed_is_understood(name, rule, part):
    found = told(recorded(name))
    assert found.rule == rule
    assert part in found.sentence


@pytest.mark.parametrize("tool", ["uv", "uv05", "pip"])
@pytest.mark.parametrize(("name", "lines", "rule", "part"), INSTALLERS)
def test_an_installation_that_failed_is_understood(name, tool, lines, rule, part):
    found = told(recorded(f"{name}_{tool}", *lines.split()))
    assert found.rule == rule
    assert part in found.sentence


@pytest.mark.parametrize("tool", ["uv", "uv05"])
def test_a_version_for_other_pythons_only_is_understood(tool):
    found = told(recorded(f"other_python_{tool}", "tensorflow==2.3.0"))
    assert found.rule == "needs-other-python"
    assert found.remedy == Remedy(
        replace=(("tensorflow==2.3.0", "tensorflow"),),
        label="Run again with any version of tensorflow",
    )


def test_pip_tells_the_versions_that_there_are():
    found = told(recorded("other_python_pip", "tensorflow==2.3.0"))
    assert found.rule == "no-such-version"
    assert ", 2.19.1, " in found.sentence
    assert "rc" not in found.sentence


@pytest.mark.parametrize("tool", ["uv", "uv05"])
def test_a_full_disk_of_environments_is_understood(tool):
    assert told(recorded(f"disk_full_{tool}")).rule == "install-disk-full"


def test_a_package_for_another_platform_is_understood():
    symptoms = recorded("other_platform_uv", "pyobjc==306")
    words = symptoms.details.replace("pywin32", "pyobjc")
    assert told(replace(symptoms, details=words)).rule == "other-platform"


@pytest.mark.parametrize("tool", ["uv", "pip"])
def test_a_build_that_fails_for_its_own_reasons_is_understood(tool):
    symptoms = recorded(f"build_broken_{tool}", "numpy==1.21.0")
    words = symptoms.details.replace("distutils", "own_build_helper")
    assert told(replace(symptoms, details=words)).rule == "build-failed"


@pytest.mark.parametrize(
    ("state", "rule"),
    [
        (JobState.OUT_OF_MEMORY, "out-of-memory"),
        (JobState.TIMEOUT, "time-limit"),
        (JobState.NODE_FAIL, "node-failed"),
        (JobState.BOOT_FAIL, "node-failed"),
        (JobState.PREEMPTED, "preempted"),
        (JobState.DEADLINE, "deadline"),
        (JobState.CANCELLED, "cancelled"),
    ],
)
def test_what_slurm_says_comes_before_what_the_program_says(state, rule):
    assert told(replace(recorded("key"), state=state)).rule == rule


def test_what_the_node_says_counts_where_slurm_only_says_failed():
    assert told(replace(NOTHING, reason="time limit")).rule == "time-limit"
    assert told(replace(NOTHING, reason="told to stop")).rule == "told-to-stop"


def test_slurms_words_on_memory_count_where_the_state_is_another():
    # Slurm 22.05: in the middle as it was recorded, around it as other versions write it.
    for said in (
        "slurmstepd: error: Detected 1 oom_kill event in StepId=7.batch. Some of the step tasks",
        "slurmstepd-n1: error: Detected 1 oom-kill event(s) in StepId=1.batch. Some of your "
        "processes may have been killed by the cgroup out-of-memory handler.",
        "slurmstepd: error: Exceeded job memory limit",
    ):
        words = f"reading\n{said}\n"
        assert told(replace(NOTHING, words=words, signal=9)).rule == "out-of-memory"
    assert told(replace(NOTHING, words="we print oom_kill", exit_code=3)).rule == "ended-itself"


@pytest.mark.parametrize("name", [p.stem for p in sorted(RECORDED.glob("*.txt"))])
def test_no_rule_but_a_notice_fires_on_a_completed_run(name):
    symptoms = replace(recorded(name), state=JobState.COMPLETED)
    assert told(symptoms).rule == "nothing-written"
    assert diagnose(replace(symptoms, outputs=3)) is None
    assert diagnose(replace(symptoms, outputs=None)) is None


def test_results_that_were_written_elsewhere_are_named():
    files = ("a.png", "b.png", "c.png", "d.png")
    found = told(replace(NOTHING, state=JobState.COMPLETED, elsewhere=files))
    assert found.rule == "written-elsewhere"
    assert "a.png, b.png, c.png and 1 more" in found.sentence


def test_a_warning_on_the_way_is_not_taken_for_the_end():
    warned = "qt.qpa.xcb: could not connect to display \n"
    symptoms = recorded("value_error")
    assert told(replace(symptoms, words=warned + symptoms.words)).rule == "python-error"


@pytest.mark.parametrize("name", [p.stem for p in sorted(RECORDED.glob("*.txt"))])
def test_no_sentence_has_holes(name):
    found = diagnose(recorded(name))
    for text in (found.sentence, found.hint) if found else ():
        assert not set("{}") & set(text.replace("{}", ""))
        assert "  " not in text
        assert not text.endswith(" .")
        assert " ()" not in text


@pytest.mark.parametrize("state", [s for s in JobState if not s.ended])
def test_a_run_that_has_not_ended_gets_no_diagnosis(state):
    assert diagnose(replace(recorded("key"), state=state)) is None


def test_nothing_is_said_where_nothing_fits():
    assert diagnose(replace(NOTHING, exit_code=None, reason="internal")) is None
    assert diagnose(replace(NOTHING, state=JobState.REJECTED, reason="", exit_code=None)) is None


# Remedies


@pytest.mark.parametrize(
    ("asked", "most", "memory", "label"),
    [
        ("2G", None, "4G", "Run again with 4 GB"),
        ("500M", None, "1000M", "Run again with 1000 MB"),
        ("40G", 64 * 1024**3, "64G", "Run again with 64 GB"),
        (None, None, "4G", "Run again with 4 GB"),
    ],
)
def test_out_of_memory_asks_for_twice_the_memory(asked, most, memory, label):
    resources = Resources(memory=asked, cpus=3)
    symptoms = replace(NOTHING, state=JobState.OUT_OF_MEMORY, resources=resources, most_memory=most)
    wanted = Resources(memory=memory, cpus=3)
    assert told(symptoms).remedy == Remedy(resources=wanted, label=label)


def test_what_was_asked_at_once_decides_how_much_more_memory_is_offered():
    symptoms = recorded("memory_numpy")
    assert told(symptoms).remedy is None  # no node has 7.28 TiB
    words = symptoms.words.replace("7.28 TiB", "9.6 GiB")
    assert told(replace(symptoms, words=words)).remedy == Remedy(
        Resources(memory="12G"), label="Run again with 12 GB"
    )


def test_opencv_without_windows_is_explained():
    assert "the cluster has no screen" in told(recorded("missing_cv2")).hint


def test_who_had_all_memory_is_not_offered_more():
    had = Resources(memory="64G")
    assert told(replace(NOTHING, state=JobState.OUT_OF_MEMORY, resources=had)).remedy is None
    unknown = replace(NOTHING, state=JobState.OUT_OF_MEMORY, report=None)
    assert told(unknown).remedy is None


@pytest.mark.parametrize(
    ("asked", "most", "time", "label"),
    [
        ("30", None, "01:00:00", "Run again with 01:00 h"),
        ("00:00:45", None, "00:02:00", "Run again with 00:02 h"),
        ("20:00:00", None, "1-16:00:00", "Run again with 1 d 16:00 h"),
        ("20:00:00", 86400, "1-00:00:00", "Run again with 1 d 00:00 h"),
        ("1:30", 150, "00:02:00", "Run again with 00:02 h"),
        (None, None, "02:00:00", "Run again with 02:00 h"),
    ],
)
def test_a_time_limit_asks_for_twice_the_time(asked, most, time, label):
    resources = Resources(time=asked)
    symptoms = replace(NOTHING, state=JobState.TIMEOUT, resources=resources, most_time=most)
    assert told(symptoms).remedy == Remedy(resources=Resources(time=time), label=label)


def test_who_had_all_time_is_not_offered_more():
    had = Resources(time="01:00:00")
    symptoms = replace(NOTHING, state=JobState.TIMEOUT, resources=had, most_time=3600)
    assert told(symptoms).remedy is None


@pytest.mark.parametrize(
    ("name", "lines", "add", "changed"),
    [
        ("missing_cv2", "numpy", ("opencv-python-headless",), ()),
        ("missing_yaml", "numpy", ("pyyaml",), ()),
        ("missing_own", "numpy", (), None),
        ("missing_unknown", "numpy", (), None),
        ("missing_removed", "numpy", ("setuptools",), ()),
        ("missing_removed_imp", "numpy", (), None),
        ("missing_part", "scipy", (), None),
        (
            "no_libgl",
            "opencv-python==4.9.0.80",
            (),
            (("opencv-python==4.9.0.80", "opencv-python-headless==4.9.0.80"),),
        ),
        ("no_libgl", "someother", (), None),
        ("numpy_abi", "pandas numpy==2.0.0", (), (("numpy==2.0.0", "numpy<2"),)),
        ("numpy_abi", "pandas", ("numpy<2",), ()),
        ("pkg_resources", "heartpy", ("setuptools<82",), ()),
        ("pkg_resources", "setuptools==84", (), (("setuptools==84", "setuptools<82"),)),
        ("pandas_append", "Pandas>2", (), (("Pandas>2", "pandas<2"),)),
        ("no_version_pip", "heartpy==9.9", (), (("heartpy==9.9", "heartpy==1.2.7"),)),
        ("no_version_above_uv", "heartpy>=9", (), (("heartpy>=9", "heartpy==1.2.7"),)),
        ("no_version_uv", "heartpy==9.9", (), (("heartpy==9.9", "heartpy"),)),
        ("no_version_uv", "brings-heartpy", (), None),
        ("no_package_uv", "nunpy-signal-tolbox", (), None),
        ("no_package_typo_uv", "sikit-learn", (), (("sikit-learn", "scikit-learn"),)),
        ("sklearn_uv", "sklearn", (), (("sklearn", "scikit-learn"),)),
        ("other_platform_pip", "pywin32==306", (), (("pywin32==306", ""),)),
        ("requires_newer_python_pip", "scipy==1.16.0", (), (("scipy==1.16.0", "scipy"),)),
        ("conflict_uv", "scipy==1.11.0 numpy==1.20.0", (), None),
    ],
)
def test_requirements_are_corrected_where_the_correction_is_clear(name, lines, add, changed):
    remedy = told(recorded(name, *lines.split())).remedy
    if changed is None:
        assert remedy is None
    else:
        assert remedy is not None
        assert (remedy.add, remedy.replace, remedy.resources) == (add, changed, None)
        assert remedy.label.startswith("Run again with")


def test_an_empty_requirements_file_is_named_as_such():
    found = told(replace(recorded("missing_cv2"), requirements=()))
    assert found.rule == "no-requirements"
    assert found.remedy == Remedy(
        add=("opencv-python-headless",), label="Run again with opencv-python-headless"
    )


def test_a_gpu_is_offered_only_where_there_is_one():
    symptoms = recorded("gpu_torch")
    assert told(symptoms).remedy == Remedy(Resources(gpus=1), label="Run again with a GPU")
    assert told(replace(symptoms, has_gpus=False)).remedy is None
    assert told(replace(symptoms, resources=Resources(gpus=1))).remedy is None


def test_a_failed_node_asks_for_the_same_again():
    found = told(replace(NOTHING, state=JobState.NODE_FAIL))
    assert found.remedy == Remedy(label="Run again")


# The table


def test_every_rule_has_a_test_from_a_recorded_failure_or_a_state():
    tested = {rule for _, rule, _ in PROGRAMS} | {rule for _, _, rule, _ in INSTALLERS}
    by_hand = {
        *("out-of-memory", "time-limit", "node-failed", "preempted", "deadline", "cancelled"),
        *("told-to-stop", "install-disk-full", "other-platform", "build-failed", "no-requirements"),
        *("written-elsewhere", "nothing-written"),
    }
    names = [rule.name for rule in (*RULES, *NOTICES)]
    assert len(names) == len(set(names))
    assert set(names) == tested | by_hand


@pytest.mark.parametrize("rule", [*RULES, *NOTICES], ids=lambda rule: rule.name)
def test_the_texts_are_sentences(rule):
    for text in (rule.sentence, rule.hint):
        assert text[0].isupper() or text.startswith(("{", "np.", "pandas"))
        assert text.endswith((".", "}", ")", "…"))


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*.txt")), ids=lambda path: path.stem)
def test_recordings_name_nothing_of_the_machine_that_made_them(path):
    text = path.read_text()
    assert len(text) < 10_000
    for word in ("/root", "/opt/", "/tmp/", "/work"):
        assert word not in text


@pytest.mark.parametrize(
    "words",
    [
        "\x1b[31mTraceback (most recent call last):\x1b[0m\r\n"
        "  File \"/a/project/lib/x.py\", line 3, in f\r\n    y\r\n\x1b[1mKeyError\x1b[0m: 'a'\r\n",
        " 10%|█   |\r 20%|██  |\rTraceback (most recent call last):\n"
        "  File \"/a/project/lib/x.py\", line 3, in f\n    y\nKeyError: 'a'\n"
        "slurmstepd: error: x\n",
        # The log was cut in the middle of the traceback.
        "  File \"/a/project/lib/x.py\", line 3, in f\n    y\nKeyError: 'a'\n",
    ],
)
def test_a_traceback_is_found_among_colours_progress_bars_and_in_pieces(words):
    found = told(replace(NOTHING, words=words))
    assert found.rule == "no-key"
    assert "looks for 'a' (lib/x.py, line 3)" in found.sentence


@given(st.text(max_size=300), st.sampled_from(["finished", "environment", "", "archive"]))
def test_no_words_break_the_doctor(words, reason):
    for text in (words, "Traceback (most recent call last):\n" + words, words.replace(" ", "{x}")):
        diagnose(replace(NOTHING, words=text, details=text, reason=reason))


@pytest.mark.parametrize(
    "piece", ["'\\", '  File "', "A", "=", "Because a", "from versions: 1, ", "'"]
)
def test_long_words_are_judged_quickly(piece):
    text = piece * (16_000 // len(piece))
    heading = 'Traceback (most recent call last):\n  File "/project/x.py", line 1\nOSError: '
    diagnose(replace(NOTHING, words=heading + text))
    diagnose(replace(NOTHING, details=text, reason="environment"))
