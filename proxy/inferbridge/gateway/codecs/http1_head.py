"""From the bytes of an HTTP/1.1 head to a `RequestHead` and the way its body is framed.

llhttp does the parsing and refuses what is plainly broken (bare CR or LF, NUL, obs-fold, Content-Length beside
Transfer-Encoding). It is told where the head ends instead of being asked, so the first byte of the body is known
exactly, and the rules it leaves open (one Host, one space, versions, upgrades, sizes) are applied here.
"""

import re
from dataclasses import dataclass

import httptools

from inferbridge.auth.identity import ClientCertificate
from inferbridge.bridge.errors import BridgeError, Code, invalid
from inferbridge.gateway import fields
from inferbridge.gateway.application import RequestHead
from inferbridge.gateway.limits import Limits

END_OF_HEAD = b"\r\n\r\n"
_REQUEST_LINE = re.compile(rb"([A-Z-]+) ([\x21-\x7e]+) HTTP/1\.([01])\r\n")
_OTHER_VERSION = re.compile(rb"[A-Z-]+ [\x21-\x7e]+ HTTP/[0-9.]+\r\n")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_ABSOLUTE_FORM = re.compile(r"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_SPECIAL = frozenset({"connection", "content-length", "expect", "host", "transfer-encoding"})
_COMMON_NAMES = {
    spelling.encode("ascii"): name
    for name in (
        *("accept", "accept-encoding", "authorization", "connection", "content-length", "content-type", "expect"),
        *("host", "inference-header-content-length", "traceparent", "transfer-encoding", "user-agent", "x-request-id"),
    )
    for spelling in (name, name.title())
}
"""Spares decoding what nearly every request holds; a fixed table cannot be filled by strangers."""


@dataclass(frozen=True, slots=True)
class Peer:
    """What every request of one connection shares."""

    address: str = ""
    """host:port"""
    tls: bool = False
    certificate: ClientCertificate | None = None
    """Verified by TLS."""
    destination: tuple[str, ...] = ()
    """Names of the upstreams that the client was connecting to, where the listener is transparent."""


@dataclass(frozen=True, slots=True)
class Http1Request:
    """A request whose head is complete."""

    head: RequestHead
    length: int | None
    """Bytes of body to come; None: the body is chunked."""
    keep_alive: bool
    expects_continue: bool
    block: bytes
    """The head as sent, empty line included. The rest depends on it and on the connection alone."""


class _Collector:
    """llhttp's callbacks."""

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        self.complete = True


class HeadReader:
    """Reads one head, byte by byte if need be; a broken one is refused as soon as that shows."""

    def __init__(self, limits: Limits, peer: Peer) -> None:
        self._limits = limits
        self._peer = peer
        self._buffer = b""
        self._collector = _Collector()
        self._parser = httptools.HttpRequestParser(self._collector)

    def feed(self, data: bytes) -> tuple[Http1Request | None, bytes]:
        """The request once its head is complete, and the bytes after it. BridgeError: 400, 414, 431, 501, 505 …"""
        seen = len(self._buffer)
        buffer = self._buffer + data if seen else _without_empty_lines(data)
        if buffer == b"\r":
            self._buffer = b""
            return None, buffer
        end = buffer.find(END_OF_HEAD, max(0, seen - 3))
        stop = len(buffer) if end < 0 else end + 4
        self._check_raw_size(buffer, stop)
        self._parse(buffer[seen:stop], complete=end >= 0)
        if end < 0:
            self._buffer = buffer
            return None, b""
        return self._request(buffer[:stop]), buffer[stop:]

    def _check_raw_size(self, buffer: bytes, size: int) -> None:
        """Stop an endless head; the exact limits are checked once it is complete."""
        limits = self._limits
        line_end = buffer.find(b"\r\n", 0, size)
        if line_end < 0 and size > limits.target_bytes + 64:
            raise BridgeError(Code.RESOURCE_EXHAUSTED, "request line too long", status=414)
        if size > limits.target_bytes + limits.header_bytes + 8 * limits.header_fields:
            raise BridgeError(Code.RESOURCE_EXHAUSTED, "request head too large", status=431)

    def _parse(self, data: bytes, complete: bool) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # an offer (Upgrade: h2c) that is not taken up; CONNECT is refused by its method
        except httptools.HttpParserInvalidMethodError as error:
            raise BridgeError(Code.UNIMPLEMENTED, "unknown method", status=501) from error
        except httptools.HttpParserError as error:
            raise invalid(f"malformed request: {error}") from error
        if self._collector.complete is not complete:
            raise invalid("malformed request: head not ended by an empty line")

    def _request(self, block: bytes) -> Http1Request:
        raw = self._collector.fields
        line_ends = len(raw) + 2
        if block.count(b"\n") != line_ends or block.count(b"\r") != line_ends or _CONTROL.search(block):
            raise invalid("control character in the head")  # so that no value can hold one
        method, target, version = _request_line(block)
        fields.check_target_size(target, self._limits)
        if len(block) > self._limits.header_bytes or len(raw) > self._limits.header_fields:
            fields.check_sizes(raw, self._limits)
        if method == b"CONNECT":
            raise BridgeError(Code.UNIMPLEMENTED, "no CONNECT: this is not a forward proxy", status=405)
        headers, special = _split(raw)
        authority = _host(special.get("host", []), version)
        connection = ",".join(special.get("connection", ()))
        head = RequestHead(
            method=method.decode("ascii"),
            target=_origin_form(target.decode("ascii"), authority),
            authority=authority,
            headers=fields.end_to_end(headers, connection) if connection else tuple(headers),
            version=version,
            tls=self._peer.tls,
            peer=self._peer.address,
            certificate=self._peer.certificate,
            destination=self._peer.destination,
        )
        keep_alive = _keep_alive(connection, version) if connection else version == "1.1"
        return Http1Request(head, _body_length(special, version), keep_alive, _expects(special), block)


def _split(raw: list[tuple[bytes, bytes]]) -> tuple[list[tuple[str, str]], dict[str, list[str]]]:
    """The fields for the application, and all values of those that mean something here."""
    headers: list[tuple[str, str]] = []
    special: dict[str, list[str]] = {}
    for raw_name, raw_value in raw:
        name = _COMMON_NAMES.get(raw_name) or raw_name.decode("ascii").lower()
        value = raw_value.strip(b" \t").decode("latin-1")
        if name in _SPECIAL:
            special.setdefault(name, []).append(value)
        if name not in fields.CONSUMED:
            headers.append((name, value))
    return headers, special


def _without_empty_lines(data: bytes) -> bytes:
    """Clients of old send an empty line after a body; RFC 9112 §2.2 wants it ignored."""
    while data.startswith(b"\r\n"):
        data = data[2:]
    return data


def _request_line(block: bytes) -> tuple[bytes, bytes, str]:
    match = _REQUEST_LINE.match(block)
    if match is None:
        if _OTHER_VERSION.match(block):
            raise BridgeError(Code.UNIMPLEMENTED, "HTTP version not supported", status=505)
        raise invalid("malformed request line")
    return match[1], match[2], "1." + match[3].decode("ascii")


def _host(hosts: list[str], version: str) -> str:
    if len(hosts) > 1:
        raise invalid("more than one Host header")
    if not hosts:
        if version == "1.1":
            raise invalid("no Host header")
        return ""
    fields.check_authority(hosts[0])
    return hosts[0]


def _origin_form(target: str, authority: str) -> str:
    """The path and query; an absolute-form target must name the same authority as Host."""
    match = _ABSOLUTE_FORM.match(target)
    if match:
        if match[1].lower() != authority.lower():
            raise invalid("the target names another host than the Host header")
        target = match[2] if match[2].startswith("/") else "/" + match[2]
    fields.check_target(target)
    return target


def _body_length(special: dict[str, list[str]], version: str) -> int | None:
    lengths = special.get("content-length", [])
    codings = special.get("transfer-encoding")
    if len(lengths) + bool(codings) > 1:
        raise invalid("more than one length for the body")
    if codings:
        if version == "1.0":
            raise invalid("Transfer-Encoding in HTTP/1.0")
        if [coding.lower() for coding in codings] != ["chunked"]:
            raise BridgeError(Code.UNIMPLEMENTED, "only the chunked transfer coding is supported", status=501)
        return None
    return fields.content_length(lengths[0]) if lengths else 0


def _keep_alive(connection: str, version: str) -> bool:
    tokens = {token.strip().lower() for token in connection.split(",")}
    return "close" not in tokens and (version == "1.1" or "keep-alive" in tokens)


def _expects(special: dict[str, list[str]]) -> bool:
    expectations = special.get("expect")
    if not expectations:
        return False
    if [value.lower() for value in expectations] != ["100-continue"]:
        raise BridgeError(Code.FAILED_PRECONDITION, "unknown expectation", status=417)
    return True
