"""A real web server on loopback: a person's program that is told of her runs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Receiver:
    """A person's program; it keeps what came and answers as it is told to."""

    port: int
    status: int = 200
    drips: bool = False
    came: list[tuple[str, Mapping[str, str], bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/runs?of=lab"

    def states(self) -> list[str]:
        return [json.loads(body)["run"]["state"] for _, _, body in self.came]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A program, up and listening."""
    made = Receiver(port=0)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            made.came.append((self.path, dict(self.headers), body))
            if made.drips:
                self._drip()
                return
            self.send_response(made.status)
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            if made.status == 200:
                self.wfile.write(b"thanks")

        def _drip(self) -> None:
            try:
                for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 200:
                    self.wfile.write(bytes([byte]))
                    time.sleep(0.05)
            except OSError:
                pass  # the sender has had enough

        def log_message(self, *_: object) -> None:
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
