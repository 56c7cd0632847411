"""Record what really fails: run small programs and installers, keep their words for the tests.

    python tests/unit/doctor/record.py [NAME …]

needs uv on PATH and a package index. Each recording begins with how it ended, and names no path
or host of the machine that it was made on.
"""

# ruff: noqa: E501  # a table of small programs

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent / "recorded"
PROJECT = "/shared/runs/lab/demo/1/project"
ENVIRONMENT = "/shared/envs/0a1b2c"

LINES_KEPT = 40  # of an installer's words, as the node keeps them

# name: (Python, packages, shell words before the program, code.py)
PROGRAMS: dict[str, tuple[str, str, str, str]] = {
    "memory_python": ("3.11", "", "ulimit -v 300000;", "x = bytearray(10**12)"),
    "memory_numpy": ("3.11", "numpy", "", "import numpy as np\nnp.ones((50_000_000, 20_000))"),
    "memory_cpp": (
        "3.11",
        "numpy scipy",
        "",
        "import ctypes\nlib = ctypes.CDLL('libstdc++.so.6')\nlib._Znwm.argtypes=[ctypes.c_size_t]\n"
        "lib._Znwm(2**62)",
    ),
    "killed": ("3.11", "", "", "import os\nprint('reading')\nos.kill(os.getpid(), 9)"),
    "segfault": ("3.11", "", "", "import ctypes\nctypes.string_at(0)"),
    "segfault_told": (
        "3.11",
        "",
        "",
        "import ctypes, faulthandler\nfaulthandler.enable()\nctypes.string_at(0)",
    ),
    "illegal_instruction": ("3.11", "", "", "import os\nos.kill(os.getpid(), 4)"),
    "aborted": ("3.11", "", "", "import os\nos.abort()"),
    "bus_error": (
        "3.11",
        "",
        "",
        "import mmap\nf = open('data.bin', 'w+b')\nf.truncate(8192)\nm = mmap.mmap(f.fileno(), 8192)\n"
        "f.truncate(0)\nprint(m[5000])",
    ),
    "missing_cv2": ("3.11", "numpy", "", "import numpy\nimport cv2"),
    "missing_yaml": ("3.11", "numpy", "", "import yaml"),
    "missing_own": ("3.11", "", "", "from utils import load"),
    "missing_unknown": ("3.11", "", "", "from qzxfilter import load"),
    "missing_colab": ("3.11", "", "", "from google.colab import drive"),
    "missing_windows": ("3.11", "", "", "import winsound"),
    "missing_removed": ("3.12", "", "", "from distutils.util import strtobool"),
    "missing_removed_imp": ("3.12", "", "", "import imp"),
    "missing_part": ("3.11", "scipy", "", "import scipy.io.wavfiles"),
    "missing_caught": (
        "3.11",
        "",
        "",
        "import traceback\ntry:\n    import cv2\nexcept ImportError:\n    traceback.print_exc()\n"
        "print('going on without cv2')\nvalues = [1]\nvalues[3]",
    ),
    "hidden_by_file": ("3.11", "", "echo 'x = 1' > scipy.py;", "import scipy.signal"),
    "hidden_circular": (
        "3.11",
        "",
        "echo 'import code' > random.py;",
        "import random\nrandom.uniform(1, 2)",
    ),
    "hidden_standard": (
        "3.13",
        "",
        "echo 'x = 1' > random.py;",
        "import random\nrandom.uniform(1, 2)",
    ),
    "no_libgl": (
        "3.11",
        "opencv-python==4.9.0.80 numpy<2",
        "exec unshare -m sh -c 'L=/usr/lib/x86_64-linux-gnu; mkdir up work; mknod up/libGL.so.1 c 0 0;"
        """ mount -t overlay -o lowerdir=$L,upperdir=up,workdir=work none $L; exec "$@"' sh "$@";""",
        "import cv2",
    ),
    "no_library": ("3.11", "sounddevice", "", "import sounddevice"),
    "no_library_so": ("3.11", "", "", "import ctypes\nctypes.CDLL('libfftw3.so.3')"),
    "import_name": ("3.11", "scipy", "", "from scipy.integrate import simps"),
    "import_name_own": ("3.11", "", "echo 'a = 1' > filters.py;", "from filters import bandpass"),
    "module_attribute": ("3.11", "scipy", "", "import scipy.signal\nscipy.signal.hann(5)"),
    "pkg_resources": ("3.11", "heartpy setuptools", "", "import heartpy"),
    "numpy_abi": ("3.11", "pandas==2.0.3 numpy==2.0.0", "", "import pandas"),
    "numpy_array_api": ("3.11", "matplotlib==3.7.1 numpy==2.0.0", "", "import matplotlib.pyplot"),
    "numpy_removed_124": ("3.11", "numpy==1.26.4", "", "import numpy as np\nx = np.float(3)"),
    "numpy_removed_2": ("3.11", "numpy==2.0.0", "", "import numpy as np\nx = np.float_(3)"),
    "pandas_append": (
        "3.11",
        "pandas",
        "",
        "import pandas as pd\ndf = pd.DataFrame({'a': [1]})\ndf = df.append({'a': 2})",
    ),
    "pandas_key": (
        "3.11",
        "pandas",
        "",
        "import pandas as pd\ndf = pd.DataFrame({'Time ': [1]})\nprint(df['Time'])",
    ),
    "key": ("3.11", "", "", "config = {}\nprint(config['rate'])"),
    "environment_variable": ("3.11", "", "", "import os\nprint(os.environ['EEG_ROOT'])"),
    "path_windows": ("3.11", "", "", r"open(r'C:\Users\ana\dados\emg.csv')"),
    "path_pandas": (
        "3.11",
        "pandas",
        "",
        "import pandas as pd\npd.read_csv('/content/drive/MyDrive/emg.csv')",
    ),
    "path_home": ("3.11", "numpy", "", "import numpy as np\nnp.load('/home/ana/emg.npy')"),
    "path_soundfile": (
        "3.11",
        "soundfile",
        "",
        r"import soundfile as sf" "\n" r"sf.read(r'D:\audio\a.wav')",
    ),
    "path_share": ("3.11", "", "", r"open(r'\\labserver\dados\emg.csv')"),
    "path_relative": ("3.11", "", "", "open('data/EMG.csv')"),
    "path_output_folder": ("3.11", "", "", "open('output/figures/a.txt', 'w')"),
    "folder_exists": ("3.11", "", "", "import os\nos.mkdir('output')"),
    "read_only": (
        "3.11",
        "",
        """mkdir data; exec unshare -m sh -c 'mount -t tmpfs -o ro none data; exec "$@"' sh "$@";""",
        "open('data/x.txt', 'w')",
    ),
    "permission": ("3.11", "", "AS_NOBODY", "open('/usr/results.csv', 'w')"),
    "disk_full": ("3.11", "", "", "with open('/dev/full', 'w') as f:\n    f.write('x' * 10)"),
    "too_many_files": ("3.11", "", "ulimit -n 30;", "kept = [open('code.py') for _ in range(100)]"),
    "cannot_start_thread": (
        "3.11",
        "",
        "ulimit -v 200000;",
        "import threading, time\nfor _ in range(300):\n"
        "    threading.Thread(target=time.sleep, args=(3,), daemon=True).start()",
    ),
    "syntax": ("3.11", "", "", "x = (1,\nprint(x\ny = 2"),
    "syntax_print": ("3.11", "", "", "print 'hello'"),
    "syntax_notebook": ("3.11", "", "", "import os\n%matplotlib inline\nprint(1)"),
    "syntax_notebook_install": ("3.11", "", "", "!pip install numpy\nimport numpy"),
    "notebook_name": ("3.11", "", "", "get_ipython().run_line_magic('matplotlib', 'inline')"),
    "notebook_display": ("3.11", "", "", "display([1, 2])"),
    "indentation": ("3.11", "", "", "def f():\n    x = 1\n      y = 2\n"),
    "tabs": ("3.11", "", "", "def f():\n        x = 1\n\ty = 2\n"),
    "unicode": (
        "3.11",
        "",
        "printf 'm\\351dia;1\\n' > data.csv;",
        "print(open('data.csv', encoding='utf-8').read())",
    ),
    "unicode_source": ("3.11", "", "printf 'x = \"m\\351dia\"\\n' > names.py;", "import names"),
    "input": ("3.11", "", "", "n = int(input('How many channels? '))"),
    "tkinter": ("3.11", "", "unset DISPLAY;", "import tkinter\ntkinter.Tk()"),
    "matplotlib_tk": (
        "3.11",
        "matplotlib",
        "unset DISPLAY;",
        "import matplotlib\nmatplotlib.use('TkAgg')\nimport matplotlib.pyplot as plt\nplt.plot([1])",
    ),
    "qt": (
        "3.11",
        "PyQt5",
        "unset DISPLAY;",
        "from PyQt5.QtWidgets import QApplication\napp = QApplication([])",
    ),
    "imshow_headless": (
        "3.11",
        "opencv-python-headless numpy",
        "",
        "import cv2, numpy as np\ncv2.imshow('a', np.zeros((4, 4)))",
    ),
    "plt_show": (
        "3.11",
        "matplotlib",
        "export MPLBACKEND=Agg;",
        "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()",
    ),
    "network_name": (
        "3.11",
        "",
        "",
        "import urllib.request\nurllib.request.urlopen('http://data.invalid/a.csv')",
    ),
    "network_requests": (
        "3.11",
        "requests",
        "unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY;",
        "import requests\nrequests.get('http://data.invalid/a.csv')",
    ),
    "network_refused": (
        "3.11",
        "",
        "",
        "import socket\nsocket.create_connection(('127.0.0.1', 9))",
    ),
    "spawn": (
        "3.11",
        "",
        "",
        "import multiprocessing\nmp = multiprocessing.get_context('spawn')\n"
        "p = mp.Process(target=print, args=(1,))\np.start()\np.join()\nraise SystemExit(p.exitcode)",
    ),
    "spawn_twice": (
        "3.11",
        "",
        "",
        "import multiprocessing as mp\nmp.set_start_method('spawn')\n"
        "p = mp.Process(target=print, args=(1,))\np.start()\np.join()\nraise SystemExit(p.exitcode)",
    ),
    "recursion": ("3.11", "", "", "def f(n):\n    return f(n + 1)\n\nf(0)"),
    "assertion": ("3.11", "", "", "rate = 0\nassert rate > 0, 'the rate must be positive'"),
    "assertion_bare": ("3.11", "", "", "rate = 0\nassert rate > 0"),
    "exit_message": (
        "3.11",
        "",
        "",
        "import sys\nprint('start')\nsys.exit('no channel named EMG1')",
    ),
    "exit_number": ("3.11", "", "", "print('calibration failed')\nraise SystemExit(3)"),
    "argparse": (
        "3.11",
        "",
        "",
        "import argparse\np = argparse.ArgumentParser()\np.add_argument('--input', required=True)\n"
        "p.parse_args()",
    ),
    "argv": ("3.11", "", "", "import sys\nname = sys.argv[1]"),
    "value_error": (
        "3.11",
        "numpy scipy",
        "",
        "import numpy as np\nfrom scipy.signal import butter\n\n"
        "def design():\n    return butter(4, 1.5, 'low')\n\ndesign()",
    ),
    "name_error": ("3.11", "", "", "print(signal)"),
    "pickle_refused": (
        "3.11",
        "numpy",
        "",
        "import numpy as np\nnp.save('a.npy', np.array([{}]))\nnp.load('a.npy')",
    ),
    "certificate": (
        "3.11",
        "trustme",
        "",
        "import ssl, socket, threading, urllib.request, trustme\n"
        "s = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n"
        "trustme.CA().issue_cert('localhost').configure_cert(s)\n"
        "l = socket.create_server(('127.0.0.1', 0))\n"
        "def serve():\n"
        "    try:\n        s.wrap_socket(l.accept()[0], server_side=True)\n"
        "    except OSError:\n        pass\n"
        "threading.Thread(target=serve).start()\n"
        "urllib.request.build_opener(urllib.request.ProxyHandler({})).open("
        "f'https://localhost:{l.getsockname()[1]}/')",
    ),
    "gpu_cupy": ("3.11", "cupy-cuda12x numpy", "", "import cupy\ncupy.zeros(3)"),
    "gpu_numba": (
        "3.11",
        "numba numpy",
        "",
        "from numba import cuda\nimport numpy as np\ncuda.to_device(np.zeros(3))",
    ),
    "gpu_jax": ("3.11", "jax[cpu]", "", "import jax\njax.devices('gpu')"),
    "gpu_torch": (
        "3.10",
        "--no-deps torch==1.12.1 typing_extensions",
        "",
        "import torch\ntorch.zeros(3).cuda()",
    ),
    "gpu_torch_load": (
        "3.10",
        "--no-deps torch==1.12.1 typing_extensions",
        "",
        # A model saved on a GPU, made here by marking its storage as one of a GPU.
        "import io, torch\n"
        "b = io.BytesIO()\ntorch.save(torch.zeros(3), b, _use_new_zipfile_serialization=False)\n"
        "data = b.getvalue().replace(b'X\\x03\\x00\\x00\\x00cpu', b'X\\x06\\x00\\x00\\x00cuda:0')\n"
        "torch.load(io.BytesIO(data))",
    ),
}

