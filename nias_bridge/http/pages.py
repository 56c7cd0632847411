"""The researcher's road as pages."""

from __future__ import annotations

from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from flask import (
    Blueprint,
    Response,
    jsonify,
    redirect,
    render_template,
    request,
    url_for,
)
from flask.typing import ResponseReturnValue

from nias_bridge.datasets import Mount
from nias_bridge.domain import FAILED_STATES, Resources
from nias_bridge.errors import (
    BadProjectFile,
    BadRequest,
    BadRequirements,
    BadUpload,
    NiasError,
    NotPossible,
    OverQuota,
    ProjectExists,
)
from nias_bridge.http import downloads, runlists, story, sweeps, uploads
from nias_bridge.http.errors import status_of, wants_json
from nias_bridge.http.here import bridge
from nias_bridge.http.live import fragment
from nias_bridge.http.security import csrf
from nias_bridge.services import (
    accounts,
    checkup,
    comparison,
    datasets,
    desk,
    estimates,
    held,
    identity,
    intake,
    pieces,
    previews,
    record,
    retention,
    wishes,
)

blueprint = Blueprint("pages", __name__)

LOG_SHOWN_BYTES = 64 * 1024
SHARED = "shared"  # in an address: the results of others, by one's groups


@blueprint.get("/")
def home() -> str:
    """What goes on now, and how to begin."""
    return render_template("home.html", **_shown_home())


@blueprint.get("/live")
def home_live() -> Response:
    """The part of the first page that changes."""
    return fragment("_home_live.html", **_shown_home())


@blueprint.get("/example.zip")
def example() -> Response:
    """The example project."""
    return downloads.example()


@blueprint.get("/upload")
def upload() -> str:
    """Choose or drop a zip."""
    return render_template("upload.html")


@blueprint.post("/upload")
@csrf.exempt  # type: ignore[untyped-decorator]  # checked below, once the body may be long
def send_upload() -> ResponseReturnValue:
    """Take a zip and show what was found in it, or what is wrong with it."""
    uploads.allow_upload()
    try:
        csrf.protect()
        found = url_for("pages.found", upload_id=_held())
    except (BadUpload, OverQuota) as error:
        if wants_json():
            raise
        problems = error.problems if isinstance(error, BadProjectFile) else ()
        page = render_template("upload.html", error=str(error), problems=problems)
        return page, status_of(error)
    if wants_json():
        return jsonify(location=found)
    return redirect(found, HTTPStatus.SEE_OTHER)


@blueprint.get("/upload/<upload_id>")
def found(upload_id: str) -> str:
    """What was found in a zip."""
    return _found_page(upload_id)


@blueprint.get("/upload/<upload_id>/live")
def found_live(upload_id: str) -> Response:
    """When it would start, and what stands before it."""
    held.find(bridge(), upload_id)
    return fragment("_found_live.html", **_before_it(upload_id, request.args.get("wish", "")))


@blueprint.post("/upload/<upload_id>/wish")
def wish(upload_id: str) -> Response:
    """Ask when it would start with what the form says now, or tell what of that can't be had."""
    return fragment(
        "_found_wish.html", **_prospect(upload_id, intake.look_at_held(bridge(), upload_id))
    )


@blueprint.post("/upload/<upload_id>")
def start(upload_id: str) -> ResponseReturnValue:
    """Run a zip whose contents its owner has seen."""
    try:
        run = intake.receive_held(
            bridge(),
            upload_id,
            again="again" in request.form,
            mend="mend" in request.form,
            add="add" in request.form,
            resources=_asked_resources(),
            seen=request.form.getlist("datasets") if "choose" in request.form else None,
        )
    except (BadRequest, BadRequirements, NotPossible, OverQuota, ProjectExists) as error:
        return _found_page(upload_id, error), status_of(error)
    return redirect(url_for("pages.run", run_id=run.id), HTTPStatus.SEE_OTHER)


