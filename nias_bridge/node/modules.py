"""Which package of the index an imported module comes from, and what comes along with a package."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Optional


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Modules whose package has the same name, but for case, dots and dashes.
_SAME_NAME = """
accelerate acoustics aiohttp albumentations allantools altair antropy arch arviz astropy
audiomentations audioread autoreject av bioread biosignalsnotebooks biosppy bokeh bottleneck
braindecode brainflow brian2 cartopy catboost cffi click colorama control cvxpy cycler Cython dask
datasets deap decorator dipy distributed dlib docopt dtaidistance edfio eeglib einops elephant
emcee emd EntropyHub essentia face_recognition fastdtw fastparquet filterpy flask flax
folium fooof fuzzywuzzy gdown gensim geopandas google.auth google.cloud.bigquery
google.cloud.storage google.generativeai google_auth_oauthlib GPUtil gradio gym gymnasium h5py
hdbscan hdf5storage heartpy hmmlearn html5lib httpx huggingface_hub hurst hyperopt imageio imutils
IPython ipywidgets itk jax jaxlib jinja2 joblib jsonschema kaggle keras keyboard kornia kymatio
librosa lightgbm lightning lmfit loguru lxml madmom markdown mat73 matplotlib MDAnalysis mediapipe
meegkit mido mir_eval mlflow mlxtend mne mne_bids mne_connectivity mne_features mne_icalabel moabb
moviepy mpmath msgpack music21 nbformat nengo neo netCDF4 networkx neurokit2 neuron nibabel
nilearn nipype nitime nltk noisereduce nolds nptdms numba numexpr numpy obspy omegaconf onnx
open3d openpyxl opensmile optax optuna orjson packaging padasip pandas papermill patsy pdfplumber
pingouin plotly pmdarima polars pooch pretty_midi prophet psutil psychopy psycopg pulp pyarrow
pyaudio pyautogui pycwt pydantic pydicom pydub pyedflib pygad pyhht pyhrv pyinform pykalman pylsl
pymc pymongo pymysql pynput pyo pyparsing pypdf PyPDF2 pyprep PyQt5 PyQt6 pyqtgraph pyriemann
pyroomacoustics PySide2 PySide6 pysptk pyswarms pytesseract pytest python_speech_features
pytorch_lightning pyts pytz pyvista pyworld pyxdf quantities rapidfuzz ray rdkit redis reportlab
requests resampy rich ruamel.yaml ruptures samplerate scikits.audiolab scikits.bootstrap
scikits.samplerate scipy seaborn sentence_transformers setuptools shap shapely SimpleITK
simplejson six sktime slycot sounddevice soundfile soxr spacy spafe specparam spectrum
spikeinterface sqlalchemy ssqueezepy statsmodels streamlit stumpy sympy systole tables tabulate
tensorboard tensorboardX tensorflow_addons tensorflow_probability tensorly termcolor tf_keras
tifffile timm tokenizers toml tomli torch torch_geometric torchaudio torcheeg torchmetrics
torchvision tqdm transformers trimesh tsfel tsfresh tslearn typer typing_extensions tzlocal ujson
uncertainties urllib3 vispy vmdpy vtk wandb webrtcvad websockets wfdb wordcloud wrapt xarray xlrd
xlsxwriter yasa zarr
"""

# module   packages that provide it: the first is what to ask for, with a version where it matters
_PROVIDERS = """
cv2                    opencv-python-headless opencv-python opencv-contrib-python-headless
                       opencv-contrib-python