# name: (installer, Python, requirements)
INSTALLS: dict[str, tuple[str, str, str]] = {
    f"{name}_{tool}": (tool, python, wanted)
    for name, python, wanted in [
        ("no_version", "3.11", "heartpy==9.9"),
        ("no_version_above", "3.11", "heartpy>=9"),
        ("no_package", "3.11", "nunpy-signal-tolbox"),
        ("no_package_typo", "3.11", "sikit-learn"),
        ("conflict", "3.11", "scipy==1.11.0 numpy==1.20.0"),
        ("conflict_two", "3.11", "mne==1.6.0 pooch==1.0.0"),
        ("other_python", "3.11", "tensorflow==2.3.0"),
        ("requires_newer_python", "3.10", "scipy==1.16.0"),
        ("other_platform", "3.11", "pywin32==306"),
        ("sklearn", "3.11", "sklearn"),
        ("no_header", "3.11", "PyAudio==0.2.14"),
        ("no_compiler", "3.11", "PyAudio==0.2.14"),
        ("build_broken", "3.12", "numpy==1.21.0"),
        ("unreachable", "3.11", "heartpy"),
        ("disk_full", "3.11", "heartpy"),
    ]
    for tool in ("uv", "uv05", "pip")  # UV05 names a uv of the year 2024
    if (name, tool) != ("disk_full", "pip")
}