@blueprint.post("/upload/<upload_id>/drop")
def drop(upload_id: str) -> ResponseReturnValue:
    """Forget a zip that is not to be run."""
    held.drop(bridge(), upload_id)
    return redirect(url_for("pages.upload"), HTTPStatus.SEE_OTHER)


@blueprint.get("/results")
def results() -> str:
    """All runs, newest first."""
    return render_template("results.html", **_wanted_runs())


@blueprint.get("/results/live")
def results_live() -> Response:
    """The part of the list that changes."""
    return fragment("_results_live.html", **_wanted_runs())


@blueprint.get("/runs/<int:run_id>")
def run(run_id: int) -> str:
    """One run."""
    log = desk.log(bridge(), run_id, -1, LOG_SHOWN_BYTES)
    shown = _shown_run(run_id)
    if shown["run"].tasks:
        shown |= sweeps.shown(run_id)
    return render_template("run.html", log=log, **shown)


@blueprint.get("/runs/<int:run_id>/live")
def run_live(run_id: int) -> Response:
    """The parts of a run's page that change, but for the log."""
    return fragment("_run_live.html", **_shown_run(run_id))


@blueprint.post("/runs/<int:run_id>/cancel")
def cancel(run_id: int) -> ResponseReturnValue:
    """Ask for a run to be cancelled."""
    desk.cancel(bridge(), run_id)
    return redirect(url_for("pages.run", run_id=run_id), HTTPStatus.SEE_OTHER)


@blueprint.post("/runs/<int:run_id>/again")
def again(run_id: int) -> ResponseReturnValue:
    """Run the same zip once more."""
    repeat = record.again_exactly if "exactly" in request.form else desk.again
    new = repeat(bridge(), run_id)
    return redirect(url_for("pages.run", run_id=new.id), HTTPStatus.SEE_OTHER)


@blueprint.post("/runs/<int:run_id>/pin")
def pin(run_id: int) -> ResponseReturnValue:
    """Keep a run for good, or, by the form's word, no longer than others."""
    desk.pin(bridge(), run_id, request.form.get("keep") == "1")
    return redirect(url_for("pages.run", run_id=run_id), HTTPStatus.SEE_OTHER)


@blueprint.post("/runs/<int:run_id>/remove")
def remove(run_id: int) -> ResponseReturnValue:
    """Remove the files of a run."""
    retention.remove(bridge(), run_id)
    return redirect(url_for("pages.run", run_id=run_id), HTTPStatus.SEE_OTHER)


@blueprint.post("/runs/<int:run_id>/correct")
def correct(run_id: int) -> ResponseReturnValue:
    """Run the same zip once more with the correction that its diagnosis offers."""
    new = checkup.treat(bridge(), run_id, request.form.get("rule", ""))
    return redirect(url_for("pages.run", run_id=new.id), HTTPStatus.SEE_OTHER)


@blueprint.get("/runs/<int:run_id>/log.txt")
def log(run_id: int) -> Response:
    """The whole log."""
    return downloads.log(run_id)


@blueprint.get("/runs/<int:run_id>/requirements.lock")
def lock(run_id: int) -> Response:
    """The packages that it had, with their hashes."""
    return downloads.lock(run_id)


@blueprint.get("/runs/<int:run_id>/run.json")
def run_json(run_id: int) -> Response:
    """The record of a run."""
    return downloads.record(run_id)


@blueprint.get("/runs/<int:run_id>/crate.zip")
def crate(run_id: int) -> Response:
    """The run as an RO-Crate."""
    return downloads.crate(run_id)


@blueprint.get("/runs/<int:run_id>/results.zip")
def results_zip(run_id: int) -> Response:
    """All of output/ as a zip."""
    return downloads.results(run_id)


@blueprint.get("/runs/<int:run_id>/files/<path:path>")
def output_file(run_id: int, path: str) -> Response:
    """One file of output/."""
    return downloads.output_file(run_id, path)


def _held() -> str:
    """The id of the upload that is held now: one that our script sent before, or this request's."""
    if upload_id := request.form.get("upload"):
        pieces.finish(bridge(), upload_id)
        return upload_id
    return intake.hold(bridge(), *uploads.take())


