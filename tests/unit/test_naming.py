"""Claims about the names of projects, and their slugs."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nias_bridge.naming import name_key, project_name, slug


def _is_name(text: str) -> bool:
    try:
        project_name(text)
    except ValueError:
        return False
    return True


names = st.text(
    st.characters(categories=["L", "Nd", "Mn"], include_characters=" ._-"), min_size=1, max_size=64
).filter(_is_name)


@pytest.mark.parametrize(
    "name", ["a", "Análise EMG 2", "ЭКГ", "心電図", "हिन्दी", "x" * 64, "v1.2_final-3", "_a", "2024"]
)
def test_names_as_people_write_them_are_welcome(name: str) -> None:
    assert project_name(name) == name


def test_a_name_is_kept_in_its_composed_form() -> None:
    assert project_name("Ana\u0301lise") == "Análise"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "has 0 characters"),
        ("x" * 65, "has 65 characters"),
        ("a/b", "character “/”"),
        ("a\\b", r"character “\\”"),
        ("a\nb", "character “U\\+000A”"),
        ("a\u202eb", "character “U\\+202E”"),
        ("a$b", "character “\\$”"),
        ("📈", "character “📈”"),
        (".hidden", "begins or ends"),
        ("-rf", "begins or ends"),
        (" a", "begins or ends"),
        ("a ", "begins or ends"),
        ("..", "begins or ends"),
    ],
)
def test_another_name_is_refused_with_what_is_wrong(name: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        project_name(name)


@pytest.mark.parametrize(
    ("one", "other"),
    [("EMG", "emg"), ("Straße", "STRASSE"), ("Análise", "ANA\u0301LISE"), ("ﬁle", "FILE")],
)
def test_names_that_differ_in_case_or_form_are_the_same(one: str, other: str) -> None:
    assert name_key(one) == name_key(other)


@given(names)
def test_a_key_is_a_keys_own_key(name: str) -> None:
    assert name_key(name_key(name)) == name_key(name)


@given(names)
def test_a_slug_is_safe_in_a_path_and_in_slurm(name: str) -> None:
    made = slug(unicodedata.normalize("NFC", name))
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._~-]{0,63}", made)
    assert not made.endswith((".", "-"))


@given(names, names)
def test_names_of_two_projects_have_two_slugs(one: str, other: str) -> None:
    if name_key(one) != name_key(other):
        assert slug(project_name(one)) != slug(project_name(other))


def test_a_name_that_is_safe_already_is_its_own_slug() -> None:
    assert slug("power-spectrum_2.1") == "power-spectrum_2.1"
    assert re.fullmatch(r"Analise-EMG~[0-9a-f]{8}", slug("Análise EMG"))
    assert re.fullmatch(r"project~[0-9a-f]{8}", slug("心電図"))
