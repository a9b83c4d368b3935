"""HTTP/2 from both sides: whatever the peer sends, calls end once and nothing but the declared errors gets out."""

from typing import Any

from fuzz.cutting import cut
from gateway.applications import Echo
from inferbridge.bridge.values import Buffer, Headers
from inferbridge.gateway.clients.connection import ClientConnection
from inferbridge.gateway.codecs.codec import ServerCodec
from inferbridge.gateway.codecs.events import (
    Event,
    ProtocolRefused,
    RequestCancelled,
    RequestData,
    RequestEnd,
    RequestOpened,
)
from inferbridge.gateway.codecs.http2 import ClientLeft, Http2Codec
from inferbridge.gateway.codecs.http2_reader import FrameReader
from inferbridge.gateway.codecs.sniff import PREFACE
from inferbridge.gateway.limits import Limits
from inferbridge.http2 import frames
from inferbridge.http2.frames import ProtocolViolation
from inferbridge.http2.literals import encode_fields
from inferbridge.upstream.header_blocks import encode_route
from inferbridge.upstream.http2_codec import Http2Codec as UpstreamCodec

_BLOCK = encode_route("http", "a:1", "POST", "/pkg.Service/Method") + encode_fields([(b"content-type", b"x")])
_HEADER_BYTES = 65_536


def http2(data: bytes) -> None:
    """A client of HTTP/2 is answered or sent away: calls begin and end in order, and what we say are whole frames."""
    _, pieces = cut(data)
    codec = Http2Codec(Limits())
    _watch(codec)
    order, out = _Order(), codec.take_output()
    for piece in (PREFACE, *pieces):
        if codec.closing:
            break
        for event in codec.receive(piece):
            order.take(event)
            _answer(codec, event)
        out += codec.take_output()
    _check_frames(out)


def client_connection(data: bytes) -> None:
    """A connection that begins with any bytes at all serves or closes; each call that is opened ends at most once."""
    _, pieces = cut(data)
    application = Echo()
    connection = ClientConnection(application, Limits(), lambda: None)
    for piece in pieces:
        connection.receive(piece)
        connection.take_output()
    connection.lost()
    assert not connection.calls
    assert connection.take_output() is not None


class _Order:
    """Holds events against what `events.py` says of their order."""

    def __init__(self) -> None:
        self._open: dict[int, bool] = {}
        """Whether more of the body may come, of each stream that is not over."""
        self._over: set[int] = set()

    def take(self, event: Event) -> None:
        stream = event.stream
        assert stream not in self._over, event
        if isinstance(event, RequestOpened):
            assert stream not in self._open
            self._open[stream] = True
        elif isinstance(event, ProtocolRefused):
            assert self._open.get(stream, True)
            self._open[stream] = False
        elif isinstance(event, RequestData | RequestEnd):
            assert self._open[stream]
            self._open[stream] = isinstance(event, RequestData)
        else:
            assert isinstance(event, RequestCancelled)
            del self._open[stream]
            self._over.add(stream)


def _answer(codec: ServerCodec, event: Event) -> None:
    if isinstance(event, RequestData):
        codec.acknowledge(event.stream, event.credit)
    elif isinstance(event, RequestEnd | ProtocolRefused):
        codec.send_whole(event.stream, 200, (("x", "y"),), [b"z" * 100])


def _watch(codec: Http2Codec) -> None:
    """Let our own bugs out, which end only a connection in production."""
    codec._reader = _LoudReader(codec, codec._meter, 2 * Limits().header_bytes)


class Bug(BaseException):
    """Gets past `except Exception`."""


class _LoudReader(FrameReader):
    """Tells bugs from what the client did wrong."""

    def feed(self, data: bytes) -> None:
        """Read what came."""
        try:
            super().feed(data)
        except (ProtocolViolation, ClientLeft):
            raise
        except Exception as error:
            raise Bug from error


def _check_frames(out: bytes) -> None:
    at = 0
    while at < len(out):
        assert len(out) - at >= frames.HEADER_BYTES
        at += frames.HEADER_BYTES + int.from_bytes(out[at : at + 3])
    assert at == len(out)


class _Handler:
    """What one call of a runtime came to."""

    def __init__(self) -> None:
        self.log: list[tuple[Any, ...]] = []
        self.body = b""
        self.over = self.failed = False

    @property
    def sound(self) -> bytes:
        """The body, unless the call failed: then any part of it may have come before."""
        return b"" if self.failed else self.body

    def on_head(self, status: int, headers: Headers) -> None:
        assert not self.log
        self.log.append((status, headers))

    def on_data(self, data: Buffer) -> None:
        assert self.log
        assert not self.over
        self.body += bytes(data)

    def on_end(self, trailers: Headers) -> None:
        self._end(trailers)

    def on_reset(self, code: int, reason: str) -> None:
        self.failed = True
        self._end(code, reason)

    def on_unprocessed(self) -> None:
        self._end()

    def on_drained(self) -> None:
        assert not self.over

    def _end(self, *how: Any) -> None:
        assert not self.over
        self.over = True
        self.log.append(how)


def upstream_http2(data: bytes) -> None:
    """What a runtime sends means the same, cut or not; calls end once, and are over when the codec forgets them."""
    whole, pieces = cut(data)
    assert _talk([whole]) == _talk(pieces)


def _talk(pieces: list[bytes]) -> tuple[Any, ...]:
    codec = UpstreamCodec(_HEADER_BYTES)
    codec.receive(frames.settings({frames.INITIAL_WINDOW_SIZE: 100}))
    handlers = [_Handler() for _ in range(3)]
    growing = codec.open_growing(_BLOCK, handlers[0])
    streams = [growing, codec.open(_BLOCK, [b"a" * 300], handlers[1]), codec.open(_BLOCK, (), handlers[2])]
    codec.send(growing, [b"b" * 300])
    broken = ""
    try:
        for piece in pieces:
            codec.receive(piece)
        codec.finish(growing)
    except ProtocolViolation as violation:
        broken = f"{violation.code!r} {violation}"
    _check_frames(b"".join(map(bytes, codec.output)).removeprefix(PREFACE))
    for stream, handler in zip(streams, handlers, strict=True):
        assert (stream.id in codec.streams) is not handler.over
    return broken, [(handler.log, handler.sound) for handler in handlers]
