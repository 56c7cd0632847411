"""The gateway over HTTP: questions, uploads and downloads that hold no file in memory."""

from __future__ import annotations

import json
import ssl
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import certifi
import httpx

from nias_bridge.client.login import Login
from nias_bridge.errors import NiasError

API = "/api/v1"
CHUNK = 1024 * 1024
# The gateway hashes an upload before it answers, which takes seconds for gigabytes.
_UPLOAD_ANSWER_SECONDS = 900
_ANSWER_SECONDS = 60
_PAUSES = (0.1, 0.25, 0.5, 1, 2, 4)  # seconds before the next try, by those in vain so far
_PROBLEM = "urn:nias-bridge:"

# Told how far something is: bytes done, and bytes in all or None.
Told = Callable[[int, int | None], None]
Query = Mapping[str, str | int | bool | None]  # None is left out


class Refused(NiasError):
    """The gateway said no: `kind` is its word for why (“bad-upload”), `problem` all it said."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.problem = dict(problem)
        self.kind = str(problem.get("type", "")).removeprefix(_PROBLEM)
        super().__init__(str(problem["detail"]))


class NoAnswer(NiasError):
    """The gateway can't be reached, or what answered is none. It may know of the request."""


def untold(_done: int, _whole: int | None) -> None:
    """Tell nobody."""


@dataclass
class _Coming:
    """A download under way; tag: the ETag of what is in `out` so far, "" where there is none."""

    out: BinaryIO
    told: Told
    tag: str = ""


class Gateway:
    """One gateway and somebody's token there; may be used by many threads.

    All methods raise Refused and NoAnswer. A path is one under /api/v1, or a link of the gateway's.
    """

    def __init__(self, login: Login) -> None:
        self.url = login.url
        self._http = httpx.Client(
            headers={
                "Authorization": f"Bearer {login.token}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",  # a part of a file is asked for by its own bytes
            },
            timeout=httpx.Timeout(_ANSWER_SECONDS, connect=20),
            verify=_trusted() if login.url.startswith("https:") else True,
        )

        weakref.finalize(self, self._http.close)

    def close(self) -> None:
        """Close its connections; else that is done once nobody holds it any more."""
        self._http.close()

    def get(self, path: str, query: Query | None = None) -> dict[str, Any]:
        """What a question is answered with."""
        return self._asked("GET", path, query)

    def post(self, path: str, query: Query | None = None) -> dict[str, Any]:
        """Ask for something to be done."""
        return self._asked("POST", path, query)

    def put(self, path: str, content: object) -> dict[str, Any]:
        """Say how something is to be from now on."""
        return self._asked("PUT", path, json=content)

    def delete(self, path: str) -> None:
        """Have something deleted."""
        with self._answered("DELETE", path):
            pass

    def headers(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Iterator[bytes] | None = None,
    ) -> Mapping[str, str]:
        """What a request that is all headers, and perhaps a body, is answered with."""
        with self._answered(method, path, headers=dict(headers), content=body) as answer:
            return answer.headers

    def send(
        self, path: str, file: Path, query: Query | None = None, told: Told = untold
    ) -> dict[str, Any]:
        """Upload a file as the body, a megabyte at a time."""
        size = file.stat().st_size
        with file.open("rb") as opened:
            return self._asked(
                "POST",
                path,
                query,
                content=_pieces(opened, size, told),
                headers={"Content-Length": str(size), "Content-Type": "application/zip"},
                timeout=httpx.Timeout(_UPLOAD_ANSWER_SECONDS, connect=20),
            )

    def read(self, path: str) -> bytes:
        """A file, whole."""
        with self._answered("GET", path) as answer:
            return answer.read()

    def fetch(self, path: str, target: Path, told: Told = untold) -> None:
        """A file, written to `target` once all of it is there.

        What breaks off goes on where it was, unless the file became another one meanwhile.
        """
        part = target.with_name(f"{target.name}.part")
        tries, done = 0, 0
        try:
            with part.open("wb") as out:
                coming = _Coming(out, told)
                while True:
                    try:
                        self._fetch_rest(path, coming)
                        break
                    except NoAnswer:
                        tries = 0 if out.tell() > done else tries + 1
                        done = out.tell()
                        if tries == len(_PAUSES):
                            raise
                        time.sleep(_PAUSES[tries])
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def _fetch_rest(self, path: str, coming: _Coming) -> None:
        out, headers = coming.out, {}
        if coming.tag:
            headers = {"Range": f"bytes={out.tell()}-", "If-Range": coming.tag}
        with self._answered("GET", path, headers=headers) as answer:
            coming.tag = answer.headers.get("ETag", "")
            if answer.status_code != httpx.codes.PARTIAL_CONTENT:
                out.seek(0)
                out.truncate()
            length = answer.headers.get("Content-Length")
            whole = out.tell() + int(length) if length else None
            for piece in answer.iter_raw():
                out.write(piece)
                coming.told(out.tell(), whole)

    def _asked(
        self, method: str, path: str, query: Query | None = None, **more: Any
    ) -> dict[str, Any]:
        params = {name: value for name, value in (query or {}).items() if value is not None}
        with self._answered(method, path, params=params, **more) as answer:
            body = answer.read()
        try:
            found = json.loads(body)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise NoAnswer(f"{self.url} answers, but not as a gateway of NIAS bridge does.")
        return found

    @contextmanager
    def _answered(self, method: str, path: str, **more: Any) -> Iterator[httpx.Response]:
        if not path.startswith("/"):
            path = f"{API}/{path}"
        try:
            with self._http.stream(method, f"{self.url}{path}", **more) as answer:
                self._check(answer)
                yield answer
        except httpx.RequestError as error:
            why = str(error) or type(error).__name__
            raise NoAnswer(
                f"{self.url} can’t be reached ({why}). Is the address right, and the network up?"
            ) from None

    def _check(self, answer: httpx.Response) -> None:
        if answer.is_success:
            return
        if answer.is_redirect:
            # Following would send the token along, and turn an upload into a question.
            there = answer.headers.get("Location", "")
            raise NoAnswer(f"{self.url} sends on to {there}. Log in with that address.")
        if answer.request.method == "HEAD" and _is_problem(answer):  # which has no body
            raise Refused(answer.status_code, {"detail": f"{answer.reason_phrase.capitalize()}."})
        try:
            problem = json.loads(answer.read())
            problem["detail"]
        except (ValueError, KeyError, TypeError):
            raise NoAnswer(
                f"{self.url} answers {answer.status_code} {answer.reason_phrase}, and not as a "
                "gateway of NIAS bridge does."
            ) from None
        raise Refused(answer.status_code, problem)


def _is_problem(answer: httpx.Response) -> bool:
    kind: str = answer.headers.get("Content-Type", "")
    return kind.startswith("application/problem+json")


def _trusted() -> ssl.SSLContext:
    # A lab's own authority is known to the system; some systems' Pythons know of none at all.
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def _pieces(file: BinaryIO, size: int, told: Told) -> Iterator[bytes]:
    while piece := file.read(CHUNK):
        yield piece
        told(file.tell(), size)
