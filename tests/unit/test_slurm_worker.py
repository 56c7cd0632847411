"""A process of our own that makes the calls: deadlines, deaths, and what of us it gets."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from nias_bridge.errors import Rejected, Unreachable
from nias_bridge.slurm.worker import Lost, Worker

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "GIVEN": "yes"}


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker("labour", ENVIRONMENT, timeout=10)
    yield made
    made.close()


def test_it_answers_from_one_process_as_long_as_that_lives(worker: Worker) -> None:
    first = worker.call("pid")
    assert first != os.getpid()
    assert worker.call("pid") == first
    assert worker.call("add", 1, 2) == 3


def test_it_gets_its_own_environment_and_nothing_of_ours(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIAS_BRIDGE_SECRET_KEY", "not for jobs")
    assert set(worker.call("environment")) - {"LC_CTYPE"} == set(ENVIRONMENT)


def test_our_errors_come_back_as_they_are(worker: Worker) -> None:
    with pytest.raises(Rejected, match="no such partition"):
        worker.call("refuse", "no such partition")
    assert worker.call("add", 2, 2) == 4


def test_a_call_without_end_is_lost_at_its_deadline_and_the_next_one_starts_anew(
    worker: Worker,
) -> None:
    first = worker.call("pid")
    worker.timeout = 0.3
    begin = time.monotonic()
    with pytest.raises(Lost, match=r"no end within 0\.3 s"):
        worker.call("hang")
    assert time.monotonic() - begin < 20
    worker.timeout = 10
    assert worker.call("pid") != first
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


def test_a_process_that_ends_in_mid_call_is_lost_with_its_status(worker: Worker) -> None:
    with pytest.raises(Lost, match="ended with status 7"):
        worker.call("end", 7)
    assert worker.call("add", 1, 1) == 2


def test_a_process_killed_between_two_calls_is_replaced_unnoticed(worker: Worker) -> None:
    first = worker.call("pid")
    os.kill(first, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while worker._process and worker._process.poll() is None:
        assert time.monotonic() < deadline
    assert worker.call("pid") != first


def test_who_waits_too_long_for_the_call_before_was_not_called(worker: Worker) -> None:
    worker.call("pid")
    worker.timeout = 0.5
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(worker.call, "hang") for _ in range(2)]
        raised = {type(call.exception(timeout=20)) for call in calls}
    assert raised <= {Lost, Unreachable} and Lost in raised


def test_a_module_that_can_not_be_imported_is_lost(worker: Worker) -> None:
    absent = Worker("labour_not_there", ENVIRONMENT, timeout=10)
    with pytest.raises(Lost, match="ended with status 1"):
        absent.call("pid")