def main(names: list[str]) -> None:
    HERE.mkdir(exist_ok=True)
    for name in names or [*PROGRAMS, *INSTALLS]:
        with tempfile.TemporaryDirectory() as scratch:
            told = (
                program(name, Path(scratch)) if name in PROGRAMS else install(name, Path(scratch))
            )
        (HERE / f"{name}.txt").write_text(told)
        print(f"== {name}: {told[-300:]}")  # noqa: T201


def environment(root: Path, python: str, packages: str) -> Path:
    made = root / "env"
    call(["uv", "venv", "-q", "--seed", "--python", python, str(made)], root)
    if packages:
        command = ["uv", "pip", "install", "-q", "--python", str(made / "bin/python")]
        call([*command, *packages.split()], root)
    return made


def program(name: str, root: Path) -> str:
    python, packages, before, code = PROGRAMS[name]
    made = environment(root, python, packages)
    project = root / "project"
    (project / "output").mkdir(parents=True)
    (project / "code.py").write_text(code + "\n")
    runner = [str(made / "bin/python"), "code.py"]
    if before == "AS_NOBODY":
        root.chmod(0o755)
        before, runner = (
            "",
            ["setpriv", "--reuid", "65534", "--clear-groups", "/usr/bin/python3", *runner[1:]],
        )
    script = f'export PYTHONUNBUFFERED=1 LANG=C.UTF-8; {before} exec "$@"'
    ended = call(["bash", "-c", script, "sh", *runner], project, check=False)
    return clean(ended, made, project)


