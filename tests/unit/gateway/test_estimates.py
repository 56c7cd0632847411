"""Claims about when a held upload would start: asked by the page, answered by the poller."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import PurePosixPath

import pytest
import staged
from client import zipped
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from nias_bridge.services import estimates, held, intake
from nias_bridge.services.bridge import Bridge
from nias_bridge.slurm.fake import FakeScheduler

AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
Submit = Callable[..., TestResponse]


@pytest.fixture
def slurm() -> FakeScheduler:
    return FakeScheduler(clock=lambda: AT)


@pytest.fixture
def upload(bridge: Bridge) -> str:
    toml = "[job]\ncpus = 2\n"
    part = staged.arrived(bridge, zipped("p", {"code.py": "", "nias.toml": toml}))
    return intake.hold(bridge, part, "p.zip")


def questions(bridge: Bridge) -> list[str]:
    return [file.read_text() for file in staged.here(bridge).uploads.glob("*.sbatch")]


def live(web: FlaskClient, page: TestResponse) -> str:
    """The part of the page that changes, fetched from where the page says it is."""
    where = re.search(r'data-live="([^"]+)"', page.get_data(as_text=True))
    assert where
    return web.get(where[1].replace("&amp;", "&")).get_data(as_text=True)


def test_slurm_is_asked_by_the_poller_when_a_held_upload_would_start(
    web: FlaskClient, bridge: Bridge, slurm: FakeScheduler, upload: str
) -> None:
    page = web.get(f"/upload/{upload}")
    (asked,) = questions(bridge)
    assert "#SBATCH --cpus-per-task=2\n" in asked
    assert "data-ended" not in live(web, page)
    slurm.unreachable(queue=True)
    estimates.answer(bridge, slurm)
    assert questions(bridge) == [asked]
    slurm.unreachable()
    estimates.answer(bridge, slurm)
    assert "Slurm expects it to begin" in live(web, page)
    held.drop(bridge, upload)
    assert list(staged.here(bridge).uploads.iterdir()) == []


def test_what_slurm_would_refuse_is_said_before_it_is_sent(
    web: FlaskClient, bridge: Bridge, slurm: FakeScheduler, upload: str
) -> None:
    page = web.get(f"/upload/{upload}")
    slurm.next_submit("reject")
    estimates.answer(bridge, slurm)
    assert slurm.jobs == []
    told = live(web, page)
    assert "Slurm would refuse this as it is: Invalid partition name specified" in told


def test_a_changed_form_is_asked_about_anew_and_has_an_answer_of_its_own(
    web: FlaskClient, bridge: Bridge, slurm: FakeScheduler, submit: Submit, upload: str
) -> None:
    before = web.get(f"/upload/{upload}")
    estimates.answer(bridge, slurm)
    after = submit(f"/upload/{upload}/wish", time="30", cpus="", memory="1G")
    assert "Slurm expects" not in live(web, after)
    (asked,) = questions(bridge)
    assert "#SBATCH --time=30\n" in asked and "--mem=1G\n" in asked
    assert "--cpus-per-task=2\n" in asked  # what the form leaves open, nias.toml says
    slurm.next_submit("later")
    estimates.answer(bridge, slurm)
    assert "Slurm would refuse this as it is: AssocMaxSubmitJobLimit" in live(web, after)
    assert "Slurm expects it to begin" in live(web, before)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"cpus": "99"}, "cpus is 99; a job in partition main has at most 4."),
        (
            {"time": "20", "partition": "short"},
            "time is 20; a job in partition short may take at most 00:10:00.",
        ),
        ({"time": "soon"}, "time: “soon” is not a time"),
        ({"cpus": "two"}, "cpus: “two” is not a count"),
        ({"partition": "nowhere"}, "partition is nowhere; there is main, short."),
    ],
)
def test_what_is_beyond_the_limits_is_told_at_once_and_slurm_is_not_asked(
    bridge: Bridge, submit: Submit, upload: str, fields: dict[str, str], sentence: str
) -> None:
    staged.show_partitions(bridge)
    told = submit(f"/upload/{upload}/wish", **fields)
    assert told.status_code == 200
    assert sentence in told.get_data(as_text=True)
    assert "data-ended" in told.get_data(as_text=True)
    assert questions(bridge) == []


def test_another_partition_has_other_limits_beside_the_fields(
    web: FlaskClient, bridge: Bridge, submit: Submit, upload: str
) -> None:
    staged.show_partitions(bridge)
    page = web.get(f"/upload/{upload}").get_data(as_text=True)
    assert "<option>main</option>" in page and "<option>short</option>" in page
    assert "or minutes</p>" in page
    told = submit(f"/upload/{upload}/wish", partition="short").get_data(as_text=True)
    assert "or minutes; at most 10 min" in told
    assert "There are none in partition short" in told


def test_an_upload_that_is_gone_is_asked_about_no_more(submit: Submit) -> None:
    assert submit("/upload/nothing/wish", time="30").status_code == 404


def test_the_question_lies_where_slurm_can_read_it(bridge: Bridge) -> None:
    assert staged.here(bridge).uploads_on_cluster == PurePosixPath("/shared/uploads")
