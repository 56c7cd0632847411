"""What docs/production.md gives to be copied: the units of systemd, and nginx before a gateway."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path

import pytest
import staged
from client import zipped
from promised import missing
from sites import free_port
from werkzeug.serving import WSGIRequestHandler, make_server

from nias_bridge.http import create_app
from nias_bridge.people import KeyKind
from nias_bridge.services import keys
from nias_bridge.services.bridge import Bridge

DOCS = Path(__file__).parents[2] / "docs"
UNITS = sorted((DOCS / "systemd").glob("*.service"))
NAME = "nias.lab.example"
URL = f"https://{NAME}"


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
class Answer:
    status: int
    headers: Message
    body: bytes


@dataclass(frozen=True)
class Proxied:
    """A gateway behind nginx as in docs/nginx: its bridge, and what it answers by way of it."""

    bridge: Bridge
    ask: Callable[..., Answer]
    plain_port: int


class _Quiet(WSGIRequestHandler):
    def log_request(self, *_: object) -> None:
        pass


@pytest.fixture
def proxied(tmp_path: Path) -> Iterator[Proxied]:
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if nginx is None:
        missing("no nginx here: apt-get install nginx")
    bridge = staged.make_bridge(tmp_path, public_url=URL, trusted_proxies=1, trusted_hosts=(NAME,))
    server = make_server("127.0.0.1", 0, create_app(bridge), threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    plain_port, tls_port = free_port(), free_port()
    conf = configured(tmp_path, server.port, plain_port, tls_port)
    process = subprocess.Popen([str(nginx), "-p", str(tmp_path), "-c", str(conf)])
    trusted = ssl.create_default_context(cafile=str(tmp_path / "fullchain.pem"))
    trusted.check_hostname = False  # the name is not that of loopback

    def ask(
        method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = {}
    ) -> Answer:
        with closing(
            HTTPSConnection("127.0.0.1", tls_port, context=trusted, timeout=30)
        ) as connection:
            connection.request(method, path, body, {"Host": NAME, **headers})
            return answer_of(connection)

    try:
        answers(ask)
        yield Proxied(bridge, ask, plain_port)
    finally:
        process.terminate()
        process.wait(10)
        server.shutdown()
        thread.join()
        server.server_close()


def configured(folder: Path, gateway: int, plain: int, tls: int) -> Path:
    """The file of docs/nginx as it is, but for ports and the certificate, in a whole nginx.conf."""
    certificate, key = folder / "fullchain.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", f"/CN={NAME}"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    site = (DOCS / "nginx/nias-bridge.conf").read_text()
    for ours, here in {
        "127.0.0.1:8080": f"127.0.0.1:{gateway}",
        "listen 80;": f"listen 127.0.0.1:{plain};",
        "listen 443 ssl;": f"listen 127.0.0.1:{tls} ssl;",
        "/etc/ssl/nias/fullchain.pem": str(certificate),
        "/etc/ssl/nias/key.pem": str(key),
    }.items():
        assert site.count(ours) == 1, ours
        site = site.replace(ours, here)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    conf = folder / "nginx.conf"
    conf.write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{ access_log off;\n{temporary}{site}}}\n"
    )
    return conf


def answer_of(connection: HTTPConnection) -> Answer:
    answer = connection.getresponse()
    return Answer(answer.status, answer.headers, answer.read())


def answers(ask: Callable[..., Answer]) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            ask("GET", "/api/v1/health")
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


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
    answer = proxied.ask("POST", "/api/v1/runs?filename=long-one.zip", body, headers)
    assert answer.status == 202, answer.body
    assert json.loads(answer.body)["project"] == "long-one"
    ((_, deed),) = proxied.bridge.store.deeds.newest(action="run submitted")
    assert deed.address == "127.0.0.1"


def test_behind_nginx_the_cookie_is_for_https_alone(proxied: Proxied) -> None:
    link = keys.give_link(proxied.bridge, KeyKind.SIGN_IN, proxied.bridge.person)
    page = proxied.ask("GET", f"/sign-in/{link}")
    cookie = page.headers["Set-Cookie"]
    assert "Secure" in cookie and "HttpOnly" in cookie
    assert page.headers["Strict-Transport-Security"]


def test_plain_http_is_sent_to_https(proxied: Proxied) -> None:
    with closing(HTTPConnection("127.0.0.1", proxied.plain_port, timeout=30)) as connection:
        connection.request("GET", "/runs/1", headers={"Host": NAME})
        answer = answer_of(connection)
    assert (answer.status, answer.headers["Location"]) == (301, f"{URL}/runs/1")