def install(name: str, root: Path) -> str:
    tool, python, wanted = INSTALLS[name]
    made = environment(root, python, "")
    variables = {"TMPDIR": str(root), "UV_NO_PROGRESS": "1", "PIP_PROGRESS_BAR": "off"}
    if name.startswith("no_compiler"):
        variables["PATH"] = str(made / "bin")
    if name.startswith("no_compiler") or name.startswith("no_header"):
        variables["UV_NO_CACHE"] = "1"
    if name.startswith("unreachable"):
        nowhere = "https://packages.invalid/simple"
        variables |= {"UV_DEFAULT_INDEX": nowhere, "PIP_INDEX_URL": nowhere, "UV_NO_CACHE": "1"}
        variables |= {"PIP_RETRIES": "1", "PIP_NO_CACHE_DIR": "1", "UV_HTTP_RETRIES": "0"}
    if name.startswith("disk_full"):
        site = next((made / "lib").glob("python*")) / "site-packages"
        call(["mount", "-t", "tmpfs", "-o", "size=100k", "none", str(site)], root)
    if tool == "pip":
        command = [str(made / "bin/python"), "-m", "pip", "install", "--no-compile"]
    else:
        binary = shutil.which("uv") if tool == "uv" else os.environ["UV05"]
        command = [binary, "pip", "install", "--python", str(made / "bin/python")]
    try:
        ended = call([*command, *wanted.split()], root, check=False, variables=variables)
    finally:
        if name.startswith("disk_full"):
            call(["umount", str(site)], root)
    told = clean(ended, made, root / "project").splitlines()
    return "\n".join([told[0], *told[1:][-LINES_KEPT:], ""])


