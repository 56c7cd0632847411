"""Where things are on shared storage, as the bridge and as the cluster sees them: names alone."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import PurePosixPath

from nias_bridge.domain import Run
from nias_bridge.node import layout


@dataclass(frozen=True)
class SharedPaths:
    """Shared storage under `root` as the bridge sees it, and `on_cluster` as the nodes do."""

    root: PurePosixPath
    on_cluster: PurePosixPath

    @property
    def bin(self) -> PurePosixPath:
        return self.root / layout.BIN

    @property
    def uploads(self) -> PurePosixPath:
        return self.root / layout.UPLOADS

    @property
    def uploads_on_cluster(self) -> PurePosixPath:
        return self.on_cluster / layout.UPLOADS

    @property
    def environments(self) -> PurePosixPath:
        return self.root / layout.ENVIRONMENTS

    def own_environments(self, owner: str) -> PurePosixPath:
        """Where this owner's own environments are."""
        return self.root / layout.ENVIRONMENTS / layout.PRIVATE / owner

    def own_cache(self, owner: str) -> PurePosixPath:
        """Where the caches of this owner's own environments are."""
        return self.root / layout.CACHE / layout.PRIVATE / owner

    @property
    def dataset_contents(self) -> PurePosixPath:
        """Where the contents of datasets are, by their hashes."""
        return self.root / layout.DATASETS / layout.CONTENT

    @property
    def catalogues(self) -> PurePosixPath:
        """Where it is kept what each account's words for datasets may mean."""
        return self.root / layout.DATASETS / layout.CATALOGUES

    @property
    def node_program_on_cluster(self) -> PurePosixPath:
        return self.on_cluster / layout.BIN / layout.NODE_PROGRAM

    @property
    def login_script_on_cluster(self) -> PurePosixPath:
        return self.on_cluster / layout.BIN / layout.LOGIN_SCRIPT

    @property
    def sbatch(self) -> PurePosixPath:
        """Where the runs by plain sbatch are, in a folder of each account."""
        return self.root / layout.SBATCH

    @property
    def sbatch_on_cluster(self) -> PurePosixPath:
        return self.on_cluster / layout.SBATCH

    def run(self, run: Run) -> RunPaths:
        if run.native and run.native.folder:
            return self._below((layout.SBATCH, run.native.folder), layout.BY_SBATCH)
        return self._below((layout.RUNS, run.owner, run.slug, str(run.number)), run.token)

    def _below(self, folder: tuple[str, ...], token: str) -> RunPaths:
        return _run_paths(self.root, self.on_cluster, folder, token)


@dataclass(frozen=True)
class RunPaths:
    """The files of one run; `folder_on_cluster` is the same folder as the nodes see it.

    `log_name` is where its log is, from its folder.
    """

    folder: PurePosixPath
    folder_on_cluster: PurePosixPath
    token: str
    log_name: str = layout.LOG

    def task(self, index: int) -> RunPaths:
        """The files of one task of a sweep: a folder within the run's, but for its log."""
        inner = layout.TASK_FOLDER.format(index)
        log = layout.TASK_LOG.replace("%a", str(index))
        return replace(
            self,
            folder=self.folder / inner,
            folder_on_cluster=self.folder_on_cluster / inner,
            log_name=f"../../{log}",
        )

    @property
    def sweep(self) -> PurePosixPath:
        """The parameters of each task."""
        return self.folder / layout.SWEEP

    @property
    def seen(self) -> PurePosixPath:
        """Which contents of datasets it is to see."""
        return self.folder / layout.SEEN

    @property
    def task_logs_on_cluster(self) -> PurePosixPath:
        """Where Slurm writes the tasks' logs; it puts the index in the place of %a."""
        return self.folder_on_cluster / layout.TASK_LOG

    @property
    def archive(self) -> PurePosixPath:
        return self.folder / layout.ARCHIVE

    @property
    def mended_requirements(self) -> PurePosixPath:
        return self.folder / layout.MENDED_REQUIREMENTS

    @property
    def exact_lock(self) -> PurePosixPath:
        return self.folder / layout.EXACT_LOCK

    @property
    def script(self) -> PurePosixPath:
        return self.folder / layout.SCRIPT

    @property
    def script_on_cluster(self) -> PurePosixPath:
        return self.folder_on_cluster / layout.SCRIPT

    @property
    def log(self) -> PurePosixPath:
        # As it is written, whatever links there are.
        return self.folder / posixpath.normpath(self.folder / self.log_name)

    @property
    def log_on_cluster(self) -> PurePosixPath:
        return self.folder_on_cluster / self.log_name

    @property
    def project(self) -> PurePosixPath:
        return self.folder / layout.PROJECT

    @property
    def output(self) -> PurePosixPath:
        return self.project / layout.OUTPUT

    @cached_property
    def progress(self) -> PurePosixPath:
        return self.folder / layout.PROGRESS

    @cached_property
    def exit(self) -> PurePosixPath:
        return self.folder / layout.EXIT

    @property
    def manifest(self) -> PurePosixPath:
        return self.folder / layout.MANIFEST

    @cached_property
    def results(self) -> PurePosixPath:
        return self.folder / layout.RESULTS

    @property
    def previews(self) -> PurePosixPath:
        return self.folder / layout.PREVIEWS

    @property
    def claim(self) -> PurePosixPath:
        """The folder that the one job which may run this makes first; its file `job` has the id."""
        return self.folder / layout.CLAIMS / self.token


# Each request for a run asks for its own. Typed: a Path is equal to its PurePath.
@lru_cache(maxsize=1000, typed=True)
def _run_paths(
    root: PurePosixPath, on_cluster: PurePosixPath, folder: tuple[str, ...], token: str
) -> RunPaths:
    inner = PurePosixPath(*folder)
    return RunPaths(root / inner, on_cluster / inner, token)
