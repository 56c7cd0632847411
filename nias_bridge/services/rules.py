"""The table of the failure doctor: one rule after another, the first that fits is told."""
# ruff: noqa: E501  # a table: its texts are easier to read and to add to on one line

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from nias_bridge.domain import JobState
from nias_bridge.services import remedies
from nias_bridge.services.findings import (
    Look,
    any_error,
    any_of,
    asked_memory,
    ended_itself,
    error,
    error_at,
    foreign_path,
    installer,
    killed_by,
    log,
    missing_module,
    no_such_package,
    no_such_version,
    nothing_collected,
    opencv_windows,
    pandas_key,
    reason,
    state,
    told,
    windows_package,
    written_elsewhere,
    wrong_python,
)  # fmt: skip
from nias_bridge.services.remedies import Found
from nias_bridge.services.symptoms import Remedy, Symptoms


class Rule(NamedTuple):
    """One rule. Its texts may name in braces what was found, and {where} in the project's code."""

    name: str
    look: Look
    sentence: str
    hint: str
    remedy: Callable[[Symptoms, Found], Remedy | None] | None = None


_S = JobState
_NO_GPU = (
    r"Found no NVIDIA driver|Torch not compiled with CUDA|No CUDA GPUs are available"
    r"|CUDA driver version is insufficient|no CUDA-capable device|CUDA driver library cannot be found"
    r"|Unknown backend:? '(?:gpu|cuda)'|lib(?:cuda|cudart|cublas|cudnn)\w*\.so|CUDA_ERROR_NO_DEVICE"
)
_NO_SCREEN = (
    r"no display name and no \$DISPLAY|cannot connect to X server|could not connect to display"
    r"|Could not load the Qt platform plugin|requires the '\w+' interactive framework"
    r"|The function is not implemented\. Rebuild the library with Windows, GTK"
)
_NO_NETWORK = (
    r"Name or service not known|name resolution|Network is unreachable|Connection refused"
    r"|Max retries exceeded|No route to host|timed out|Failed to resolve"
)
_NETWORK_ERRORS = (
    "URLError ConnectionError ConnectionRefusedError gaierror ConnectTimeout ConnectError "
    "TimeoutError OSError MaxRetryError NewConnectionError ClientConnectorError"
)
_OLD_NUMPY = (
    r"numpy\.dtype size changed|_ARRAY_API not found|numpy\.core\.multiarray failed to import"
)
_MEANT_FOR_OUTPUT = "Write results into output/, as in open('output/result.csv', 'w')."
_DATA_IN_ZIP = "Put the file into the project's folder, zip it again, and open it by its path there, as in 'data/emg.csv'."

