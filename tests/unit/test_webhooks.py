"""People's own programs are told: a real server gets what is signed; hosts within stay untold."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import staged
from freeports import free_port
from postbox import postbox
from receivers import Receiver, receiving

from nias_bridge import webhook
from nias_bridge.domain import JobState
from nias_bridge.errands import ErrandKind
from nias_bridge.errors import BadRequest
from nias_bridge.people import Standing
from nias_bridge.services import accounts, hooks, outbox
from nias_bridge.services.bridge import Bridge

DOC = Path(__file__).parents[2] / "docs" / "webhooks.md"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def bridge(tmp_path: Path) -> Bridge:
    return staged.make_bridge(tmp_path, webhook_private=True)


def in_an_hour() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)


def tries(bridge: Bridge) -> list[int]:
    """Of all that waits, how often each was tried."""
    return [errand.tries for errand in bridge.store.outbox.due(now=in_an_hour(), most=100)]


def documented() -> Callable[[str, Mapping[str, str], bytes], bool]:
    """The check that docs/webhooks.md tells people to make."""
    told = re.search(r"```python\n(.+?)```", DOC.read_text(), re.DOTALL)
    assert told
    names: dict[str, Any] = {}
    exec(told[1], names)
    check: Callable[[str, Mapping[str, str], bytes], bool] = names["is_from_nias"]
    return check


def test_each_state_is_told_signed_as_the_documentation_checks_it(
    bridge: Bridge, receiver: Receiver
) -> None:
    hook = hooks.set_hook(bridge, receiver.url)
    run = staged.completed(bridge)
    staged.add(staged.as_person(bridge, "bento"), "hers")
    outbox.deliver(bridge)
    assert receiver.states() == ["RECEIVED", *map(str, staged.STARTED), "COMPLETED"]
    check = documented()
    for path, headers, body in receiver.came:
        assert path == "/runs?of=lab"
        assert headers["Host"] == f"127.0.0.1:{receiver.port}"
        assert check(hook.secret, headers, body)
        assert not check("another secret", headers, body)
        assert not check(hook.secret, headers, body + b" ")
        old = {**headers, "Nias-Timestamp": str(int(headers["Nias-Timestamp"]) - 1)}
        assert not check(hook.secret, old, body)
    told = [json.loads(body) for _, _, body in receiver.came]
    assert [each["run"]["ended"] for each in told] == [False] * (len(told) - 1) + [True]
    assert told[-1]["run"]["id"] == run.id
    numbers = [each["delivery"] for each in told]
    assert sorted(set(numbers)) == numbers
    assert [headers["Nias-Delivery"] for _, headers, _ in receiver.came] == [*map(str, numbers)]
    assert tries(bridge) == []


def test_the_keys_that_come_are_those_of_the_documentation(
    bridge: Bridge, receiver: Receiver
) -> None:
    hooks.set_hook(bridge, receiver.url)
    staged.add(bridge, "study")
    outbox.deliver(bridge)
    example = re.search(r"```json\n(.+?)```", DOC.read_text(), re.DOTALL)
    assert example
    said, came = json.loads(example[1]), json.loads(receiver.came[0][2])
    assert (said.keys(), said["run"].keys()) == (came.keys(), came["run"].keys())


@pytest.mark.parametrize("status", [500, 404, 302, 307])
def test_what_is_no_yes_is_tried_again_later_and_in_order(
    bridge: Bridge, receiver: Receiver, status: int
) -> None:
    hooks.set_hook(bridge, receiver.url)
    staged.move(bridge, staged.add(bridge, "study"), *staged.SUBMITTED)
    receiver.status = status
    outbox.deliver(bridge)
    outbox.deliver(bridge)
    assert receiver.states() == ["RECEIVED"], "the others wait behind it; nothing is followed"
    told = bridge.store.outbox.hook(bridge.person.id)
    assert told is not None
    assert f"answered with {status}" in told.trouble
    assert tries(bridge) == [1, 0, 0, 0]
    receiver.status = 200
    outbox.deliver(bridge, in_an_hour)
    assert receiver.states() == ["RECEIVED", "RECEIVED", "STAGED", "SUBMITTING", "PENDING"]
    numbers = [headers["Nias-Delivery"] for _, headers, _ in receiver.came]
    assert numbers[0] == numbers[1]
    told = bridge.store.outbox.hook(bridge.person.id)
    assert told is not None
    assert told.trouble == ""


def test_each_wait_is_longer_up_to_an_hour() -> None:
    waits = [outbox._wait(number).total_seconds() for number in range(12)]
    assert waits[:3] == [30, 60, 120]
    assert waits == sorted(waits)
    assert waits[-1] == 3600


def test_a_receiver_that_drips_or_is_silent_is_left_in_time(
    bridge: Bridge, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "SECONDS", 0.5)
    hooks.set_hook(bridge, receiver.url)
    staged.add(bridge, "study")
    receiver.drips = True
    begun = time.monotonic()
    outbox.deliver(bridge)
    assert time.monotonic() - begun < 8, "all that is dripped takes 11 s"
    assert tries(bridge) == [1]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hooks.set_hook(bridge, f"http://127.0.0.1:{silent.getsockname()[1]}/")
        begun = time.monotonic()
        outbox.deliver(bridge, in_an_hour)
        assert time.monotonic() - begun < 20
        hooks.set_hook(bridge, f"https://127.0.0.1:{silent.getsockname()[1]}/")
        begun = time.monotonic()
        outbox.deliver(bridge, lambda: in_an_hour() + timedelta(hours=1))
        assert time.monotonic() - begun < 20, "nor does it hang in a handshake"
    (errand,) = bridge.store.outbox.due(now=in_an_hour() + timedelta(hours=9), most=9)
    assert errand.tries == 3


def test_one_who_does_not_answer_keeps_nobody_else_waiting(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "SECONDS", 60)
    with postbox() as box, socket.create_server(("127.0.0.1", 0)) as silent:
        bridge = staged.make_bridge(
            tmp_path,
            webhook_private=True,
            smtp_url=f"smtp://127.0.0.1:{box.port}",
            mail_from="nias@lab.org",
        )
        bento = staged.as_person(bridge, "bento")
        hooks.set_hook(bridge, f"http://127.0.0.1:{silent.getsockname()[1]}/")
        hooks.set_hook(bento, receiver.url)
        staged.add(bridge, "study")
        staged.add(bento, "study")
        accounts.ask_password(bridge, "lab@lab.org")
        teller = threading.Thread(target=outbox.deliver, args=[bridge])
        begun = time.monotonic()
        teller.start()
        try:
            while not (box.came and receiver.came):
                assert time.monotonic() - begun < 30, "its own deadline is 60 s"
                time.sleep(0.02)
        finally:
            silent.close()  # who waits there hears of it
            teller.join()


WITHIN = [
    "http://127.0.0.1/",
    "http://localhost:9000/",
    "http://2130706433/",
    "http://0x7f.1/",
    "http://017700000001/",
    "http://0.0.0.0/",
    "http://[::1]/",
    "http://[::]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:10.0.0.1]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::10.0.0.1]/",
    "http://[2002:7f00:1::]/",
    "http://[fe80::1]/",
    "http://[fd00::1]/",
    "http://[ff02::1]/",
    "http://10.1.2.3/",
    "http://172.16.0.1/",
    "http://192.168.1.1/",
    "http://100.64.0.1/",
    "http://169.254.169.254/latest/meta-data",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
]


@pytest.mark.parametrize("url", WITHIN)
def test_no_address_within_the_site_is_told(tmp_path: Path, url: str) -> None:
    bridge = staged.make_bridge(tmp_path)
    with pytest.raises(BadRequest, match=r"within this site|not known"):
        hooks.set_hook(bridge, url)
    assert bridge.store.outbox.hook(bridge.person.id) is None


def test_addresses_of_the_internet_may_be_told(tmp_path: Path) -> None:
    bridge = staged.make_bridge(tmp_path)
    for url in ("https://93.184.216.34/x", "http://[2606:2800:220:1::1]:8080/x?y=1"):
        assert hooks.set_hook(bridge, url).url == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "study.org/hook",
        "ftp://study.org/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:25/_HELO",
        "http://",
        "http:///x",
        "http://user:password@study.org/",
        "http://study.org@127.0.0.1/",
        "http://study.org:99999/",
        "http://study.org:port/",
        "http://[::1/",
        "http://study.org/a b",
        "http://study.org/\r\nX-Evil: 1",
        "http://study.org/ü",
        "http://study.org/" + "x" * 500,
    ],
)
def test_what_is_no_address_of_a_program_is_told(bridge: Bridge, url: str) -> None:
    with pytest.raises(BadRequest) as told:
        hooks.set_hook(bridge, url)
    assert told.value.field == "url"


def test_a_name_that_leads_elsewhere_later_is_not_followed(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge = staged.make_bridge(tmp_path)
    asked: list[str] = []

    def leads_to(address: str) -> None:
        def found(host: str, *_: Any, **__: Any) -> list[Any]:
            asked.append(host)
            inside = (address, receiver.port)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", inside)]

        monkeypatch.setattr(webhook.socket, "getaddrinfo", found)

    leads_to("93.184.216.34")
    hooks.set_hook(bridge, f"http://rebound.org:{receiver.port}/")
    staged.add(bridge, "study")
    leads_to("127.0.0.1")
    outbox.deliver(bridge)
    assert receiver.came == []
    monkeypatch.undo()
    told = bridge.store.outbox.hook(bridge.person.id)
    assert told is not None
    assert "within this site" in told.trouble
    assert asked == ["rebound.org", "rebound.org"], "once a time, and connected to what it said"


def test_a_program_that_is_gone_is_told_for_a_day(bridge: Bridge) -> None:
    hooks.set_hook(bridge, f"http://127.0.0.1:{free_port()}/")
    run = staged.add(bridge, "study")
    outbox.deliver(bridge)
    assert tries(bridge) == [1]
    two_days_ago = datetime.now(UTC) - timedelta(days=2)
    bridge.store.outbox.drop_hook(bridge.person.id)
    hooks.set_hook(bridge, f"http://127.0.0.1:{free_port()}/")
    bridge.store.move(run, JobState.STAGED, at=two_days_ago)
    outbox.deliver(bridge)
    assert tries(bridge) == []


def test_a_webhook_that_is_dropped_is_told_nothing_of_what_was_before(
    bridge: Bridge, receiver: Receiver
) -> None:
    first = hooks.set_hook(bridge, receiver.url)
    staged.add(bridge, "study")
    hooks.drop_hook(bridge)
    assert tries(bridge) == []
    staged.add(bridge, "another")
    second = hooks.set_hook(bridge, receiver.url)
    assert first.secret != second.secret
    outbox.deliver(bridge)
    assert receiver.came == []


def test_a_disabled_person_is_told_nothing(bridge: Bridge, receiver: Receiver) -> None:
    hooks.set_hook(bridge, receiver.url)
    staged.add(bridge, "study")
    bridge.store.people.change(bridge.person.id, standing=Standing.DISABLED)
    outbox.deliver(bridge)
    assert receiver.came == []
    assert ErrandKind.RUN_MOVED not in [
        e.kind for e in bridge.store.outbox.due(now=datetime.now(UTC) + timedelta(1), most=9)
    ]
