"""POSIX ACLs of what is ours: who else may read it, set to just these accounts, and read back."""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import files

# As a file system says that it knows no ACLs, or that this one has no room for so many.
NONE_HERE = frozenset([errno.EOPNOTSUPP, errno.ENOSYS])
TOO_MANY = frozenset([errno.E2BIG, errno.ENOSPC, errno.ERANGE])
# As the kernel takes them: who, by a tag and an id, and what they may.
_ACCESS = "system.posix_acl_access"
_USER_OBJ, _USER, _GROUP_OBJ, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_NO_ID = 2**32 - 1
_VERSION, _ENTRY = struct.Struct("<I"), struct.Struct("<HHI")

# Tag, id, and bits as of chmod.
Entry = tuple[int, int, int]


def let_read(opened: int, uids: Collection[int], bits: int) -> None:
    """Let the owner and these accounts do `bits` (as of chmod) with an open file or folder of ours,
    and nobody else anything. What is so already is left alone. Raises OSError."""
    wanted = _wanted(uids, bits)
    if entries(opened) == wanted:
        return
    if uids:
        os.setxattr(opened, _ACCESS, _packed(wanted))
        return
    os.fchmod(opened, bits << 6)  # whoever an ACL names is kept out by this alone
    with suppress(OSError):  # there is none
        os.removexattr(opened, _ACCESS)


def entries(opened: int) -> frozenset[Entry]:
    """Who may do what, be it by an ACL or by the mode alone."""
    try:
        told = os.getxattr(opened, _ACCESS)
    except OSError:
        mode = os.fstat(opened).st_mode
        tags = zip((_USER_OBJ, _GROUP_OBJ, _OTHER), (mode >> 6, mode >> 3, mode))
        return frozenset((tag, _NO_ID, bits & 0o7) for tag, bits in tags)
    found = _ENTRY.iter_unpack(told[_VERSION.size :])
    return frozenset((tag, who if tag == _USER else _NO_ID, bits) for tag, bits, who in found)


def named(opened: int) -> dict[int, int]:
    """What an ACL lets accounts beside the owner do, by their numbers, whatever mask there is."""
    return {who: bits for tag, who, bits in entries(opened) if tag == _USER}


def why_none(folder: str) -> str:
    """Why the file system of this folder of ours keeps no ACLs, "" where it does. Raises OSError
    where that can't be tried."""
    path = Path(folder, f".acl-{os.urandom(6).hex()}")
    opened = os.open(path, files.NEW, 0o600)
    try:
        let_read(opened, [os.geteuid()], stat.S_IROTH)
        return "" if os.geteuid() in named(opened) else "what is set is not kept"
    except OSError as error:
        if error.errno in NONE_HERE:
            return error.strerror or str(error)
        raise
    finally:
        os.close(opened)
        path.unlink()


OPERATIONS: dict[str, Callable[..., Any]] = {"why_no_acls": why_none}


def _wanted(uids: Collection[int], bits: int) -> frozenset[Entry]:
    users = {(_USER, uid, bits) for uid in uids}
    mask = {(_MASK, _NO_ID, bits)} if uids else set()
    owner_and_rest = {(_USER_OBJ, _NO_ID, bits), (_GROUP_OBJ, _NO_ID, 0), (_OTHER, _NO_ID, 0)}
    return frozenset(users | mask | owner_and_rest)


def _packed(wanted: Collection[Entry]) -> bytes:
    # In the order of tags and ids, as setfacl has them.
    packed = (_ENTRY.pack(tag, bits, who) for tag, who, bits in sorted(wanted))
    return _VERSION.pack(2) + b"".join(packed)
