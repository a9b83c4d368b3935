"""From the decoded fields of an HTTP/2 request to what is to be known of it (RFC 9113 §8.1–8.3).

A malformed head is a matter of its stream. A content-length that says nothing, or two things, ends the connection:
where such a body ends, the client and whoever stands between may see differently.
"""

import re

from msgspec import Struct

from inferbridge.bridge.errors import BridgeError, Code, invalid
from inferbridge.gateway import fields
from inferbridge.gateway.application import RequestHead
from inferbridge.gateway.codecs.http1_head import Peer
from inferbridge.gateway.codecs.http2_blocks import RawFields
from inferbridge.gateway.limits import Limits
from inferbridge.http2.frames import ErrorCode, ProtocolViolation

_LENGTH = re.compile(rb"[0-9]{1,4000}")
_PSEUDO = frozenset({":method", ":scheme", ":authority", ":path"})
_SINGLE = frozenset({"host", "content-length"})
_KNOWN_BYTES, _MOST_KNOWN = 4096, 8
"""Of heads that are remembered: a hostile client has at most 32 KiB of them for each connection."""
_FORBIDDEN = frozenset({"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"})


def request_head(raw: RawFields, limits: Limits, peer: Peer) -> RequestHead:
    """The head; BridgeError for a malformed one (400), one over the limits (414, 431), or CONNECT (405)."""
    pseudo, pairs = _split(raw)
    method, target = pseudo.get(":method", ""), pseudo.get(":path", "")
    fields.check_name(method)
    if method == "CONNECT":
        raise BridgeError(Code.UNIMPLEMENTED, "no CONNECT: this is not a forward proxy", status=405)
    if pseudo.get(":scheme") not in ("http", "https"):
        raise invalid("missing or unknown :scheme")
    fields.check_target(target)
    authority = _authority(pseudo, pairs)
    head = RequestHead(
        method=method,
        target=target,
        authority=authority,
        headers=_join_cookies(fields.end_to_end(pairs)),
        version="2",
        tls=peer.tls,
        peer=peer.address,
        certificate=peer.certificate,
        destination=peer.destination,
    )
    _check_sizes(raw, target, limits, head)
    return head


class Http2Request(Struct, frozen=True):
    """What there is to know of a request before its body."""

    head: RequestHead
    length: int | None
    """Of the body, where content-length says."""
    expects_continue: bool


class RequestHeads:
    """Reads the heads of one connection. One that the client sends again is the same object, as over HTTP/1.1."""

    def __init__(self, limits: Limits, peer: Peer) -> None:
        self._limits = limits
        self._peer = peer
        self._known: dict[RawFields, Http2Request] = {}

    def read(self, raw: RawFields) -> Http2Request:
        """The request; BridgeError as `request_head`, ProtocolViolation as `announced_length`."""
        request = self._known.get(raw)
        if request is None:
            length = announced_length(raw)
            head = request_head(raw, self._limits, self._peer)
            request = Http2Request(head, length, (b"expect", b"100-continue") in raw)
            if sum(len(name) + len(value) for name, value in raw) <= _KNOWN_BYTES:
                if len(self._known) >= _MOST_KNOWN:
                    self._known.clear()
                self._known[raw] = request
        return request


def announced_length(raw: RawFields) -> int | None:
    """The content-length; ProtocolViolation for what is no number, and for two that differ."""
    values = [value for name, value in raw if name == b"content-length"]
    if not values:
        return None
    if not all(map(_LENGTH.fullmatch, values)) or len(set(map(int, values))) > 1:
        raise ProtocolViolation(ErrorCode.PROTOCOL_ERROR, "illegal content-length")
    return int(values[0])


class HeadTooLarge(BridgeError):
    """A well-formed head over the limits; it still says in which dialect to answer."""

    def __init__(self, error: BridgeError, head: RequestHead) -> None:
        super().__init__(error.code, error.message, status=error.status)
        self.head = head


def _check_sizes(raw: RawFields, target: str, limits: Limits, head: RequestHead) -> None:
    try:
        fields.check_target_size(target.encode("ascii"), limits)
        fields.check_sizes(raw, limits)
    except BridgeError as error:
        raise HeadTooLarge(error, head) from error


def _split(raw: RawFields) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Pseudo-headers and ordinary fields, all checked and as text."""
    pseudo: dict[str, str] = {}
    pairs: list[tuple[str, str]] = []
    for raw_name, raw_value in raw:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        fields.check_value(name, value)
        if name.startswith(":"):
            if pairs or name in pseudo or name not in _PSEUDO:
                raise invalid(f"unknown, repeated or late pseudo-header {name[:64]!r}")
            pseudo[name] = value
        else:
            _check_field(name, value)
            pairs.append((name, value.strip(" \t")))
    return pseudo, pairs


def _check_field(name: str, value: str) -> None:
    fields.check_name(name)
    if name in _FORBIDDEN or name.lower() != name:
        raise invalid(f"header {name!r} is not allowed in HTTP/2")
    if name == "te" and value.lower() != "trailers":
        raise invalid("te may only be trailers in HTTP/2")


def _authority(pseudo: dict[str, str], pairs: list[tuple[str, str]]) -> str:
    singles = [pair for pair in pairs if pair[0] in _SINGLE]
    hosts = [value for name, value in singles if name == "host"]
    if len(singles) - len(hosts) > 1:
        raise invalid("more than one content-length")
    if ":authority" in pseudo:
        hosts.append(pseudo[":authority"])
    if not hosts:
        raise invalid("neither :authority nor host")
    if len(set(hosts)) > 1:
        raise invalid("host and :authority differ")
    fields.check_authority(hosts[0])
    return hosts[0]


def _join_cookies(headers: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """HTTP/2 may split a cookie header; nobody else expects that (RFC 9113 §8.2.3)."""
    cookies = [value for name, value in headers if name == "cookie"]
    if len(cookies) < 2:
        return headers
    return (*(field for field in headers if field[0] != "cookie"), ("cookie", "; ".join(cookies)))
