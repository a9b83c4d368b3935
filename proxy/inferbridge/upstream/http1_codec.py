"""HTTP/1.1 without I/O: requests as bytes, and a reader of responses on llhttp.

How long a body is (RFC 9112 section 6.3): none after HEAD, 1xx, 204 and 304; else chunked; else content-length; else
until the connection closes. llhttp does the framing; what it cannot know (that the request was HEAD, that the
connection has closed) is dealt with here. A reader reads one response at a time and stays on the connection. Much that
is left of a body whose length is known does not go through llhttp, which has nothing to find there.
"""

import re
from typing import Final, Protocol

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from inferbridge.bridge.values import HOP_BY_HOP, Buffer, Headers

_BODY_EXPECTED: Final = frozenset({"POST", "PUT", "PATCH"})
_JOIN_BELOW: Final = 1 << 16
_LARGE: Final = 1 << 16
"""Bytes of a body still to come that are worth reading without the parser, which copies what it passes on."""
_SERVER_ERROR: Final = 500
_BAD_VALUE = re.compile(rb"[\x00\r\n]")


def encode_route(authority: str, method: str, path: str) -> bytes:
    """The request line and `Host`."""
    return f"{method} {path} HTTP/1.1\r\nhost: {authority}\r\n".encode("ascii")


def encode_fields(fields: list[tuple[bytes, bytes]]) -> bytes:
    """Header fields, checked before."""
    return b"".join(b"%s: %s\r\n" % field for field in fields)


def encode_length(method: str, length: int) -> bytes:
    """The end of a head: a content-length unless there is no body and the method expects none."""
    if length or method in _BODY_EXPECTED:
        return b"content-length: %d\r\n\r\n" % length
    return b"\r\n"


class MalformedResponse(Exception):
    """What arrived is not an HTTP/1.1 response."""


class ResponseSink(Protocol):
    """Where a response goes."""

    def on_head(self, status: int, headers: Headers) -> None:
        """Status and headers, without those that concern the connection."""

    def on_data(self, data: Buffer) -> None:
        """A piece of the body."""


