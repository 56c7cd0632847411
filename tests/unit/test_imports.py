from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nias_bridge.node import imports, modules
from nias_bridge.node.imports import ForeignPath, Missing

PYTHON = (3, 11)


def named(code: str, *requirements: str, **others: str) -> list[tuple[str, str]]:
    sources = {"code.py": code, **{f"{k}.py": v for k, v in others.items()}}
    return [
        (m.module, m.package) for m in imports.missing(imports.read(sources), requirements, PYTHON)
    ]


@pytest.mark.parametrize(
    ("code", "module", "package"),
    [
        ("import cv2", "cv2", "opencv-python-headless"),
        ("from sklearn.svm import SVC", "sklearn", "scikit-learn"),
        ("from PIL import Image", "PIL", "pillow"),
        ("import pywt", "pywt", "pywavelets"),
        ("import yaml", "yaml", "pyyaml"),
        ("import pkg_resources", "pkg_resources", "setuptools<82"),
        ("import numpy.fft as fft", "numpy", "numpy"),
        ("from google.protobuf import json_format", "google.protobuf", "protobuf"),
        ("from google import protobuf", "google.protobuf", "protobuf"),
        ("from google.colab import drive", "google.colab", ""),
        ("import mpl_toolkits.mplot3d", "mpl_toolkits", "matplotlib"),
        ("def late():\n    import mne", "mne", "mne"),
        ("try:\n    import mne\nfinally:\n    pass", "mne", "mne"),
        ("import mystery_filter", "mystery_filter", ""),
    ],
)
def test_a_module_that_nothing_provides_is_named_with_its_package(code, module, package):
    assert named(code) == [(module, package)]


def test_the_first_place_is_named_and_a_module_only_once():
    sources = {
        "code.py": "import lib.load\n\nimport wfdb",
        "lib/load.py": "import mne\nimport wfdb",
    }
    assert imports.missing(imports.read(sources), (), PYTHON) == [
        Missing("wfdb", "wfdb", "code.py", 3),
        Missing("mne", "mne", "lib/load.py", 1),
    ]


@pytest.mark.parametrize(
    "code",
    [
        "import os, sys, zoneinfo, tomllib, winreg\nfrom concurrent import futures",
        "import distutils.util, imp, audioop",
        "from . import filters\nfrom .filters import band",
        "import filters",
        "try:\n    import cv2\nexcept ImportError:\n    import PIL",
        "try:\n    import cv2\nexcept (OSError, ModuleNotFoundError):\n    cv2 = None",
        "try:\n    import cv2\nexcept:\n    cv2 = None",
        "from contextlib import suppress\nwith suppress(ImportError):\n    import cv2",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas",
        "import typing\nif typing.TYPE_CHECKING:\n    import pandas",
        "import sys\nif sys.platform == 'win32':\n    import pythoncom",
        "import os\nif os.name == 'nt':\n    import pythoncom",
        "import sys\nif sys.version_info >= (3, 11):\n    import tomllib\nelse:\n    import tomli",
        "import sys\nif 'google.colab' in sys.modules:\n    from google.colab import drive",
        "IN_COLAB = False\nif IN_COLAB:\n    from google.colab import drive",
        "x = (",
        "import nul\x00l",
    ],
)
def test_what_is_there_or_may_do_without_is_not_named(code):
    assert named(code, filters="band = 1") == []


@pytest.mark.parametrize(
    ("requirement", "code"),
    [
        ("opencv-python==4.9.0.80", "import cv2, numpy"),
        ("opencv-contrib-python", "import cv2"),
        ("Scikit_Learn>=1.2", "import sklearn, joblib, numpy, scipy"),
        ("pandas[excel]", "import pandas, numpy, dateutil, pytz"),
        ("matplotlib", "import PIL, numpy, dateutil, mpl_toolkits.mplot3d, pylab"),
        ("seaborn", "import matplotlib.pyplot, pandas, PIL"),
        ("librosa", "import soundfile, numba, joblib, sklearn, requests"),
        ("mne; python_version > '3'", "import mne, tqdm, matplotlib"),
        ("torch", "import torch, numpy, sympy"),
        ("ruamel.yaml", "import ruamel.yaml"),
        ("scikits.samplerate", "from scikits.samplerate import resample"),
        ("zope.interface", "import zope.interface"),
        ("google-cloud-vision", "from google.cloud import vision"),
        ("tensorflow-gpu", "import tensorflow as tf"),
        ("python-mystery", "import mystery"),
        ("pymystery", "import mystery"),
        ("PyYAML", "import yaml"),
        ("setuptools", "import pkg_resources"),
    ],
)
def test_what_a_requirement_provides_or_brings_is_not_named(requirement, code):
    assert named(code, requirement) == []


