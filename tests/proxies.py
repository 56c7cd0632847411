"""A real nginx, configured by docs/nginx as it is but for ports, certificate and storage."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path, PurePath

from freeports import free_port
from promised import missing
from werkzeug.serving import WSGIRequestHandler, make_server

from nias_bridge.http import create_app
from nias_bridge.services.bridge import Bridge

CONF = Path(__file__).parents[1] / "docs/nginx/nias-bridge.conf"
NAME = "nias.lab.example"
URL = f"https://{NAME}"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Message
    body: bytes


@dataclass(frozen=True)
class Proxy:
    """nginx at work: its ports for HTTPS and HTTP, and the file of the certificate to trust."""

    tls_port: int
    plain_port: int
    certificate: Path

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.tls_port}"

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = {}
    ) -> Answer:
        """What is answered to a request by HTTPS."""
        trusted = ssl.create_default_context(cafile=str(self.certificate))
        with closing(
            HTTPSConnection("127.0.0.1", self.tls_port, context=trusted, timeout=30)
        ) as connection:
            connection.request(method, path, body, {"Host": NAME, **headers})
            return answer_of(connection)


def answer_of(connection: HTTPConnection) -> Answer:
    answer = connection.getresponse()
    return Answer(answer.status, answer.headers, answer.read())


class _Quiet(WSGIRequestHandler):
    def log_request(self, *_: object) -> None:
        pass


@contextmanager
def gateway(bridge: Bridge) -> Iterator[int]:
    """The bridge's gateway in a thread of ours; the port where it answers."""
    server = make_server("127.0.0.1", 0, create_app(bridge), threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def nginx(folder: Path, gateways: Sequence[int], shared: PurePath) -> Iterator[Proxy]:
    """nginx before the gateways at these ports of loopback, with its own files in `folder`."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if program is None:
        missing("no nginx here: apt-get install nginx")
    folder.mkdir(exist_ok=True)
    proxy = Proxy(free_port(), free_port(), folder / "fullchain.pem")
    conf = _configured(folder, gateways, shared, proxy)
    process = subprocess.Popen([program, "-p", str(folder), "-c", str(conf)])
    try:
        _wait_until_it_listens(proxy.tls_port)
        yield proxy
    finally:
        process.terminate()
        process.wait(30)


def _configured(folder: Path, gateways: Sequence[int], shared: PurePath, proxy: Proxy) -> Path:
    """The file of docs/nginx in a whole nginx.conf."""
    key = folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", f"/CN={NAME}"),
            *("-addext", f"subjectAltName=IP:127.0.0.1,DNS:{NAME}"),
            *("-keyout", str(key), "-out", str(proxy.certificate)),
        ],
        check=True,
        capture_output=True,
    )
    site = CONF.read_text()
    for ours, here in {
        "server 127.0.0.1:8080;": " ".join(f"server 127.0.0.1:{port};" for port in gateways),
        "listen 80;": f"listen 127.0.0.1:{proxy.plain_port};",
        "listen 443 ssl;": f"listen 127.0.0.1:{proxy.tls_port} ssl;",
        "/etc/ssl/nias/fullchain.pem": str(proxy.certificate),
        "/etc/ssl/nias/key.pem": str(key),
        "alias /shared/nias/;": f"alias {shared}/;",
        "from=/shared/nias;": f"from={shared};",
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


def _wait_until_it_listens(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "nginx did not come up"
            time.sleep(0.05)
