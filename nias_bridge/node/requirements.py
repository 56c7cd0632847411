"""Read requirements.txt as people really produce it, and name what can't work on the cluster."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Optional, Union
from urllib.parse import unquote

# Compiled when they are first needed: a run needs few of them, and all would take it 10 ms.
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_CLAUSE = r"(?:===|~=|==|!=|<=|>=|<|>)\s*[A-Za-z0-9_.*+!-]+"
_REQUIREMENT = (
    rf"(?P<name>{_NAME})\s*(?:\[(?P<extras>[A-Za-z0-9._,\s-]*)\])?\s*"
    rf"(?P<open>\()?\s*(?P<spec>{_CLAUSE}(?:\s*,\s*{_CLAUSE})*)?\s*(?(open)\))\s*"
    r"(?:;\s*(?P<marker>[^;]*(?:[=<>]|\sin\s)[^;]*))?"
)
# What a condition is made of. No ${…}: uv would put a variable of the site's in its place.
_MARKER_PART = r"""'[^'$]*'|"[^"$]*"|[<>=!~]+|[A-Za-z_.]+|[()\s]"""
# What most lines are: a name, perhaps with versions.
_VERSIONS = r"(?:[=~!<>]=|[<>])[0-9](?:[0-9.]*[0-9])?"
_PLAIN = rf"([A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?)((?:{_VERSIONS}(?:,{_VERSIONS})*)?)"
_HASHES = r"(?:--hash[= ]\s*[A-Za-z0-9]+:[0-9A-Fa-f]+\s*)*"
_LOCAL_VERSION = r"(==\s*[A-Za-z0-9_.!-]+)\+[A-Za-z0-9._-]+"
_LINK = rf"(?:(?P<name>{_NAME})\s*(?P<extras>\[[^\]]*\])?\s*@\s*)?(?P<url>[a-z+]+:\S+)"
_WHEEL = rf"(?P<name>{_NAME})-(?P<version>[0-9][^-]*)-[^/]*\.whl$"
_SOURCE = (
    rf"(?P<name>{_NAME})-(?P<version>[0-9][A-Za-z0-9.!+]*)(?:\.tar\.(?:gz|bz2|xz)|\.zip|\.tgz)$"
)
_CONDA_FOLDER = r"/(?:croot|work|feedstock_root|build_artifacts|ci_\w+)(?:/|$)|/tmp/build/"
_CONDA_EXPORT = rf"(?P<name>_?{_NAME})=(?P<version>[0-9][A-Za-z0-9_.!+]*)(?:=[A-Za-z0-9_.]+)?"
_PIP_LIST = rf"(?P<name>{_NAME})\s+(?P<version>[0-9][A-Za-z0-9.!+]*)"
_PIP_COMMAND = r"[!%]?\s*pip3?\s+install\s+(?P<rest>[^-\s]\S*)"
_PATH = r"(?i)[./~]|[A-Za-z]:[\\/]|.*[\\/]|.*\.(?:whl|zip|tgz|tar\.\w+)$"
_COMMENT = r"(?:^|\s)#.*$"
_CONTROL = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"

LINE_MAX = 500
LINES_MAX = 5000
_WITH_HASHES_MAX = 50_000
_WRITTEN_LINES_MAX = 200_000  # with those of comments and hashes
_TOO_MANY = f"there are more than {LINES_MAX:,} lines; list only what the project needs."


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Options that say where packages come from or how: on the cluster that is the site's to say.
_SITE_OPTIONS = _words("""
    -i --index-url --extra-index-url --no-index -f --find-links --trusted-host --pre --no-binary
    --only-binary --prefer-binary --require-hashes --use-feature
""")
_OTHER_FILES = _words("-r --requirement -c --constraint")
_STANDARD = _words("""
    collections copy csv datetime functools glob io itertools json logging math multiprocessing os
    pickle random re shutil string subprocess sys tempfile threading time tkinter warnings
""")
_MISNAMED = {
    "cv2": "opencv-python",
    "pil": "pillow",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
}
# What conda lists beside Python packages, and what Colab alone has.
_NOT_PACKAGES = _words("""
    _libgcc_mutex _openmp_mutex blas bzip2 ca-certificates google-colab icu ld_impl_linux-64
    libblas libcblas libffi libgcc libgcc-ng libgfortran-ng libgfortran5 libgomp liblapack
    libopenblas libsqlite libstdcxx libstdcxx-ng libuuid libzlib ncurses openssl python python-abi
    readline sqlite tk ucrt vc vs2015_runtime xz zlib
""")
_ONLY_THERE = ("github.com/", "gitlab.com/", "bitbucket.org/")


