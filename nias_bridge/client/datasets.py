"""Datasets: sent once, and seen by any number of runs."""

from __future__ import annotations

import itertools
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from nias_bridge.client import pieces
from nias_bridge.client.gateway import Gateway, Told, untold
from nias_bridge.errors import BadUpload, NotFound
from nias_bridge.project import data

_LOOKS = (0.1, 0.2, 0.3, 0.5, 1)  # seconds between looks at what is unpacked; the last for good


@dataclass(frozen=True, kw_only=True)
class Version:
    """One content of a dataset: its hash, and what is in it (size in bytes)."""

    id: int
    sha256: str
    size: int
    files: int
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One dataset as it was when it was asked for; versions, the newest first.

    runs: how many saw or see it; told: all that the gateway said, as it is in the API. All methods
    raise Refused and NoAnswer.
    """

    id: int
    owner: str
    name: str
    versions: tuple[Version, ...]
    runs: int
    told: Mapping[str, Any] = field(repr=False, compare=False)
    gateway: Gateway = field(repr=False, compare=False)

    @property
    def newest(self) -> Version | None:
        return self.versions[0] if self.versions else None

    def look(self) -> Dataset:
        """The dataset as it is now."""
        return _dataset(self.gateway, self.gateway.get(f"datasets/{self.id}"))

    def share(self, people: Collection[str] = (), groups: Collection[str] = ()) -> Dataset:
        """Share it with these people (handles or e-mail addresses) and groups, and nobody else."""
        wanted = {"people": list(people), "groups": list(groups)}
        return _dataset(self.gateway, self.gateway.put(f"datasets/{self.id}/shared", wanted))

    def delete(self, version: str = "") -> None:
        """Delete it, or the version whose hash begins so. Raises NotFound, also for several."""
        if not version:
            self.gateway.delete(f"datasets/{self.id}")
            return
        found = [each for each in self.versions if each.sha256.startswith(version)]
        if len(found) != 1:
            which = "has no version" if not found else "has several versions that begin with"
            raise NotFound(f"“{self.name}” {which} {version}.")
        self.gateway.delete(f"datasets/{self.id}/versions/{found[0].id}")


class Datasets:
    """One's own datasets and those that are shared with one. All methods raise Refused and
    NoAnswer."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def __iter__(self) -> Iterator[Dataset]:
        """All of them, the newest first, fetched as far as they are looked at."""
        return self._listed("datasets")

    def get(self, name: str) -> Dataset:
        """One by its name, “eeg”, one's own first, or by “alice/eeg”. Raises NotFound, also where
        the name may be several people's."""
        owner, _, called = name.rpartition("/")
        found = [each for each in self._named(called) if owner in ("", each.owner)]
        if not found:
            raise NotFound(f"There is no dataset “{name}” that you may use.")
        own = [each for each in found if each.owner == self._handle]
        if len(found) > 1 and not own:
            several = " or ".join(sorted(f"{each.owner}/{each.name}" for each in found))
            raise NotFound(f"“{name}” may be {several}: say which.")
        return (own or found)[0]

    def put(
        self,
        source: str | Path,
        name: str = "",
        *,
        reading: Told = untold,
        told: Told = untold,
    ) -> Dataset:
        """Send a file, a folder or a zip as a dataset's new version, and wait for it to be ready.

        What the newest version has already is not sent again; what broke off goes on. reading:
        told how far the files are looked at, before that is known. Raises BadUpload.
        """
        name = name or data.name_for(source)
        packed = data.packed(source, reading)
        for found in self._named(name):
            newest = found.newest
            if found.owner == self._handle and newest and newest.sha256 == packed.sha256:
                return found
        words = {"kind": "dataset", "name": name}
        upload = pieces.send(self._gateway, packed, words, told)
        made = self._gateway.post("datasets", {"upload": upload, "name": name})
        pieces.forget(self._gateway, packed, words)
        return self._ready(_dataset(self._gateway, made))

    @cached_property
    def _handle(self) -> str:
        return str(self._gateway.get("me")["handle"])

    def _ready(self, made: Dataset) -> Dataset:
        sent = {each["id"] for each in made.told["arriving"][:1]}
        pauses = itertools.chain(_LOOKS, itertools.repeat(_LOOKS[-1]))
        while True:
            waiting = [each for each in made.told["arriving"] if each["id"] in sent]
            if not waiting:
                return made
            if waiting[0]["problem"]:
                raise BadUpload(f"{waiting[0]['filename']}: {waiting[0]['problem']}")
            time.sleep(next(pauses))
            made = made.look()

    def _named(self, name: str) -> list[Dataset]:
        return list(self._listed("datasets", name))

    def _listed(self, path: str | None, name: str = "") -> Iterator[Dataset]:
        query = {"name": name} if name else None
        while path:
            told = self._gateway.get(path, query)
            yield from (_dataset(self._gateway, each) for each in told["datasets"])
            path, query = told["next"], None


def _dataset(gateway: Gateway, told: Mapping[str, Any]) -> Dataset:
    return Dataset(
        id=told["id"],
        owner=told["owner"],
        name=told["name"],
        versions=tuple(
            Version(
                id=each["id"],
                sha256=each["sha256"],
                size=each["size"],
                files=each["files"],
                created_at=datetime.fromisoformat(each["created_at"]),
            )
            for each in told["versions"]
        ),
        runs=told["runs"],
        told=told,
        gateway=gateway,
    )
