"""How a rule of the failure doctor looks for its evidence: each answers with what it found."""

from __future__ import annotations

import re
from collections.abc import Callable

from nias_bridge.domain import JobState
from nias_bridge.node import imports, modules
from nias_bridge.services.remedies import Found
from nias_bridge.services.symptoms import Symptoms

Look = Callable[[Symptoms], Found | None]

_FILE_ERRORS = ("FileNotFoundError", "OSError", "NotADirectoryError", "LibsndfileError", "error")
_QUOTED = re.compile(r"""(["'])(?:\\.|(?!\1)[^\\\n])+\1""")
_WINDOWS_ONLY = frozenset(
    ["msvcrt", "pythoncom", "pywintypes", "win32api", "win32com", "winreg", "winsound"]
)
_WINDOWS_PACKAGES = frozenset(["pywin32", "pypiwin32", "pywinpty", "wmi", "comtypes", "pywinauto"])
_NOTES = {"opencv-python-headless": " It is OpenCV without windows: the cluster has no screen."}
_VERSIONS_TOLD = 8
_PACKAGE = r"(?P<package>[A-Za-z0-9][\w.-]*?)(?:\[[^\]]*\])?"
_VERSION = r"(?P<version>[=<>!~]\S*)"
# How uv and pip say that there is no such version; each tells more or less of those that are.
_NO_VERSION = (
    rf"there is no version of {_PACKAGE}[=<>!~]\S* and you require ",
    rf"only {_PACKAGE}<=(?P<newest>\S+) (?:is|are) available and you require ",
    rf"only {_PACKAGE}==(?P<newest>\S+) is available and you require ",
    rf"satisfies the requirement {_PACKAGE} ?[=<>!~][^()]* \(from versions: (?P<all>\d[^)]*)\)",
)
_PRE_RELEASE = re.compile(r"\d(?:a|b|rc|\.dev)\d")


def state(*states: JobState) -> Look:
    """The run ended in one of these states."""
    return lambda s: {} if s.state in states else None


def reason(*reasons: str) -> Look:
    """The node ended it for one of these reasons."""
    return lambda s: {} if s.reason in reasons else None


def killed_by(*signals: int) -> Look:
    """The program was ended by one of these signals."""
    return lambda s: {} if _ran(s) and s.killed_by in signals else None


def log(pattern: str) -> Look:
    """The log has this anywhere, whoever wrote it: for what Slurm says."""
    compiled = re.compile(pattern, re.MULTILINE)
    return lambda s: _groups(compiled.search(s.words))


def told(pattern: str) -> Look:
    """The program said this, and did not end at an error of Python's."""
    compiled = re.compile(pattern, re.MULTILINE)
    return lambda s: _groups(compiled.search(s.program)) if _ran(s) and not s.error else None


def error(kinds: str, pattern: str = "") -> Look:
    """The program's last error is of one of these classes, and its message has this."""
    names, compiled = frozenset(kinds.split()), re.compile(pattern, re.MULTILINE)

    def look(s: Symptoms) -> Found | None:
        last = s.error
        if not _ran(s) or last is None or (names and last.name not in names):
            return None
        return _groups(compiled.search(last.message))

    return look


def error_at(kinds: str, code: str) -> Look:
    """The program's last error is of one of these classes, in a line of its own that has this."""
    of_kind, compiled = error(kinds), re.compile(code)

    def look(s: Symptoms) -> Found | None:
        frame = s.error.own_frame if s.error else None
        return _groups(compiled.search(frame.code)) if frame and of_kind(s) is not None else None

    return look


def installer(pattern: str) -> Look:
    """uv or pip said this, whatever the line breaks."""
    compiled = re.compile(pattern)
    return lambda s: _groups(compiled.search(_details(s))) if s.reason == "environment" else None


def any_of(*looks: Look) -> Look:
    """What the first of these finds that finds anything."""
    return lambda s: next((found for look in looks if (found := look(s)) is not None), None)


def missing_module(kind: str) -> Look:
    """A module is missing, and this is why; each module is missing for one of these reasons."""

    def look(s: Symptoms) -> Found | None:
        found = error("ModuleNotFoundError", r"No module named '(?P<module>[^']+)'(?P<more>.*)")(s)
        if found is None:
            return None
        module = found["module"]
        frame = s.error.own_frame if s.error else None
        dotted = re.match(
            rf"(?:from|import)\s+({re.escape(module)}[\w.]*)", frame.code if frame else ""
        )
        whole = dotted[1] if dotted else module
        package = modules.package_of(whole) or ""
        gone = modules.gone_since(module)
        return {
            "module": whole if module == "google" else module,
            "package": package,
            "note": _NOTES.get(package, ""),
            "python": f"{gone[0]}.{gone[1]}" if gone else "",
        } if kind == _why_missing(s, whole, module, found["more"], package) else None  # fmt: skip

    return look


def foreign_path(s: Symptoms) -> Found | None:
    """A file that was not found has a path of the researcher's own machine."""
    if not _ran(s) or s.error is None or s.error.name not in _FILE_ERRORS:
        return None
    for quoted in _QUOTED.finditer(s.error.message):
        path = quoted[0][1:-1].replace("\\\\", "\\")  # as Python shows a text
        if imports.is_foreign(path):
            return {"path": path}
    return None


