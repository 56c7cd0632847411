"""The corrections of the failure doctor: what to ask for, or to require, the next time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from nias_bridge.amounts import memory_bytes, time_limit_seconds
from nias_bridge.node import modules
from nias_bridge.services.symptoms import Remedy, Symptoms

_MIB, _GIB = 1024**2, 1024**3
_DAY = 86400
Found = Mapping[str, str]


def again(_: Symptoms, __: Found) -> Remedy | None:
    """The same once more: the run was not at fault."""
    return Remedy()


def more_memory(symptoms: Symptoms, found: Found) -> Remedy | None:
    """Twice the memory, or what it asked for at once on top, or all of the largest node.

    None when it had that, when not even that is enough, or when what it had is not known.
    """
    had = _memory_had(symptoms)
    if not had:
        return None
    # What it asked for at once has to fit beside what it had already filled.
    asked = _size(found.get("asked", ""))
    enough = max(2 * had, -(-(had + asked) // _GIB) * _GIB if asked else 0)
    most = symptoms.most_memory or enough
    wanted = min(enough, most)
    if wanted <= had or asked > most:
        return None
    text = _memory_text(wanted)
    return Remedy(replace(symptoms.resources, memory=text), label=f"Run again with {_spoken(text)}")


def more_time(symptoms: Symptoms, _: Found) -> Remedy | None:
    """Twice the time, or the most that is given; None when it had that or none is known."""
    had = _time_had(symptoms)
    if not had:
        return None
    wanted = min(2 * had, symptoms.most_time or 2 * had)
    if wanted <= had:
        return None
    minutes = -(-wanted // 60)
    if symptoms.most_time is not None and minutes * 60 > symptoms.most_time:
        minutes -= 1
    days, rest = divmod(minutes, _DAY // 60)
    clock = f"{rest // 60:02}:{rest % 60:02}:00"
    text = f"{days}-{clock}" if days else clock
    spoken = f"{days} d {clock[:-3]} h" if days else f"{clock[:-3]} h"
    return Remedy(replace(symptoms.resources, time=text), label=f"Run again with {spoken}")


def a_gpu(symptoms: Symptoms, _: Found) -> Remedy | None:
    """One GPU, where the cluster has any and the run did not ask for one."""
    if not symptoms.has_gpus or symptoms.resources.gpus:
        return None
    return Remedy(replace(symptoms.resources, gpus=1), label="Run again with a GPU")


def add_package(symptoms: Symptoms, found: Found) -> Remedy | None:
    """The package that was found missing."""
    package = found.get("package", "")
    if not package or _line_of(symptoms, package):
        return None
    return Remedy(add=(package,), label=f"Run again with {package}")


def headless_opencv(symptoms: Symptoms, _: Found) -> Remedy | None:
    """OpenCV without its windows, which need a screen's libraries."""
    for package in ("opencv-python", "opencv-contrib-python"):
        line = _line_of(symptoms, package)
        if line:
            lean = f"{package}-headless"
            mended = re.sub(r"^[A-Za-z._-]+", lean, line)
            return Remedy(replace=((line, mended),), label=f"Run again with {lean}")
    return None


def older_numpy(symptoms: Symptoms, _: Found) -> Remedy | None:
    """NumPy 1."""
    return _pinned(symptoms, "numpy", "numpy<2", "Run again with NumPy 1")


def older_pandas(symptoms: Symptoms, _: Found) -> Remedy | None:
    """pandas 1."""
    return _pinned(symptoms, "pandas", "pandas<2", "Run again with pandas 1")


def older_setuptools(symptoms: Symptoms, _: Found) -> Remedy | None:
    """The last setuptools that has pkg_resources."""
    return _pinned(symptoms, "setuptools", "setuptools<82", "Run again with an older setuptools")


def version_there_is(symptoms: Symptoms, found: Found) -> Remedy | None:
    """The newest version that there is; any, where that is not told."""
    package, newest = found["package"], found.get("newest", "")
    line = _line_of(symptoms, package)
    name = re.split(r"[\s(=<>!~;]", line, maxsplit=1)[0]  # with its extras
    if name == line:
        return None
    if newest:
        mended, label = f"{name}=={newest}", f"Run again with {package} {newest}"
    else:
        mended, label = name, f"Run again with any version of {package}"
    return Remedy(replace=((line, mended),), label=label)


def right_name(symptoms: Symptoms, found: Found) -> Remedy | None:
    """The package that was meant."""
    line, meant = _line_of(symptoms, found["package"]), found.get("meant", "")
    if not line or not meant:
        return None
    return Remedy(replace=((line, meant),), label=f"Run again with {meant}")


def right_sklearn(symptoms: Symptoms, _: Found) -> Remedy | None:
    """scikit-learn by its own name."""
    return right_name(symptoms, {"package": "sklearn", "meant": "scikit-learn"})


def without_package(symptoms: Symptoms, found: Found) -> Remedy | None:
    """Without a package that can't work here."""
    line = _line_of(symptoms, found["package"])
    if not line:
        return None
    return Remedy(replace=((line, ""),), label=f"Run again without {found['package']}")


def _pinned(symptoms: Symptoms, package: str, wanted: str, label: str) -> Remedy | None:
    line = _line_of(symptoms, package)
    if line == wanted:
        return None
    if line:
        return Remedy(replace=((line, wanted),), label=label)
    return Remedy(add=(wanted,), label=label)


def _line_of(symptoms: Symptoms, package: str) -> str:
    asked = (line for line in symptoms.requirements if modules.key(line) == modules.key(package))
    return next(asked, "")


def _memory_had(symptoms: Symptoms) -> int | None:
    if symptoms.resources.memory:
        return memory_bytes(symptoms.resources.memory)
    return symptoms.report.memory_asked if symptoms.report else None


def _time_had(symptoms: Symptoms) -> int | None:
    if symptoms.resources.time:
        return time_limit_seconds(symptoms.resources.time)
    return symptoms.report.time_limit if symptoms.report else None


def _memory_text(size: int) -> str:
    if size >= _GIB and size % _GIB == 0:
        return f"{size // _GIB}G"
    return f"{max(1, size // _MIB)}M"


def _size(text: str) -> int:
    # “7.28 TiB”, as NumPy tells it
    number, _, unit = text.partition(" ")
    units = {"KiB": 1024, "MiB": _MIB, "GiB": _GIB, "TiB": 1024 * _GIB, "PiB": 1024**2 * _GIB}
    return round(float(number) * units[unit]) if unit in units else 0


def _spoken(memory: str) -> str:
    return f"{memory[:-1]} {memory[-1]}B"
