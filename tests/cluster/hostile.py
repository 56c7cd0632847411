# ruff: noqa: PTH101, PTH103, PTH104, PTH110, PTH112, PTH115, PTH118, PTH123, PTH207, PTH208, PLW1510, T201
"""A code.py that tries to get out: each way in turn, and a report of what it got by each."""

import contextlib
import ctypes
import glob
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

KNOWN = json.loads(Path("known.json").read_text())
RUN = Path.cwd().parent


def read_another_runs_zip():
    return Path(KNOWN["victim"], "project.zip").read_bytes()[:2]


def list_shared_storage():
    """Its own way down, and nothing beside it."""
    return set(os.listdir(KNOWN["shared"])) - {"envs", "runs"}


def list_whose_runs_there_are():
    return set(os.listdir(RUN.parents[2])) - {RUN.parts[-3]}


def list_further_runs_of_its_owner():
    return set(os.listdir(RUN.parents[1])) - {RUN.parts[-2]}


def list_its_own_runs_folder():
    return set(os.listdir(RUN)) - {"project"}


def read_the_settings():
    return Path(KNOWN["settings"]).read_text()[:9]


def read_the_database():
    return Path(KNOWN["database"]).read_bytes()[:6]


def read_a_file_in_the_nodes_tmp():
    return Path(KNOWN["in_tmp"]).read_text()


def read_slurms_configuration():
    return Path(KNOWN["slurm_conf"]).read_text()[:9]


def list_slurmds_spool():
    return os.listdir(KNOWN["spool"])


def speak_to_munge():
    with socket.socket(socket.AF_UNIX) as munge:
        munge.connect(KNOWN["munge"])
    return "connected"


def ask_slurm():
    return slurm("squeue", "--noheader")


def ask_the_accounting():
    return slurm("sacct", "--noheader", "-X")


def submit_a_job():
    return slurm("sbatch", "--hold", "--job-name=stolen", "--wrap=true")


def submit_a_job_without_munge():
    return slurm("sbatch", "--hold", "--job-name=stolen", "--wrap=true", auth="auth/none")


def cancel_another_job():
    return slurm("scancel", "--verbose", KNOWN["held_job"])


def cancel_another_job_without_munge():
    return slurm("scancel", "--verbose", KNOWN["held_job"], auth="auth/none")