def test_a_package_that_we_do_not_know_may_bring_what_many_packages_bring():
    assert named("import numpy, requests, mystery, cv2", "labtools") == [
        ("cv2", "opencv-python-headless")
    ]


def test_modules_that_a_newer_python_lost_are_named_for_it():
    code = {"code.py": "import distutils.util, imp, tomllib"}
    program = imports.read(code)
    on = {
        v: [m.module for m in imports.missing(program, (), v)] for v in ((3, 10), (3, 11), (3, 12))
    }
    assert on == {(3, 10): ["tomllib"], (3, 11): [], (3, 12): ["distutils", "imp"]}


def test_only_files_that_the_program_leads_to_are_read():
    sources = {
        "code.py": "import subprocess, sys\nimport a\nsubprocess.run([sys.executable, 'step.py'])",
        "src/a/__init__.py": "from .b import x",
        "src/a/b.py": "import mne",
        "step.py": "import wfdb",
        "old/unused.py": "import cv2",
    }
    assert {m.module for m in imports.missing(imports.read(sources), (), PYTHON)} == {"mne", "wfdb"}
    assert {m.module for m in imports.missing(imports.read(sources, "run.py"), (), PYTHON)} == {
        "mne",
        "wfdb",
        "cv2",
    }


@pytest.mark.parametrize(
    "path",
    [
        r"C:\Users\ana\emg.csv",
        "D:/dados/emg.csv",
        "/home/ana/emg.csv",
        "/Users/ana/emg.csv",
        "/content/drive/MyDrive/emg.csv",
        "/kaggle/input/eeg/a.csv",
        r"\\labserver\dados\emg.csv",
        "/mnt/c/Users/ana",
    ],
)
def test_a_path_of_the_researchers_own_machine_is_named(path):
    code = f"import x\nname = open({path!r})"
    assert imports.foreign_paths(imports.read({"code.py": code})) == [
        ForeignPath(path, "code.py", 2)
    ]


def test_the_beginning_of_a_path_in_an_f_string_is_named():
    found = imports.foreign_paths(imports.read({"code.py": "u = 'ana'\np = f'/home/{u}/a.csv'"}))
    assert [(f.text, f.line) for f in found] == [("/home/", 2)]


@pytest.mark.parametrize(
    "code",
    [
        "'''Data was in C:\\\\Users\\\\ana'''",
        "open('data/home/a.csv')",
        "open('/tmp/a.csv')",
        "url = 'https://example.org/home/a'",
        "text = 'see /home/ana'",
        "label = 'A: B'",
        "ratio = 'x:y'",
        "query = 'C:\\n'",
        "bytes_ = b'C:/x'",
        "open('C:\\Users\\ana')",  # does not parse: Python itself will say so
    ],
)
def test_other_texts_are_no_foreign_paths(code):
    assert imports.foreign_paths(imports.read({"code.py": code})) == []


@given(st.text(max_size=60))
def test_no_text_breaks_the_reading(text):
    imports.missing(imports.read({"code.py": text}), [text], PYTHON)
    imports.foreign_paths(imports.read({"code.py": text}))


def test_very_deep_code_is_passed_over():
    deep = {"code.py": "x = " + "(" * 5000 + ")" * 5000, "b.py": "-" * 50_000 + "1"}
    assert imports.missing(imports.read(deep), (), PYTHON) == []


def test_the_table_is_large_and_speaks_of_packages_by_their_normal_names():
    assert len(modules.PROVIDERS) > 200
    for module, packages in modules.PROVIDERS.items():
        assert packages, module
        assert all(p == "-" or p == p.lower() for p in packages), module