sklearn                scikit-learn
skimage                scikit-image
PIL                    pillow pillow-simd
yaml                   pyyaml
bs4                    beautifulsoup4 bs4
Crypto                 pycryptodome pycrypto
Cryptodome             pycryptodomex
serial                 pyserial
usb                    pyusb
hid                    hidapi hid
bluetooth              pybluez
dateutil               python-dateutil
dotenv                 python-dotenv
OpenSSL                pyopenssl
git                    gitpython
jwt                    pyjwt
jose                   python-jose
fitz                   pymupdf
docx                   python-docx
pptx                   python-pptx
wx                     wxpython
gi                     pygobject
mpl_toolkits           matplotlib
pylab                  matplotlib
pkg_resources          setuptools<82
attr                   attrs
google.protobuf        protobuf
googleapiclient        google-api-python-client
google.colab           -
kaggle_secrets         -
kaggle_datasets        -
pywt                   pywavelets
PyEMD                  emd-signal
hrvanalysis            hrv-analysis
ecgdetectors           py-ecg-detectors
parselmouth            praat-parselmouth
speech_recognition     speechrecognition
whisper                openai-whisper
cupy                   cupy-cuda12x cupy-cuda11x cupy-cuda13x cupy
pyximport              cython
tensorflow             tensorflow tensorflow-cpu tensorflow-gpu intel-tensorflow
onnxruntime            onnxruntime onnxruntime-gpu
xgboost                xgboost xgboost-cpu
imblearn               imbalanced-learn
umap                   umap-learn
dtw                    dtw-python dtw
skopt                  scikit-optimize
skfuzzy                scikit-fuzzy
websocket              websocket-client
paho                   paho-mqtt
zmq                    pyzmq
tomllib                tomli
hydra                  hydra-core
pynvml                 nvidia-ml-py pynvml
cpuinfo                py-cpuinfo
MySQLdb                mysqlclient
psycopg2               psycopg2-binary psycopg2
bson                   pymongo
ldap                   python-ldap
dns                    dnspython
magic                  python-magic
slugify                python-slugify unicode-slugify
Levenshtein            levenshtein python-levenshtein
fpdf                   fpdf2 fpdf
pygame                 pygame pygame-ce
Bio                    biopython
stan                   pystan
ffmpeg                 ffmpeg-python
win32api               pywin32
win32com               pywin32
pythoncom              pywin32
pywintypes             pywin32
"""

# package   packages that come with it
_BRINGS = """
antropy                numba numpy scikit-learn scipy
astropy                numpy packaging pyyaml
autoreject             mne scikit-learn joblib numpy scipy matplotlib
beautifulsoup4         typing-extensions
biosppy                h5py joblib matplotlib mock numpy opencv-python pywavelets scikit-learn
                       scipy six
bokeh                  jinja2 numpy packaging pandas pillow pyyaml tornado
braindecode            mne moabb numpy pandas scipy torch scikit-learn joblib h5py einops tqdm
dask                   click cloudpickle fsspec packaging pyyaml
datasets               numpy pyarrow pandas requests tqdm huggingface-hub packaging pyyaml aiohttp
elephant               neo numpy quantities scipy six tqdm
emd                    matplotlib numpy scipy pandas tabulate pyyaml
emd-signal             numpy scipy pathos tqdm
filterpy               matplotlib numpy scipy
flask                  click jinja2 werkzeug
fooof                  numpy scipy
gymnasium              numpy cloudpickle typing-extensions
h5py                   numpy
heartpy                matplotlib numpy scipy
hmmlearn               numpy scikit-learn scipy
hydra-core             omegaconf packaging
imageio                numpy pillow
imbalanced-learn       numpy scipy scikit-learn joblib
jax                    jaxlib ml-dtypes numpy scipy
keras                  absl-py h5py numpy packaging rich
librosa                audioread decorator joblib msgpack numba numpy pooch scikit-learn scipy
                       soundfile soxr resampy packaging typing-extensions
lightgbm               numpy scipy scikit-learn
lightning              pytorch-lightning torchmetrics torch numpy packaging pyyaml tqdm
lmfit                  asteval numpy scipy uncertainties
matplotlib             cycler numpy packaging pillow pyparsing python-dateutil six
mne                    decorator jinja2 matplotlib numpy packaging pooch scipy tqdm
mne-bids               mne numpy scipy
mne-connectivity       mne numpy scipy xarray netcdf4 pandas tqdm
mne-features           mne numba numpy scipy scikit-learn pywavelets
mne-icalabel           mne numpy scipy scikit-learn torch
moabb                  mne numpy scipy pandas scikit-learn matplotlib seaborn h5py pyriemann tqdm
                       requests pyyaml wfdb
