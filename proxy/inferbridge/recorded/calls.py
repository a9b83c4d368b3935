"""What of a recorded call has to be said to make it again, whoever makes it: curl, grpcurl, a script or `replay`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import quote

from google.protobuf.descriptor import MethodDescriptor

from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.framing import parse_timeout, split
from inferbridge.bridge.values import HOP_BY_HOP, header
from inferbridge.recorded.bodies import method_of, request_body
from inferbridge.recorded.credentials import Text, header_text
from inferbridge.recorded.exchanges import Side
from inferbridge.upstream.address import Address, parse_address

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_ANY_SIZE = 1 << 32
_UNSENDABLE = re.compile(r"[\r\n\0]")
_PRINTABLE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "#")
_OWN = HOP_BY_HOP | {"host", "content-length", "accept-encoding", "expect"}
_OWN_GRPC = _OWN | {"content-type", "user-agent", "grpc-encoding", "grpc-accept-encoding", "grpc-timeout", "accept"}


class Unfit(ValueError):
    """This call cannot be said in that form; the message is why."""


@dataclass(slots=True)
class Place:
    """Where calls are for, and what may lie beside the text that makes them."""

    url: str = ""
    """Scheme, host and port to call instead of the recorded ones."""
    reveal: bool = False
    """Show credentials that the recording holds."""
    beside: str = ""
    """How names of files beside the text begin; empty: there can be none."""
    files: dict[str, bytes] = field(default_factory=dict)
    """Those that the calls so far need, by name."""

    def address(self, side: Side) -> Address:
        """Whom to call; raises `Unfit` where that is not known."""
        if not (self.url or side.url):
            raise Unfit(f"where {side.upstream or 'the runtime'} is was not recorded; say it with --to")
        try:
            return parse_address(self.url or side.url)
        except ValueError as error:
            raise Unfit(f"--to: {error}" if self.url else f"the recorded address is none: {error}") from None

    def add(self, name: str, content: bytes) -> str:
        """A file beside the text; its whole name."""
        whole = f"{self.beside}.{name}"
        self.files[whole] = content
        return whole


def method_word(side: Side) -> str:
    """The verb; raises `Unfit` for what is none."""
    if not _TOKEN.fullmatch(side.asked.method):
        raise Unfit("its method is no word")
    return side.asked.method


def refuse_cut(side: Side) -> None:
    """Raises `Unfit` for a call of which a part was not recorded."""
    if side.asked.is_cut or (side.protocol == "grpc" and _ends_within_a_message(side.asked.body)):
        raise Unfit("its body was not kept whole when it was recorded")


def _ends_within_a_message(body: bytes) -> bool:
    return split(body, _ANY_SIZE)[1] < len(body)


def encoded(target: Text) -> Text:
    """A request target with everything escaped that may not stand in one."""
    return tuple(
        quote(piece.encode(errors="surrogateescape"), safe=_PRINTABLE) if isinstance(piece, str) else piece
        for piece in target
    )


def rest_headers(side: Side, *, reveal: bool) -> Iterator[tuple[str, Text]]:
    """The headers of a call, without those that whoever sends it makes itself."""
    for name, value in side.asked.headers:
        if name not in _OWN and _sendable(name, value):
            yield name, header_text(name, value, reveal=reveal)


def grpc_metadata(side: Side, *, reveal: bool) -> Iterator[tuple[str, Text]]:
    """As `rest_headers`, for clients of gRPC, which say more of it themselves."""
    return ((name, text) for name, text in rest_headers(side, reveal=reveal) if name not in _OWN_GRPC)


def left_out(side: Side) -> list[str]:
    """Names of headers that nothing can send."""
    return [name for name, value in side.asked.headers if not _sendable(name, value)]


def _sendable(name: str, value: str) -> bool:
    return bool(_TOKEN.fullmatch(name)) and not _UNSENDABLE.search(value)


def timeout_of(side: Side) -> float | None:
    """Seconds that the client gave a gRPC call."""
    try:
        return parse_timeout(header(side.asked.headers, "grpc-timeout") or "")
    except BridgeError:
        return None


def described(side: Side) -> tuple[MethodDescriptor, list[str]]:
    """The method of a gRPC call and its messages as JSON; raises `Unfit`."""
    if side.protocol != "grpc":
        raise Unfit("it is not gRPC")
    method, body = method_of(side), request_body(side)
    if method is None:
        raise Unfit("no proto has its method; curl can send it, and --specs names your own")
    if body.kind != "messages":
        raise Unfit("its messages cannot be read; curl can send them")
    if body.unknown:
        raise Unfit(f"the proto does not have {', '.join(body.unknown)}; curl can send it")
    return method, body.value
