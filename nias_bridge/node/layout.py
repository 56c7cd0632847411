"""The names of files and folders on shared storage: the node writes, the gateway reads."""

from __future__ import annotations

from collections.abc import Iterator

# <shared>/
BIN = "bin"
NODE_PROGRAM = "nias-node.py"
NODE_MODULES = "nias-node-{}.zip"  # by the hash of what is in it
UV = "uv"
SITE = "site.json"
SITE_FOR_ALL = "site-for-all.json"  # what of it every account may read, for jobs by plain sbatch
LOGIN_SCRIPT = "nias.sbatch"  # what people on a login node give to sbatch
ENVIRONMENTS = "envs"
CACHE = "cache"
PRIVATE = "private"  # within envs and cache: an owner's folder, for what is built from source
UPLOADS = "uploads"
RUNS = "runs"
DATASETS = "datasets"
EXAMINED = "doctor"  # what an examination leaves there, for as long as it takes
SBATCH = "sbatch"  # runs by plain sbatch, and their working directory as Slurm records it

# <shared>/datasets/content/<hash>/
CONTENT = "content"
CONTENT_FILES = "files"  # what a run sees
CONTENT_SUMS = "SHA256SUMS"  # whose own SHA-256 is the hash

# <shared>/datasets/of/
CATALOGUES = "of"
CATALOGUE = "{}.json"  # what an account's words for datasets may mean, for jobs by plain sbatch

# <shared>/sbatch/<account>/<job id>/, which has what a run's folder has, and
SUBMISSION = "submission.json"  # what was given to sbatch
BY_SBATCH = "sbatch"  # stands for the token: nobody else can write there

# <shared>/runs/<owner>/<slug>/<number>/
ARCHIVE = "project.zip"
MENDED_REQUIREMENTS = "requirements.txt"  # stands in for the project's own, where it is there
EXACT_LOCK = "exactly.lock"  # what an earlier run had installed, where this one is to have the same
SCRIPT = "job.sbatch"
PROJECT = "project"
OUTPUT = "output"
LOCK = "requirements.lock"  # also within each environment
LOG = "slurm.out"
PROGRESS = "progress.json"
EXIT = "exit.json"
MANIFEST = "manifest.json"
RESULTS = "results.zip"
PREVIEWS = "previews"
PREVIEW_INDEX = "index.json"  # within it
CLAIMS = "claims"
CLAIMED_BY = "job"  # within a claim: the job, its node and when
ALIVE = "alive"  # … and when the job last said that it is at work
SEEN = "datasets.json"  # which contents the run is to see, by their names
SWEEP = "sweep.json"  # of a sweep, the parameters of each task
TASK_FOLDER = "tasks/{}"  # has what a single run has in its own folder, but for zip and log
TASK_LOG = "tasks-%a.out"

# In output/ these only keep an empty folder in version control: they are no results.
NO_RESULTS = frozenset([".gitkeep", ".keep"])

# The exit code of a job that found the run's token claimed: it says nothing of the run itself.
ALREADY_RUN = 75


def numbered(name: str) -> Iterator[str]:
    """The names that a folder for `name` may have, where those before are another's."""
    yield name
    for number in range(2, 100):
        yield f"{name}.{number}"
