"""The Unix accounts of the machine where Slurm's commands are run, as its programs tell them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from nias_bridge.errors import Unreachable
from nias_bridge.people import UnixAccount
from nias_bridge.slurm.answers import Output

KEPT_SECONDS = 60.0
ASKED_AT_ONCE = 200
_NOT_THERE = 2  # getent's status for a name that it does not know
_PASSWD_FIELDS = 7
_GROUP = re.compile(r"(\d+)(?:\(([^)]*)\))?")


@dataclass(frozen=True)
class Getent:
    """A ports.Accounts. `run` starts a program there and gives its Output."""

    run: Callable[[Sequence[str]], Output]
    _uids: dict[str, tuple[float, int | None]] = field(default_factory=dict, init=False, repr=False)

    def find(self, name: str) -> UnixAccount | None:
        """Raises Unreachable."""
        told = self.run(["getent", "passwd", "--", name])
        if told.status == _NOT_THERE:
            return None
        line = _said(told, "getent").split(":")
        if len(line) != _PASSWD_FIELDS:
            raise Unreachable(f"getent told no account: {':'.join(line)[:200]}")
        shadow = self.run(["getent", "shadow", "--", name])  # root alone is told
        return UnixAccount(
            name=line[0],
            uid=int(line[2]),
            shell=line[6],
            groups=_groups(_said(self.run(["id", "--", name]), "id")),
            shadow=tuple(shadow.stdout.strip().split(":")) if shadow.status == 0 else (),
            own=line[2] == _said(self.run(["id", "-u"]), "id"),
        )

    def uids(self, names: Collection[str]) -> dict[str, int]:
        """Raises Unreachable."""
        found: dict[str, int] = {}
        ordered = sorted(names)
        for first in range(0, len(ordered), ASKED_AT_ONCE):
            some = ordered[first : first + ASKED_AT_ONCE]
            found.update(_known(self.run(["getent", "passwd", "--", *some])))
        return {name: found[name] for name in ordered if name in found}

    def uid(self, name: str) -> int | None:
        """Raises Unreachable. Who asks again within a minute is told the same."""
        at, uid = self._uids.get(name, (0.0, None))
        if not at or time.monotonic() - at > KEPT_SECONDS:
            account = self.find(name)
            uid = account.uid if account and account.name == name else None
            self._uids[name] = (time.monotonic(), uid)
        return uid


def _known(output: Output) -> Iterator[tuple[str, int]]:
    """Names and numbers of the accounts that getent told of, though not of all that was asked."""
    if output.status not in (0, _NOT_THERE):
        _said(output, "getent")
    for line in output.stdout.splitlines():
        fields = line.split(":")
        if len(fields) != _PASSWD_FIELDS:
            raise Unreachable(f"getent told no account: {line[:200]}")
        yield fields[0], int(fields[2])


def _said(output: Output, program: str) -> str:
    """What a program printed. Raises Unreachable where it did not end well."""
    if output.status != 0:
        why = output.stderr.strip().rpartition("\n")[2] or f"it ended with status {output.status}"
        raise Unreachable(f"{program} told nothing of that account: {why}")
    return output.stdout.strip()


def _groups(line: str) -> frozenset[str]:
    """The names in id's `uid=… gid=… groups=27(sudo),1001`; number 0 is root's whatever its name.

    A number without a name gives nothing that has one.
    """
    found = _GROUP.findall(line.partition(" groups=")[2])
    return frozenset("root" if int(number) == 0 else name for number, name in found) - {""}
