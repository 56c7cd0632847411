"""Judge the zip of a project by its directory, and unpack it."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import BinaryIO, NamedTuple

from . import layout, names, zipreader

CODE = "code.py"
# A project without a code.py says in this file what to run in its place.
PROJECT_FILE = "nias.toml"
# A small zip may grow by any factor: text compresses well.
_RATIO_MATTERS_FROM = 10_000_000


class ArchiveError(Exception):
    """The zip can't be accepted; one clear sentence for the researcher."""


class Limits(NamedTuple):
    """What a zip may hold: bytes and files when unpacked, and how many times its own size."""

    unpacked_bytes: int
    files: int
    ratio: int


class Entry(NamedTuple):
    """One file of the project: its path within it (NFC, “/”), its size in bytes."""

    path: str
    size: int
    executable: bool
    member: zipreader.Member


class Inventory(NamedTuple):
    """What the zip holds of the one project; its name is as written (NFC), not yet judged.

    folders: also the empty ones; ignored: entries that are not of the project (what the zipping
    system added, and what lies beside the project's folder).
    """

    name: str
    entries: tuple[Entry, ...]
    folders: tuple[str, ...]
    unpacked_size: int
    has_output: bool
    ignored: int


class Found(NamedTuple):
    """One entry of a zip, its name as the parts of a path that leads nowhere else."""

    parts: tuple[str, ...]
    folder: bool
    member: zipreader.Member


def judge(file: BinaryIO, filename: str, limits: Limits) -> Inventory:
    """What is in the zip, which is open, read from its directory alone. Raises ArchiveError.

    filename is the zip's own name, for a project whose files are at the zip's root.
    """
    found, count = contents(file, limits)
    root = _project_folder(found)
    inside = [f for f in found if f.parts[: len(root)] == root and len(f.parts) > len(root)]
    entries = tuple(
        Entry(
            path="/".join(f.parts[len(root) :]),
            size=f.member.size,
            executable=bool(f.member.attributes >> 16 & stat.S_IXUSR),
            member=f.member,
        )
        for f in inside
        if not f.folder
    )
    if any(entry.path == layout.OUTPUT for entry in entries):
        raise ArchiveError("“output” is a file in this project; it must be a folder, or be absent.")
    folders = tuple("/".join(f.parts[len(root) :]) for f in inside if f.folder)
    on_the_way = sum(f.folder and root[: len(f.parts)] == f.parts for f in found)
    output = f"{layout.OUTPUT}/"
    return Inventory(
        name=root[-1] if root else _own_name(filename),
        entries=entries,
        folders=folders,
        unpacked_size=sum(entry.size for entry in entries),
        has_output=layout.OUTPUT in folders or any(e.path.startswith(output) for e in entries),
        ignored=count - len(inside) - on_the_way,
    )


def contents(file: BinaryIO, limits: Limits) -> tuple[list[Found], int]:
    """The entries of any zip that may be unpacked, and how many there are with junk.

    Read from its directory alone. Raises ArchiveError.
    """
    # Folders and what macOS adds can double the entries of an honest zip.
    most = 2 * limits.files + 1000
    try:
        members = zipreader.members(file, most)
    except zipreader.ZipError as error:
        raise ArchiveError(str(error)) from None
    found = _readable(members)
    _refuse_collisions(found, most)
    _refuse_bombs(found, file.seek(0, os.SEEK_END), limits)
    return found, len(members)


def read_member(file: BinaryIO, inventory: Inventory, path: str, limit: int) -> bytes | None:
    """One file of the project, None where it has none of that path.

    Raises ArchiveError when it is damaged or has more than `limit` bytes.
    """
    entry = next((e for e in inventory.entries if e.path == path), None)
    if entry is None:
        return None
    if entry.size > limit:
        raise ArchiveError(f"{path} has {entry.size:,} bytes; at most {limit:,} are read.")
    try:
        return b"".join(zipreader.content(file, entry.member))
    except zipreader.ZipError as error:
        raise ArchiveError(f"{path} {error}.") from None


def unpack(archive: Path, target: Path, limits: Limits, filename: str) -> Inventory:
    """Judge the zip again and write its project into the new folder `target`, with an output/.

    Only plain files and folders are made: 0644, or 0755 where the owner may execute. Raises
    ArchiveError for what the directory did not tell (damage, sizes that lie), OSError for the disk.
    """
    with archive.open("rb") as file:
        inventory = judge(file, filename, limits)
        target.mkdir(parents=True)
        (target / layout.OUTPUT).mkdir()
        made = {target}
        for folder in inventory.folders:
            (target / folder).mkdir(parents=True, exist_ok=True)
        for entry in inventory.entries:
            path = target / entry.path
            if path.parent not in made:
                path.parent.mkdir(parents=True, exist_ok=True)
                made.add(path.parent)
            try:
                write(path, zipreader.content(file, entry.member), executable=entry.executable)
            except zipreader.ZipError as error:
                raise ArchiveError(f"“{names.shown(entry.path)}” {error}.") from None
    return inventory


