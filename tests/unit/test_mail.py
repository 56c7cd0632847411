"""Mail, as a real server gets it: letters, the outbox, and what is never sent."""

from __future__ import annotations

import ipaddress
import ssl
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import staged
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from freeports import free_port
from postbox import Postbox, postbox
from pydantic import ValidationError
from sqlalchemy import Engine, event

from nias_bridge import mail
from nias_bridge.domain import JobState, Run
from nias_bridge.errands import ErrandKind
from nias_bridge.errors import NoAnswer, StoreError, TooManyTries, Undeliverable
from nias_bridge.people import NOBODY, Caller, KeyKind, MailWish, Role, Standing
from nias_bridge.poller import Rounds
from nias_bridge.services import accounts, keys, outbox
from nias_bridge.services.bridge import Bridge
from nias_bridge.services.letters import PICTURE_MAX_BYTES
from nias_bridge.slurm.fake import FakeScheduler

PASSWORD = "violet tram across seven"
NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


@pytest.fixture
def box() -> Iterator[Postbox]:
    with postbox() as made:
        yield made


def bridge_to(folder: Path, port: int, **settings: Any) -> Bridge:
    told = {"smtp_url": f"smtp://127.0.0.1:{port}", "mail_from": "NIAS <nias@lab.org>"}
    return staged.make_bridge(folder, **{**told, **settings})


@pytest.fixture
def bridge(tmp_path: Path, box: Postbox) -> Bridge:
    return bridge_to(tmp_path, box.port)


def wish(bridge: Bridge, what: MailWish) -> None:
    bridge.store.people.change(bridge.person.id, mail=what)


def waiting(bridge: Bridge, ahead: timedelta = timedelta()) -> list[str]:
    """What is in the outbox and due by then."""
    return [e.kind for e in bridge.store.outbox.due(now=datetime.now(UTC) + ahead, most=100)]


def test_a_run_that_ended_is_told_once_with_its_first_picture(bridge: Bridge, box: Postbox) -> None:
    wish(bridge, MailWish.ALL)
    run = staged.completed(bridge)
    outbox.deliver(bridge)
    outbox.deliver(bridge)
    ((to, message),) = box.came
    assert to == ["lab@lab.org"]
    assert message["From"] == "NIAS <nias@lab.org>"
    assert message["Subject"] == "power-spectrum, run 1: completed"
    assert message["Auto-Submitted"] == "auto-generated"
    assert "ran to its end without an error" in box.text()
    assert f"http://127.0.0.1:8080/runs/{run.id}" in box.text()
    (picture,) = message.iter_attachments()
    assert picture.get_content_type() == "image/png"
    assert picture.get_filename() == "spectrum.png"
    assert picture.get_content() == staged.picture()
    assert waiting(bridge, timedelta(days=9)) == []


def test_a_failure_is_told_with_what_the_page_says_of_it(bridge: Bridge, box: Postbox) -> None:
    wish(bridge, MailWish.FAILED)
    staged.failed(bridge)
    outbox.deliver(bridge)
    assert box.came[0][1]["Subject"] == "emg-onset, run 1: failed"
    assert "channel_7" in box.text()


@pytest.mark.parametrize(
    ("what", "told"),
    [
        (MailWish.NONE, set()),
        (MailWish.FAILED, {JobState.FAILED, JobState.TIMEOUT, JobState.OUT_OF_MEMORY}),
        (
            MailWish.ALL,
            {
                JobState.FAILED,
                JobState.TIMEOUT,
                JobState.OUT_OF_MEMORY,
                JobState.COMPLETED,
                JobState.CANCELLED,
            },
        ),
    ],
)
def test_one_is_told_what_one_wished_to_be(
    bridge: Bridge, what: MailWish, told: set[JobState]
) -> None:
    wish(bridge, what)
    other = staged.as_person(bridge, "bento")
    wish(other, MailWish.ALL)
    ends = [JobState.FAILED, JobState.TIMEOUT, JobState.OUT_OF_MEMORY]
    ends += [JobState.COMPLETED, JobState.CANCELLED]
    for number, end in enumerate(ends):
        staged.move(bridge, staged.add(bridge, f"p{number}"), *staged.STARTED, end)
    errands = bridge.store.outbox.due(now=datetime.now(UTC), most=100)
    assert {JobState(e.detail) for e in errands} == told
    assert {e.person_id for e in errands} <= {bridge.person.id}