def call(command, folder, *, check=True, variables=None):
    return subprocess.run(
        command,
        cwd=folder,
        check=check,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **(variables or {})},
    )


def clean(ended: subprocess.CompletedProcess[bytes], made: Path, project: Path) -> str:
    how = f"signal {-ended.returncode}" if ended.returncode < 0 else f"exit {ended.returncode}"
    told = ended.stdout.decode(errors="replace")
    for path, name in ((project, PROJECT), (made, ENVIRONMENT), (made.parent, "/scratch")):
        told = told.replace(str(path), name)
    told = re.sub(r"/[^\s\"']*/lib/(python3\.\d+/(?!site-packages))", r"/usr/lib/\1", told)
    told = re.sub(r"/[\w./-]*/\.cache/uv", "/shared/cache/uv", told)
    told = re.sub(r"/[^\s'\"]*/(include/python3)", r"/usr/\1", told)
    told = re.sub(r"(?m)^Processing /\S*/", "Processing ./", told)
    told = re.sub(
        r"https?://(?!data\.invalid|packages\.invalid|localhost)\w[^\s'\")>]*",
        "https://example.org/simple",
        told,
    )
    told = re.sub(
        r"(?m)^(Looking in (indexes|links)|WARNING: (The directory|Location )|\[notice\]).*\n",
        "",
        told,
    )
    return f"{how}\n{told[-16_000:]}"


if __name__ == "__main__":
    main(sys.argv[1:])
