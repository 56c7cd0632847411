from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nias_bridge.node import requirements


def problem(line: str) -> requirements.Problem:
    lines, problems = requirements.parse(line)
    assert not lines
    assert len(problems) == 1
    return problems[0]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1"]
)
def test_every_usual_encoding_is_read(encoding):
    text = "numpy==1.26.4\r\n# média\r\nscipy\r\n"
    assert requirements.decode(text.encode(encoding)) == "numpy==1.26.4\n# média\nscipy\n"


def test_utf_16_as_powershell_writes_it_is_read():
    data = b"\xff\xfe" + "numpy==2.0.0\r\n".encode("utf-16-le")
    assert requirements.parse(requirements.decode(data)) == (["numpy==2.0.0"], [])


@pytest.mark.parametrize(
    "line",
    [
        "numpy",
        "numpy==1.26.4",
        "numpy == 1.26.*",
        "pandas>=1.0,<2",
        "pandas (>=1.0,<2)",
        "requests[socks, security]>=2.8.1",
        'tomli>=2; python_version < "3.11"',
        "typing_extensions~=4.0",
        "zope.interface===6.0",
        "a!=1.2.3rc1",
        "foo==1.0 --hash=sha256:abcd --hash=sha256:ef01",
        "epoch==1!2.0",
    ],
)
def test_an_ordinary_requirement_is_taken(line):
    assert requirements.parse(line) == ([line], [])


def test_comments_blanks_and_continued_lines_are_understood():
    text = "\n# all\nnumpy # why\n\nscipy \\\n  ==1.11 \\\n  --hash=sha256:ab\n"
    assert requirements.parse(text) == (["numpy", "scipy ==1.11 --hash=sha256:ab"], [])


@pytest.mark.parametrize(
    ("line", "mended"),
    [
        ("certifi @ file:///croot/certifi_1690232220950/work/certifi", "certifi"),
        ("numpy @ file:///home/conda/feedstock_root/build_artifacts/numpy_16/work", "numpy"),
        ("cffi @ file:///tmp/build/80754af9/cffi-1.14.0/dist", "cffi==1.14.0"),
        ("pip @ file:///private/tmp/pip-23.1-py3-none-any.whl", "pip==23.1"),
        ("six @ file:///x/six-1.16.0.tar.gz#sha256=00", "six==1.16.0"),
        ("torch==2.3.0+cu121", "torch==2.3.0"),
        ('torch==2.3.0+cu121; python_version < "4"', 'torch==2.3.0; python_version < "4"'),
        (
            "https://example.org/whl/torch-2.3.0%2Bcu121-cp310-cp310-linux_x86_64.whl",
            "torch==2.3.0",
        ),
        ("torch @ https://example.org/torch-2.3.0-cp310-cp310-linux_x86_64.whl", "torch==2.3.0"),
        ("google-colab @ file:///colabtools/dist/google-colab-1.0.0.tar.gz", ""),
        ("numpy=1.26.4=py311h64a7726_0", "numpy==1.26.4"),
        ("numpy=1.26.4", "numpy==1.26.4"),
        ("_libgcc_mutex=0.1=main", ""),
        ("python=3.11.5=h955ad1f_0", ""),
        ("--index-url https://example.org/simple", ""),
        ("--extra-index-url=https://example.org", ""),
        ("-f https://example.org/links.html", ""),
        ("--trusted-host example.org", ""),
        ("os", ""),
        ("sklearn", "scikit-learn"),
        ("cv2", "opencv-python"),
        ("!pip install numpy", "numpy"),
        ("numpy    1.26.4", "numpy==1.26.4"),
        ("Package    Version", ""),
        ("---------- -------", ""),
    ],
)
def test_a_line_with_a_certain_mend_is_named_with_it(line, mended):
    assert problem(line).mend == mended
    assert requirements.mend(f"a\n{line}\nb\n") == f"a\n{mended}\nb\n".replace("\n\n", "\n")


@pytest.mark.parametrize(
    "line",
    [
        "mine @ file:///home/ana/mine",
        "x @ git+https://example.org/x@main",
        "git+ssh://example.org/x",
        "model @ https://github.com/a/b/releases/model-3.7-py3-none-any.whl",
        "-e .",
        "-e git+https://example.org/x#egg=x",
        "-r /etc/passwd",
        "-c constraints.txt",
        "./wheels/x-1.0-py3-none-any.whl",
        "../mine",
        "~/mine",
        "/etc/passwd",
        "C:\\code\\mine",
        "--global-option=build",
        "numpy >= what?",
        "import numpy",
        "numpy; rm -rf /",
        "$(id)",
        "a\x00b",
        "x" * 501,
    ],
)
def test_a_line_without_a_certain_mend_is_named_and_left(line):
    found = problem(line)
    assert found.mend is None
    assert found.why.endswith(".")
    assert requirements.mend(line) == line


def test_all_problems_are_told_at_once_with_their_line_numbers():
    lines, problems = requirements.parse("numpy\n\ntorch==2.0+cpu\nscipy \\\n ==1.11\n-e .\n")
    assert lines == ["numpy", "scipy ==1.11"]
    assert [(p.line, p.mend) for p in problems] == [(3, "torch==2.0"), (6, None)]


def test_what_asks_for_the_same_is_the_same():
    one = requirements.normalise(["Zope_Interface", "requests[Socks,security] >= 2, <3"])
    other = requirements.normalise(["requests[security, socks]<3,>=2", "zope.interface"] * 2)
    assert one == other == ("requests[security,socks]<3,>=2", "zope-interface")
    assert requirements.normalise(["numpy==1"]) != requirements.normalise(["numpy==2"])


@pytest.mark.parametrize(
    "text",
    [
        "a-" * 500_000,
        "numpy\n" * 150_000,
        " --hash=a:0" * 80_000 + "x",
        "a" + " " * 900_000 + "b",
        "a @ file:///croot" + "/a-1" * 200_000,
        ("1-" * 240 + "\n") * 2000,
        "\\\n" * 400_000,
    ],
)
def test_a_text_made_to_be_slow_is_read_quickly(text):
    started = time.process_time()
    requirements.parse(text)
    assert time.process_time() - started < 2


@given(st.text(alphabet=" ab1=<>@:/.-+[]();#\\\n\"'~é", max_size=60))
def test_a_mended_text_keeps_only_problems_without_a_mend(text):
    lines, problems = requirements.parse(text)
    again, left = requirements.parse(requirements.mend(text))
    assert [p.mend for p in left] == [None for p in problems if p.mend is None]
    assert set(lines) <= set(again)


@given(st.binary(max_size=200))
def test_any_bytes_are_read(data):
    requirements.parse(requirements.decode(data))