neo                    numpy packaging quantities
neurokit2              matplotlib numpy pandas pywavelets requests scikit-learn scipy setuptools
nibabel                numpy packaging
nilearn                joblib lxml nibabel numpy pandas requests scikit-learn scipy matplotlib
nitime                 matplotlib numpy scipy nibabel networkx
noisereduce            joblib librosa matplotlib numpy scipy tqdm
nptdms                 numpy
numba                  llvmlite numpy
numexpr                numpy

obspy                  decorator lxml matplotlib numpy requests scipy setuptools sqlalchemy
opencv-contrib-python  numpy
opencv-contrib-python-headless numpy
opencv-python          numpy
opencv-python-headless numpy
openpyxl               et-xmlfile
optuna                 alembic colorlog numpy packaging pyyaml sqlalchemy tqdm
pandas                 numpy python-dateutil pytz tzdata six

pingouin               matplotlib numpy pandas scikit-learn scipy seaborn statsmodels tabulate
                       xarray
plotly                 packaging tenacity six
pooch                  packaging platformdirs requests
praat-parselmouth      numpy
pyarrow                numpy

pyedflib               numpy
pyhrv                  biosppy matplotlib nolds numpy scipy spectrum
pyriemann              joblib matplotlib numpy scikit-learn scipy pandas

pysptk                 numpy scipy decorator cython
python-dateutil        six
python-speech-features numpy scipy
pytorch-lightning      torch torchmetrics numpy packaging pyyaml tqdm fsspec typing-extensions
pyts                   joblib numba numpy scikit-learn scipy
pywavelets             numpy
pyworld                numpy cython

requests               certifi charset-normalizer idna urllib3
resampy                numba numpy scipy six
ruptures               numpy scipy
scikit-image           imageio networkx numpy packaging pillow pywavelets scipy tifffile
                       matplotlib
scikit-learn           joblib numpy scipy threadpoolctl
scipy                  numpy
seaborn                matplotlib numpy pandas scipy
shap                   numba numpy packaging pandas scikit-learn scipy tqdm
sktime                 joblib numpy packaging pandas scikit-learn scipy
sounddevice            cffi
soundfile              cffi numpy
soxr                   numpy
spafe                  numpy scipy matplotlib
specparam              numpy scipy
spectrum               easydev matplotlib numpy scipy
ssqueezepy             numba numpy scipy joblib
statsmodels            numpy packaging pandas patsy scipy
stumpy                 numba numpy scipy
sympy                  mpmath
tables                 blosc2 numexpr numpy packaging py-cpuinfo
tensorboard            absl-py markdown numpy packaging pillow protobuf setuptools six werkzeug
tensorflow             absl-py h5py keras ml-dtypes numpy opt-einsum packaging protobuf requests
                       setuptools six tensorboard termcolor typing-extensions wrapt
tensorflow-cpu         tensorflow
tifffile               numpy
torch                  filelock fsspec jinja2 networkx numpy setuptools sympy typing-extensions
torchaudio             torch
torchmetrics           numpy packaging torch
torchvision            numpy pillow requests torch
tqdm                   colorama
transformers           filelock huggingface-hub numpy packaging pyyaml regex requests safetensors
                       tokenizers tqdm
tsfel                  ipython gspread numpy pandas requests scikit-learn scipy statsmodels
                       setuptools
tsfresh                cloudpickle numpy pandas patsy pywavelets requests scikit-learn scipy
                       statsmodels stumpy tqdm dask distributed
tslearn                joblib numba numpy scikit-learn scipy
umap-learn             numba numpy pynndescent scikit-learn scipy tqdm
wfdb                   aiohttp fsspec matplotlib numpy pandas requests scipy soundfile
xarray                 numpy packaging pandas
xgboost                numpy scipy

