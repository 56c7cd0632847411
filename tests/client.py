"""What a researcher's browser would do, over the API: used by the tests on a real Slurm."""

from __future__ import annotations

import io
import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

LOOK_SECONDS = 0.1
SECONDS = 120.0  # until what is to come is there, on the busiest of machines


def zipped(name: str, files: Mapping[str, str | bytes]) -> bytes:
    """A project's zip with these files in its one folder."""
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as packed:
        for path, content in files.items():
            packed.writestr(f"{name}/{path}", content)
    return body.getvalue()


class Client:
    """One gateway by its address, and somebody's token there."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.known = {"Authorization": f"Bearer {token}"}

    def get(self, path: str, headers: Mapping[str, str] = {}) -> bytes:
        request = urllib.request.Request(f"{self.url}{path}", headers={**self.known, **headers})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bytes(answer.read())

    def post(
        self, path: str, body: bytes = b"", *, kind: str = "application/zip"
    ) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self.url}{path}",
            data=body,
            headers={**self.known, "Content-Type": kind},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return dict(json.load(answer))

    def upload(
        self, code: str, *, name: str = "", more: Mapping[str, str | bytes] = {}, **query: str
    ) -> dict[str, Any]:
        """Send a project of one code.py (and more files); returns the run."""
        name = name or f"test-{uuid.uuid4().hex[:10]}"
        words = urllib.parse.urlencode({"filename": f"{name}.zip", **query})
        return self.post(f"/api/v1/runs?{words}", zipped(name, {"code.py": code, **more}))

    def run(self, run_id: int) -> dict[str, Any]:
        return dict(json.loads(self.get(f"/api/v1/runs/{run_id}")))

    def run_of_job(self, job_id: int) -> dict[str, Any]:
        """The run of a job, by its place among the newest on the Results page."""
        runs = json.loads(self.get("/api/v1/runs?per_page=100"))["runs"]
        found = [run for run in runs if run["job_id"] == job_id]
        assert found, f"job {job_id} is not on the page"
        return dict(found[0])

    def cancel(self, run_id: int) -> dict[str, Any]:
        return self.post(f"/api/v1/runs/{run_id}/cancel")

    def log(self, run_id: int) -> str:
        return str(json.loads(self.get(f"/api/v1/runs/{run_id}/log?offset=0"))["text"])

    def results(self, run_id: int) -> dict[str, bytes]:
        """The files of results.zip by their names."""
        with zipfile.ZipFile(io.BytesIO(self.get(f"/api/v1/runs/{run_id}/results.zip"))) as packed:
            return {name: packed.read(name) for name in packed.namelist()}

    def wait(
        self, run_id: int, until: Callable[[dict[str, Any]], bool], *, seconds: float = SECONDS
    ) -> dict[str, Any]:
        """Poll a run until it is as wanted; fails with the run as it was last."""
        deadline = time.monotonic() + seconds
        while True:
            run = self.run(run_id)
            if until(run):
                return run
            assert time.monotonic() < deadline, f"not so after {seconds} s: {run}"
            time.sleep(LOOK_SECONDS)

    def ended(self, run_id: int, *, seconds: float = SECONDS) -> dict[str, Any]:
        return self.wait(run_id, lambda run: run["ended"], seconds=seconds)