def slurm(command, *words, auth="auth/munge"):
    """What Slurm answers, by the command's whole path and a configuration that it wrote itself."""
    conf = Path("own.conf")
    told = KNOWN["slurm_conf_text"].replace("auth/munge", auth)
    conf.write_text(told)
    done = subprocess.run(
        [f"/usr/bin/{command}", *words],
        env={"SLURM_CONF": str(conf.absolute()), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    if done.returncode or "error" in done.stderr:
        raise OSError(done.stderr)
    return done.stdout or "it was done"


def see_other_processes():
    ours = {1, os.getpid(), os.getppid()}
    return [p for p in glob.glob("/proc/[0-9]*") if int(p.rpartition("/")[2]) not in ours]


def read_the_supervisors_variables():
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"nias-node.py" in (process / "cmdline").read_bytes():
                return (process / "environ").read_bytes()[:20]
    return None


def trace_the_supervisor():
    """By the number that it has on the node."""
    libc = ctypes.CDLL(None, use_errno=True)
    for number in KNOWN["processes"]:
        if libc.ptrace(16, number, 0, 0) == 0:
            return number
    return None


def find_secrets_in_its_variables():
    known = {"CUDA_VISIBLE_DEVICES", "HOME", "LANG", "LOGNAME", "MPLBACKEND", "NIAS_OUTPUT",
             "NIAS_RUN", "PATH", "PWD", "PYTHONHASHSEED", "PYTHONUNBUFFERED", "SLURM_CPUS_ON_NODE",
             "SLURM_JOB_ID", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV", "LC_CTYPE", "MKL_NUM_THREADS",
             "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"}  # fmt: skip
    return set(os.environ) - known


def find_inherited_files():
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            with contextlib.suppress(OSError):
                return os.readlink(f"/proc/self/fd/{name}").replace(f"/proc/{os.getpid()}/fd", "")
    return None


def write_into_the_environment():
    folder = Path(sys.prefix)
    os.chmod(folder, 0o755)
    (folder / "planted.py").touch()
    return "written"


def write_into_the_cache_of_packages():
    place = Path(KNOWN["shared"], "cache", "uv")
    place.mkdir(parents=True, exist_ok=True)
    (place / "planted").touch()
    return "written"


def replace_the_node_program():
    Path(KNOWN["shared"], "bin", "planted").touch()
    return "written"


def write_its_own_end():
    (RUN / "exit.json").write_text("{}")
    return "written"


def claim_another_token():
    os.makedirs(RUN / "claims" / "stolen")
    return "made"


def put_results_in_place():
    (RUN / "results.zip").write_bytes(b"mine")
    return "written"


def change_the_job_script():
    with (RUN / "job.sbatch").open("a") as script:
        script.write("\n")
    return "written"


def rename_the_log():
    os.rename(RUN / "slurm.out", RUN / "other.out")
    return "renamed"


def swap_its_own_folder():
    os.rename(RUN / "project", RUN / "moved")
    return "renamed"


def link_to_another_runs_files():
    os.link(Path(KNOWN["victim"], "project.zip"), "output/theirs.zip")
    return "linked"


def see_homes():
    return [h for h in ["/root", *glob.glob("/home/*")] if h != "/home/me" and os.path.isdir(h)]


def read_the_shadow_file():
    return Path("/etc/shadow").read_text()[:9]


def become_root():
    for command in (["sudo", "-n", "id", "-u"], ["su", "-c", "id -u"]):
        with contextlib.suppress(OSError):
            done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL)
            if done.stdout.strip() == b"0":
                return "root"
    return None


def take_the_walls_down_as_root_of_a_namespace():
    script = f"umount -l {KNOWN['shared']} /tmp; cat {KNOWN['victim']}/project.zip | head -c 2"
    done = subprocess.run(["unshare", "-Urm", "sh", "-c", script], capture_output=True)
    return done.stdout


def look_through_the_first_process():
    for way in ("root", "cwd"):
        found = os.path.join("/proc/1", way, KNOWN["victim"][1:], "project.zip")
        if os.path.exists(found):
            return found
    return None


def push_keys_into_a_terminal():
    with open("/dev/tty") as terminal:
        return terminal.name


def write_to_the_system():
    for place in ("/usr/local/bin/planted", "/etc/planted", "/var/planted", "/planted"):
        with contextlib.suppress(OSError):
            Path(place).touch()
            return place
    return None


WAYS = [
    thing
    for name, thing in list(globals().items())
    if callable(thing) and thing.__module__ == "__main__"
    and name != "slurm"
]  # fmt: skip


def report():
    got = {}
    for way in WAYS:
        if way.__name__ in (KNOWN["ways"] or way.__name__):
            try:
                got[way.__name__] = repr(way() or "")
            except Exception as error:
                got[way.__name__] = repr("")
                print(way.__name__, type(error).__name__, str(error)[:300].replace("\n", " "))
    return got


def leave_a_daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execv(sys.executable, [sys.executable, "-c", KNOWN["daemon"]])
        os._exit(0)
    while "daemon lives" not in Path("/proc/self/fd/1").read_text():
        time.sleep(0.02)


def kill_all_that_it_knows():
    for number in (*KNOWN["processes"], 1, os.getppid()):
        with contextlib.suppress(OSError):
            os.kill(number, signal.SIGKILL)


if __name__ == "__main__":
    Path("output/report.json").write_text(json.dumps(report()))
    if not KNOWN["ways"]:
        leave_a_daemon()
        kill_all_that_it_knows()
    print("it lives")
