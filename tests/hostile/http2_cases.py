"""HTTP/2 requests that would split or change on their way to HTTP/1.1, and what becomes of each.

A case is the frames of stream 1, the status that the client gets (0: the stream is reset, -1: the connection ends in
GOAWAY), and how many requests reach the runtime.
"""

from typing import NamedTuple

from hyperframe.frame import ContinuationFrame, Frame, HeadersFrame

from gateway.http2_client import data_frame, headers_frame, reset_frame

RESET, GOAWAY = 0, -1
ONE_OR_NONE = -1
"""The request was complete before the frame that spoils its stream."""
INFER = (b":path", b"/v2/models/m/infer")
POST = ((b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"a"), INFER)
GET = ((b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/v2/models/m/ready"))
BODY = data_frame(1, b"{}", end=True)


class Case(NamedTuple):
    """One stream and what becomes of it."""

    frames: tuple[Frame, ...]
    status: int
    upstream: int = 0


def post(*fields: tuple[bytes, bytes], status: int = 400, upstream: int = 0) -> Case:
    """An ordinary call with further fields."""
    return Case((headers_frame(1, (*POST, *fields), end=False), BODY), status, upstream)


def pseudo(name: bytes, value: bytes, status: int = 400, upstream: int = 0) -> Case:
    """An ordinary call with another pseudo-header."""
    fields = [(key, value if key == name else other) for key, other in POST]
    return Case((headers_frame(1, fields, end=False), BODY), status, upstream)


def without(name: bytes) -> Case:
    """An ordinary call that lacks a pseudo-header."""
    return Case((headers_frame(1, [field for field in POST if field[0] != name], end=False), BODY), 400)


def body(length: bytes, *frames: Frame, status: int = 400) -> Case:
    """A call with this content-length and these DATA frames."""
    return Case((headers_frame(1, (*POST, (b"content-length", length)), end=False), *frames), status)


def _interrupted() -> tuple[Frame, ...]:
    begun = headers_frame(1, POST, end=False)
    begun.flags.discard("END_HEADERS")
    return begun, data_frame(1, b"{}")


def _continued() -> tuple[Frame, ...]:
    whole = headers_frame(1, POST, end=False)
    return (
        HeadersFrame(1, whole.data[:10], flags=[]),
        ContinuationFrame(1, whole.data[10:], flags=["END_HEADERS"]),
        BODY,
    )


SPLIT = b"x\r\nContent-Length: 0\r\n\r\nPOST /v2/models/smuggled/infer HTTP/1.1\r\nHost: a\r\n\r\n"
CASES = {
    "control": post(status=200, upstream=1),
    "control: content-length": post((b"content-length", b"2"), status=200, upstream=1),
    "control: CONTINUATION": Case(_continued(), 200, 1),
    "control: te trailers": post((b"te", b"trailers"), status=200, upstream=1),
    "control: host that agrees": post((b"host", b"a"), status=200, upstream=1),
    "CRLF in a value": post((b"x", SPLIT)),
    "LF in a value": post((b"x", b"y\nz: 1")),
    "CR in a value": post((b"x", b"y\rz: 1")),
    "NUL in a value": post((b"x", b"y\0")),
    "CRLF in a name": post((b"x\r\nz", b"y")),
    "colon in a name": post((b"x: y", b"z")),
    "space in a name": post((b"x y", b"z")),
    "NUL in a name": post((b"x\0", b"z")),
    "capitals in a name": post((b"X-Y", b"z")),
    "empty name": post((b"", b"z")),
    "name over 127": post((b"x\xe9", b"z")),
    "transfer-encoding": post((b"transfer-encoding", b"chunked")),
    "transfer-encoding behind CRLF": post((b"x", b"y\r\ntransfer-encoding: chunked")),
    "connection": post((b"connection", b"close")),
    "keep-alive": post((b"keep-alive", b"1")),
    "proxy-connection": post((b"proxy-connection", b"close")),
    "upgrade": post((b"upgrade", b"h2c")),
    "te other than trailers": post((b"te", b"chunked")),
    "CRLF in :path": pseudo(b":path", b"/v2/models/m/infer HTTP/1.1\r\nx: y\r\n\r\nGET /x"),
    "space in :path": pseudo(b":path", b"/v2/models/m/infer HTTP/1.1"),
    "NUL in :path": pseudo(b":path", b"/v2/models/m/infer\0"),
    "absolute :path": pseudo(b":path", b"http://evil/v2/models/m/infer"),
    "empty :path": pseudo(b":path", b""),
    ":path without a slash": pseudo(b":path", b"v2/models/m/infer"),
    "asterisk :path": pseudo(b":path", b"*"),
    "fragment in :path": pseudo(b":path", b"/v2/models/m/infer#x"),
    "CRLF in :method": pseudo(b":method", b"POST / HTTP/1.1\r\n\r\nGET"),
    "space in :method": pseudo(b":method", b"POST /x HTTP/1.1 GET"),
    "empty :method": pseudo(b":method", b""),
    "CONNECT": pseudo(b":method", b"CONNECT", status=405),
    "CRLF in :authority": pseudo(b":authority", b"a\r\nx: y"),
    "space in :authority": pseudo(b":authority", b"a b"),
    "user information in :authority": pseudo(b":authority", b"a@b"),
    "path in :authority": pseudo(b":authority", b"a/b"),
    "empty :authority": pseudo(b":authority", b""),
    "CRLF in :scheme": pseudo(b":scheme", b"http://x/\r\n\r\n"),
    ":scheme of another protocol": pseudo(b":scheme", b"ftp"),
    "no :method": without(b":method"),
    "no :scheme": without(b":scheme"),
    "no :path": without(b":path"),
    "no :authority": without(b":authority"),
    "host that differs": post((b"host", b"evil")),
    "two hosts": post((b"host", b"a"), (b"host", b"b")),
    "pseudo-header twice": post(INFER),
    "pseudo-header behind a field": Case((headers_frame(1, ((b"x", b"y"), *POST), end=False), BODY), 400),
    "unknown pseudo-header": post((b":x", b"y")),
    ":status in a request": post((b":status", b"200")),
    ":protocol": post((b":protocol", b"websocket")),
    "content-length shorter than DATA": body(b"1", BODY, status=GOAWAY),
    "content-length longer than DATA": body(b"99", BODY, status=GOAWAY),
    "content-length 0 with DATA": body(b"0", BODY, status=GOAWAY),
    "content-length with END_STREAM on HEADERS": Case((headers_frame(1, (*POST, (b"content-length", b"99"))),), 400),
    "content-length twice": post((b"content-length", b"2"), (b"content-length", b"2")),
    "content-length twice, different": post((b"content-length", b"2"), (b"content-length", b"3"), status=GOAWAY),
    "content-length list": body(b"2, 2", BODY, status=GOAWAY),
    "content-length with a sign": body(b"+2", BODY, status=GOAWAY),
    "negative content-length": body(b"-2", BODY, status=GOAWAY),
    "content-length in hex": body(b"0x2", BODY, status=GOAWAY),
    "content-length with an underscore": body(b"0_2", BODY, status=GOAWAY),
    "content-length over 64 bits": body(b"18446744073709551618", BODY, status=GOAWAY),
    "GET with DATA": Case((headers_frame(1, GET, end=False), BODY), 400),
    "GET with empty DATA": Case((headers_frame(1, GET, end=False), data_frame(1, b"", end=True)), 200, 1),
    "DATA after the end": Case((headers_frame(1, POST), BODY), RESET, ONE_OR_NONE),
    "DATA before HEADERS": Case((BODY,), GOAWAY),
    "two HEADERS without an end": Case(
        (headers_frame(1, POST, end=False), headers_frame(1, POST, end=False), BODY), GOAWAY
    ),
    "trailers with a pseudo-header": Case(
        (headers_frame(1, POST, end=False), data_frame(1, b"{}"), headers_frame(1, ((b":path", b"/x"),))), 400
    ),
    "trailers": Case(
        (headers_frame(1, POST, end=False), data_frame(1, b"{}"), headers_frame(1, ((b"x", b"y"),))), 200, 1
    ),
    "trailers with a length": Case(
        (headers_frame(1, POST, end=False), data_frame(1, b"{}"), headers_frame(1, ((b"content-length", b"9"),))),
        200,
        1,
    ),
    "a header block that is interrupted": Case(_interrupted(), GOAWAY),
    "an even stream": Case((headers_frame(2, POST),), GOAWAY),
    "reset before the end": Case((headers_frame(1, POST, end=False), reset_frame(1)), RESET),
    "a broken header block": Case((HeadersFrame(1, b"\xff\xff\xff\xff\xff", flags=["END_HEADERS"]),), GOAWAY),
}
