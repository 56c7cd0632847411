"""Who may read what there is of datasets, set by ACLs for just these accounts, by their numbers.

A content's own folder is its door. Whoever came through may read all that is behind it, and the
bridge's account alone can write there.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import acls, datasets, files, layout

_ENTER, _READ = 0o5, 0o4

# The number and words of the system's error, by what could not be done.
Failed = dict[str, tuple[int, str]]


def open_to(folder: str, readers: Mapping[str, Sequence[int]]) -> Failed:
    """Let just these accounts into each of these contents; by its hash, what was left undone.

    A content that is not there lets nobody in.
    """
    failed: Failed = {}
    for sha256, uids in readers.items():
        try:
            _open_to(Path(folder, sha256), uids)
        except FileNotFoundError:
            continue
        except OSError as error:
            failed[sha256] = _told(error)
    return failed


def tell(folder: str, texts: Mapping[str, tuple[int, str]], kept: Sequence[str]) -> Failed:
    """Write the text of each of these accounts, beside its number, to a file that it alone can
    read; by account, what was left undone. What is there of others than `kept` is removed."""
    place, failed = Path(folder), Failed()
    stays = {layout.CATALOGUE.format(account) for account in kept}
    with suppress(FileNotFoundError):
        for file in place.iterdir():
            if file.name not in stays:
                file.unlink(missing_ok=True)
    for account, (uid, text) in texts.items():
        try:
            _tell(place / layout.CATALOGUE.format(account), text.encode(), uid)
        except OSError as error:
            failed[account] = _told(error)
    return failed


OPERATIONS: dict[str, Callable[..., Any]] = {"open_datasets": open_to, "tell_datasets": tell}


def _open_to(content: Path, uids: Sequence[int]) -> None:
    door = os.open(content, files.FOLDER)
    try:
        if uids:
            _let_all_read(content)
        acls.let_read(door, uids, _ENTER)
    finally:
        os.close(door)


def _let_all_read(content: Path) -> None:
    """What is behind the door, where it was published for the bridge's own jobs alone."""
    inside = content / layout.CONTENT_FILES
    if stat.S_IMODE(inside.lstat().st_mode) == datasets.FOLDER:
        return
    (content / layout.CONTENT_SUMS).chmod(datasets.FILE)
    for within, _, plain in os.walk(inside, topdown=False):  # its own folder last, once all is done
        for name in plain:
            Path(within, name).chmod(datasets.FILE)
        os.chmod(within, datasets.FOLDER)  # noqa: PTH101


def _tell(path: Path, data: bytes, uid: int) -> None:
    with suppress(OSError), path.open("rb") as there:
        if there.read() == data and acls.named(there.fileno()) == {uid: _READ}:
            return
    with files.written_by_rename(path, 0o600) as file:
        acls.let_read(file.fileno(), [uid], _READ)
        file.write(data)


def _told(error: OSError) -> tuple[int, str]:
    return error.errno or errno.EIO, error.strerror or str(error)
