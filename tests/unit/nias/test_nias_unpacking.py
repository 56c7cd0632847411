"""Claims about results that are unpacked where other names of files hold than on the cluster."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from nias_bridge.client import unpacking
from nias_bridge.errors import BadUpload


def results(tmp_path: Path, *names: str) -> Path:
    """A zip in which each file holds its own name."""
    file = tmp_path / "results.zip"
    with zipfile.ZipFile(file, "w") as made:
        for name in names:
            made.writestr(name, name)
    return file


def there(folder: Path) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): file.read_text()
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x"])
def test_results_never_lead_out_of_their_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadUpload, match="outside of output"):
        unpacking.unpacked(results(tmp_path, name), tmp_path / "to")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("name", "fitting"),
    [
        ("psd 2.npz", "psd 2.npz"),
        ("ä~ü.csv", "ä~ü.csv"),
        ("console.log", "console.log"),
        ("12:30.csv", "12_30.csv"),
        ("what?<*>.txt", "what____.txt"),
        ("tab\there", "tab_here"),
        ("and so on...", "and so on.._"),
        ("blank ", "blank_"),
        ("nul", "_nul"),
        ("Aux.tar.gz", "_Aux.tar.gz"),
        ("COM1", "_COM1"),
    ],
)
def test_a_name_that_windows_can_not_have_is_the_nearest_that_it_can(
    name: str, fitting: str
) -> None:
    assert unpacking.on_windows(name) == fitting
    assert unpacking.on_windows(fitting) == fitting


def test_files_whose_names_are_one_there_are_kept_apart_and_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacking, "as_here", unpacking.on_windows)
    packed = results(tmp_path, "at 1:2/psd.csv", "at 1?2/psd.csv", "at 1*2/psd.csv", "plain")
    first = {
        "at 1_2/psd.csv": "at 1:2/psd.csv",
        "at 1_2/psd~2.csv": "at 1?2/psd.csv",
        "at 1_2/psd~3.csv": "at 1*2/psd.csv",
        "plain": "plain",
    }
    folder = tmp_path / "to"
    for _ in range(2):  # the second time over what is there
        written = unpacking.unpacked(packed, folder)
        assert [file.relative_to(folder).as_posix() for file in written] == list(first)
        assert there(folder) == first


def test_on_the_cluster_s_own_system_names_stay_what_they_are(tmp_path: Path) -> None:
    names = ["a:b?.csv", "nul", "A.csv", "a.csv", "end."]
    unpacking.unpacked(results(tmp_path, *names), tmp_path / "to")
    assert there(tmp_path / "to") == {name: name for name in names}
