"""The door for programs and notebooks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from nias_bridge.client.datasets import Datasets
from nias_bridge.client.gateway import Gateway, Query, Told, untold
from nias_bridge.client.login import known
from nias_bridge.client.runs import Run, run_of
from nias_bridge.errors import NotFound
from nias_bridge.project.packing import Sweep, packed

_PER_PAGE = 100


class Client:
    """A gateway, and somebody's runs there. All methods raise Refused and NoAnswer.

    Without address and token: as NIAS_URL and NIAS_TOKEN say, else as “nias login” kept them.
    Raises NotLoggedIn where neither is there.
    """

    def __init__(self, url: str | None = None, token: str | None = None) -> None:
        self.gateway = Gateway(known(url, token))
        self.datasets = Datasets(self.gateway)

    def submit(
        self,
        project: str | Path,
        *,
        sweep: Sweep | None = None,
        again: bool = False,
        mend: bool = False,
        add: bool = False,
        time: str | None = None,
        memory: str | None = None,
        cpus: int | None = None,
        gpus: int | None = None,
        partition: str | None = None,
        datasets: Sequence[str] | None = None,
        told: Told = untold,
    ) -> Run:
        """Send a project, its folder or its zip, and have it run.

        sweep: values by parameter, of which each combination is a task; again: as a new run of a
        project that is there already; mend: with lines of requirements.txt mended where that is
        certain; add: with the packages that the code imports and requirements.txt lacks. time and
        memory as Slurm writes them (“02:00:00”, “8G”), cpus and gpus are counts; datasets: those
        that it is to see at $NIAS_DATA, in place of what nias.toml names. Raises BadUpload for what
        is no project.
        """
        with packed(project, sweep) as file:
            query = {
                "filename": file.name,
                "again": again or None,
                "mend": mend or None,
                "add": add or None,
                "time": time,
                "memory": memory,
                "cpus": cpus,
                "gpus": gpus,
                "partition": partition,
                "datasets": None if datasets is None else ",".join(datasets),
            }
            return run_of(self.gateway, self.gateway.send("runs", file, query, told))

    def run(self, which: int | str) -> Run:
        """A run by its id (12), a project's newest (“psd-study”), or its run 3 (“psd-study/3”).

        Raises NotFound where a project is not there, or has no such run.
        """
        if isinstance(which, int) or which.isdecimal():
            return run_of(self.gateway, self.gateway.get(f"runs/{which}"))
        project, _, number = which.partition("/")
        for run in self.runs(project):
            if run.project == project and number in ("", str(run.number)):
                return run.look()
        wanted = f"run {number} of a project “{project}”" if number else f"project “{project}”"
        raise NotFound(f"You have no {wanted}.")

    def runs(self, text: str = "", *, states: str = "") -> Iterator[Run]:
        """One's own runs, newest first, fetched as far as they are looked at.

        text: part of the project's name; states: Slurm's words, as in “RUNNING,PENDING”.
        """
        page = pages = 1
        while page <= pages:
            query: Query = {"q": text, "state": states, "page": page, "per_page": _PER_PAGE}
            told = self.gateway.get("runs", query)
            yield from (run_of(self.gateway, each) for each in told["runs"])
            page, pages = page + 1, told["pages"]
