"""The pages of datasets: sent once, shared, used by runs."""

from __future__ import annotations

from http import HTTPStatus

from flask import Blueprint, Response, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from nias_bridge.datasets import Dataset
from nias_bridge.errors import BadRequest, BadUpload, NiasError, NotPossible, OverQuota
from nias_bridge.http import uploads
from nias_bridge.http.errors import status_of, wants_json
from nias_bridge.http.here import bridge, caller
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
    return fragment("_dataset_live.html", dataset=found, own=_owns(found))


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
    if version_id is not None and len(_left(dataset_id)):
        return redirect(url_for("datasets.dataset", dataset_id=dataset_id), HTTPStatus.SEE_OTHER)
    return redirect(url_for("datasets.page"), HTTPStatus.SEE_OTHER)


def _left(dataset_id: int) -> list[Dataset]:
    return [each for each in datasets.visible(bridge()) if each.id == dataset_id]


def _page(error: NiasError | None = None) -> str:
    found = datasets.visible(bridge())
    return render_template(
        "datasets.html",
        why_none=datasets.why_none(bridge()),
        datasets=sorted(found, key=lambda each: (not _owns_as_hers(each), each.name.casefold())),
        names={each.owner: accounts.name_of(bridge(), each.owner) for each in found},
        most=bridge().settings.dataset_max_bytes,
        error=error,
    )


def _dataset(found: Dataset, error: NiasError | None = None) -> str:
    wanted = request.args.get("version", type=int)
    version = found.newest if wanted is None else datasets.version_of(found, wanted)
    return render_template(
        "dataset.html",
        dataset=found,
        version=version,
        files=datasets.files(bridge(), found, version) if version else [],
        own=_owns(found),
        owner_name=accounts.name_of(bridge(), found.owner),
        groups=datasets.groups_to_share_with(bridge(), found) if _owns(found) else [],
        error=error,
    )


def _owns_as_hers(found: Dataset) -> bool:
    return found.owner == bridge().person.handle


def _owns(found: Dataset) -> bool:
    return _owns_as_hers(found) or caller().administers
