"""What a codec reports about the calls of one client connection.

Every event names the call by `stream`: the HTTP/2 stream id, or a running number on HTTP/1.1. A call begins with
`RequestOpened` or `ProtocolRefused`; after the former come any `RequestData` and one `RequestEnd`, unless
`ProtocolRefused` cuts them short. `RequestCancelled` may come at any point and is always the last.
"""

from dataclasses import dataclass

from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.values import Buffer
from inferbridge.gateway.application import RequestHead


@dataclass(frozen=True, slots=True)
class RequestOpened:
    """The head of a request is complete and acceptable."""

    stream: int
    head: RequestHead


@dataclass(frozen=True, slots=True)
class RequestData:
    """A piece of a request's body."""

    stream: int
    data: Buffer
    credit: int
    """Bytes to hand back with `acknowledge` once the data is consumed; on HTTP/2 this includes padding."""


@dataclass(frozen=True, slots=True)
class RequestEnd:
    """The body of a request is complete."""

    stream: int


@dataclass(frozen=True, slots=True)
class RequestCancelled:
    """The client reset the call or broke the connection: nobody will read an answer."""

    stream: int


@dataclass(frozen=True, slots=True)
class ProtocolRefused:
    """The request breaks a rule or a limit. The codec still takes an answer for `stream`, which should say so."""

    stream: int
    error: BridgeError
    head: RequestHead | None = None
    """Known when the head itself could be understood."""


type Event = RequestOpened | RequestData | RequestEnd | RequestCancelled | ProtocolRefused