class ResponseReader:
    """Reads the responses of one connection, one after the other.

    The end of a response is not called back but left in `complete` and `trailers`, so that the next request cannot
    start while the bytes of this response are still being parsed. The body is passed on when what arrived is parsed.
    """

    def __init__(self, header_bytes: int) -> None:
        self._header_limit = header_bytes
        self._parser = HttpResponseParser(self)
        self._sink: ResponseSink | None = None
        self._method = ""
        self.started = False
        """Something of the response has arrived."""
        self.complete = False
        self.excess = False
        """Bytes came that no request asked for."""
        self.reusable = False
        """The connection can take another request, once `complete`."""
        self.trailers: Headers = ()
        self._fields: list[tuple[bytes, bytes]] = []
        self._field_bytes = 0
        self._head_done = False
        self._informational = False
        self._until_close = False
        self._last = b""
        """Of the answer to a HEAD."""
        self._body_left = 0
        """What content-length promises and has not come; 0 where the head does not say."""
        self._bypassed = False
        """The rest of the body does not go through the parser."""
        self._body: list[bytes] = []
        """Pieces of the body in what is being read."""

    def expect(self, method: str, sink: ResponseSink) -> None:
        """The next response answers a `method` request and goes to `sink`."""
        self._method = method
        self._sink = sink
        self.started = self.complete = self.reusable = False
        self.trailers = ()
        self._begin()

    def _begin(self) -> None:
        self._fields = []
        self._field_bytes = self._body_left = 0
        self._head_done = self._until_close = self._informational = self._bypassed = False

    def receive(self, data: bytes) -> None:
        """Take what arrived; MalformedResponse when it makes no sense."""
        if self._sink is None or self.complete:
            self.excess = True
            return
        if self._bypassed:
            self._receive_body(self._sink, data)
            return
        self.started = True
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            raise MalformedResponse("it switches protocols") from None
        except HttpParserError as error:
            raise MalformedResponse(str(error.__context__ or error)) from error
        finally:
            if self._body:
                self._deliver()
        if not self._head_done:
            self._field_bytes += len(data)
            self._check_size()
        if self._method == "HEAD":
            self._end_head(data)
        if self.complete:
            self._sink = None  # the connection may be idle for long
        self._bypassed = self._body_left >= _LARGE

    def _receive_body(self, sink: ResponseSink, data: bytes) -> None:
        """More of a large body; at its end the parser, which waits for it still, is replaced."""
        piece: Buffer = data
        if len(data) > self._body_left:
            piece, self.excess = memoryview(data)[: self._body_left], True
        self._body_left -= len(piece)
        if not self._body_left:
            self.complete, self._bypassed = True, False
            self._parser, self._sink = HttpResponseParser(self), None
        sink.on_data(piece)

    def _end_head(self, data: bytes) -> None:
        """Nothing stands behind a head without a body, not even the size of a chunk, which nobody tells us of."""
        self._last = (self._last + data)[-4:]
        if self.complete:
            self.excess = self.excess or self._last != b"\r\n\r\n"
            self._parser = HttpResponseParser(self)  # the old one waits for the body that HEAD leaves out

    def _deliver(self) -> None:
        """Pass on what has come of the body; small chunks together, as the events of a stream come."""
        pieces, self._body = self._body, []
        if len(pieces) > 1 and len(max(pieces, key=len)) < _JOIN_BELOW:
            pieces = [b"".join(pieces)]
        assert self._sink is not None
        for piece in pieces:
            self._sink.on_data(piece)

    def receive_eof(self) -> None:
        """The connection has closed: that completes a response without a length."""
        if self._head_done and self._until_close:
            self.complete = True

    def forget(self) -> None:
        """The connection is no more; a parser and this hold each other, and shall not hold the call."""
        self._sink = None

    def _check_size(self) -> None:
        if self._field_bytes > self._header_limit:
            raise MalformedResponse(f"header fields exceed {self._header_limit} bytes")

    # -- called by llhttp ------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A response starts."""
        if self.complete:
            self.excess = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head, or a trailer field behind a chunked body."""
        if self.complete:
            return
        self._field_bytes += len(name) + len(value) + 4
        self._check_size()
        if _BAD_VALUE.search(value):
            raise MalformedResponse(f"header field {name[:80]!r} has a control character")
        self._fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is there."""
        if self.complete:
            return
        status = self._parser.get_status_code()
        fields, self._fields = self._fields, []
        if status < 100:  # llhttp lets it pass, with a body
            raise MalformedResponse(f"status {status:03}")
        if status < 200:
            self._informational = True
            return
        self._head_done = True
        # uvicorn closes after a failed request although it promised keep-alive, which would cost the next call
        self.reusable = status < _SERVER_ERROR and self._parser.should_keep_alive()
        self._body_left, self._until_close = self._framing(status, fields)
        assert self._sink is not None
        self._sink.on_head(status, _end_to_end(fields))
        if self._method == "HEAD":
            self.reusable = self.reusable or (status < _SERVER_ERROR and not self._closes(fields))
            self.complete = True

    def _framing(self, status: int, fields: list[tuple[bytes, bytes]]) -> tuple[int, bool]:
        """The bytes of the body that its content-length promises, or 0, and whether it has no length of its own.

        llhttp has checked the length.
        """
        if self._method == "HEAD" or status in (204, 304):
            return 0, False
        coding = [value for name, value in fields if name == b"transfer-encoding"]
        if coding and coding != [b"chunked"]:
            raise MalformedResponse(f"transfer-encoding {coding!r}")
        length = next((value for name, value in fields if name == b"content-length"), None)
        return int(length or 0), not coding and length is None

    def _closes(self, fields: list[tuple[bytes, bytes]]) -> bool:
        tokens = b",".join(value for name, value in fields if name == b"connection").lower()
        return b"close" in tokens or self._parser.get_http_version() != "1.1"

    def on_body(self, data: bytes) -> None:
        """A piece of the body, or of one that should not be there."""
        if self._informational:
            raise MalformedResponse("an informational response with a body")
        if self.complete:  # the answer to a HEAD
            self.excess = True
        else:
            self._body.append(data)
            self._body_left -= len(data)

    def on_message_complete(self) -> None:
        """The response is there, trailers included."""
        if self._informational:
            self._begin()
        elif not self.complete:
            self.trailers = _end_to_end(self._fields)
            self.complete = True


def _end_to_end(fields: list[tuple[bytes, bytes]]) -> Headers:
    """The fields without those that concern this connection only, including those that `connection` lists."""
    dropped: frozenset[str] | set[str] = HOP_BY_HOP
    decoded = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields]
    for name, value in decoded:
        if name == "connection":
            dropped = dropped | {token.strip().lower() for token in value.split(",")}
    return tuple(field for field in decoded if field[0] not in dropped)
