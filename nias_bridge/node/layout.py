"""The names of files and folders on shared storage: the node writes, the gateway reads."""

# <shared>/
BIN = "bin"
NODE_PROGRAM = "nias-node.py"
NODE_MODULES = "nias-node-{}.zip"  # by the hash of what is in it
UV = "uv"
SITE = "site.json"
ENVIRONMENTS = "envs"
CACHE = "cache"
PRIVATE = "private"  # within envs and cache: an owner's folder, for what is built from source
UPLOADS = "uploads"
RUNS = "runs"

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
SWEEP = "sweep.json"  # of a sweep, the parameters of each task
TASK_FOLDER = "tasks/{}"  # has what a single run has in its own folder, but for zip and log
TASK_LOG = "tasks-%a.out"

# In output/ these only keep an empty folder in version control: they are no results.
NO_RESULTS = frozenset([".gitkeep", ".keep"])

# The exit code of a job that found the run's token claimed: it says nothing of the run itself.
ALREADY_RUN = 75