def ended_sweep(bridge: Bridge) -> Run:
    run = staged.swept(bridge)
    tasks = bridge.store.tasks(run.id)
    bridge.store.save_tasks([replace(tasks[3], state=JobState.FAILED)])
    return bridge.store.move(run, JobState.FAILED, at=datetime.now(UTC))


def test_a_sweep_is_one_mail_that_counts_its_tasks(bridge: Bridge, box: Postbox) -> None:
    wish(bridge, MailWish.ALL)
    ended_sweep(bridge)
    outbox.deliver(bridge)
    ((_, message),) = box.came
    assert message["Subject"] == "filter-bank, run 1: failed (3 COMPLETED, 1 FAILED)"
    assert [part.get_filename() for part in message.iter_attachments()] == ["response.png"]


def test_a_picture_that_is_too_large_or_a_link_out_is_not_attached(
    bridge: Bridge, box: Postbox, tmp_path: Path
) -> None:
    wish(bridge, MailWish.ALL)
    run = staged.running(bridge)
    staged.leave(bridge, run, {"a.png": b"x" * (PICTURE_MAX_BYTES + 1), "b.png": b"", "c.jpg": b""})
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    output = staged.here(bridge).run(run).output
    (output / "d.png").symlink_to(secret)
    for name in ("b.png", "c.jpg"):  # they grew since they were listed
        (output / name).write_bytes(b"x" * (PICTURE_MAX_BYTES + 1))
    listed = [{"path": n, "size": 10, "sha256": None} for n in ("b.png", "c.jpg", "d.png")]
    staged.here(bridge).run(run).manifest.write_text(
        '{"files": ' + str(listed).replace("'", '"').replace("None", "null") + ', "left_out": []}'
    )
    bridge.store.move(run, JobState.COMPLETED, at=datetime.now(UTC))
    outbox.deliver(bridge)
    assert list(box.came[0][1].iter_attachments()) == []


def test_a_run_that_is_not_the_persons_any_more_is_not_told(bridge: Bridge, box: Postbox) -> None:
    wish(bridge, MailWish.ALL)
    staged.completed(bridge)
    bridge.store.people.change(bridge.person.id, standing=Standing.DISABLED)
    outbox.deliver(bridge)
    assert box.came == []
    assert waiting(bridge, timedelta(days=9)) == []


def test_who_waits_is_told_to_administrators_and_then_to_herself(
    bridge: Bridge, box: Postbox
) -> None:
    for handle in ("root1", "root2"):
        staged.as_person(bridge, handle, Role.ADMINISTRATOR)
    gone = staged.as_person(bridge, "root3", Role.ADMINISTRATOR)
    bridge.store.people.change(gone.person.id, standing=Standing.DISABLED)
    person = accounts.register(bridge, "maria@new.org", "Maria Silva", PASSWORD)
    assert person is not None
    outbox.deliver(bridge)
    to, message = box.came[0]
    assert sorted(to) == ["root1@lab.org", "root2@lab.org"]
    assert message["Subject"] == "NIAS bridge: Maria Silva asks for an account"
    bridge.store.people.change(person.id, standing=Standing.ACTIVE)
    outbox.deliver(bridge)
    to, message = box.came[1]
    assert (to, message["Subject"]) == (["maria@new.org"], "NIAS bridge: your account is confirmed")
    assert len(box.came) == 2


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """What the databases are asked, as it is asked."""
    made: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        made.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield made
    event.remove(Engine, "before_cursor_execute", note)


def asked(bridge: Bridge) -> Bridge:
    return replace(bridge, who=Caller(address="192.0.2.7"))


def test_a_forgotten_password_is_set_by_the_link_that_comes(bridge: Bridge, box: Postbox) -> None:
    accounts.ask_password(asked(bridge), "LAB@lab.org")
    outbox.deliver(bridge)
    assert box.came[0][0] == ["lab@lab.org"]
    (link,) = [line for line in box.text().splitlines() if "/password/" in line]
    accounts.set_password_by_link(bridge, link.rpartition("/")[2], PASSWORD)
    assert accounts.sign_in(bridge, "lab@lab.org", PASSWORD).id == bridge.person.id