yasa                   antropy ipywidgets joblib lightgbm lspopt matplotlib mne numba numpy
                       outdated pandas pooch pyriemann scikit-learn scipy seaborn sleepecg
                       tensorpac
"""

# Packages that so many others bring with them that a package not listed above may well do so.
_OFTEN_BROUGHT = _words("""
    attrs certifi cffi click colorama cycler decorator h5py imageio jinja2 joblib lxml matplotlib
    msgpack networkx numba numpy packaging pandas pillow platformdirs pooch protobuf psutil pydantic
    pyparsing python-dateutil pytz pywavelets pyyaml requests rich scikit-image scikit-learn scipy
    seaborn setuptools six soundfile statsmodels sympy tabulate termcolor tomli torch tqdm
    typing-extensions urllib3 wrapt
""")

# Modules that Python once brought, the first version without them, and what brings them now.
_GONE = {
    "asynchat": ((3, 12), "pyasynchat"),
    "asyncore": ((3, 12), "pyasyncore"),
    "distutils": ((3, 12), "setuptools"),
    "imp": ((3, 12), ""),
    "smtpd": ((3, 12), ""),
    "aifc": ((3, 13), "standard-aifc"),
    "audioop": ((3, 13), "audioop-lts"),
    "cgi": ((3, 13), "legacy-cgi"),
    "cgitb": ((3, 13), "legacy-cgi"),
    "chunk": ((3, 13), "standard-chunk"),
    "crypt": ((3, 13), ""),
    "imghdr": ((3, 13), "standard-imghdr"),
    "lib2to3": ((3, 13), ""),
    "nis": ((3, 13), ""),
    "nntplib": ((3, 13), "standard-nntplib"),
    "pipes": ((3, 13), "standard-pipes"),
    "sndhdr": ((3, 13), "standard-sndhdr"),
    "spwd": ((3, 13), ""),
    "sunau": ((3, 13), "standard-sunau"),
    "telnetlib": ((3, 13), "standard-telnetlib"),
    "uu": ((3, 13), "standard-uu"),
    "xdrlib": ((3, 13), "standard-xdrlib"),
}
_CAME = {"tomllib": (3, 11), "compression": (3, 14), "annotationlib": (3, 14)}

# For Python 3.9, which does not know the names of its own modules.
_STANDARD_OF_39 = _words("""
    __future__ __main__ _thread abc argparse array ast asyncio atexit base64 bdb binascii binhex
    bisect builtins bz2 cProfile calendar cmath cmd code codecs codeop collections colorsys
    compileall concurrent configparser contextlib contextvars copy copyreg csv ctypes curses
    dataclasses datetime dbm decimal difflib dis doctest email encodings ensurepip enum errno
    faulthandler fcntl filecmp fileinput fnmatch formatter fractions ftplib functools gc
    genericpath getopt getpass gettext glob graphlib grp gzip hashlib heapq hmac html http idlelib
    imaplib importlib inspect io ipaddress itertools json keyword linecache locale logging lzma
    mailbox mailcap marshal math mimetypes mmap modulefinder msilib msvcrt multiprocessing netrc nt
    ntpath numbers opcode operator optparse os ossaudiodev parser pathlib pdb pickle pickletools
    pkgutil platform plistlib poplib posix posixpath pprint profile pstats pty pwd py_compile
    pyclbr pydoc queue quopri random re readline reprlib resource rlcompleter runpy sched secrets
    select selectors shelve shlex shutil signal site smtplib socket socketserver sqlite3
    sre_compile sre_constants sre_parse ssl stat statistics string stringprep struct subprocess
    symbol symtable sys sysconfig syslog tabnanny tarfile tempfile termios textwrap this threading
    time timeit tkinter token tokenize trace traceback tracemalloc tty turtle turtledemo types
    typing unicodedata unittest urllib uuid venv warnings wave weakref webbrowser winreg winsound
    wsgiref xml xmlrpc zipapp zipfile zipimport zlib zoneinfo
