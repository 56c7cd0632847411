"""A run on a real Slurm is told outside the pages: its end by mail, its states to a program."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from postbox import postbox
from receivers import receiving
from sites import OWNER, client_of, served

from nias_bridge.errands import Hook
from nias_bridge.localcluster import LocalCluster
from nias_bridge.people import MailWish
from nias_bridge.site import Site, running
from nias_bridge.store import open_store

DRAWS = """
from pathlib import Path
Path("output/line.png").write_bytes(b"not much of a picture")
"""
SECONDS = 60


def test_the_end_of_a_run_comes_once_by_mail_and_its_states_to_a_program(
    cluster: LocalCluster, make_site: Callable[..., Site]
) -> None:
    with postbox() as box, receiving() as program:
        site = make_site(
            cluster,
            smtp_url=f"smtp://127.0.0.1:{box.port}",
            mail_from="nias@example.org",
            webhook_private=True,
        )
        with served(site), running(site, "poll"):
            store = open_store(f"sqlite:///{site.state}/db/nias.db")
            person = store.people.find(email=OWNER)
            assert person
            store.people.change(person.id, mail=MailWish.ALL)
            now = datetime.now(UTC)
            store.outbox.save_hook(
                Hook(person_id=person.id, url=program.url, secret="s", created_at=now)
            )
            client = client_of(site)
            run = client.ended(client.upload(DRAWS, name="told")["id"])
            deadline = time.monotonic() + SECONDS
            while not (box.came and "COMPLETED" in program.states()):
                assert time.monotonic() < deadline, (box.came, program.states())
                time.sleep(0.1)
            store.close()
    ((to, message),) = box.came
    assert to == [OWNER]
    assert message["Subject"] == "told, run 1: completed"
    assert f"{site.url}/runs/{run['id']}" in box.text()
    assert [part.get_filename() for part in message.iter_attachments()] == ["line.png"]
    states = program.states()
    assert states[:3] == ["RECEIVED", "STAGED", "SUBMITTING"]
    assert states[-1] == "COMPLETED"
    assert len(set(states)) == len(states)