def test_nothing_tells_whether_anybody_has_the_address(
    bridge: Bridge, box: Postbox, statements: list[str]
) -> None:
    """What is done while she waits is the same: the address is looked up by who sends the mail."""
    for number in range(12):
        visitor = replace(bridge, who=Caller(address=f"192.0.2.{number}"))
        done = {}
        for who in ("lab", "nobody"):
            statements.clear()
            told = ""
            try:
                accounts.ask_password(visitor, f"{who}@lab.org")
            except TooManyTries as error:
                assert number >= 3
                told = str(error)
            done[who] = (told, *statements)
        assert done["lab"] == done["nobody"]
        assert len(done["lab"]) > 1
    outbox.deliver(bridge)
    assert {tuple(to) for to, _ in box.came} == {("lab@lab.org",)}
    assert len(box.came) == 3, "then it is told to wait"
    assert waiting(bridge, timedelta(days=9)) == []


def test_a_secret_never_waits_in_the_outbox(bridge: Bridge) -> None:
    accounts.ask_password(asked(bridge), "lab@lab.org")
    assert bridge.store.keys.of(KeyKind.PASSWORD) == []
    keys.give_link(bridge, KeyKind.PASSWORD, bridge.person)  # by the administrator, say
    (errand,) = bridge.store.outbox.due(now=datetime.now(UTC), most=9)
    assert errand.detail == "lab@lab.org"


def test_a_disabled_person_gets_no_link(bridge: Bridge, box: Postbox) -> None:
    bridge.store.people.change(bridge.person.id, standing=Standing.DISABLED)
    accounts.ask_password(asked(bridge), "lab@lab.org")
    outbox.deliver(bridge)
    assert box.came == []


def test_what_the_server_does_not_take_now_is_sent_later_under_the_same_number(
    bridge: Bridge, box: Postbox
) -> None:
    accounts.ask_password(asked(bridge), "lab@lab.org")
    box.answer = "451 try again later"
    outbox.deliver(bridge)
    assert box.came == []
    assert waiting(bridge) == [], "not at once"
    assert waiting(bridge, timedelta(minutes=1)) == [ErrandKind.PASSWORD_ASKED]
    box.answer = "250 OK"
    (errand,) = bridge.store.outbox.due(now=datetime.now(UTC) + timedelta(hours=1), most=9)
    assert errand.tries == 1
    outbox.deliver(bridge, lambda: datetime.now(UTC) + timedelta(hours=1))
    number = f"<{errand.at:%Y%m%d%H%M%S}.{errand.id}.nias@lab.org>"
    assert [message["Message-ID"] for _, message in box.came] == [number]


@pytest.mark.parametrize("answer", ["554 this is spam", "552 too large"])
def test_what_the_server_never_takes_is_given_up(bridge: Bridge, box: Postbox, answer: str) -> None:
    accounts.ask_password(asked(bridge), "lab@lab.org")
    box.answer = answer
    outbox.deliver(bridge)
    assert waiting(bridge, timedelta(days=9)) == []


def test_who_has_no_mailbox_holds_up_nobody(bridge: Bridge, box: Postbox) -> None:
    for handle in ("nobody", "bento"):
        person = staged.as_person(bridge, handle)
        accounts.ask_password(asked(bridge), person.person.email)
    outbox.deliver(bridge)
    assert [to for to, _ in box.came] == [["bento@lab.org"]]
    assert waiting(bridge, timedelta(days=9)) == []


def test_a_server_that_is_down_is_waited_for_a_day(tmp_path: Path) -> None:
    bridge = bridge_to(tmp_path, free_port())
    accounts.ask_password(asked(bridge), "lab@lab.org")
    outbox.deliver(bridge)
    ahead = timedelta(minutes=1)
    assert waiting(bridge, ahead) == [ErrandKind.PASSWORD_ASKED]
    bridge.store.outbox.put(
        ErrandKind.PASSWORD_ASKED, at=datetime.now(UTC) - timedelta(days=2), detail="lab@lab.org"
    )
    outbox.deliver(bridge)
    assert waiting(bridge, ahead) == [ErrandKind.PASSWORD_ASKED], "the old one is given up"