def write(path: Path, content: Iterable[bytes], *, executable: bool = False) -> None:
    """A new file of these bytes; nothing that is there already is written to."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb", buffering=0) as out:
        for piece in content:
            left = memoryview(piece)
            while left:
                left = left[out.write(left) or 0 :]
        os.fchmod(out.fileno(), 0o755 if executable else 0o644)


def _readable(members: list[zipreader.Member]) -> list[Found]:
    # Every entry that is not junk, once its name, kind and compression are found acceptable.
    page = names.code_page(members)
    found = []
    for member in members:
        name = ""
        try:
            name = names.decode(member, page)
            parts = names.parts(name)
            if not parts or names.is_junk(parts):
                continue
            names.check(parts)
            _refuse_kind(member)
        except names.BadName as error:
            written = names.shown(name or member.raw_name.decode("cp437"))
            raise ArchiveError(f"The entry “{written}” {error}.") from None
        found.append(Found(parts, _is_folder(name, member), member))
    return found


def _refuse_kind(member: zipreader.Member) -> None:
    kind = stat.S_IFMT(member.attributes >> 16)
    if kind == stat.S_IFLNK:
        raise names.BadName("is a link; put the file itself there, or leave it out")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise names.BadName("is a special file (a pipe, a device or a socket); leave it out")
    if member.encrypted:
        raise names.BadName("is encrypted; zip the project without a password")
    method = zipreader.unreadable_method(member.method)
    if method:
        raise names.BadName(
            f"is compressed by a method ({method}) that can't be read here; use the usual Deflate"
        )


def _is_folder(name: str, member: zipreader.Member) -> bool:
    marked = member.attributes & 0x10 or stat.S_ISDIR(member.attributes >> 16)
    return name.endswith("/") or (bool(marked) and member.size == 0)


def _refuse_collisions(found: list[Found], most: int) -> None:
    # A tree of what would lie on a disk where case does not count: (folder, name) -> its node.
    nodes: dict[tuple[int, str], tuple[int, str, bool]] = {}
    for parts, is_folder, _ in found:
        parent = 0
        for depth, part in enumerate(parts, 1):
            last = depth == len(parts)
            folder = is_folder or not last
            key = (parent, names.same(part))
            known = nodes.get(key)
            if known is None:
                if len(nodes) >= most:
                    raise ArchiveError(f"The zip has over {most:,} files and folders.")
                known = nodes[key] = (len(nodes) + 1, part, folder)
            elif known[1] != part:
                raise ArchiveError(
                    f"“{names.shown('/'.join(parts))}” and “{names.shown(known[1])}” differ only "
                    "in case; rename one of them."
                )
            elif known[2] != folder:
                both = names.shown("/".join(parts[:depth]))
                raise ArchiveError(f"“{both}” is both a file and a folder in this zip.")
            elif not folder:
                raise ArchiveError(f"“{names.shown('/'.join(parts))}” is in this zip twice.")
            parent = known[0]


def _refuse_bombs(found: list[Found], archive_size: int, limits: Limits) -> None:
    files = [f for f in found if not f.folder]
    if len(files) > limits.files:
        raise ArchiveError(
            f"The zip holds {len(files):,} files; at most {limits.files:,} are taken. Leave "
            "virtual environments and caches out."
        )
    size = sum(f.member.size for f in found)
    if size > limits.unpacked_bytes:
        raise ArchiveError(
            f"The zip holds {_megabytes(size)} unpacked; at most "
            f"{_megabytes(limits.unpacked_bytes)} are taken."
        )
    if size > _RATIO_MATTERS_FROM and size > limits.ratio * archive_size:
        raise ArchiveError(
            f"The zip would grow to {size // max(archive_size, 1):,} times its size "
            f"({_megabytes(size)}); at most {limits.ratio:,} times is taken."
        )


def _project_folder(found: list[Found]) -> tuple[str, ...]:
    files = [f.parts for f in found if not f.folder]
    codes = [parts for parts in files if parts[-1] == CODE]
    codes = codes or [parts for parts in files if parts[-1] == PROJECT_FILE]
    if not codes:
        near = next((f.parts[-1] for f in found if f.parts[-1].casefold() == CODE), None)
        hint = f" (“{near}” must be written “{CODE}”)" if near else ""
        raise ArchiveError(
            f"The zip has no {CODE}{hint}. It must hold one folder, named as the project, with "
            f"{CODE}, requirements.txt and output/ in it."
        )
    depth = min(map(len, codes))
    shallowest = [parts for parts in codes if len(parts) == depth]
    if len(shallowest) > 1:
        one, other = ("/".join(parts[:-1]) for parts in sorted(shallowest)[:2])
        raise ArchiveError(
            f"The zip holds more than one project: “{names.shown(one)}” and "
            f"“{names.shown(other)}”. Upload them one at a time."
        )
    return shallowest[0][:-1]


def _own_name(filename: str) -> str:
    name = unicodedata.normalize("NFC", PurePath(filename.replace("\\", "/")).name)
    return name[: -len(".zip")] if name.casefold().endswith(".zip") else name


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
