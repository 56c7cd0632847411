"""What projects are called: by people, in the database, and in paths."""

from __future__ import annotations

import hashlib
import re
import unicodedata

NAME_MAX = 64
_NAME_EXTRA = frozenset(" ._-")


def project_name(text: str) -> str:
    """A project's name as people write it, in NFC; raises ValueError with what is wrong.

    Letters and digits of any script (with their combining marks), spaces and ._- ; 1 to 64
    characters; not beginning with a dot, dash or space, nor ending with a dot or space.
    """
    name = unicodedata.normalize("NFC", text)
    if not 1 <= len(name) <= NAME_MAX:
        raise ValueError(f"has {len(name)} characters; a project name has 1 to {NAME_MAX}")
    for char in name:
        if char not in _NAME_EXTRA and unicodedata.category(char)[0] not in "LNM":
            shown = char if char.isprintable() else f"U+{ord(char):04X}"
            raise ValueError(f"has the character “{shown}”; use letters, digits, spaces and . _ -")
    if name[0] in " .-" or name[-1] in " .":
        raise ValueError("begins or ends with a space, dot or dash")
    return name


def name_key(name: str) -> str:
    """What makes two project names the same one: NFKC, whatever the case."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def slug(name: str) -> str:
    """The path-safe form of a project name, for folders and Slurm: ASCII letters, digits, ._-

    A name that is not its own slug gets eight characters of its key's hash behind a ~ (which no
    name can have), so that two projects never share a folder.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-._")[:48]
    if safe == name:
        return safe
    digest = hashlib.sha256(name_key(name).encode()).hexdigest()[:8]
    return f"{safe or 'project'}~{digest}"