class Problem(NamedTuple):
    """A line that can't work on the cluster.

    line: its number, from 1; mend: what to write in its place ("" to leave it out), None where no
    mend is certain.
    """

    line: int
    text: str
    why: str
    mend: Optional[str]


class _Line(NamedTuple):
    first: int
    last: int
    text: str  # continued lines joined, without comment


class _Fault(NamedTuple):
    why: str
    mend: Optional[str] = None


_Judgement = Union[str, _Fault]  # the requirement, or what is wrong with it


def decode(data: bytes) -> str:
    """The text of a requirements.txt in whatever encoding a person's system wrote it."""
    for mark, encoding in (
        (b"\xef\xbb\xbf", "utf-8"),
        (b"\xff\xfe", "utf-16-le"),
        (b"\xfe\xff", "utf-16-be"),
    ):
        if data.startswith(mark):
            text = data[len(mark) :].decode(encoding, "replace")
            break
    else:
        text = _decode_unmarked(data)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def parse(text: str) -> tuple[list[str], list[Problem]]:
    """The requirements of a text, one a line, and all its problems at once."""
    lines, problems = [], []
    if text.count("\n") > _WRITTEN_LINES_MAX:
        return [], [Problem(1, "", _TOO_MANY, None)]
    for number, line in enumerate(_logical_lines(text)):
        if number >= LINES_MAX:
            problems.append(Problem(line.first, _short(line.text), _TOO_MANY, None))
            break
        judged = _judge(line.text)
        if isinstance(judged, str):
            lines.append(judged)
        else:
            mended = judged.mend if judged.mend is None else _mended(judged.mend)
            problems.append(Problem(line.first, _short(line.text), judged.why, mended))
    return lines, problems


def mend(text: str) -> str:
    """The text with every certain mend made; lines without one stay as they are."""
    mends = {problem.line: problem.mend for problem in parse(text)[1]}
    if not any(mended is not None for mended in mends.values()):
        return text
    written = text.split("\n")
    for line in reversed(list(_logical_lines(text))):
        mended = mends.get(line.first)
        if mended is not None:
            written[line.first - 1 : line.last] = [mended] if mended else []
    return "\n".join(written)


def normalise(lines: Sequence[str]) -> tuple[str, ...]:
    """The same for all texts that ask for the same: names, order, case and spaces do not count."""
    return tuple(sorted({_normal(line) for line in lines}))


def name_of(requirement: str) -> str:
    """The name of what a line asks for, the same for all ways to write it."""
    found = re.match(_NAME, requirement)
    return _key(found.group()) if found else ""


def _decode_unmarked(data: bytes) -> str:
    # UTF-16 without its mark has a NUL beside every ASCII character.
    sample = data[:4096]
    if len(sample) >= 4:
        for encoding, nuls in (("utf-16-le", sample[1::2]), ("utf-16-be", sample[0::2])):
            if nuls.count(0) > 0.8 * len(nuls):
                return data.decode(encoding, "replace")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _logical_lines(text: str) -> Iterator[_Line]:
    joined: list[str] = []
    first = 0
    written = text.split("\n")
    for number, line in enumerate(written, 1):
        first = first if joined else number
        if line.rstrip().endswith("\\") and not line.lstrip().startswith("#"):
            joined.append(line.rstrip()[:-1])
            if number < len(written):
                continue
        else:
            joined.append(line)
        whole = " ".join(re.sub(_COMMENT, "", " ".join(joined)).split())
        joined = []
        if whole:
            yield _Line(first, number, whole)