def _shown_home() -> dict[str, Any]:
    return {"home": desk.home(bridge()), "health": desk.health(bridge())}


def _found_page(upload_id: str, error: NiasError | None = None) -> str:
    judged = intake.look_at_held(bridge(), upload_id)
    return render_template(
        "found.html",
        judged=judged,
        mendable=all(problem.mend is not None for problem in judged.problems),
        # What was sent with a mistake in it stays in the form.
        asked=request.form or asdict(wishes.filled(judged.resources, judged.suggestion)),
        offered=_offered(judged),
        **_prospect(upload_id, judged),
        # Problems and a taken name are told by the page itself; what remains is a wrong field.
        error=error if isinstance(error, BadRequest | NotPossible | OverQuota) else None,
    )


def _offered(judged: intake.Judged) -> list[tuple[Mount, bool, bool]]:
    """The datasets that she may tick; of each, whether it is the newest, and whether it is ticked.

    What nias.toml names is so at first, in the version that it names.
    """
    named = {(each.owner, each.name): each for each in judged.datasets}
    found = []
    for each in datasets.usable(bridge()):
        newest = datasets.mount_of(each, each.versions[0])
        mount = named.get((each.owner, each.name), newest)
        chosen = "choose" in request.form
        ticked = (
            mount.whole in request.form.getlist("datasets") if chosen else mount in named.values()
        )
        found.append((mount, mount == newest, ticked))
    return found


def _prospect(upload_id: str, judged: intake.Judged) -> dict[str, Any]:
    """What the form asks for (at first as it is filled), held to the limits; Slurm is asked."""
    settings, cluster = bridge().settings, bridge().store.cluster()
    try:
        if request.form:
            asked = _asked_resources()
        else:
            asked = wishes.filled(judged.resources, judged.suggestion)
        intake.check_resources(asked)
        wanted = wishes.settle(settings, cluster, asked, judged.resources)
    except BadRequest as error:
        return {**_before_it(upload_id, ""), "limits": judged.limits, "beyond": error}
    return {
        **_before_it(upload_id, estimates.ask(bridge(), upload_id, wanted)),
        "limits": wishes.limits_of(settings, cluster, wanted.partition),
    }


def _before_it(upload_id: str, key: str) -> dict[str, Any]:
    return {
        "upload_id": upload_id,
        "wish": key,
        "estimate": estimates.read(bridge(), upload_id, key),
        "cluster": bridge().store.cluster(),
    }


def _asked_resources() -> Resources:
    def word(name: str) -> str | None:
        return request.form.get(name, "").strip() or None

    def count(name: str) -> int | None:
        written = word(name)
        if written and not (written.isascii() and written.isdigit()):
            raise BadRequest(f"{name}: “{written}” is not a count; write a whole number.", name)
        return int(written) if written else None

    return Resources(
        time=word("time"),
        memory=word("memory"),
        cpus=count("cpus"),
        gpus=count("gpus"),
        partition=word("partition"),
    )


def _shown_run(run_id: int) -> dict[str, Any]:
    view = desk.show(bridge(), run_id)
    failed = view.run.state in FAILED_STATES
    return {
        "view": view,
        "run": view.run,
        "cancels": identity.can_cancel(bridge(), view.run),
        "steps": story.steps(view),
        "previews": previews.previews(bridge(), view.run) if view.run.state.ended else {},
        "failed": failed,
        "diagnosis": checkup.diagnosis(bridge(), view.run, view.evidence),
        "last_words": desk.last_words(bridge(), view.run) if failed else "",
        "beside": comparison.beside(bridge(), view.run),
        "owner_name": accounts.name_of(bridge(), view.run.owner),
    }


def _wanted_runs() -> dict[str, Any]:
    whose = SHARED if request.args.get("whose") == SHARED and runlists.shared() else ""
    owners = runlists.shared() if whose else runlists.own()
    told = runlists.wanted(owners, "pages.results", whose=whose)
    return {**told, "whose": whose, "has_shared": bool(runlists.shared())}
