"""`nias-bridge token add`: a token as far as its scope says, by the scope's own word."""

from __future__ import annotations

from pathlib import Path

import pytest
import staged
from click.testing import CliRunner

from nias_bridge import cli
from nias_bridge.people import KeyKind, Role, Scope
from nias_bridge.services import keys


@pytest.mark.parametrize("scope", list(Scope))
def test_a_token_has_the_scope_that_is_named(
    scope: Scope, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge = staged.as_person(staged.make_bridge(tmp_path), "root", Role.ADMINISTRATOR)
    monkeypatch.setattr(cli, "_at_the_command_line", lambda: bridge)
    argv = ["token", "add", bridge.person.email, "--scope", scope.value]
    told = CliRunner().invoke(cli.main, argv)
    assert told.exit_code == 0, told.output
    caller = keys.known(bridge, KeyKind.TOKEN, told.output.strip(), "")
    assert caller is not None and caller.scope is scope