def _mended(text: str) -> Optional[str]:
    # A mend can itself need one (a link to a CUDA build): the last is what is offered.
    for _ in range(5):
        if not text:
            return text
        judged = _judge(text)
        if isinstance(judged, str):
            return text
        if judged.mend is None:
            return None
        text = judged.mend
    return None


def _judge(text: str) -> _Judgement:
    if len(text) <= LINE_MAX and re.fullmatch(_PLAIN, text):
        return _name(text) or text
    if re.search(_CONTROL, text):
        return _Fault("it has control characters; write the file as plain text.")
    if len(text) > _WITH_HASHES_MAX:
        return _Fault(f"it is longer than {_WITH_HASHES_MAX:,} characters.")
    bare, hashes = _without_hashes(text)
    if len(bare) > LINE_MAX:
        return _Fault(f"it is longer than {LINE_MAX:,} characters.")
    for check in _CHECKS:
        fault = check(bare)
        if fault:
            return fault
    return f"{bare} {hashes}".strip()


def _without_hashes(text: str) -> tuple[str, str]:
    bare, mark, rest = text.partition(" --hash")
    hashes = f"--hash{rest}" if mark else ""
    return (bare.strip(), hashes) if re.fullmatch(_HASHES, hashes) else (text, "")


def _option(bare: str) -> Optional[_Fault]:
    if not bare.startswith("-"):
        return None
    option = re.split(r"[\s=]", bare, maxsplit=1)[0]
    if not option.strip("-"):
        return _Fault("it is a line of a table, not a requirement.", "")
    short = option if option.startswith("--") else option[:2]
    if short in ("-e", "--editable"):
        return _Fault(
            "an editable install (-e) points to a folder of one computer; put that code into the "
            "project's folder, or write name==version."
        )
    if short in _OTHER_FILES:
        return _Fault(f"{short} names another file; put its lines here instead.")
    if short in _SITE_OPTIONS:
        return _Fault(f"{short} is for the site to decide; leave the line out.", "")
    return _Fault(f"{option} is an option that is not taken here.")


def _link(bare: str) -> Optional[_Fault]:
    found = re.fullmatch(_LINK, bare.partition(" ;")[0].strip())
    if not found or re.match(r"[A-Za-z]:[\\/]", bare):
        return None
    name, extras, url = found["name"], found["extras"] or "", found["url"]
    if name and _key(name) in _NOT_PACKAGES:
        return _Fault(f"{name} is not a package that can be installed here; leave it out.", "")
    scheme = url.split(":", 1)[0]
    path = unquote(url.split("#")[0].split("?")[0])
    pinned = _pinned(path.rsplit("/", 1)[-1])
    if "+" in scheme or scheme in ("git", "ssh"):
        return _Fault(
            "it is a link to a repository; write name==version, or put the code into the "
            "project's folder."
        )
    if scheme == "file":
        return _file_link(name, extras, path, pinned)
    if pinned and not any(host in url for host in _ONLY_THERE):
        return _Fault("it is a direct link; write name==version.", pinned)
    return _Fault("it is a direct link; write name==version if the package index has it.")


def _file_link(name: Optional[str], extras: str, path: str, pinned: Optional[str]) -> _Fault:
    if pinned:
        return _Fault("it is a file of another computer; write name==version.", pinned)
    if name and re.search(_CONDA_FOLDER, path):
        folder = re.search(rf"/{re.escape(name)}-([0-9][A-Za-z0-9.]*?)(?:-[^/]*)?/", path)
        if folder:
            return _Fault(
                "it is a folder of conda's; write name==version.", f"{name}{extras}=={folder[1]}"
            )
        return _Fault(
            "it is a folder of conda's that does not tell the version: any version is taken "
            "unless you write name==version.",
            f"{name}{extras}",
        )
    return _Fault("it is a file of another computer; write name==version.")