def no_such_version(s: Symptoms) -> Found | None:
    """A version that is not there was required; newest and versions as far as they were told."""
    found = any_of(*map(installer, _NO_VERSION))(s)
    if found is None:
        return None
    every = [v for v in found.get("all", "").split(", ") if v and not _PRE_RELEASE.search(v)]
    newest = found.get("newest") or (every[-1] if every else "")
    versions = ", ".join(every[-_VERSIONS_TOLD:]) or newest
    line = next((r for r in s.requirements if modules.key(r) == modules.key(found["package"])), "")
    return {
        "package": found["package"],
        "newest": newest,
        "asked": line or found["package"],
        "there": f" The newest that there are: {versions}." if versions else "",
    }


def wrong_python(s: Symptoms) -> Found | None:
    """A required version is made for another Python."""
    found = any_of(
        installer(
            r"current Python version \((?P<have>[\d.]+)\) does not satisfy Python(?P<needs>\S+) "
            rf"and {_PACKAGE}{_VERSION} depends"
        ),
        installer(rf"Because {_PACKAGE}{_VERSION} has no wheels with a matching Python \w+ tag"),
    )(s)
    if found:
        return {**found, "have": f" {found['have']}" if "have" in found else ""}
    if s.reason != "environment":
        return None
    words = _details(s)
    asked = re.search(r"satisfies the requirement ([A-Za-z0-9][\w.-]*?)==(\S+) \(from", words)
    if asked:
        needs = re.search(rf"[:;] {re.escape(asked[2])} Requires-Python (\S+?)(?:;| ERROR)", words)
        if needs:
            return {"package": asked[1], "version": f"=={asked[2]}", "needs": needs[1]}
    return None


def windows_package(s: Symptoms) -> Found | None:
    """A required package is for Windows alone."""
    no_wheel = installer(
        rf"Because {_PACKAGE}{_VERSION} has no wheels with a matching platform tag"
    )
    found = no_such_package(s) or no_wheel(s)
    return found if found and modules.key(found["package"]) in _WINDOWS_PACKAGES else None


def no_such_package(s: Symptoms) -> Found | None:
    """A required package is not in the index; `meant` is a well-known one with a like name."""
    found = installer(
        r"Because (?P<package>[A-Za-z0-9][\w.-]*) was not found in the package registry"
    )(s) or installer(
        r"satisfies the requirement (?P<package>[A-Za-z0-9][\w.-]*)[^()]* \(from versions: none\)"
    )(s)
    if not found:
        return None
    meant = modules.package_like(found["package"])
    return {**found, "meant": meant, "guess": f" Did you mean {meant}?" if meant else ""}


def asked_memory(s: Symptoms) -> Found | None:
    """Python could not get memory; `size` in words where the program told it."""
    found = error(
        "MemoryError _ArrayMemoryError ArrayMemoryError",
        r"(?:Unable to allocate (?P<size>\d+(?:\.\d+)? \w+))?",
    )(s)
    if found is None:
        found = told(r"^ *what\(\): +std::bad_alloc")(s)
    if found is None:
        return None
    size = found.get("size", "")
    return {"asked": size, "size": f" It asked for {size} at once." if size else ""}


def ended_itself(s: Symptoms) -> Found | None:
    """The program ended with an exit code of its own choice, and without an error of Python's."""
    if not _ran(s) or s.error is not None or not s.exit_code or s.killed_by:
        return None
    last = next((line for line in reversed(s.program.splitlines()) if line.strip()), "")
    return {
        "code": str(s.exit_code),
        "last": f" Its last words were: “{last.strip()}”" if last else "",
    }


def opencv_windows(s: Symptoms) -> Found | None:
    """OpenCV could not load a library of the screen."""
    frames = s.error.frames if s.error else ()
    of_opencv = any("/cv2/" in frame.file for frame in frames)
    return error("ImportError", r"^lib[\w.+-]+\.so")(s) if of_opencv else None


def pandas_key(s: Symptoms) -> Found | None:
    """A table of pandas was asked for a column that it has not."""
    frames = s.error.frames if s.error else ()
    in_pandas = any("/pandas/" in frame.file for frame in frames)
    return error("KeyError", r"(?P<key>[^\n]+)")(s) if in_pandas else None


def any_error(s: Symptoms) -> Found | None:
    """Python's last error, whatever it is."""
    if not _ran(s) or s.error is None:
        return None
    first = s.error.message.split("\n", 1)[0]
    return {"error": f"{s.error.name}: {first}" if first else s.error.name}


def nothing_collected(s: Symptoms) -> Found | None:
    """Nothing came out of output/."""
    return {} if s.outputs == 0 else None


def written_elsewhere(s: Symptoms) -> Found | None:
    """Nothing came out of output/, but the run wrote files beside it."""
    if s.outputs != 0 or not s.elsewhere:
        return None
    more = f" and {len(s.elsewhere) - 3} more" if len(s.elsewhere) > 3 else ""
    return {"files": f"{', '.join(s.elsewhere[:3])}{more}"}


def _why_missing(s: Symptoms, whole: str, module: str, more: str, package: str) -> str:
    top = module.partition(".")[0]
    part = "." in module and modules.package_of(whole) is not None
    reasons = {
        "hidden": "is not a package" in more,
        "notebook service": whole.startswith(("google.colab", "kaggle_")),
        "windows": top in _WINDOWS_ONLY,
        "gone": modules.gone_since(top) is not None,
        "part": part,
        "package": bool(package and s.requirements),
        "no requirements": bool(package),
    }
    return next((why for why, holds in reasons.items() if holds), "own")


def _ran(s: Symptoms) -> bool:
    return s.reason in ("finished", "")


def _details(s: Symptoms) -> str:
    return " ".join(s.details.split())


def _groups(match: re.Match[str] | None) -> Found | None:
    return None if match is None else {k: v for k, v in match.groupdict().items() if v is not None}
