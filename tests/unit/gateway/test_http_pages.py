"""Claims about the pages, as they are served; tests/browser looks at them in a browser."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import shown
import staged
from client import zipped
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from nias_bridge.domain import JobState
from nias_bridge.services.bridge import Bridge

Submit = Callable[..., TestResponse]


def upload(submit: Submit, name: str = "project", requirements: str = "") -> str:
    """Send a zip by the plain form; returns the page that shows what was found."""
    body = zipped(name, {"code.py": "", "requirements.txt": requirements, "output/x": ""})
    answer = submit("/upload", file=(io.BytesIO(body), f"{name}.zip"))
    assert answer.status_code == 303
    return answer.headers["Location"]


@pytest.mark.parametrize("state", list(JobState))
def test_every_state_has_its_word_and_sentence(
    web: FlaskClient, bridge: Bridge, state: JobState
) -> None:
    run = staged.add(bridge, "project")
    before = {
        JobState.RECEIVED: (),
        JobState.STAGED: (JobState.STAGED,),
        JobState.SUBMITTING: (JobState.STAGED, JobState.SUBMITTING),
    }
    run = staged.move(
        bridge, run, *before.get(state, (JobState.STAGED, JobState.SUBMITTING, state))
    )
    text = shown.page(web, f"/runs/{run.id}")
    assert f'data-state="{state}"' in text
    assert state.value in text
    for path in ("/", "/results"):
        assert f'data-state="{state}"' in shown.page(web, path)


def test_a_plain_form_leads_to_what_was_found_and_on_to_the_run(
    web: FlaskClient, submit: Submit
) -> None:
    found = upload(submit, "Análise EMG 2", "numpy==2.3.0\n")
    text = shown.page(web, found)
    assert "Análise EMG 2" in text
    assert "numpy==2.3.0" in text
    answer = submit(found)
    assert answer.status_code == 303
    assert "Análise EMG 2" in shown.page(web, answer.headers["Location"])
    assert web.get(found).status_code == 404


def test_what_is_wrong_with_a_zip_is_told_on_the_upload_page(
    web: FlaskClient, submit: Submit
) -> None:
    answer = submit("/upload", file=(io.BytesIO(b"nothing"), "project.zip"))
    assert answer.status_code == 422
    assert "This zip can’t be taken" in answer.get_data(as_text=True)
    assert "not a zip" in answer.get_data(as_text=True)


def test_a_name_in_use_offers_the_next_run(
    web: FlaskClient, submit: Submit, bridge: Bridge
) -> None:
    staged.completed(bridge, "project")
    found = upload(submit)
    assert "Run again as run 2" in shown.page(web, found)
    answer = submit(found)
    assert answer.status_code == 409, "not without the form's own word"
    assert submit(found, again="1").status_code == 303


def test_lines_that_can_be_mended_are_mended_at_a_word(web: FlaskClient, submit: Submit) -> None:
    found = upload(submit, requirements="torch==2.3.0+cu121\n")
    text = shown.page(web, found)
    assert "torch==2.3.0+cu121" in text
    assert "Mend and go on" in text
    assert submit(found).status_code == 422
    assert submit(found, mend="1").status_code == 303


def test_lines_without_a_mend_do_not_offer_one(web: FlaskClient, submit: Submit) -> None:
    text = shown.page(web, upload(submit, requirements="-e .\n"))
    assert "yours to decide" in text
    assert "Mend and go on" not in text
    assert "upload it anew" in text


def test_a_wrong_time_limit_is_told_beside_the_form(web: FlaskClient, submit: Submit) -> None:
    found = upload(submit)
    answer = submit(found, time="soon", memory="8G")
    text = answer.get_data(as_text=True)
    assert answer.status_code == 400
    assert "“soon” is not a time" in text
    assert 'value="8G"' in text, "what was written is not lost"


def test_a_discarded_zip_is_gone(web: FlaskClient, submit: Submit, bridge: Bridge) -> None:
    found = upload(submit)
    assert submit(f"{found}/drop").status_code == 303
    assert list(staged.here(bridge).uploads.iterdir()) == []


def test_a_failed_run_says_its_last_words_first(web: FlaskClient, bridge: Bridge) -> None:
    text = shown.page(web, f"/runs/{staged.failed(bridge).id}")
    assert "KeyError" in text
    assert text.index("KeyError") < text.index("The road of this run") < text.index('id="log"')


def test_a_requirement_that_does_not_exist_is_told_in_the_installers_words(
    web: FlaskClient, bridge: Bridge
) -> None:
    run = staged.move(bridge, staged.add(bridge, "project"), *staged.STARTED, JobState.FAILED)
    staged.leave(
        bridge,
        run,
        {},
        exit_code=1,
        reason="environment",
        message="The packages could not be installed.",
        details="no version of nonesuch==1 was found",
    )
    text = shown.page(web, f"/runs/{run.id}")
    assert "no version of nonesuch==1 was found" in text
    assert "could not be installed" in text


def test_a_waiting_run_says_why_and_for_how_long(web: FlaskClient, bridge: Bridge) -> None:
    text = shown.page(web, f"/runs/{staged.pending(bridge).id}")
    assert "all slots are taken" in text
    assert "(Resources)" in text
    assert "Its place in the queue is 2." in text
    assert "in 12 min" in text


def test_a_reason_without_words_of_ours_is_slurms_own(web: FlaskClient, bridge: Bridge) -> None:
    run = staged.move(
        bridge, staged.add(bridge, "project"), *staged.SUBMITTED, reason="AssocGrpGRES"
    )
    assert "Slurm says “AssocGrpGRES”" in shown.page(web, f"/runs/{run.id}")


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (JobState.COMPLETED, True),
        (JobState.FAILED, True),
        (JobState.OUT_OF_MEMORY, False),
        (JobState.TIMEOUT, False),
        (JobState.CANCELLED, False),
    ],
)
def test_an_exit_code_is_told_where_the_program_ended_itself(
    web: FlaskClient, bridge: Bridge, state: JobState, told: bool
) -> None:
    run = staged.move(
        bridge, staged.add(bridge, "project"), *staged.STARTED, state, elapsed=9, exit_code=0
    )
    assert ("<dt>Exit code</dt>" in shown.page(web, f"/runs/{run.id}")) is told


def test_the_note_of_a_rejected_run_is_shown(web: FlaskClient, bridge: Bridge) -> None:
    run = staged.move(bridge, staged.add(bridge, "project"), JobState.STAGED, JobState.SUBMITTING)
    bridge.store.move(
        run, JobState.REJECTED, at=run.changed_at, note="invalid partition specified: gpu"
    )
    assert "invalid partition specified: gpu" in shown.page(web, f"/runs/{run.id}")


def test_images_are_shown_in_place_and_all_files_listed(web: FlaskClient, bridge: Bridge) -> None:
    run = staged.completed(bridge)
    text = shown.page(web, f"/runs/{run.id}")
    assert f'<img src="/runs/{run.id}/files/spectrum.png"' in text
    assert "184 MiB" in text
    for name in ("spectrum.csv", "spectrum.png", "a/b.json"):
        assert f"/runs/{run.id}/files/{name}" in text


def test_an_open_run_can_be_cancelled_and_an_ended_one_run_again(
    web: FlaskClient, submit: Submit, bridge: Bridge
) -> None:
    running, done = staged.running(bridge), staged.completed(bridge)
    assert 'form="cancel"' in shown.page(web, f"/runs/{running.id}")
    assert 'form="again"' not in shown.page(web, f"/runs/{running.id}")
    assert submit(f"/runs/{running.id}/cancel").status_code == 303
    assert "Cancelling" in shown.page(web, f"/runs/{running.id}")
    answer = submit(f"/runs/{done.id}/again")
    assert answer.status_code == 303
    assert "run 2" in shown.page(web, answer.headers["Location"])


def test_a_fragment_that_did_not_change_costs_no_body(web: FlaskClient, bridge: Bridge) -> None:
    run = staged.running(bridge)
    for path in ("/live", "/results/live", f"/runs/{run.id}/live"):
        first = web.get(path)
        again = web.get(path, headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status_code, again.data) == (304, b"")
    staged.move(bridge, run, JobState.COMPLETED)
    changed = web.get(f"/runs/{run.id}/live")
    assert "data-ended" in changed.get_data(as_text=True)


def test_results_are_narrowed_by_name_and_state_and_come_in_pages(
    web: FlaskClient, bridge: Bridge
) -> None:
    staged.completed(bridge, "alpha")
    staged.failed(bridge, "beta")
    assert "beta" not in shown.page(web, "/results?show=completed")
    assert "alpha" not in shown.page(web, "/results?q=BET")
    assert "No run fits “gamma”" in shown.page(web, "/results?q=gamma")
    for _ in range(20):
        staged.add(bridge, "alpha", again=True)
    assert "Page 1 of 2" in shown.page(web, "/results")
    assert "beta" in shown.page(web, "/results?page=2")
    assert "The list ends before" in shown.page(web, "/results?page=9")
    assert web.get("/results?page=x&show=odd").status_code == 200


def test_a_run_is_pinned_on_its_page_and_found_among_the_pinned(
    web: FlaskClient, submit: Submit, bridge: Bridge
) -> None:
    run = staged.completed(bridge, "alpha")
    staged.completed(bridge, "beta")
    assert "No run fits" in shown.page(web, "/results?show=pinned")
    assert submit(f"/runs/{run.id}/pin", keep="1").status_code == 303
    assert "Unpin" in shown.page(web, f"/runs/{run.id}/live")
    pinned = shown.page(web, "/results?show=pinned")
    assert "alpha" in pinned
    assert "beta" not in pinned
    submit(f"/runs/{run.id}/pin", keep="0")
    assert "Pin this run" in shown.page(web, f"/runs/{run.id}")


def test_empty_pages_say_what_to_do_next(web: FlaskClient) -> None:
    assert "Upload your first project" in shown.page(web, "/results")
    assert "Upload a project" in shown.page(web, "/")
    assert "Nothing is known of the cluster" in shown.page(web, "/")


def test_home_shows_the_cluster_and_says_when_slurm_is_silent(
    web: FlaskClient, bridge: Bridge
) -> None:
    staged.show_cluster(bridge)
    text = shown.page(web, "/")
    assert "slot1" in text
    assert "1 of 2 CPUs" in text
    staged.show_cluster(bridge, problem="slurmctld did not answer within 30 s.")
    assert "slurmctld did not answer within 30 s." in shown.page(web, "/live")


def test_home_says_when_nothing_is_being_started(web: FlaskClient, bridge: Bridge) -> None:
    staged.show_cluster(bridge)
    assert "Nothing is being started" not in shown.page(web, "/")
    staged.show_cluster(bridge, at=datetime.now(UTC) - timedelta(minutes=5))
    assert "The poller has been silent since" in shown.page(web, "/")


def test_the_example_is_a_zip_that_the_gateway_itself_takes(web: FlaskClient) -> None:
    body = web.get("/example.zip").data
    with zipfile.ZipFile(io.BytesIO(body)) as packed:
        assert packed.namelist() == [
            "power-spectrum/code.py",
            "power-spectrum/requirements.txt",
            "power-spectrum/output/",
        ]
    run = web.post("/api/v1/runs?filename=power-spectrum.zip", data=body).get_json()
    assert run["project"] == "power-spectrum"


def test_the_whole_log_can_be_downloaded_byte_by_byte_and_in_parts(
    web: FlaskClient, bridge: Bridge
) -> None:
    waiting = staged.pending(bridge)
    assert "no log yet" in web.get(f"/runs/{waiting.id}/log.txt").get_data(as_text=True)
    run = staged.running(bridge)
    staged.say(bridge, run, "é" * 600_000)
    written = staged.here(bridge).run(run).log.read_bytes()
    answer = web.get(f"/runs/{run.id}/log.txt", buffered=True)
    assert answer.data == written
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    part = web.get(f"/runs/{run.id}/log.txt", headers={"Range": "bytes=-3"}, buffered=True)
    assert (part.status_code, part.data) == (206, written[-3:])