def _pinned(file: str) -> Optional[str]:
    found = re.fullmatch(_WHEEL, file) or re.fullmatch(_SOURCE, file)
    if not found:
        return None
    return f"{found['name'].replace('_', '-')}=={found['version'].split('+')[0]}"


def _local_path(bare: str) -> Optional[_Fault]:
    head = bare.partition(";")[0].partition("[")[0].strip()
    if not re.match(_PATH, head):
        return None
    if head.startswith("."):
        return _Fault("packages of the project's own are not installed; write name==version.")
    pinned = _pinned(re.split(r"[\\/]", head)[-1])
    return _Fault("it is a path of one computer; write name==version.", pinned)


def _written_elsewise(bare: str) -> Optional[_Fault]:
    command = re.fullmatch(_PIP_COMMAND, bare)
    if command:
        return _Fault("it is a command; write only the package.", command["rest"].strip("'\""))
    if bare.split() == ["Package", "Version"]:
        return _Fault("it is the heading of “pip list”; leave it out.", "")
    found = re.fullmatch(_CONDA_EXPORT, bare)
    if found and _key(found["name"]) in _NOT_PACKAGES:
        return _Fault(f"{found['name']} is part of conda, not a Python package; leave it out.", "")
    if found:
        return _Fault("it is conda's way to write it.", f"{found['name']}=={found['version']}")
    found = re.fullmatch(_PIP_LIST, bare)
    if found:
        return _Fault("it lacks “==”.", f"{found['name']}=={found['version']}")
    return None


def _syntax(bare: str) -> Optional[_Fault]:
    found = re.fullmatch(_REQUIREMENT, bare)
    if found and not re.sub(_MARKER_PART, "", found["marker"] or ""):
        return None
    if found:
        return _Fault("its condition (after “;”) is none; write as in python_version >= '3.10'.")
    return _Fault("it is no requirement; write name, or name==version.")


def _name(bare: str) -> Optional[_Fault]:
    found = re.match(_NAME, bare)
    name = found.group() if found else ""
    if name in _STANDARD and bare == name:
        return _Fault(f"{name} is part of Python; leave it out.", "")
    if _key(name) in _NOT_PACKAGES:
        return _Fault(f"{name} is not a package that can be installed here; leave it out.", "")
    if _key(name) in _MISNAMED and bare == name:
        right = _MISNAMED[_key(name)]
        return _Fault(f"the package of {name} is called {right}.", right)
    return None


def _local_version(bare: str) -> Optional[_Fault]:
    without = re.sub(_LOCAL_VERSION, r"\1", bare)
    if without == bare:
        return None
    return _Fault("its version (after “+”) is one computer's own build.", without)


_CHECKS: tuple[Callable[[str], Optional[_Fault]], ...] = (
    _option,
    _link,
    _local_path,
    _written_elsewise,
    _syntax,
    _name,
    _local_version,
)


def _key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower() if not name.startswith("_") else name.lower()


def _normal(line: str) -> str:
    plain = re.fullmatch(_PLAIN, line)
    if plain:
        return _key(plain[1]) + ",".join(sorted(set(plain[2].split(","))))
    bare, hashes = _without_hashes(" ".join(line.split()))
    found = re.fullmatch(_REQUIREMENT, bare)
    if not found:
        return " ".join(line.split())
    extras = sorted({_key(e.strip()) for e in (found["extras"] or "").split(",") if e.strip()})
    clauses = sorted({re.sub(r"\s", "", c) for c in (found["spec"] or "").split(",") if c.strip()})
    marker = " ".join((found["marker"] or "").split())
    checked = sorted(set(re.findall(r"[A-Za-z0-9]+:[0-9A-Fa-f]+", hashes)))
    return "".join(
        (
            _key(found["name"]),
            f"[{','.join(extras)}]" if extras else "",
            ",".join(clauses),
            f"; {marker}" if marker else "",
            "".join(f" --hash={one}" for one in checked),
        )
    )


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:199]}…"
