"""The API does what its OpenAPI description says, whatever is sent: found out by schemathesis.

NIAS_EXAMPLES says how many requests each address gets.
"""

from __future__ import annotations

import os
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import schemathesis
import staged
from apiflask import APIFlask
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from nias_bridge.http import create_app

EXAMPLES = int(os.environ.get("NIAS_EXAMPLES", "12"))


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[APIFlask, dict[str, str]]:
    """A gateway with runs in all kinds of states, and the header of who may do all."""
    bridge = staged.make_bridge(tmp_path_factory.mktemp("described"))
    for stage in (staged.completed, staged.failed, staged.running, staged.pending, staged.swept):
        stage(bridge)
    staged.dataset(bridge, "eeg", {"a.csv": "1"})
    # However long it takes to ask all that there is, the poller is not silent.
    staged.show_cluster(bridge, at=datetime.now(UTC) + timedelta(hours=1))
    return create_app(bridge), staged.token(bridge)


# A zip that is none, or a state that Slurm has not, is refused though the schema allows it.
# And words that a query has no use for are left alone.
MORE_IS_MEANT = [positive_data_acceptance, negative_data_rejection]
BOUNDED = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_answer_is_as_described(
    asked: tuple[APIFlask, dict[str, str]], mode: GenerationMode
) -> None:
    app, token = asked

    def whole(environ: Any, start: Any) -> list[bytes]:  # schemathesis closes no answers
        with closing(app(environ, start)) as answer:
            return [b"".join(answer)]

    schema = schemathesis.openapi.from_wsgi("/api/openapi.json", whole)
    wrong: dict[str, BaseException] = {}
    for found in schema.get_all_operations():
        operation = found.ok()

        @BOUNDED
        @given(case=operation.as_strategy(generation_mode=mode))
        def holds(case: Any) -> None:
            case.call_and_validate(headers=token, excluded_checks=MORE_IS_MEANT)

        try:
            holds()
        except Unsatisfiable:  # there is nothing that this address could take amiss
            continue
        except (Exception, BaseExceptionGroup) as failure:
            wrong[operation.label] = failure
    assert not wrong, "\n".join(f"{label}: {failure}" for label, failure in wrong.items())
