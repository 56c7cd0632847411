"""Which seeds are found in a project's sources."""

from __future__ import annotations

import pytest

from nias_bridge.services.seeds import Seed, find


@pytest.mark.parametrize(
    ("line", "call", "value"),
    [
        ("import random; random.seed(7)", "random.seed", 7),
        ("rng = np.random.default_rng(42)", "np.random.default_rng", 42),
        ("rng = default_rng(seed=42)", "default_rng", 42),
        ("np.random.RandomState(0)", "np.random.RandomState", 0),
        ("torch.manual_seed(3)", "torch.manual_seed", 3),
        ("tf.random.set_seed(3)", "tf.random.set_seed", 3),
        ("split(x, random_state=1)", "split", 1),
        ("np.random.seed(SEED)\nSEED = 5", "np.random.seed", 5),
        ("np.random.seed(int(sys.argv[1]))", "np.random.seed", None),
        ("def f(s):\n    random.seed(s)", "random.seed", None),
    ],
)
def test_a_seed_is_found_with_its_number_where_it_is_written(
    line: str, call: str, value: int | None
) -> None:
    (seed,) = find({"code.py": line})
    assert (seed.call, seed.value) == (call, value)


@pytest.mark.parametrize(
    "line",
    ["rng = default_rng()", "random.random()", "fit(random_state=None)", "seed = 3", "f()(seed=1)"],
)
def test_what_seeds_nothing_is_not_told(line: str) -> None:
    assert find({"code.py": line}) == []


def test_they_are_told_by_file_and_line_and_broken_files_are_passed_over() -> None:
    sources = {
        "b.py": "\nrandom.seed(2)\nrandom.seed(1)",
        "a/c.py": "random.seed(3)",
        "broken.py": "random.seed(",
        "deep.py": "-" * 100_000 + "1",
        "null.py": "\0",
    }
    assert find(sources) == [
        Seed("a/c.py", 1, "random.seed", 3),
        Seed("b.py", 2, "random.seed", 2),
        Seed("b.py", 3, "random.seed", 1),
    ]
