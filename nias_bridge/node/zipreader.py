"""Read a zip's directory and its members with bounded memory, believing nothing that it says.

The standard zipfile is not used for what strangers send: it reads a whole directory whatever its
size, before Python 3.11.8 it reads entries that overlap, and its bzip2 and LZMA unpack a whole
bomb at once.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

STORED, DEFLATED, BZIP2, LZMA = 0, 8, 12, 14
_METHODS = {
    1: "Shrink",
    6: "Implode",
    9: "Deflate64",
    93: "Zstandard",
    95: "XZ",
    97: "WavPack",
    98: "PPMd",
    99: "AES encryption",
}
_OTHER_FORMATS = {
    b"Rar!": "a RAR archive",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"\x1f\x8b": "a gzip (tar.gz) archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zX": "an xz archive",
}
_END = struct.Struct("<4s4H2LH")
_LOCATOR64 = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_DIRECTORY_BYTES_PER_ENTRY = 400
_CHUNK = 256 * 1024
_LZMA_DICTIONARY_MAX = 64 * 1024 * 1024


class ZipError(Exception):
    """The file is not a zip that can be read; the sentence says why."""


class Member(NamedTuple):
    """One entry of the directory, as it is written there; sizes and offsets in bytes.

    `room` is where the next entry (or the directory) begins: its data must end before.
    """

    raw_name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    attributes: int
    extra: bytes
    offset: int
    room: int

    @property
    def encrypted(self) -> bool:
        return bool(self.flags & 0x2041) or self.method == 99

    @property
    def utf8(self) -> bool:
        return bool(self.flags & 0x800)


class _End(NamedTuple):
    entries: int
    size: int
    offset: int


def members(file: BinaryIO, most: int) -> list[Member]:
    """All entries of a zip that is open, in its directory's order.

    Raises ZipError, also when there are over `most`.
    """
    end = _end_record(file)
    _refuse_too_many(end.entries, most)
    if end.size > max(most, 100) * _DIRECTORY_BYTES_PER_ENTRY:
        raise ZipError("The zip's list of files is far longer than its files could need.")
    file.seek(end.offset)
    data = file.read(end.size)
    found: list[Member] = []
    position = 0
    while position < len(data):
        _refuse_too_many(len(found) + 1, most)
        member, position = _central_entry(data, position)
        found.append(member)
    if len(found) != end.entries:
        raise ZipError("The zip is damaged: it does not hold as many files as it says.")
    return _with_room(found, end.offset)


def content(file: BinaryIO, member: Member) -> Iterator[bytes]:
    """The unpacked bytes of a member, in pieces of at most 256 KiB. Raises ZipError.

    Ends early and with an error when they are more or fewer than the directory says, overlap
    another entry, or fail their checksum.
    """
    start = _data_start(file, member)
    file.seek(start)
    size = crc = 0
    try:
        for piece in _unpacked(file, member):
            size += len(piece)
            if size > member.size:
                raise ZipError("holds more than the zip says")
            crc = zlib.crc32(piece, crc)
            yield piece
    except (zlib.error, ValueError, EOFError):
        raise ZipError("is damaged: its data can't be unpacked") from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise ZipError("is damaged: its data can't be unpacked") from None  # bzip2's own way
    if size != member.size:
        raise ZipError("is damaged: it ends too early")
    if crc != member.crc:
        raise ZipError("is damaged: its checksum (CRC) is wrong")


def packed(file: BinaryIO, member: Member) -> Iterator[bytes]:
    """The bytes of a member as they lie in the zip, in such pieces. Raises ZipError."""
    file.seek(_data_start(file, member))
    try:
        yield from _packed(file, member.packed)
    except EOFError:
        raise ZipError("is damaged: its data ends too early") from None


def _data_start(file: BinaryIO, member: Member) -> int:
    file.seek(member.offset)
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size or header[:4] != b"PK\x03\x04":
        raise ZipError("has no data where the zip says that it is; the zip is damaged")
    fields = _LOCAL.unpack(header)
    if fields[2] & 0x2041:
        raise ZipError("is encrypted")
    start: int = member.offset + _LOCAL.size + fields[9] + fields[10]
    if start + member.packed > member.room:
        raise ZipError("overlaps another entry of the zip")
    if file.read(fields[9]) != member.raw_name or fields[3] != member.method:
        raise ZipError("is another one in the zip's list than in its place; the zip is damaged")
    return start


def unreadable_method(method: int) -> str | None:
    """The name of a compression that can't be read here, None for one that can."""
    if method in (STORED, DEFLATED, BZIP2, LZMA):
        return None
    return _METHODS.get(method, f"number {method}")


