"""The administrator's work as JSON: people, groups, jobs that are nobody's, and the audit log."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

from apiflask import APIBlueprint
from pydantic import BaseModel, Field

from nias_bridge.domain import Unclaimed
from nias_bridge.http.here import bridge
from nias_bridge.http.schemas import Size
from nias_bridge.people import Person, Role, Standing
from nias_bridge.services import administration, unclaimed

blueprint = APIBlueprint("administration_api", __name__, url_prefix="/api/v1", tag="Administration")


class LimitsOut(BaseModel):
    """A person's own limits; null leaves it to the site's settings."""

    stored_bytes: Size | None
    open_runs: int | None
    cpu_hours: float | None
    upload_bytes: Size | None


class PersonOut(BaseModel):
    """Somebody with an account; `handle` is the owner of her runs."""

    id: int
    handle: str
    name: str
    email: str
    role: Role
    standing: Standing
    created_at: datetime
    unix_account: str | None
    limits: LimitsOut


class PeopleOut(BaseModel):
    """Everybody: who waits first."""

    people: list[PersonOut]


class GroupOut(BaseModel):
    """People who belong together; where it `shares`, they see each other's results."""

    id: int
    name: str
    shares: bool
    members: list[str]


class GroupsOut(BaseModel):
    """All groups."""

    groups: list[GroupOut]


class UnclaimedJobOut(BaseModel):
    """A job by plain sbatch: `tasks` of an array; `size` of its zip, null until it was seen."""

    job_id: int
    job_name: str
    project: str
    submitted_at: datetime | None
    tasks: int
    size: Size | None


class UnclaimedOfOut(BaseModel):
    """A Unix account that nobody is linked to, and its jobs, the newest first."""

    account: str
    jobs: list[UnclaimedJobOut]


class UnclaimedOut(BaseModel):
    """Jobs by plain sbatch that wait for somebody to be linked to their account."""

    unclaimed: list[UnclaimedOfOut]


class LinkIn(BaseModel):
    """Whose the account is: a person's number."""

    person: int


class DeedOut(BaseModel):
    """Who did what to which run, known by which key, from where."""

    id: int
    at: datetime
    action: str
    handle: str
    via: str
    address: str
    run_id: int | None
    detail: str


class AuditQuery(BaseModel):
    """Which part of the audit log is wanted."""

    person: str = Field("", description="A handle")
    run: int | None = None
    action: str = ""
    before: int | None = Field(None, description="`older` of the page before this one")


class AuditOut(BaseModel):
    """A page of the audit log, newest first."""

    deeds: list[DeedOut]
    older: Annotated[int | None, Field(description="where the next page begins; null: nowhere")]


@blueprint.get("/people")
@blueprint.output(PeopleOut)
def people() -> PeopleOut:
    """Everybody who has an account or asks for one"""
    return PeopleOut(people=[_person(person) for person in administration.people(bridge())])


@blueprint.post("/people/<int:person_id>/approve")
@blueprint.output(PersonOut)
def approve(person_id: int) -> PersonOut:
    """Let somebody in who waits"""
    return _person(administration.approve(bridge(), person_id))


@blueprint.post("/people/<int:person_id>/disable")
@blueprint.output(PersonOut)
def disable(person_id: int) -> PersonOut:
    """Close an account; its sessions, tokens and links are void for good, its runs stay"""
    return _person(administration.disable(bridge(), person_id))


@blueprint.post("/people/<int:person_id>/enable")
@blueprint.output(PersonOut)
def enable(person_id: int) -> PersonOut:
    """Open a closed account again"""
    return _person(administration.enable(bridge(), person_id))


@blueprint.get("/groups")
@blueprint.output(GroupsOut)
def groups() -> GroupsOut:
    """All groups"""
    there = bridge().store.people.groups()
    return GroupsOut(groups=[GroupOut.model_validate(asdict(group)) for group in there])


@blueprint.get("/unclaimed")
@blueprint.output(UnclaimedOut)
def unclaimed_jobs() -> UnclaimedOut:
    """Jobs by plain sbatch of accounts that are linked to nobody"""
    found = unclaimed.by_account(bridge()).items()
    return UnclaimedOut(
        unclaimed=[
            UnclaimedOfOut(account=name, jobs=[_unclaimed(j) for j in jobs]) for name, jobs in found
        ]
    )


@blueprint.post("/unclaimed/<account>/link")
@blueprint.input(LinkIn)
@blueprint.output(PersonOut)
def link_account(account: str, json_data: LinkIn) -> PersonOut:
    """Link the account that such jobs are of to a person, whose runs they then are"""
    return _person(unclaimed.link(bridge(), account, json_data.person))


@blueprint.get("/audit")
@blueprint.input(AuditQuery, location="query")
@blueprint.output(AuditOut)
def audit(query_data: AuditQuery) -> AuditOut:
    """The audit log, newest first, a page at a time"""
    page = administration.audit_log(
        bridge(),
        handle=query_data.person,
        run_id=query_data.run,
        action=query_data.action,
        before=query_data.before,
    )
    deeds = [DeedOut(id=number, **asdict(deed)) for number, deed in page.deeds]
    return AuditOut(deeds=deeds, older=page.older)


def _unclaimed(job: Unclaimed) -> UnclaimedJobOut:
    return UnclaimedJobOut(
        job_id=job.report.job_id,
        job_name=job.native.job_name,
        project=job.project,
        submitted_at=job.report.submitted_at,
        tasks=len(job.tasks),
        size=job.size,
    )


def _person(person: Person) -> PersonOut:
    told = asdict(person)
    return PersonOut.model_validate({**told, "limits": told["quotas"]})
