"""The site as JSON, under /api/v1: who asks, the cluster, environments, and what works."""

from __future__ import annotations

from dataclasses import asdict
from http import HTTPStatus

from apiflask import APIBlueprint

from nias_bridge.http import answers, fresh
from nias_bridge.http.here import bridge, caller
from nias_bridge.http.schemas import (
    ClusterOut,
    EnvironmentsOut,
    HealthOut,
    KeptEnvironmentOut,
    LiveOut,
    MeOut,
)
from nias_bridge.services import accounts, desk, environments

blueprint = APIBlueprint("site_api", __name__, url_prefix="/api/v1", tag="Site")


@blueprint.get("/me")
@blueprint.output(MeOut)
def me() -> MeOut:
    """Who you are here, and how far your token reaches"""
    person = bridge().person
    return MeOut(
        handle=person.handle,
        name=person.name,
        email=person.email,
        role=person.role,
        scope=caller().scope,
        unix_account=person.unix_account,
        groups=accounts.groups_of(bridge(), person),
    )


@blueprint.get("/cluster")
@blueprint.output(ClusterOut)
def cluster() -> ClusterOut:
    """Nodes, partitions, and how many jobs wait and run, as the poller heard it last"""
    view = bridge().store.cluster()
    fresh.settle(view.at)
    return ClusterOut.model_validate(asdict(view))


@blueprint.get("/environments")
@blueprint.output(EnvironmentsOut)
def list_environments() -> EnvironmentsOut:
    """The environments of your latest runs; for an administrator's token all there are"""
    found = environments.seen_by_caller(bridge())
    told = [
        KeptEnvironmentOut(
            key=one.key,
            private=bool(one.owner),
            python=one.python,
            requirements=list(one.requirements),
            size=one.size,
            built_at=one.built_at,
            used_at=one.used_at,
            in_use=one.in_use,
            broken=one.broken,
        )
        for one in found
    ]
    return EnvironmentsOut(environments=told)


@blueprint.get("/health")
@blueprint.output(HealthOut)
def health() -> tuple[HealthOut, int]:
    """Whether database, storage, Slurm, accounting and poller work; 503 when one does not"""
    state = desk.health(bridge())
    well = HTTPStatus.OK if state.well else HTTPStatus.SERVICE_UNAVAILABLE
    return answers.health_out(state), well


@blueprint.get("/live")
@blueprint.output(LiveOut)
def live() -> LiveOut:
    """That the gateway answers, whatever else works"""
    return LiveOut(live=True)