def extra_field(extra: bytes, wanted: int) -> bytes | None:
    """One field of an entry's extra data, by its number."""
    position = 0
    while position + 4 <= len(extra):
        number, length = struct.unpack_from("<HH", extra, position)
        if number == wanted:
            return extra[position + 4 : position + 4 + length]
        position += 4 + length
    return None


def _end_record(file: BinaryIO) -> _End:
    file.seek(0)
    beginning = file.read(8)
    length = file.seek(0, 2)
    for magic, name in _OTHER_FORMATS.items():
        if beginning.startswith(magic):
            raise ZipError(f"The file is {name}, not a zip.")
    if not beginning.startswith(b"PK"):
        raise ZipError("The file is not a zip.")
    start = max(0, length - _END.size - 0xFFFF)
    file.seek(start)
    tail = file.read()
    position = _find_end(tail)
    if position < 0:
        raise ZipError("The zip is cut short: its end is missing. Upload it again.")
    fields = _END.unpack_from(tail, position)
    at = start + position
    disks, entries, size, offset = fields[1:4], fields[4], fields[5], fields[6]
    if 0xFFFF in (entries, disks[0]) or 0xFFFFFFFF in (size, offset):
        disks, entries, size, offset, at = _end64(file, at, (disks, entries, size, offset))
    if disks[0] or disks[1] or disks[2] != entries:
        raise ZipError("The zip is one part of several. Zip the project into a single file.")
    if offset + size != at:
        raise ZipError("The zip is damaged, or something was put before or into it.")
    return _End(entries, size, offset)


def _find_end(tail: bytes) -> int:
    # The last record whose comment reaches exactly to the file's end; a zip with something behind
    # it (padding, say) has none, and the last record is taken then.
    last = position = tail.rfind(b"PK\x05\x06", 0, len(tail) - _END.size + 4)
    while position >= 0:
        comment = struct.unpack_from("<H", tail, position + 20)[0]
        if position + _END.size + comment == len(tail):
            return position
        position = tail.rfind(b"PK\x05\x06", 0, position + 3)
    return last


def _end64(file: BinaryIO, at: int, end: tuple[Any, ...]) -> tuple[Any, ...]:
    if at < _LOCATOR64.size:
        return (*end, at)
    file.seek(at - _LOCATOR64.size)
    signature, _, where, _ = _LOCATOR64.unpack(file.read(_LOCATOR64.size))
    if signature != b"PK\x06\x07":
        return (*end, at)  # a zip of exactly 65,535 files
    if where > at:
        raise ZipError("The zip is damaged: the end of its list of files is not where it says.")
    file.seek(where)
    record = file.read(_END64.size)
    if len(record) < _END64.size or record[:4] != b"PK\x06\x06":
        raise ZipError("The zip is damaged: the end of its list of files is not where it says.")
    fields = _END64.unpack(record)
    return (fields[4:7], fields[7], fields[8], fields[9], where)


def _central_entry(data: bytes, position: int) -> tuple[Member, int]:
    if position + _CENTRAL.size > len(data) or data[position : position + 4] != b"PK\x01\x02":
        raise ZipError("The zip is damaged: its list of files can't be read.")
    fields = _CENTRAL.unpack_from(data, position)
    name_end = position + _CENTRAL.size + fields[10]
    extra_end = name_end + fields[11]
    after = extra_end + fields[12]
    if after > len(data):
        raise ZipError("The zip is damaged: its list of files can't be read.")
    extra = data[name_end:extra_end]
    packed, size, offset = fields[8], fields[9], fields[16]
    if 0xFFFFFFFF in (packed, size, offset):
        size, packed, offset = _sizes64(extra, (size, packed, offset))
    member = Member(
        raw_name=data[position + _CENTRAL.size : name_end],
        flags=fields[3],
        method=fields[4],
        crc=fields[7],
        packed=packed,
        size=size,
        attributes=fields[15],
        extra=extra,
        offset=offset,
        room=0,
    )
    return member, after


