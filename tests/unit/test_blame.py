"""What uv 0.13 and pip 23 said when the requirement in question could not be installed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import uv

from nias_bridge import pipconfig
from nias_bridge.node import blame

SAID = {
    "no such version": (
        "error: No solution found when resolving dependencies\n  cause: Because there is no "
        "version of iniconfig==0.0.0.1 and you require iniconfig==0.0.0.1, we can conclude that "
        "your requirements are unsatisfiable.",
        ("numpy", "Iniconfig == 0.0.0.1"),
        "The package index has no version that fits “Iniconfig == 0.0.0.1”.",
    ),
    "no such package": (
        "  cause: Because nosuchpackagexyzzy was not found in the package registry and you require "
        "nosuchpackagexyzzy, we can conclude that your requirements are unsatisfiable.",
        ("nosuchpackagexyzzy",),
        "The package index has no package of the name “nosuchpackagexyzzy”. Is it written right?",
    ),
    "conflict": (
        "  cause: Because matplotlib==3.9.0 depends on numpy>=1.23 and you require "
        "matplotlib==3.9.0, we can conclude that you require numpy>=1.23.\n         And because "
        "you require numpy==1.20.0, we can conclude that your requirements are unsatisfiable.",
        ("matplotlib==3.9.0", "numpy==1.20.0"),
        "“matplotlib==3.9.0” needs numpy>=1.23, but the project asks for numpy==1.20.0.",
    ),
    "other Python": (
        "  cause: Because tensorflow==2.1.0 has no wheels with a matching Python ABI tag (e.g., "
        "`cp311`) and you require tensorflow==2.1.0, we can conclude that your requirements are "
        "unsatisfiable.\n\nhint: You require CPython 3.11 (`cp311`), but we only found wheels for "
        "`tensorflow` (v2.1.0) with the following Python ABI tags: `cp27m`",
        ("tensorflow==2.1.0",),
        "There is no version of “tensorflow==2.1.0” that is ready for this cluster's Python.",
    ),
    "hash": (
        "error: Failed to download `iniconfig==2.0.0`\n  cause: Hash mismatch for "
        "`iniconfig==2.0.0`\n\n         Expected:\n           sha256:5c6a",
        ("iniconfig==2.0.0",),
        "The package index gives another file for “iniconfig==2.0.0” than the one whose hash is "
        "known.",
    ),
    "build": (
        "error: Failed to build `pyaudio==0.2.14`\n  cause: The build backend returned an error\n"
        "  cause: Call to `setuptools.build_meta.build_wheel` failed (exit status: 1)",
        ("PyAudio",),
        "“PyAudio” exists only as source code, and building it failed.",
    ),
    "of another package": (
        "error: Failed to build `pyaudio==0.2.14`\n  cause: The build backend returned an error",
        ("speechkit",),
        "“pyaudio==0.2.14” (which another package asks for) exists only as source code, and "
        "building it failed.",
    ),
    "unreachable": (
        "error: Request failed after 3 retries in 5.4s\n  cause: Failed to fetch: http://x/simple/\n"
        "  cause: error sending request for url (http://x/simple/)\n  cause: dns error",
        ("numpy",),
        "The package index can't be reached from the compute node. Try again later, or tell the "
        "administrator.",
    ),
    "disk": (
        "error: failed to open file `/x`\n  cause: No space left on device (os error 28)",
        ("numpy",),
        "There is no room left on the shared storage for the packages. Tell the administrator.",
    ),
    "pip": (
        "ERROR: Could not find a version that satisfies the requirement numpy==99 (from versions: "
        "1.3.0)\nERROR: No matching distribution found for numpy==99",
        ("numpy==99",),
        "The package index has nothing that fits “numpy==99”.",
    ),
    "anything else": (
        "Segmentation fault",
        ("numpy",),
        "The packages that the project asks for can't be installed on this cluster.",
    ),
}


@pytest.mark.parametrize(("words", "wanted", "sentence"), SAID.values(), ids=list(SAID))
def test_the_requirement_that_caused_it_is_named(words, wanted, sentence):
    assert blame.sentence(words, wanted) == sentence


def test_what_uv_says_today_is_understood_too(tmp_path: Path):
    asked = tmp_path / "requirements.txt"
    asked.write_text("iniconfig==0.0.0.1\n")
    variables = pipconfig.told()
    said = subprocess.run(
        [uv.find_uv_bin(), "pip", "compile", "--quiet", "--only-binary", ":all:", asked],
        capture_output=True,
        text=True,
        check=False,
        env={"HOME": str(tmp_path), **variables},
        timeout=60,
    )
    assert blame.sentence(said.stderr, ["iniconfig==0.0.0.1"]) == (
        "The package index has no version that fits “iniconfig==0.0.0.1”."
    )
