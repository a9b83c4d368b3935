"""What a codec reports about the calls of one client connection.

Every event names the call by `stream`: the HTTP/2 stream id, or a running number on HTTP/1.1. A call begins with
`RequestOpened` or `ProtocolRefused`; after the former come any `RequestData` and one `RequestEnd`, unless
`ProtocolRefused` cuts them short. `RequestCancelled` may come at any point and is always the last.
"""

from msgspec import Struct

from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.values import Buffer
from inferbridge.gateway.application import RequestHead


class RequestOpened(Struct, frozen=True):
    """The head of a request is complete and acceptable."""

    stream: int
    head: RequestHead


class RequestData(Struct, frozen=True):
    """A piece of a request's body."""

    stream: int
    data: Buffer
    credit: int
    """Bytes to hand back with `acknowledge` once the data is consumed; on HTTP/2 this includes padding."""


class RequestEnd(Struct, frozen=True):
    """The body of a request is complete."""

    stream: int


class RequestCancelled(Struct, frozen=True):
    """The client reset the call or broke the connection: nobody will read an answer."""

    stream: int


class ProtocolRefused(Struct, frozen=True):
    """The request breaks a rule or a limit. The codec still takes an answer for `stream`, which should say so."""

    stream: int
    error: BridgeError
    head: RequestHead | None = None
    """Known when the head itself could be understood."""


type Event = RequestOpened | RequestData | RequestEnd | RequestCancelled | ProtocolRefused
