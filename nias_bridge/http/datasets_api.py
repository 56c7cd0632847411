"""Datasets as JSON, under /api/v1."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Annotated
from urllib.parse import urlencode

from apiflask import APIBlueprint
from flask import request, url_for
from pydantic import BaseModel, Field

from nias_bridge.datasets import Dataset, Version
from nias_bridge.http import fresh, tus, uploads
from nias_bridge.http.here import bridge
from nias_bridge.http.schemas import Size
from nias_bridge.services import datasets, deliveries, pieces

blueprint = APIBlueprint("datasets_api", __name__, url_prefix="/api/v1", tag="Datasets")

ID_MAX = 2**63 - 1


class VersionOut(BaseModel):
    """One content of a dataset, by its hash; `size` and `files` are of what is in it."""

    id: int
    sha256: str
    size: Size
    files: int
    created_at: datetime


class ArrivingOut(BaseModel):
    """What was sent and is not unpacked yet, or (`problem`) could not be."""

    id: int
    filename: str
    created_at: datetime
    problem: str


class DatasetOut(BaseModel):
    """What one owner calls by one name; `versions` newest first.

    `people` and `groups`, with whom it is shared, and `open_runs` are null to who may only use it.
    """

    id: int
    owner: str
    name: str
    created_at: datetime
    versions: list[VersionOut]
    arriving: list[ArrivingOut]
    people: list[str] | None
    groups: list[str] | None
    runs: Annotated[int, Field(description="that see or saw it")]
    open_runs: Annotated[list[int] | None, Field(description="the ids of those that go on")]


class DatasetsOut(BaseModel):
    """Datasets, the newest first."""

    datasets: list[DatasetOut]
    next: Annotated[str | None, Field(description="where the list goes on; null at its end")]


class DatasetFileOut(BaseModel):
    """One file of a dataset."""

    path: str
    size: Size
    sha256: str


class DatasetFilesOut(BaseModel):
    """The first files of a version, in the order of their paths; `total` counts all."""

    files: list[DatasetFileOut]
    total: int


class DatasetsQuery(BaseModel):
    """Which datasets are wanted."""

    name: str = Field("", description="A whole name")
    before: int | None = Field(None, ge=1, le=ID_MAX, description="As `next` has it")
    per_page: int = Field(50, ge=1, le=100)


class PutQuery(BaseModel):
    """How what is sent is to be called."""

    name: str = Field("", description="Of the dataset; where it is left out, the file's")
    filename: str = Field("", description="Of the file, where the body alone is sent")
    upload: str = Field(
        "", description="A finished upload by tus whose kind is dataset, in place of a body"
    )


class ShareIn(BaseModel):
    """With whom it is shared from now on, and with nobody else."""

    people: list[str] = Field(default_factory=list, max_length=1000)
    groups: list[str] = Field(default_factory=list, max_length=1000)


@blueprint.get("/datasets")
@blueprint.input(DatasetsQuery, location="query")
@blueprint.output(DatasetsOut)
def list_datasets(query_data: DatasetsQuery) -> DatasetsOut:
    """Your datasets and those that are shared with you, newest first; an administrator's: all"""
    most = query_data.per_page
    found = datasets.visible(
        bridge(), name=query_data.name, before=query_data.before, most=most + 1
    )
    fresh.settle(found)
    asked = {**request.args, "before": found[most - 1].id} if len(found) > most else None
    following = f"{url_for('.list_datasets')}?{urlencode(asked)}" if asked else None
    return DatasetsOut(datasets=[_out(each) for each in found[:most]], next=following)


@blueprint.post("/datasets")
@blueprint.input(PutQuery, location="query")
@blueprint.output(DatasetOut, status_code=202)
def put(query_data: PutQuery) -> DatasetOut:
    """Send a file, or a folder's zip, as a dataset's new version

    The body is the file, or a form with the field `file`. What is named ….zip is unpacked, soon:
    until then it is among `arriving`.
    """
    if query_data.upload:
        name = query_data.name or named(query_data.upload)
        return _out(deliveries.put_pieces(bridge(), query_data.upload, name))
    deliveries.expect(bridge(), uploads.announced(), query_data.name)
    part, filename = uploads.take(bridge().settings.dataset_max_bytes)
    return _out(deliveries.put(bridge(), part, filename, query_data.name))


@blueprint.get("/datasets/<int:dataset_id>")
@blueprint.output(DatasetOut)
def dataset(dataset_id: int) -> DatasetOut:
    """One dataset"""
    found = datasets.find(bridge(), dataset_id)
    fresh.settle(found)
    return _out(found)


@blueprint.get("/datasets/<int:dataset_id>/versions/<int:version_id>/files")
@blueprint.output(DatasetFilesOut)
def files(dataset_id: int, version_id: int) -> DatasetFilesOut:
    """What is in a version"""
    found = datasets.find(bridge(), dataset_id)
    version = datasets.version_of(found, version_id)
    listed = datasets.files(bridge(), found, version)
    told = [DatasetFileOut(path=f.path, size=f.size, sha256=f.sha256) for f in listed]
    return DatasetFilesOut(files=told, total=version.files)


@blueprint.put("/datasets/<int:dataset_id>/shared")
@blueprint.input(ShareIn, location="json")
@blueprint.output(DatasetOut)
def share(dataset_id: int, json_data: ShareIn) -> DatasetOut:
    """Share a dataset with people (by handle or e-mail address) and groups of yours"""
    return _out(datasets.share(bridge(), dataset_id, json_data.people, json_data.groups))


@blueprint.delete("/datasets/<int:dataset_id>")
@blueprint.output({}, status_code=204)
def delete(dataset_id: int) -> tuple[str, int]:
    """Delete a dataset, which no open run may be using"""
    datasets.delete(bridge(), dataset_id)
    return "", HTTPStatus.NO_CONTENT


@blueprint.delete("/datasets/<int:dataset_id>/versions/<int:version_id>")
@blueprint.output({}, status_code=204)
def delete_version(dataset_id: int, version_id: int) -> tuple[str, int]:
    """Delete one version, which no open run may be using, or what could not be unpacked"""
    datasets.delete(bridge(), dataset_id, version_id)
    return "", HTTPStatus.NO_CONTENT


def named(upload_id: str) -> str:
    """How the metadata of an upload calls the dataset, "" where they do not, or it is gone."""
    coming = pieces.known(bridge(), upload_id)
    return tus.words(coming.metadata).get("name", "") if coming else ""


def _out(found: Dataset) -> DatasetOut:
    own = datasets.may_change(bridge(), found)
    return DatasetOut(
        id=found.id,
        owner=found.owner,
        name=found.name,
        created_at=found.created_at,
        versions=[_version(each) for each in found.versions],
        arriving=[
            ArrivingOut(
                id=each.id,
                filename=each.filename,
                created_at=each.created_at,
                problem=each.problem,
            )
            for each in found.arriving
        ],
        people=list(found.people) if own else None,
        groups=list(found.groups) if own else None,
        runs=found.runs,
        open_runs=list(found.open_runs) if own else None,
    )


def _version(version: Version) -> VersionOut:
    return VersionOut(
        id=version.id,
        sha256=version.sha256,
        size=version.size,
        files=version.files,
        created_at=version.created_at,
    )
