"""HTTP/1.1 from both sides: any cutting gives the same, and h11 and llhttp see no other message than we do."""

from contextlib import suppress
from typing import Any

import h11
import httptools

from fuzz.cutting import cut, joined
from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.values import Buffer, Headers
from inferbridge.gateway.codecs.chunked import ChunkedDecoder
from inferbridge.gateway.codecs.http1_head import HeadReader, Http1Request, Peer
from inferbridge.gateway.limits import Limits
from inferbridge.upstream.http1_codec import MalformedResponse, ResponseReader

_HEADER_BYTES = 65_536
_PRELUDE = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
_METHODS = ("GET", "POST", "HEAD")


# Heads of requests


def http1_head(data: bytes) -> None:
    """A head is read or refused, cut or not, and one that is read means the same to h11."""
    whole, pieces = cut(data)
    read = _read_head([whole])
    assert read == _read_head(pieces)
    if read is not None and read[0] is not None:
        _check_with_h11(read[0])


def _read_head(pieces: list[bytes]) -> tuple[Http1Request | None, bytes] | None:
    """The request and what follows it; None if it is refused."""
    reader, request, rest = HeadReader(Limits(), Peer()), None, b""
    for piece in pieces:
        rest += piece
        if request is None:
            try:
                request, rest = reader.feed(rest)
            except BridgeError:
                return None
    return request, rest


def _check_with_h11(request: Http1Request) -> None:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(request.block)
    event = connection.next_event()
    assert isinstance(event, h11.Request), event
    assert event.method.decode() == request.head.method
    assert event.target.decode().endswith(request.head.target.removeprefix("/"))
    assert event.http_version.decode() == request.head.version
    fields = dict(event.headers)
    assert (fields.get(b"transfer-encoding", b"").lower() == b"chunked") is (request.length is None)
    assert int(fields.get(b"content-length", 0)) == (request.length or 0)
    assert set(request.head.headers) <= {(name.decode(), value.decode("latin-1")) for name, value in event.headers}


# Chunked bodies of requests


def http1_chunked(data: bytes) -> None:
    """A chunked body is decoded or refused, cut or not, and one that is decoded is the same to llhttp."""
    whole, pieces = cut(data)
    body = _decode_chunked([whole])
    assert body == _decode_chunked(pieces)
    if body is not None and body[1]:
        assert body[0] == _by_llhttp(whole)


def _decode_chunked(pieces: list[bytes]) -> tuple[bytes, bool, bytes] | None:
    """The body so far, whether it is complete, and what follows it; None if it is refused."""
    decoder, body, rest = ChunkedDecoder(1000), b"", b""
    for piece in pieces:
        if decoder.complete:
            rest += piece
            continue
        try:
            found, rest = decoder.feed(piece)
        except BridgeError:
            return None
        body += joined(found)
    return body, decoder.complete, rest


class _Body:
    def __init__(self) -> None:
        self.body, self.complete = b"", False

    def on_body(self, data: bytes) -> None:
        if not self.complete:
            self.body += data

    def on_message_complete(self) -> None:
        self.complete = True


def _by_llhttp(data: bytes) -> bytes | None:
    """What llhttp decodes; None if it refuses that or wants more."""
    seen = _Body()
    with suppress(httptools.HttpParserError):  # what follows the body may be anything
        httptools.HttpRequestParser(seen).feed_data(_PRELUDE + data)
    return seen.body if seen.complete else None


# Responses of runtimes


class _Sink:
    def __init__(self) -> None:
        self.heads: list[tuple[int, Headers]] = []
        self.body = b""

    def on_head(self, status: int, headers: Headers) -> None:
        self.heads.append((status, headers))

    def on_data(self, data: Buffer) -> None:
        assert self.heads
        self.body += bytes(data)


def upstream_http1(data: bytes) -> None:
    """A response is read or refused, cut or not; a complete one has one head, and the body that h11 sees."""
    method, data = _METHODS[data[0] % 3] if data else "GET", data[1:]
    whole, pieces = cut(data)
    reader, sink = _read_response(method, [whole])
    cut_reader, cut_sink = _read_response(method, pieces)
    if reader is None or cut_reader is None:
        # what comes behind a complete response may look like a bad one, or just be too much
        assert reader is cut_reader or (cut_reader is not None and cut_reader.excess)
        return
    assert (sink.heads, sink.body) == (cut_sink.heads, cut_sink.body)
    assert (reader.complete, reader.trailers) == (cut_reader.complete, cut_reader.trailers)
    assert len(sink.heads) <= 1
    if reader.complete:
        seen = _response_by_h11(method, whole)
        assert seen is None or seen == (sink.heads[0][0], sink.body)


def _read_response(method: str, pieces: list[bytes]) -> tuple[ResponseReader | None, _Sink]:
    reader, sink = ResponseReader(_HEADER_BYTES), _Sink()
    reader.expect(method, sink)
    try:
        for piece in pieces:
            reader.receive(piece)
    except MalformedResponse:
        return None, sink
    reader.receive_eof()
    return reader, sink


def _response_by_h11(method: str, data: bytes) -> tuple[int, bytes] | None:
    """Status and body as h11 sees them; None where it refuses the response, being stricter in places."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    connection.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
    connection.send(h11.EndOfMessage())
    status, body, ended = 0, b"", False
    for piece in (data, b""):
        try:
            if ended:
                break
            connection.receive_data(piece)
            while (event := connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED) and not ended:
                status, body, ended = _seen(event, status, body)
        except h11.RemoteProtocolError:
            return None
    return (status, body) if ended else None


def _seen(event: Any, status: int, body: bytes) -> tuple[int, bytes, bool]:
    if isinstance(event, h11.Response):
        return event.status_code, body, False
    if isinstance(event, h11.Data):
        return status, body + bytes(event.data), False
    return status, body, isinstance(event, h11.EndOfMessage)
