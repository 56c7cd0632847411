"""Claims about datasets by `nias` and the Python client, against a gateway that is served."""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import staged
from commanded import Nias, project

from nias_bridge.client import Client, NoAnswer, Refused, pieces
from nias_bridge.client.gateway import Gateway
from nias_bridge.errors import BadUpload, NotFound
from nias_bridge.project import data
from nias_bridge.services import datasets, deliveries
from nias_bridge.services.bridge import Bridge


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """A folder of data, with what a Mac leaves in it."""
    folder = tmp_path / "eeg"
    (folder / "sub-01").mkdir(parents=True)
    (folder / "sub-01" / "ä.edf").write_bytes(os.urandom(3000))
    (folder / "table.csv").write_text("1,2\n")
    (folder / "empty").touch()
    (folder / ".DS_Store").write_bytes(b"mac")
    return folder


@contextmanager
def unpacking(bridge: Bridge) -> Iterator[None]:
    """What the poller does, as long as this lasts."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.02):
            deliveries.deliver(bridge)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_folder_is_sent_and_its_hash_was_known_before(
    client: Client, bridge: Bridge, recordings: Path
) -> None:
    with unpacking(bridge):
        made = client.datasets.put(recordings)
    assert made.newest is not None
    assert (made.name, made.owner, made.newest.files) == ("eeg", "lab", 3)
    assert made.newest.sha256 == data.packed(recordings, lambda *_: None).sha256
    (found,) = datasets.visible(bridge)
    listed = [file.path for file in datasets.files(bridge, found, found.versions[0])]
    assert listed == ["empty", "sub-01/ä.edf", "table.csv"]


def test_what_is_sent_is_an_honest_zip_from_any_offset_on(recordings: Path, tmp_path: Path) -> None:
    packed = data.packed(recordings, lambda *_: None)
    whole = b"".join(packed.read(0))
    assert len(whole) == packed.size
    for offset in (1, 40, 600, 3000, packed.size - 1, packed.size):
        assert b"".join(packed.read(offset)) == whole[offset:]
    (tmp_path / "a.zip").write_bytes(whole)
    with zipfile.ZipFile(tmp_path / "a.zip") as opened:
        assert opened.testzip() is None
        assert len(opened.namelist()) == 3
    later = time.time() + 1000
    os.utime(recordings / "table.csv", (later, later))
    assert b"".join(data.packed(recordings, lambda *_: None).read(0)) == whole


def test_the_same_content_is_not_sent_twice(
    client: Client, bridge: Bridge, recordings: Path
) -> None:
    sent: list[int] = []
    with unpacking(bridge):
        first = client.datasets.put(recordings, told=lambda done, _: sent.append(done))
        before = len(sent)
        again = client.datasets.put(recordings, told=lambda done, _: sent.append(done))
    assert before > 0 and len(sent) == before
    assert again.versions == first.versions


def test_an_administrator_does_not_take_anothers_content_for_her_own(
    client: Client, bridge: Bridge, recordings: Path
) -> None:
    bridge.store.people.change(bridge.person.id, role="administrator")
    other = staged.as_person(bridge, "bob")
    staged.dataset(other, "eeg", {"sub-01/ä.edf": (recordings / "sub-01/ä.edf").read_bytes(),
                                  "table.csv": "1,2\n", "empty": ""})  # fmt: skip
    with unpacking(bridge):
        made = client.datasets.put(recordings)
    assert made.owner == "lab"
    assert client.datasets.get("eeg").owner == "lab"
    assert client.datasets.get("bob/eeg").newest.sha256 == made.newest.sha256  # type: ignore[union-attr]


def test_what_broke_off_goes_on_where_it_was_when_it_is_called_anew(
    client: Client, bridge: Bridge, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE", 1000)
    monkeypatch.setattr(pieces, "_PAUSES", (0, 0))
    asked = Gateway.headers
    count = itertools.count()

    def breaks(self: Gateway, method: str, *args: object) -> object:
        if method == "PATCH" and next(count) >= 2:
            raise NoAnswer("the network is away")
        return asked(self, method, *args)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(Gateway, "headers", breaks)
        with pytest.raises(NoAnswer):
            client.datasets.put(recordings)
    told: list[int] = []
    with unpacking(bridge):
        made = client.datasets.put(recordings, told=lambda done, _: told.append(done))
    assert told[0] == 2000
    assert made.newest is not None
    assert made.newest.sha256 == data.packed(recordings, lambda *_: None).sha256
    assert not list(staged.here(bridge).uploads.glob("*.coming"))


def test_an_upload_that_the_gateway_forgot_is_begun_anew(
    client: Client, bridge: Bridge, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE", 1000)
    monkeypatch.setattr(pieces, "_PAUSES", ())

    def away(*_args: object) -> int:
        raise NoAnswer("the network is away")

    with monkeypatch.context() as patched:
        patched.setattr(pieces, "_piece", away)
        with pytest.raises(NoAnswer):
            client.datasets.put(recordings)
    for file in staged.here(bridge).uploads.iterdir():
        file.unlink()
    monkeypatch.setattr(pieces, "_PAUSES", (0, 0))
    with unpacking(bridge):
        assert client.datasets.put(recordings).newest


def test_a_file_that_changes_while_it_is_sent_makes_no_version(
    client: Client, bridge: Bridge, recordings: Path
) -> None:
    packed = data.packed(recordings, lambda *_: None)
    (recordings / "sub-01" / "ä.edf").write_bytes(os.urandom(3000))
    upload = pieces.send(client.gateway, packed, {"kind": "dataset"}, lambda *_: None)
    client.gateway.post("datasets", {"upload": upload, "name": "eeg"})
    deliveries.deliver(bridge)
    (found,) = datasets.visible(bridge)
    assert found.versions == ()
    assert "damaged" in found.arriving[0].problem
    (recordings / "table.csv").write_text("")
    with pytest.raises(BadUpload, match="has become shorter"):
        list(packed.read(0))


def test_a_zip_and_a_single_file_are_sent_as_they_are(
    client: Client, bridge: Bridge, tmp_path: Path
) -> None:
    (tmp_path / "model.pt").write_bytes(b"weights")
    with zipfile.ZipFile(tmp_path / "emg.zip", "w") as made:
        made.writestr("emg/a", "1")
    with unpacking(bridge):
        model = client.datasets.put(tmp_path / "model.pt")
        emg = client.datasets.put(tmp_path / "emg.zip")
    assert (model.name, emg.name) == ("model.pt", "emg")
    assert model.newest is not None
    assert model.newest.sha256 == data.packed(tmp_path / "model.pt", lambda *_: None).sha256


def test_what_can_not_be_unpacked_is_told(client: Client, bridge: Bridge, tmp_path: Path) -> None:
    body = bytearray(staged.zipped("d", {"a": os.urandom(5000)}))
    body[2000] ^= 1
    (tmp_path / "d.zip").write_bytes(body)
    with unpacking(bridge), pytest.raises(BadUpload, match=r"d\.zip: .*damaged"):
        client.datasets.put(tmp_path / "d.zip")


def test_links_and_odd_names_are_refused_before_anything_is_sent(
    client: Client, recordings: Path, tmp_path: Path
) -> None:
    (recordings / "elsewhere").symlink_to(tmp_path)
    with pytest.raises(BadUpload, match="is a link to a folder"):
        client.datasets.put(recordings)
    (recordings / "elsewhere").unlink()
    odd = recordings.rename(tmp_path / "my recordings")
    with pytest.raises(BadUpload, match="Give it one with --name"):
        client.datasets.put(odd)
    with pytest.raises(BadUpload, match="holds no files"):
        (tmp_path / "nothing").mkdir()
        client.datasets.put(tmp_path / "nothing")


def test_sharing_and_deleting(client: Client, bridge: Bridge, recordings: Path) -> None:
    bob = staged.as_person(bridge, "bob")
    with unpacking(bridge):
        made = client.datasets.put(recordings)
    made.share(["bob@lab.org"])
    assert [each.name for each in datasets.usable(bob)] == ["eeg"]
    with pytest.raises(NotFound, match="has no version ffff"):
        made.delete("ffff")
    assert made.newest is not None
    made.delete(made.newest.sha256[:8])
    with pytest.raises(NotFound, match="no dataset “eeg”"):
        client.datasets.get("eeg")


def test_of_two_others_datasets_by_one_name_none_is_taken_unsaid(
    client: Client, bridge: Bridge
) -> None:
    for handle in ("bob", "eva"):
        other = staged.as_person(bridge, handle)
        made = staged.dataset(other, "eeg", {"a": handle})
        datasets.share(other, made.id, ["lab"], ())
    with pytest.raises(NotFound, match="may be bob/eeg or eva/eeg: say which"):
        client.datasets.get("eeg")
    assert client.datasets.get("eva/eeg").owner == "eva"


def test_a_project_is_submitted_with_datasets(
    client: Client, bridge: Bridge, tmp_path: Path
) -> None:
    staged.dataset(bridge, "eeg", {"a": "1"})
    run = client.submit(project(tmp_path), datasets=["eeg"])
    assert [each["name"] for each in run.told["datasets"]] == ["eeg"]
    with pytest.raises(Refused, match="is no dataset"):
        client.submit(tmp_path / "psd-study", datasets=["emg"], again=True)


def test_the_command_puts_lists_and_removes(nias: Nias, bridge: Bridge, recordings: Path) -> None:
    with unpacking(bridge):
        said = nias("datasets", "put", recordings)
    assert (said.exit_code, "eeg: 3 files, 3,004 bytes, version" in said.output) == (0, True)
    told = json.loads(nias("datasets", "list", "--json").stdout)
    assert [each["name"] for each in told] == ["eeg"]
    assert "lab/eeg" in nias("datasets", "list").output
    here = project(Path.cwd())
    submitted = nias("submit", here, "--dataset", "eeg", "--json")
    run = json.loads(submitted.stdout)
    assert [each["name"] for each in run["datasets"]] == ["eeg"]
    refused = nias("datasets", "rm", "eeg", "--yes")
    assert (refused.exit_code, f"have not ended: {run['id']}" in refused.output) == (65, True)
    assert nias("datasets", "rm", "eeg", input="n\n").exit_code == 1
    staged.move(bridge, bridge.store.run(run["id"]), staged.JobState.CANCELLED)
    gone = nias("datasets", "rm", "eeg", "--yes", "--json")
    assert json.loads(gone.stdout) == {"deleted": "lab/eeg"}
    assert datasets.visible(bridge) == []


def test_check_accepts_what_nias_toml_names(nias: Nias) -> None:
    made = project(Path.cwd(), nias__toml='[job]\ndatasets = ["eeg", "alice/emg@3fa2"]\n')
    said = nias("check", made)
    assert said.exit_code == 0, said.output