def test_what_fails_in_a_way_of_its_own_stays(
    bridge: Bridge, box: Postbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise StoreError("The database did not do its part.")

    accounts.ask_password(asked(bridge), "lab@lab.org")
    with monkeypatch.context() as broken:
        broken.setattr(keys, "give_link", away)
        outbox.deliver(bridge)
    assert waiting(bridge, timedelta(hours=1)) == [ErrandKind.PASSWORD_ASKED]
    outbox.deliver(bridge, lambda: datetime.now(UTC) + timedelta(hours=1))
    assert len(box.came) == 1


def test_without_a_mail_server_nothing_piles_up(tmp_path: Path) -> None:
    bridge = staged.make_bridge(tmp_path)
    wish(bridge, MailWish.ALL)
    staged.completed(bridge)
    outbox.deliver(bridge)
    assert waiting(bridge, timedelta(days=9)) == []


def test_of_two_who_see_to_the_outbox_one_sends(bridge: Bridge, box: Postbox) -> None:
    accounts.ask_password(asked(bridge), "lab@lab.org")
    (errand,) = bridge.store.outbox.due(now=datetime.now(UTC), most=9)
    assert bridge.store.outbox.begin(errand, again_at=NOON)
    assert not bridge.store.outbox.begin(errand, again_at=NOON)


def test_the_poller_sees_to_the_outbox_and_waits_for_no_mail_server(
    bridge: Bridge, box: Postbox
) -> None:
    accounts.ask_password(asked(bridge), "lab@lab.org")
    rounds = Rounds(replace(bridge, who=NOBODY), FakeScheduler())
    rounds.turn()
    deadline = time.monotonic() + 30
    while not box.came:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    rounds.wait_aside(30)


@pytest.mark.parametrize("evil", ["a\nBcc: x@evil.org", "a\r\n\r\nbody", "a\u2028b\x00", "x" * 999])
def test_no_name_ends_a_header(evil: str) -> None:
    words = {"person": {"name": evil, "email": "m@lab.org"}, "site": "https://nias.lab.org"}
    message = mail.compose("registered", ["a@lab.org"], "n@lab.org", number="1", at=NOON, **words)
    assert len(message["Subject"]) <= mail.SUBJECT_MAX
    head = message.as_bytes().split(b"\r\n\r\n")[0]
    assert b"\r\nBcc:" not in head
    assert message["To"] == "a@lab.org"
    assert message["Bcc"] is None


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for 127.0.0.1 that nobody vouches for, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(here, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file


def a_message() -> Any:
    words = {"person": {"name": "M", "email": "m@lab.org"}, "site": "x"}
    return mail.compose("registered", ["a@lab.org"], "n@lab.org", number="1", at=NOON, **words)


def test_a_password_goes_through_tls_to_a_server_that_is_vouched_for(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trust.load_cert_chain(certificate)
    with postbox(trust) as box:
        url = f"smtp+starttls://maria%40lab:right@127.0.0.1:{box.port}"
        with pytest.raises(NoAnswer, match="certificate"):
            mail.send(url, a_message())
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        mail.send(url, a_message())
        assert len(box.came) == 1
        with pytest.raises(NoAnswer, match="refuses our login"):
            mail.send(url.replace("right", "wrong"), a_message())
        assert box.logins[0] == ("maria@lab", "right")
        assert {word for _, word in box.logins[1:]} == {"wrong"}


def test_a_server_without_tls_gets_no_password_where_tls_is_asked_for(box: Postbox) -> None:
    for scheme in ("smtp+starttls", "smtps"):
        with pytest.raises((NoAnswer, Undeliverable)):
            mail.send(f"{scheme}://maria:right@127.0.0.1:{box.port}", a_message())
    assert (box.logins, box.came) == ([], [])


@pytest.mark.parametrize(
    "wrong",
    [
        {"smtp_url": "http://mail.lab.org"},
        {"smtp_url": "smtp://"},
        {"smtp_url": "smtp://mail.lab.org:no"},
        {"smtp_url": "smtp://user:password@mail.lab.org"},
        {"smtp_url": "smtp://mail.lab.org", "mail_from": None},
        {"mail_from": "nobody"},
    ],
)
def test_settings_that_can_not_be_are_told(tmp_path: Path, wrong: dict[str, Any]) -> None:
    told = {"smtp_url": "smtp://mail.lab.org", "mail_from": "nias@lab.org"}
    with pytest.raises(ValidationError):
        staged.make_bridge(tmp_path, **{**told, **wrong})
