"""What docs/production.md gives to be copied: the units of systemd, and nginx before a gateway."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import pytest
import staged
from client import zipped
from promised import missing
from proxies import NAME, URL, Proxy, answer_of, gateway, nginx

from nias_bridge.people import KeyKind
from nias_bridge.services import keys
from nias_bridge.services.bridge import Bridge

DOCS = Path(__file__).parents[2] / "docs"
UNITS = sorted((DOCS / "systemd").glob("*.service"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_finds_nothing_wrong_with_the_units(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        missing("no systemd-analyze here: apt-get install systemd")
    program = tmp_path / "nias-bridge"
    program.touch(0o755)
    text = unit.read_text()
    assert "ExecStart=/opt/nias/bin/nias-bridge " in text
    copy = tmp_path / unit.name
    copy.write_text(text.replace("/opt/nias/bin/nias-bridge", str(program)))
    argv = ["systemd-analyze", "verify", "--man=no", str(copy)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@dataclass(frozen=True)
class Proxied:
    """A gateway behind nginx: its bridge, and nginx."""

    bridge: Bridge
    nginx: Proxy


@pytest.fixture
def proxied(tmp_path: Path) -> Iterator[Proxied]:
    bridge = staged.make_bridge(tmp_path, public_url=URL, trusted_proxies=1, trusted_hosts=(NAME,))
    with gateway(bridge) as port, nginx(tmp_path / "nginx", [port], bridge.paths.root) as proxy:
        yield Proxied(bridge, proxy)


def test_an_upload_passes_nginx_and_is_noted_with_the_address_it_came_from(
    proxied: Proxied,
) -> None:
    code = {"code.py": "print(1)\n", "signal.bin": os.urandom(3 << 20)}
    headers = {
        **staged.token(proxied.bridge),
        "Content-Type": "application/zip",
        "X-Forwarded-For": "203.0.113.9",
    }
    body = zipped("long-one", code)
    answer = proxied.nginx.ask("POST", "/api/v1/runs?filename=long-one.zip", body, headers)
    assert answer.status == 202, answer.body
    assert json.loads(answer.body)["project"] == "long-one"
    ((_, deed),) = proxied.bridge.store.deeds.newest(action="run submitted")
    assert deed.address == "127.0.0.1"


def test_behind_nginx_the_cookie_is_for_https_alone(proxied: Proxied) -> None:
    link = keys.give_link(proxied.bridge, KeyKind.SIGN_IN, proxied.bridge.person)
    page = proxied.nginx.ask("GET", f"/sign-in/{link}")
    cookie = page.headers["Set-Cookie"]
    assert "Secure" in cookie and "HttpOnly" in cookie
    assert page.headers["Strict-Transport-Security"]


def test_plain_http_is_sent_to_https(proxied: Proxied) -> None:
    with closing(HTTPConnection("127.0.0.1", proxied.nginx.plain_port, timeout=30)) as connection:
        connection.request("GET", "/runs/1", headers={"Host": NAME})
        answer = answer_of(connection)
    assert (answer.status, answer.headers["Location"]) == (301, f"{URL}/runs/1")
