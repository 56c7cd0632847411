"""One signed message to an address that a person named: to it alone, and not for long."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from threading import Timer
from urllib.parse import urlsplit

from nias_bridge.errors import BadRequest, NoAnswer

SECONDS = 5.0  # from the connection to the last header of the answer
URL_MAX = 500
PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True)
class Target:
    """An address, taken apart; authority is what stands in the Host header."""

    scheme: str
    host: str
    port: int
    authority: str
    path: str


def target_of(url: str) -> Target:
    """The parts of an http or https address. Raises BadRequest with what is wrong."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise BadRequest(
            "This is no address of a program: its host or port is wrong.", "url"
        ) from None
    plain = url.isascii() and url.isprintable() and " " not in url and len(url) <= URL_MAX
    if parts.scheme not in PORTS or not parts.hostname or not plain:
        raise BadRequest(
            f"Write an address such as https://host/path, in at most {URL_MAX} plain characters.",
            "url",
        )
    if "@" in parts.netloc:
        raise BadRequest("Leave name and password out of the address: messages are signed.", "url")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, parts.hostname, port or PORTS[parts.scheme], parts.netloc, path)


def addresses_of(target: Target, *, private: bool) -> list[str]:
    """Where its host is now; with `private` also within the site, else nowhere but outside.

    Raises BadRequest for a host that is where it may not be, NoAnswer for one that is not known.
    """
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise NoAnswer(f"The host {target.host} is not known.") from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not private and not all(_is_outside(address) for address in addresses):
        raise BadRequest(
            f"The host {target.host} is within this site, where programs may not be told "
            "(the setting webhook_private).",
            "url",
        )
    return addresses


def post(url: str, body: bytes, secret: str, number: int, *, private: bool) -> None:
    """Send the body, signed; whatever is answered with 2xx is a yes. No redirect is followed.

    Raises NoAnswer; BadRequest for an address that may not be told (any more).
    """
    target = target_of(url)
    at = str(int(time.time()))
    headers = {
        "Host": target.authority,
        "Content-Type": "application/json",
        "User-Agent": "NIAS-bridge",
        "Connection": "close",
        "Nias-Delivery": str(number),
        "Nias-Timestamp": at,
        "Nias-Signature": f"sha256={signature(secret, at, body)}",
    }
    addresses = addresses_of(target, private=private)
    try:
        with _connected(target, addresses) as sock:
            connection = HTTPConnection(target.host, target.port)
            # To the address that was looked at: a name that is asked for again may lead elsewhere.
            connection.sock = sock
            connection.request("POST", target.path, body, headers)
            status = connection.getresponse().status
    except (OSError, HTTPException, ValueError) as error:
        why = str(error) or type(error).__name__
        raise NoAnswer(
            f"{target.host} gave no answer in time ({SECONDS:.0f} s): {why.rstrip('.')}."
        ) from None
    if not 200 <= status < 300:
        moved = "; redirects are not followed" if 300 <= status < 400 else ""
        raise NoAnswer(f"{target.host} answered with {status}, not with 200{moved}.")


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """HMAC-SHA256 over “timestamp.body”, in hexadecimal digits."""
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


@contextmanager
def _connected(target: Target, addresses: list[str]) -> Iterator[socket.socket]:
    """A connection to the first of these that takes one; cut when the time is over."""
    deadline = time.monotonic() + SECONDS
    sock = _connect(addresses, target.port, deadline)
    if target.scheme == "https":
        trust = ssl.create_default_context()
        sock = trust.wrap_socket(sock, server_hostname=target.host, do_handshake_on_connect=False)
    # A timeout of the socket's begins anew with each byte of an answer that drips.
    cut = Timer(max(0.0, deadline - time.monotonic()), _cut, [sock])
    cut.daemon = True
    cut.start()
    try:
        if isinstance(sock, ssl.SSLSocket):
            sock.do_handshake()
        yield sock
    finally:
        cut.cancel()
        sock.close()


def _connect(addresses: list[str], port: int, deadline: float) -> socket.socket:
    failed: OSError = TimeoutError("no time was left")
    for address in addresses:
        left = deadline - time.monotonic()
        if left <= 0:
            break
        try:
            return socket.create_connection((address, port), left)
        except OSError as error:
            failed = error
    raise failed


def _cut(sock: socket.socket) -> None:
    with suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _is_outside(address: str) -> bool:
    """Whether this is an address of the internet, by whatever way it is written."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        low = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        compatible = int(ip) >> 32 == 0
        if ip.ipv4_mapped or ip in _NAT64 or compatible:
            ip = low
        elif ip.sixtofour:
            ip = ip.sixtofour
    return ip.is_global and not ip.is_multicast