""")

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_NO_PACKAGE = "-"


def package_of(module: str) -> Optional[str]:
    """The package to ask for where `module` (dotted) is imported; None where it is not known.

    "" where it is known that the package index has none.
    """
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        found = PROVIDERS.get(".".join(parts[:length]))
        if found:
            return "" if found[0] == _NO_PACKAGE else found[0]
    if parts[0] in _GONE:
        return _GONE[parts[0]][1]
    return None


def package_like(name: str) -> str:
    """The well-known package that was probably meant by a name that is none; "" if not clear."""
    by_module = {module.lower(): packages[0] for module, packages in PROVIDERS.items()}
    meant = by_module.get(name.lower(), "")
    if meant in ("", _NO_PACKAGE) or meant == key(name):
        close = difflib.get_close_matches(key(name), sorted(_MODULES_OF), 1, 0.85)
        meant = close[0] if close else ""
    return "" if meant == key(name) else meant


def gone_since(module: str) -> Optional[tuple[int, int]]:
    """The first Python that no longer brings this once standard module, or None."""
    return _GONE[module][0] if module in _GONE else None


def is_standard(module: str, python: tuple[int, int]) -> bool:
    """True when that Python brings the module (its first part) itself."""
    name = module.partition(".")[0]
    if name in _GONE:
        return python < _GONE[name][0]
    if name in _CAME:
        return python >= _CAME[name]
    names: frozenset[str] = getattr(sys, "stdlib_module_names", _STANDARD_OF_39)
    return name in names


def key(requirement: str) -> str:
    """The normalised package name of a requirement line; "" when it has none."""
    found = _NAME.match(requirement.strip())
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""


def lacking(requirements: Sequence[str]) -> Callable[[str], bool]:
    """Tells of a module (dotted) whether none of the requirements can be what provides it."""
    asked = {key(line) for line in requirements} - {""}
    provided = {module.lower() for each in _with_brought(asked) for module in _modules_of(each)}
    all_known = asked <= _KNOWN
    needs_known = asked <= _BROUGHT.keys()

    def lacks(module: str) -> bool:
        parts = module.lower().split(".")
        if any(".".join(parts[:length]) in provided for length in range(1, len(parts) + 1)):
            return False
        package = package_of(module)
        if package is None:
            return all_known  # a package that we do not know may provide any module
        return needs_known or key(package) not in _OFTEN_BROUGHT

    return lacks


def _table(text: str) -> dict[str, tuple[str, ...]]:
    # An indented line goes on with the one before it.
    lines = re.sub(r"\n +", " ", text).split("\n")
    return {words[0]: tuple(words[1:]) for words in map(str.split, lines) if words}


def _with_brought(packages: Iterable[str]) -> set[str]:
    found: set[str] = set()
    waiting = list(packages)
    while waiting:
        package = waiting.pop()
        if package not in found:
            found.add(package)
            waiting += _BROUGHT.get(package, ())
    return found


def _modules_of(package: str) -> set[str]:
    # Beside what is known, what its name suggests: python-foo, pyfoo and foo-lib provide foo.
    plain = package.replace("-", "_")
    guessed = {plain, package.partition("-")[0], package.replace("-", ".")}
    guessed |= {re.sub(r"^(python_?|py_?)|(_?python|_?py|_lib)$", "", plain)} - {""}
    known = {"google"} if package == "google" else _MODULES_OF.get(package, set())
    # “google-auth” must not stand for all that is called google.….
    return known | (guessed - {"google"})


PROVIDERS: dict[str, tuple[str, ...]] = {name: (key(name),) for name in _words(_SAME_NAME)}
PROVIDERS.update(_table(_PROVIDERS))
_BROUGHT = _table(_BRINGS)
_MODULES_OF: dict[str, set[str]] = {}
for _module, _packages in PROVIDERS.items():
    for _package in _packages:
        _MODULES_OF.setdefault(key(_package), set()).add(_module)
_KNOWN = frozenset(_MODULES_OF) | frozenset(_BROUGHT) | frozenset().union(*_BROUGHT.values())