def _sizes64(extra: bytes, short: tuple[int, int, int]) -> list[int]:
    # The zip64 field holds only the values that are 0xFFFFFFFF in the entry itself, in this order.
    field = extra_field(extra, 0x0001) or b""
    values = []
    position = 0
    for value in short:
        if value == 0xFFFFFFFF:
            if position + 8 > len(field):
                raise ZipError("The zip is damaged: the size of a large file is missing.")
            value = struct.unpack_from("<Q", field, position)[0]  # noqa: PLW2901
            position += 8
        values.append(value)
    return values


def _with_room(members: list[Member], end: int) -> list[Member]:
    roomy: list[Member] = list(members)
    order = sorted(range(len(members)), key=lambda i: members[i].offset, reverse=True)
    for i in order:
        member = members[i]
        shortest = member.offset + _LOCAL.size + len(member.raw_name) + member.packed
        if shortest > end:
            raise ZipError("Entries of the zip overlap: it is damaged or made to do harm.")
        roomy[i] = member._replace(room=end)
        end = member.offset
    return roomy


def _refuse_too_many(entries: int, most: int) -> None:
    if entries > most:
        raise ZipError(
            f"The zip has over {most:,} entries. Put many small files into one archive of the "
            "project's own, or leave virtual environments and caches out."
        )


def _unpacked(file: BinaryIO, member: Member) -> Iterator[bytes]:
    if member.method == STORED:
        yield from _packed(file, member.packed)
    elif member.method == DEFLATED:
        yield from _inflated(file, member.packed)
    elif member.method == BZIP2:
        yield from _bzip2(file, member.packed)
    elif member.method == LZMA:
        yield from _lzma(file, member.packed)
    else:
        raise ZipError(f"is compressed by a method ({unreadable_method(member.method)}) unknown")


def _packed(file: BinaryIO, left: int) -> Iterator[bytes]:
    while left:
        piece = file.read(min(_CHUNK, left))
        if not piece:
            raise EOFError
        left -= len(piece)
        yield piece


def _inflated(file: BinaryIO, packed: int) -> Iterator[bytes]:
    decompressor = zlib.decompressobj(-15)
    for data in _packed(file, packed):
        while data and not decompressor.eof:
            yield decompressor.decompress(data, _CHUNK)
            data = decompressor.unconsumed_tail  # noqa: PLW2901
    while not decompressor.eof:
        # What the decompressor still holds comes without further input, or not at all.
        piece = decompressor.decompress(b"", _CHUNK)
        if not piece:
            raise EOFError
        yield piece


def _bzip2(file: BinaryIO, packed: int) -> Iterator[bytes]:
    import bz2  # noqa: PLC0415  # hardly any zip needs it, and every run reads one

    yield from _decompressed(file, packed, bz2.BZ2Decompressor())


def _lzma(file: BinaryIO, packed: int) -> Iterator[bytes]:
    import lzma  # noqa: PLC0415  # as above

    head = file.read(9)
    if packed < 9 or len(head) < 9 or head[2:4] != b"\x05\x00":
        raise EOFError
    properties, dictionary = head[4], struct.unpack_from("<L", head, 5)[0]
    if dictionary > _LZMA_DICTIONARY_MAX:
        raise ZipError("needs too much memory to unpack (an LZMA dictionary above 64 MB)")
    kind = {
        "id": lzma.FILTER_LZMA1,
        "dict_size": max(dictionary, 4096),
        "lc": properties % 9,
        "lp": properties // 9 % 5,
        "pb": properties // 45,
    }
    try:
        unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, None, [kind])
        yield from _decompressed(file, packed - 9, unpacker)
    except lzma.LZMAError as error:
        raise ValueError(str(error)) from None


def _decompressed(file: BinaryIO, packed: int, decompressor: Any) -> Iterator[bytes]:
    for data in _packed(file, packed):
        while not decompressor.eof:
            yield decompressor.decompress(data, _CHUNK)
            data = b""  # noqa: PLW2901
            if decompressor.needs_input:
                break
    # bzip2 and LZMA streams with an end mark say so; a raw LZMA stream without one just stops.