# The first that fits is told: what Slurm and the node know comes before what programs say.
# name, where to look, what happened, what to do, and the correction where there is one
RULES: tuple[Rule, ...] = (
    Rule("out-of-memory", any_of(state(_S.OUT_OF_MEMORY), log(r"^slurmstepd(?:-[\w.-]+)?: error: .*(?:oom[-_]kill|xceeded (?:job |step )?memory limit)")),
         "The run needed more memory than it had, and was ended.",
         "Run it again with more memory, or read the data in parts.", remedies.more_memory),
    Rule("time-limit", any_of(state(_S.TIMEOUT), reason("time limit")),
         "The time limit was reached before the program was done.",
         "What it had written to output/ by then is in the results. Run it again with more time.",
         remedies.more_time),
    Rule("node-failed", state(_S.NODE_FAIL, _S.BOOT_FAIL),
         "The computer that it ran on failed. Your program is not at fault.",
         "Run it again: it will get another one.", remedies.again),
    Rule("preempted", state(_S.PREEMPTED),
         "The run had to make room for a more urgent one. Your program is not at fault.",
         "Run it again, or ask the administrator for a partition where that does not happen.", remedies.again),
    Rule("deadline", state(_S.DEADLINE),
         "The run could not have been done before its deadline, and was taken away.",
         "Ask for less time, or for a later deadline."),
    Rule("cancelled", state(_S.CANCELLED),
         "The run was cancelled.", "What it had written to output/ by then is in the results."),
    Rule("told-to-stop", reason("told to stop"),
         "The run was told to stop by a signal (SIGTERM), and not because Slurm cancelled it.",
         "If your program sends signals, look there; else run it again. What it had written to output/ by then is in the results.",
         remedies.again),

    # The packages could not be installed.
    Rule("index-unreachable", installer(r"error sending request|dns error|Failed to fetch|NewConnectionError|NameResolutionError|Retrying \(Retry"),
         "The package index could not be reached from the cluster, so nothing could be installed.",
         "Your project is not at fault. Try again later, and tell the administrator if it stays so.", remedies.again),
    Rule("install-disk-full", installer(r"No space left on device|Disk quota exceeded"),
         "The disk for installed packages is full.",
         "Your project is not at fault. Tell the administrator; removing old environments makes room."),
    Rule("windows-package", windows_package,
         "{package} exists for Windows only; the cluster runs Linux.",
         "Leave it out of requirements.txt. If the code imports it, that part can't run here.", remedies.without_package),
    Rule("other-platform", installer(r"Because (?P<package>[A-Za-z0-9][\w.-]*?)(?P<version>[=<>!~]\S*) has no wheels with a matching platform tag"),
         "{package}{version} was not made for the cluster's kind of computer.",
         "Require another version of {package}, or leave it out.", remedies.version_there_is),
    Rule("sklearn-renamed", installer(r"'sklearn' (?:PyPI )?package is deprecated|replace 'sklearn' by 'scikit-learn'"),
         "The package is called scikit-learn; “sklearn” is only what it is imported by.",
         "Write scikit-learn instead of sklearn in requirements.txt.",
         remedies.right_sklearn),
    Rule("needs-other-python", wrong_python,
         "{package}{version} can't be installed with the cluster's Python{have}.",
         "Require another version of {package}: without “==” the newest that fits is taken.", remedies.version_there_is),
    Rule("no-such-version", no_such_version,
         "There is no version of {package} such as requirements.txt asks for ({asked}).{there}",
         "Require a version that exists, or write only {package}.", remedies.version_there_is),
    Rule("no-such-package", no_such_package,
         "The package index has no {package} that can be installed here.{guess}",
         "Check the name: that of a package is not always the one that is imported. Code of your own belongs into the project's folder, not into requirements.txt.",
         remedies.right_name),
    Rule("conflict", installer(r"because these package versions have conflicting dependencies|you require .* your requirements are unsatisfiable|ResolutionImpossible"),
         "Some of the required packages exclude each other: no set of versions suits them all.",
         "Leave out the version (“==…”) of one of those that are named below, or of all but the one that matters."),
    Rule("no-header", installer(r"fatal error: (?P<header>[\w./+-]+\.h\w*): No such file"),
         "A package had to be compiled, and a library for that is missing on the cluster ({header}).",
         "Look for another package or version that comes ready to use, or ask the administrator for the library."),
    Rule("no-compiler", installer(r"No such file or directory: '(?P<tool>[\w./-]*(?:gcc|cc|g\+\+|clang|gfortran))'|command '(?P<tool2>[^']*)' failed: No such file"),
         "A package had to be compiled, and the cluster has no compiler.",
         "Require a version of it that comes ready to use (a “wheel”); often a newer one does."),
    Rule("too-old-for-python", installer(r"`?distutils`? was removed|No module named 'distutils'"),
         "A required version is too old for the cluster's Python.",
         "Require a newer version, or write only the package's name."),
    Rule("build-failed", installer(r"Failed to build|Failed building wheel|[Bb]uild failures usually indicate|indicates a problem with the package or the build|subprocess-exited-with-error"),
         "A package exists only as source code for this Python, and building it failed.",
         "Require another version of it: a newer one often comes ready to use."),

    # The program was killed.
    Rule("memory-error", asked_memory,
         "The program ran out of memory{where}.{size}",
         "Run it again with more memory, or read the data in parts; float32 takes half of float64.", remedies.more_memory),
    Rule("no-screen", any_of(error("", _NO_SCREEN), told(_NO_SCREEN)),
         "The program wants to open a window{where}; on the cluster there is no screen.",
         "Save figures instead, as in plt.savefig('output/figure.png'), and remove windows and plt.show()."),
    Rule("segmentation-fault", any_of(killed_by(11), told("^Fatal Python error: Segmentation fault")),
         "The program crashed inside a compiled package (a segmentation fault).",
         "Often two packages don't fit together: let the newest versions be installed. “import faulthandler; faulthandler.enable()” at the top shows where it happens."),
    Rule("illegal-instruction", killed_by(4),
         "A package uses instructions that this computer's processor does not have.",
         "Require another version of the compiled packages, or ask for another partition."),
    Rule("bus-error", killed_by(7),
         "The program lost a file or shared memory that it was reading (a bus error).",
         "Don't shorten files that are open. With PyTorch's DataLoader use fewer workers (num_workers=0)."),
    Rule("aborted", killed_by(6),
         "A compiled package gave up and ended the program (abort).",
         "Its last lines in the log tell why."),
    Rule("killed", killed_by(9),
         "The program was ended from outside without a word; most often that means too little memory.",
         "Run it again with more memory, or read the data in parts.", remedies.more_memory),

    # Something that the program needs is not there.
    Rule("hidden-module", any_of(missing_module("hidden"), error("AttributeError ImportError", r"^partially initialized module '(?P<module>[\w.]+)'|^module '(?P<module2>[\w.]+)' has no attribute '\w+' \(consider renaming")),
         "A file of the project has the name of a module that it needs ({module}{module2}), and hides it.",
         "Rename your own file (not its import), and zip the project again."),
    Rule("notebook-service", missing_module("notebook service"),
         "{module} exists only on Colab or Kaggle{where}.",
         "Remove these lines. Put the data into the project's folder and open it from there."),
    Rule("windows-module", missing_module("windows"),
         "{module} exists on Windows only{where}; the cluster runs Linux.",
         "Remove what uses it, or import it only where sys.platform == 'win32'."),
    Rule("module-gone", missing_module("gone"),
         "{module} is no longer part of Python since {python}{where}.",
         "Let a newer version of what imports it be installed, or ask for an older Python.", remedies.add_package),
    Rule("needs-older-setuptools", error("ModuleNotFoundError", r"No module named 'pkg_resources'"),
         "The code, or a package that it uses, imports pkg_resources{where}; setuptools no longer has it since version 82.",
         "Add the line setuptools<82 to requirements.txt.", remedies.older_setuptools),
    Rule("no-part-of-package", missing_module("part"),
         "The installed package has no part {module}{where}.",
         "Check how it is written; or require the version of the package that the code was written for."),
    Rule("no-requirements", missing_module("no requirements"),
         "The code imports {module}{where}, but the project has no requirements.txt, or an empty one.",
         "Add the line {package} to requirements.txt, and one for each further package that the code imports.{note}", remedies.add_package),
    Rule("missing-package", missing_module("package"),
         "The code imports {module}{where}, which requirements.txt does not bring: its package is {package}.",
         "Add the line {package} to requirements.txt.{note}", remedies.add_package),
    Rule("missing-module", missing_module("own"),
         "The code imports {module}{where}, which is neither in the project nor in its packages.",
         "If {module} is a file of yours, put {module}.py into the project's folder. If it is a package, add the name of that package to requirements.txt."),
    Rule("opencv-needs-headless", opencv_windows,
         "OpenCV was installed with its windows, which need libraries of a screen that the cluster has not.",
         "Write opencv-python-headless instead of opencv-python in requirements.txt: it is the same without windows.", remedies.headless_opencv),
    Rule("model-of-gpu", error("RuntimeError", r"deserialize object on a CUDA device but"),
         "The model was saved on a GPU, and this run has none{where}.",
         "Load it with torch.load(…, map_location='cpu'), or ask for a GPU.", remedies.a_gpu),
    Rule("no-gpu", error("", _NO_GPU),
         "The program wants a GPU{where}, and this run has none.",
         "Ask for a GPU, or let the code use the processor where there is none (device = 'cpu').", remedies.a_gpu),
    Rule("numpy-too-new", any_of(error("", _OLD_NUMPY), error("", r"np\.\w+` was removed in the NumPy 2\.0")),
         "The code, or a package that it uses, was made for NumPy 1; NumPy 2 was installed.",
         "Write numpy<2 in requirements.txt, or let newer versions of the other packages be installed.", remedies.older_numpy),
    Rule("numpy-alias", error("AttributeError", r"module 'numpy' has no attribute '(?P<alias>\w+)'"),
         "NumPy no longer has np.{alias}{where}.",
         "np.float, np.int, np.bool, np.object and np.complex are now written without “np.”: float, int, …"),
    Rule("pandas-append", error("AttributeError", r"'(?:DataFrame|Series)' object has no attribute '(?P<name>append|iteritems|mad)'"),
         "pandas no longer has .{name}{where}; it was removed in version 2.",
         "Write pd.concat([a, b]) instead of a.append(b), and .items() instead of .iteritems().", remedies.older_pandas),
    Rule("own-import", error("ImportError", r"cannot import name '(?P<name>[^']+)' from '(?P<module>[^']+)' \((?!.*/site-packages/|.*/lib/python3)"),
         "The project's {module} has no {name}{where}.",
         "Check how it is written, and that the zip has the newest {module}.py."),
    Rule("import-name", error("ImportError", r"cannot import name '(?P<name>[^']+)' from '(?P<module>[^']+)'"),
         "The installed version of {module} has no {name}{where}.",
         "Require the version that the code was written for (see “pip freeze” where it works), or use the new name."),
    Rule("module-attribute", error("AttributeError", r"^module '(?P<module>[\w.]+)' has no attribute '(?P<name>\w+)'"),
         "The installed version of {module} has no {name}{where}.",
         "Require the version that the code was written for (see “pip freeze” where it works), or use the new name."),
    Rule("system-library", error("ImportError OSError", r"(?P<library>lib[\w.+-]+\.so[\w.]*): cannot open shared object|(?P<name>\w+) library not found"),
         "The cluster lacks a library of the system that a package needs ({library}{name}).",
         "Look for a package that brings it along, or ask the administrator to install it."),

    # Files.
    Rule("foreign-path", foreign_path,
         "The code opens {path}{where}: that is a path of your own computer, and the cluster can't see it.",
         _DATA_IN_ZIP),
    Rule("no-output-folder", error("FileNotFoundError", r"'(?P<path>(?:\./)?output/[^']+)/[^/']+'"),
         "The folder {path} is not there{where}.",
         "Make it before writing to it: os.makedirs('{path}', exist_ok=True)."),
    Rule("no-such-file", error("FileNotFoundError", r"No such file or directory: '(?P<path>[^']+)'"),
         "The code opens {path}{where}, which is not in the project.",
         f"Upper and lower case count here (EMG.csv is not emg.csv). {_DATA_IN_ZIP}"),
    Rule("folder-exists", error("FileExistsError", r"'(?P<path>[^']+)'"),
         "The code makes the folder {path}{where}, but it is already there.",
         "Write os.makedirs('{path}', exist_ok=True): output/ is always there already."),
    Rule("not-writable", any_of(error("PermissionError", r"'(?P<path>[^']+)'"), error("OSError", r"Read-only file system: '(?P<path>[^']+)'")),
         "The code may not write to {path}{where}.", _MEANT_FOR_OUTPUT),
    Rule("disk-full", error("OSError", r"No space left on device|Disk quota exceeded"),
         "The disk is full{where}.",
         "Write less, or remove runs that you no longer need; otherwise tell the administrator."),
    Rule("too-many-files", error("OSError", r"Too many open files"),
         "The program has too many files open at once{where}.",
         "Close each one after use: “with open(…) as file:” does so by itself."),
    Rule("no-threads", error("RuntimeError", r"can't start new thread"),
         "The program started more threads than it may{where}.",
         "Use fewer workers, or ask for more memory."),
    Rule("pickled-array", error("ValueError", r"Object arrays cannot be loaded when allow_pickle=False"),
         "The file holds Python objects and not plain numbers{where}.",
         "If you made it yourself, load it with np.load(…, allow_pickle=True)."),
    Rule("text-encoding", error("UnicodeDecodeError"),
         "A text file is not in the encoding that the code expects{where}.",
         "Say which it has: encoding='latin-1' for files of Excel on Windows, 'utf-16' for those of PowerShell."),

    # The code itself.
    Rule("notebook-code", any_of(error_at("SyntaxError", r"^[%!]"), error("NameError", r"name '(?:get_ipython|display)' is not defined")),
         "The code has lines that only a notebook understands{where}.",
         "Remove lines that begin with % or !, and get_ipython() and display(). Packages belong into requirements.txt."),
    Rule("python-2", error("SyntaxError", r"Missing parentheses in call to 'print'"),
         "The code is written for Python 2{where}.",
         "Write print(…) with parentheses. The tool 2to3 changes a whole file."),
    Rule("source-encoding", error("SyntaxError", r"\(unicode error\) 'utf-8' codec|Non-UTF-8 code"),
         "A program file, or a path written in it, has characters that Python can't read{where}.",
         "Save the file as UTF-8. In a path write r'…' with an r before the quote, or / instead of \\."),
    Rule("indentation", error("IndentationError TabError"),
         "A line of the code is not indented as it should be{where}.",
         "Indent with four spaces everywhere, and nowhere with tabs."),
    Rule("syntax", error("SyntaxError", r"(?P<what>[^\n]*)"),
         "The code can't be read as Python{where}: {what}.",
         "Look at that line and the one before it: often a bracket, quote or colon is missing."),
    Rule("input", error("EOFError", "EOF when reading a line"),
         "The program asks a question with input(){where}; on the cluster nobody can answer.",
         "Write the value into the code, or into a file that it reads."),
    Rule("certificate", error("", r"CERTIFICATE_VERIFY_FAILED"),
         "The program could not make sure that a server is the right one (its certificate){where}.",
         "Put the data into the project's folder instead of downloading it, or ask the administrator."),
    Rule("no-network", error(_NETWORK_ERRORS, _NO_NETWORK),
         "The program could not reach a server{where}: the cluster's computers may have no way out.",
         "Download the data beforehand and put it into the project's folder."),
    Rule("main-guard", error("RuntimeError", r"finished its\s+bootstrapping phase|context has already been set"),
         "Each of the processes that the program starts runs the whole program again{where}.",
         "Put what is to run once under “if __name__ == \"__main__\":”."),
    Rule("recursion", error("RecursionError"),
         "A function calls itself without end{where}.",
         "Check the condition at which it should stop."),
    Rule("environment-variable", error_at("KeyError", r"environ\[['\"](?P<name>\w+)"),
         "The program expects the environment variable {name}{where}, which your own computer may have had.",
         "Write the value into the code, as in os.environ.get('{name}', 'value')."),
    Rule("no-column", pandas_key,
         "The table has no column {key}{where}.",
         "Print df.columns: there may be a space or another case in the name, or another separator in the file (sep=';')."),
    Rule("no-key", error("KeyError", r"(?P<key>[^\n]+)"),
         "The program looks for {key}{where}, and it is not there.",
         "Print the keys that there are, just before that line."),
    Rule("assertion", error("AssertionError", r"(?P<what>[^\n]*)"),
         "A check in the code did not hold{where}. {what}",
         "Print the values that it compares, just before that line."),
    Rule("arguments", any_of(told(r"^[\w.-]+\.py: error: (?P<what>.+)$"), error_at("IndexError", r"sys\.argv")),
         "The program expects arguments on its command line, and got none. {what}",
         "Give them in nias.toml (under [job]: args = [\"…\"]), or write default values into the code."),
    Rule("ended-itself", ended_itself,
         "The program ended itself with exit code {code}.{last}",
         "Look for sys.exit or exit in the code, and at the last lines of the log."),
    Rule("python-error", any_error,
         "The program stopped at an error{where}: {error}",
         "The lines above it in the log show how it came there."),
)  # fmt: skip

# For runs that ended well.
NOTICES: tuple[Rule, ...] = (
    Rule("written-elsewhere", written_elsewhere,
         "The run ended well, but wrote beside output/ and not into it: {files}.",
         f"Only output/ comes back. {_MEANT_FOR_OUTPUT}"),
    Rule("nothing-written", nothing_collected,
         "The run ended well, but wrote nothing into output/, so there are no results to get.",
         f"{_MEANT_FOR_OUTPUT} Figures need plt.savefig('output/figure.png'): plt.show() shows nothing here."),
)  # fmt: skip
