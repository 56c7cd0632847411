"""The pages of datasets: sent once, shared, used by runs."""

from __future__ import annotations

from http import HTTPStatus

from flask import Blueprint, Response, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from nias_bridge.datasets import Dataset
from nias_bridge.errors import BadRequest, BadUpload, NiasError, NotFound, NotPossible, OverQuota
from nias_bridge.http import uploads
from nias_bridge.http.errors import status_of, wants_json
from nias_bridge.http.here import bridge
from nias_bridge.http.live import fragment
from nias_bridge.http.security import csrf
from nias_bridge.services import accounts, datasets, deliveries

blueprint = Blueprint("datasets", __name__, url_prefix="/datasets")

# What is told where it was asked, instead of on a page of its own.
TOLD = (BadRequest, BadUpload, NotPossible, OverQuota)


@blueprint.get("")
def page() -> str:
    """What there is, and a place to send more to."""
    return _page()


@blueprint.post("")
@csrf.exempt  # type: ignore[untyped-decorator]  # checked below, once the body may be long
def put() -> ResponseReturnValue:
    """Take a file or a folder's zip."""
    limit = bridge().settings.dataset_max_bytes
    uploads.allow_upload(limit)
    try:
        deliveries.expect(bridge(), uploads.announced())
        csrf.protect()
        name = request.form.get("name", "").strip()
        if upload_id := request.form.get("upload"):
            made = deliveries.put_pieces(bridge(), upload_id, name)
        else:
            made = deliveries.put(bridge(), *uploads.take(limit), name)
    except TOLD as error:
        if wants_json():
            raise
        return _page(error), status_of(error)
    where = url_for("datasets.dataset", dataset_id=made.id)
    if wants_json():
        return jsonify(location=where)
    return redirect(where, HTTPStatus.SEE_OTHER)


@blueprint.get("/<int:dataset_id>")
def dataset(dataset_id: int) -> str:
    """One dataset: its versions, what is in one of them, who may use it."""
    return _dataset(datasets.find(bridge(), dataset_id))


@blueprint.get("/<int:dataset_id>/live")
def live(dataset_id: int) -> Response:
    """The part of a dataset's page that changes while it is unpacked."""
    found = datasets.find(bridge(), dataset_id)
    own = datasets.may_change(bridge(), found)
    return fragment("_dataset_live.html", dataset=found, own=own)


@blueprint.post("/<int:dataset_id>/share")
def share(dataset_id: int) -> ResponseReturnValue:
    """Share it with whom the form names, and nobody else."""
    people = request.form.get("people", "").replace(",", " ").split()
    try:
        datasets.share(bridge(), dataset_id, people, request.form.getlist("groups"))
    except TOLD as error:
        found = datasets.find_own(bridge(), dataset_id)
        return _dataset(found, error), status_of(error)
    return redirect(url_for("datasets.dataset", dataset_id=dataset_id), HTTPStatus.SEE_OTHER)


@blueprint.post("/<int:dataset_id>/delete")
def delete(dataset_id: int) -> ResponseReturnValue:
    """Delete a version, or all of it."""
    version_id = request.form.get("version", type=int)
    try:
        datasets.delete(bridge(), dataset_id, version_id)
    except TOLD as error:
        found = datasets.find_own(bridge(), dataset_id)
        return _dataset(found, error), status_of(error)
    left = version_id is not None and _is_there(dataset_id)
    where = url_for("datasets.dataset", dataset_id=dataset_id) if left else url_for("datasets.page")
    return redirect(where, HTTPStatus.SEE_OTHER)


def _is_there(dataset_id: int) -> bool:
    try:
        datasets.find(bridge(), dataset_id)
    except NotFound:
        return False
    return True


def _page(error: NiasError | None = None) -> str:
    found, me = datasets.visible(bridge()), bridge().person.handle
    return render_template(
        "datasets.html",
        datasets=sorted(found, key=lambda each: (each.owner != me, each.name.casefold())),
        names={each.owner: accounts.name_of(bridge(), each.owner) for each in found},
        most=bridge().settings.dataset_max_bytes,
        error=error,
    )


def _dataset(found: Dataset, error: NiasError | None = None) -> str:
    wanted = request.args.get("version", type=int)
    version = found.newest if wanted is None else datasets.version_of(found, wanted)
    own = datasets.may_change(bridge(), found)
    return render_template(
        "dataset.html",
        dataset=found,
        version=version,
        files=datasets.files(bridge(), found, version) if version else [],
        own=own,
        owner_name=accounts.name_of(bridge(), found.owner),
        groups=datasets.groups_to_share_with(bridge(), found) if own else [],
        error=error,
    )
