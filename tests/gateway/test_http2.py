"""The HTTP/2 codec: what it accepts, what it refuses and how, flow control both ways, and its limits."""

from dataclasses import replace
from itertools import pairwise

import h2.config
import h2.connection
import h2.errors
import h2.events
import pytest
from hyperframe.frame import Frame, GoAwayFrame, PingFrame, WindowUpdateFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.driving import body_of, opened, refusal
from gateway.http2_client import REQUEST, Client, data_frame, headers_frame, reset_frame
from inferbridge.gateway.codecs.events import (
    Event,
    ProtocolRefused,
    RequestCancelled,
    RequestData,
    RequestEnd,
    RequestOpened,
)
from inferbridge.gateway.codecs.http1_head import Peer
from inferbridge.gateway.codecs.http2 import Http2Codec
from inferbridge.gateway.codecs.http2_head import RequestHeads
from inferbridge.gateway.codecs.sniff import PREFACE
from inferbridge.gateway.limits import Limits

SMALL = replace(Limits(), header_bytes=400, header_fields=6, target_bytes=100, streams=4)
HEAD = [(name.encode(), value.encode()) for name, value in REQUEST]
METHOD, SCHEME, AUTHORITY, PATH = HEAD
CODES = h2.errors.ErrorCodes


def client(limits: Limits = SMALL) -> Client:
    return Client(Http2Codec(limits))


def answer(subject: Client, stream: int, body: bytes = b"ok", status: int = 200) -> None:
    subject.codec.send_head(stream, status, ())
    subject.codec.send_data(stream, body)
    subject.codec.end(stream)


REFUSED = {
    "CR in a value": ([*HEAD, (b"x", b"a\rb")], 400),
    "LF in a value": ([*HEAD, (b"x", b"a\nb")], 400),
    "NUL in a value": ([*HEAD, (b"x", b"a\0b")], 400),
    "smuggled request": ([*HEAD, (b"x", b"b\r\n\r\nGET /admin HTTP/1.1\r\n\r\n")], 400),
    "CRLF in a name": ([*HEAD, (b"x\r\ny", b"a")], 400),
    "space in a name": ([*HEAD, (b"x y", b"a")], 400),
    "colon in a name": ([*HEAD, (b"x:y", b"a")], 400),
    "empty name": ([*HEAD, (b"", b"a")], 400),
    "upper-case name": ([*HEAD, (b"X-A", b"a")], 400),
    "non-ASCII name": ([*HEAD, (b"x\xe9", b"a")], 400),
    "CRLF in the path": ([METHOD, SCHEME, AUTHORITY, (b":path", b"/a\r\nx: y")], 400),
    "space in the path": ([METHOD, SCHEME, AUTHORITY, (b":path", b"/a b")], 400),
    "empty path": ([METHOD, SCHEME, AUTHORITY, (b":path", b"")], 400),
    "relative path": ([METHOD, SCHEME, AUTHORITY, (b":path", b"a")], 400),
    "absolute path": ([METHOD, SCHEME, AUTHORITY, (b":path", b"http://a/")], 400),
    "fragment": ([METHOD, SCHEME, AUTHORITY, (b":path", b"/a#b")], 400),
    "no path": ([METHOD, SCHEME, AUTHORITY], 400),
    "no method": ([SCHEME, AUTHORITY, PATH], 400),
    "bad method": ([(b":method", b"GET / HTTP/1.1"), SCHEME, AUTHORITY, PATH], 400),
    "no scheme": ([METHOD, AUTHORITY, PATH], 400),
    "unknown scheme": ([METHOD, (b":scheme", b"file"), AUTHORITY, PATH], 400),
    "no authority": ([METHOD, SCHEME, PATH], 400),
    "empty authority": ([METHOD, SCHEME, (b":authority", b""), PATH], 400),
    "authority with user": ([METHOD, SCHEME, (b":authority", b"u@a"), PATH], 400),
    "CRLF in the authority": ([METHOD, SCHEME, (b":authority", b"a\r\nx: y"), PATH], 400),
    "host differs": ([*HEAD, (b"host", b"b")], 400),
    "two hosts": ([METHOD, SCHEME, PATH, (b"host", b"a"), (b"host", b"b")], 400),
    "repeated pseudo-header": ([*HEAD, PATH], 400),
    "late pseudo-header": ([METHOD, SCHEME, AUTHORITY, (b"x", b"y"), PATH], 400),
    "unknown pseudo-header": ([*HEAD, (b":protocol", b"websocket")], 400),
    "connection": ([*HEAD, (b"connection", b"close")], 400),
    "keep-alive": ([*HEAD, (b"keep-alive", b"1")], 400),
    "transfer-encoding": ([*HEAD, (b"transfer-encoding", b"chunked")], 400),
    "upgrade": ([*HEAD, (b"upgrade", b"h2c")], 400),
    "te": ([*HEAD, (b"te", b"gzip")], 400),
    "CONNECT": ([(b":method", b"CONNECT"), AUTHORITY], 405),
    "long target": ([METHOD, SCHEME, AUTHORITY, (b":path", b"/" + b"a" * 100)], 414),
    "many headers": ([*HEAD, *[(b"x", b"y")] * 3], 431),
    "large headers": ([*HEAD, (b"x", b"y" * 400)], 431),
}


@pytest.mark.parametrize(("headers", "status"), REFUSED.values(), ids=REFUSED)
def test_refuses(headers: list[tuple[bytes, bytes]], status: int) -> None:
    """A request that breaks a rule is answered on its own stream, and the connection serves the next one."""
    subject = client()
    refused = refusal(subject.raw(headers_frame(1, headers)))
    assert (refused.error.status or 400) == status
    answer(subject, refused.stream, status=status)
    assert opened(subject.raw(headers_frame(3, HEAD))).stream == 3
    assert not subject.codec.closing
    assert subject.statuses() == {1: str(status)}
    assert subject.ended(1)


def test_refusal_says_the_dialect_when_it_can() -> None:
    """What is only too large is refused with its head, so that the answer can be in the client's dialect."""
    subject = client()
    refused = refusal(subject.raw(headers_frame(1, [*HEAD, (b"x", b"y" * 400)])))
    assert refused.head is not None
    assert refused.head.target == "/x?y=1"


def test_rest_of_a_refused_request_is_ignored() -> None:
    """The body of a refused request gives no events, costs no window, and ends with the answer."""
    subject = client()
    events = subject.raw(headers_frame(1, [*HEAD, (b"x", b"\0")], end=False), data_frame(1, b"abc"))
    refusal(events)
    answer(subject, 1, status=400)
    subject.exchange()
    assert subject.ended(1)
    assert subject.reset_code(1) == CODES.NO_ERROR


def test_head() -> None:
    """The head holds the pseudo-headers, the other fields without hop-by-hop and host, and cookies as one."""
    subject = client(Limits())
    subject.send([("te", "trailers"), ("cookie", "a=1"), ("x-a", "é"), ("cookie", "b=2"), ("host", "a:1")])
    head = opened(subject.exchange()).head
    assert (head.method, head.target, head.authority, head.version) == ("POST", "/x?y=1", "a:1", "2")
    assert [name for name, _ in head.headers] == ["x-a", "cookie"]
    assert dict(head.headers)["cookie"] == "a=1; b=2"


def test_a_head_that_comes_again_is_the_same() -> None:
    """What was made of a head serves all calls of the connection that have it, and no others."""
    subject = client()
    for path in ("a", "b", "a"):
        subject.send([("x", path)])
    one, other, again = (event.head for event in subject.exchange() if isinstance(event, RequestOpened))
    assert again is one
    assert (one.headers, other.headers) == ((("x", "a"),), (("x", "b"),))


def test_heads_that_are_remembered_are_few_and_small() -> None:
    """A client that never sends the same head twice, or large ones, fills no memory."""
    heads = RequestHeads(Limits(), Peer())
    raw = [(*HEAD, (b"x", b"%d" % number)) for number in range(100)]
    assert heads.read(raw[0]) is heads.read(raw[0])
    first = heads.read(raw[0])
    for each in raw[1:]:
        heads.read(each)
    assert heads.read(raw[0]) is not first
    large = (*HEAD, (b"x", b"a" * 5000))
    assert heads.read(large) is not heads.read(large)


def test_host_stands_in_for_authority() -> None:
    """A request with host and without :authority is accepted."""
    assert opened(client().raw(headers_frame(1, [METHOD, SCHEME, PATH, (b"host", b"b:2")]))).head.authority == "b:2"


def test_request_and_answer() -> None:
    """Body and end become events; the answer's last DATA frame ends the stream."""
    subject = client()
    stream = subject.send([("content-length", "5")], b"hello")
    events = subject.exchange()
    assert [type(event) for event in events] == [RequestOpened, RequestData, RequestEnd]
    assert body_of(events) == b"hello"
    answer(subject, stream, b"world")
    output = subject.codec.take_output()
    assert output.endswith(b"\0\0\5\0\1\0\0\0\1world")
    subject.seen.extend(subject.h2.receive_data(output))
    assert subject.statuses() == {stream: "200"}
    assert subject.body(stream) == b"world"


def test_trailers() -> None:
    """gRPC's shape: headers, data, trailers that end the stream."""
    subject = client()
    stream = subject.send()
    subject.exchange()
    subject.codec.send_head(stream, 200, (("Content-Type", "application/grpc"),))
    subject.codec.send_data(stream, b"\0\0\0\0\0")
    subject.codec.end(stream, (("grpc-status", "0"),))
    subject.exchange()
    trailers = [event for event in subject.seen if isinstance(event, h2.events.TrailersReceived)]
    assert [dict(event.headers) for event in trailers] == [{b"grpc-status": b"0"}]
    assert subject.ended(stream)


def test_trailers_only() -> None:
    """An answer of a head alone is one HEADERS frame with END_STREAM."""
    subject = client()
    stream = subject.send()
    subject.exchange()
    subject.codec.send_head(stream, 200, (("grpc-status", "5"),))
    subject.codec.end(stream)
    output = subject.codec.take_output()
    assert output[3:5] == b"\1\5"
    assert int.from_bytes(output[:3]) + 9 == len(output)


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_answers_without_body(method: str, status: int) -> None:
    """HEAD, 204 and 304 have no body, whatever the application sends."""
    subject = client()
    stream = subject.h2.get_next_available_stream_id()
    subject.h2.send_headers(stream, [(":method", method), *REQUEST[1:]], end_stream=True)
    subject.exchange()
    answer(subject, stream, b"body", status)
    subject.exchange()
    assert subject.ended(stream)
    assert subject.body(stream) == b""


@pytest.mark.parametrize("headers", [(("x", "a\r\nb"),), (("x\n", "a"),), (("x", "€"),), ((":status", "200"),)])
def test_answer_headers_are_checked(headers: tuple[tuple[str, str], ...]) -> None:
    """Nothing of an answer whose headers must not go on the wire is written, and another can take its place."""
    subject = client()
    stream = subject.send()
    subject.exchange()
    with pytest.raises(ValueError, match="illegal"):
        subject.codec.send_head(stream, 200, headers)
    answer(subject, stream, status=500)
    subject.exchange()
    assert subject.statuses() == {stream: "500"}


def test_answer_waits_for_the_stream_window() -> None:
    """An answer larger than the client's window leaves as the window opens, and trailers come last."""
    subject = client()
    subject.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 10})
    stream = subject.send()
    subject.exchange()
    subject.codec.send_head(stream, 200, ())
    subject.codec.send_data(stream, b"0123456789abc")
    subject.codec.send_data(stream, b"defghij")
    subject.codec.end(stream, (("t", "1"),))
    subject.exchange()
    assert subject.body(stream) == b"0123456789"
    assert subject.codec.queued(stream) == 10
    assert not subject.ended(stream)
    subject.h2.increment_flow_control_window(5, stream)
    subject.exchange()
    assert subject.body(stream) == b"0123456789abcde"
    subject.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 100})
    subject.exchange()
    assert subject.body(stream) == b"0123456789abcdefghij"
    assert subject.ended(stream)


def test_small_pieces_leave_together() -> None:
    """Pieces that wait at the same time go in as few frames as hold them: a frame costs more than a copy."""
    subject = client()
    stream = subject.send()
    subject.exchange()
    pieces = [b"%d" % number * 1000 for number in range(9)] + [b"x" * 20_000, b"end"]
    subject.codec.send_head(stream, 200, ())
    for piece in pieces:
        subject.codec.send_data(stream, piece)
    subject.codec.end(stream, (("t", "1"),))
    subject.exchange()
    assert subject.body(stream) == b"".join(pieces)
    data = [event for event in subject.seen if isinstance(event, h2.events.DataReceived)]
    assert [len(event.data) for event in data] == [16384, 12619]


def test_answer_waits_for_the_connection_window() -> None:
    """Streams share the connection's window, and both go on when it opens."""
    subject = client()
    streams = [subject.send(), subject.send()]
    subject.exchange()
    for stream in streams:
        answer(subject, stream, b"x" * 40000)
    subject.exchange()
    assert sum(len(subject.body(stream)) for stream in streams) == 65535
    subject.h2.increment_flow_control_window(20000)
    subject.exchange()
    assert [len(subject.body(stream)) for stream in streams] == [40000, 40000]
    assert all(map(subject.ended, streams))


def test_client_window_opens_as_the_body_is_consumed() -> None:
    """The client may send the windows of the limits and no more until the data is acknowledged."""
    limits = replace(Limits(), stream_window=100_000, connection_window=150_000)
    subject = client(limits)
    subject.exchange()
    stream = subject.send(end=False)
    events = subject.exchange()
    assert subject.h2.local_flow_control_window(stream) == 100_000
    for _ in range(10):
        subject.h2.send_data(stream, b"x" * 10_000)
    events = subject.exchange()
    assert subject.h2.local_flow_control_window(stream) == 0
    for event in events:
        if isinstance(event, RequestData):
            subject.codec.acknowledge(stream, event.credit)
    subject.exchange()
    assert subject.h2.local_flow_control_window(stream) >= 50_000


def test_padding_is_credited() -> None:
    """The credit of padded data counts the padding, which flow control does too."""
    subject = client()
    subject.exchange()
    stream = subject.send(end=False)
    subject.h2.send_data(stream, b"abc", pad_length=10)
    events = subject.exchange()
    assert events[-1] == RequestData(stream, b"abc", 14)


def test_cancel() -> None:
    """RST_STREAM from the client cancels its call, and commands for it are ignored from then on."""
    subject = client()
    stream = subject.send(end=False)
    subject.exchange()
    subject.h2.reset_stream(stream, CODES.CANCEL)
    assert subject.exchange() == [RequestCancelled(stream)]
    answer(subject, stream)
    subject.codec.acknowledge(stream, 5)
    subject.codec.reset(stream)
    assert subject.codec.take_output() == b""
    assert not subject.codec.closing


def test_server_reset() -> None:
    """A cut answer is a RST_STREAM, after what was sent already."""
    subject = client()
    stream = subject.send()
    subject.exchange()
    subject.codec.send_head(stream, 200, ())
    subject.codec.send_data(stream, b"part")
    subject.exchange()
    subject.codec.reset(stream)
    subject.exchange()
    assert subject.body(stream) == b"part"
    assert subject.reset_code(stream) == CODES.INTERNAL_ERROR
    assert not subject.codec.closing


def test_early_answer() -> None:
    """An answer before the end of the body is complete, and the client is told to stop sending without an error."""
    subject = client()
    stream = subject.send(body=b"abc", end=False)
    subject.exchange()
    answer(subject, stream, b"no", 401)
    subject.exchange()
    assert subject.ended(stream)
    assert subject.reset_code(stream) == CODES.NO_ERROR


def test_expect_continue() -> None:
    """A welcome request that waits gets an interim 100; one that is answered does not."""
    subject = client()
    streams = [subject.send([("expect", "100-continue")], end=False) for _ in range(2)]
    subject.exchange()
    subject.codec.proceed(streams[0])
    answer(subject, streams[1], status=401)
    subject.codec.proceed(streams[1])
    subject.exchange()
    interim = [event for event in subject.seen if isinstance(event, h2.events.InformationalResponseReceived)]
    assert [event.stream_id for event in interim] == [streams[0]]


BROKEN = {
    "body shorter than content-length": [
        headers_frame(1, [*HEAD, (b"content-length", b"99")], end=False),
        data_frame(1, b"abc", end=True),
    ],
    "body longer than content-length": [
        headers_frame(1, [*HEAD, (b"content-length", b"1")], end=False),
        data_frame(1, b"abc", end=True),
    ],
    "content-length is no number": [headers_frame(1, [*HEAD, (b"content-length", b"+3")])],
    "two content-lengths": [headers_frame(1, [*HEAD, (b"content-length", b"0"), (b"content-length", b"1")])],
    "even stream": [headers_frame(2, HEAD)],
    "data on an idle stream": [data_frame(1, b"x")],
    "oversized header list": [headers_frame(1, [*HEAD, (b"x", b"y" * 2000)])],
    "window overflow": [WindowUpdateFrame(0, window_increment=2**31 - 1)],
    "frame larger than agreed": [data_frame(1, b"x" * 20_000)],
}


@pytest.mark.parametrize("frames", BROKEN.values(), ids=BROKEN)
def test_connection_errors(frames: list[Frame]) -> None:
    """What breaks the connection cancels every call and ends in GOAWAY; nothing is completed, nothing raises."""
    subject = client()
    subject.exchange()
    other = subject.raw(headers_frame(101, HEAD, end=False)) if frames[0].stream_id in (0, 2) else []
    events = subject.raw(*frames)
    assert subject.codec.closing
    assert subject.goaway_code() not in (None, CODES.NO_ERROR)
    assert not any(isinstance(event, RequestEnd) for event in events)
    assert [event for event in events if isinstance(event, RequestCancelled)] == [
        RequestCancelled(event.stream) for event in other
    ]
    assert subject.codec.receive(b"anything") == []


@pytest.mark.parametrize(
    "frames",
    [
        [headers_frame(1, [*HEAD, (b"content-length", b"99")])],
        [
            headers_frame(1, [*HEAD, (b"content-length", b"99")], end=False),
            data_frame(1, b"abc"),
            headers_frame(1, [(b"trailer", b"x")]),
        ],
    ],
    ids=["ended by the head", "ended by trailers"],
)
def test_body_shorter_than_content_length(frames: list[Frame]) -> None:
    """A request that ends without the body it announced is refused on its stream and never complete."""
    subject = client()
    codec = subject.codec
    codec.receive(subject.h2.data_to_send())
    events = codec.receive(b"".join(frame.serialize() for frame in frames))
    assert isinstance(events[-1], ProtocolRefused)
    assert events[-1].head == opened(events).head
    assert not any(isinstance(event, RequestEnd) for event in events)
    assert not codec.closing


def test_goaway_lets_open_calls_finish() -> None:
    """A client that says it will open no more calls still gets the answers of those in flight."""
    subject = client()
    stream = subject.send()
    subject.exchange()
    subject.raw(GoAwayFrame(0, last_stream_id=0, error_code=0))
    assert not subject.codec.closing
    answer(subject, stream, b"still")
    subject.seen.extend(subject.h2.receive_data(subject.codec.take_output()))
    assert subject.body(stream) == b"still"
    assert subject.codec.closing


def test_goaway_with_an_error_cancels() -> None:
    """A client that leaves because of an error reads no answers."""
    subject = client()
    stream = subject.send()
    subject.exchange()
    assert subject.raw(GoAwayFrame(0, last_stream_id=0, error_code=1)) == [RequestCancelled(stream)]
    assert subject.codec.closing


def test_wrong_preface() -> None:
    """Bytes that are no HTTP/2 close the connection."""
    codec = Http2Codec(SMALL)
    assert codec.receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") == []
    assert codec.closing


def recorded() -> bytes:
    """What a client sends for three calls, one of them cancelled."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    connection.initiate_connection()
    for stream in (1, 3, 5):
        connection.send_headers(stream, REQUEST)
        connection.send_data(stream, b"hello" * stream)
    connection.end_stream(1)
    connection.reset_stream(3)
    connection.send_headers(5, [("trailer", "x")], end_stream=True)
    connection.ping(b"12345678")
    return connection.data_to_send()


RECORDED = recorded()


def events_of(pieces: list[bytes]) -> list[Event]:
    codec = Http2Codec(Limits())
    return [event for piece in pieces for event in codec.receive(piece)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, len(RECORDED)), max_size=12))
def test_splits_do_not_matter(cuts: list[int]) -> None:
    """The same bytes give the same events however they are cut."""
    places = [0, *sorted(cuts), len(RECORDED)]
    events = events_of([RECORDED[start:stop] for start, stop in pairwise(places)])
    assert events == events_of([RECORDED])
    assert len(events) == 9


SEEDS = [
    PREFACE,
    b"\0\0\0\4\0\0\0\0\0",
    headers_frame(1, HEAD, end=False).serialize(),
    headers_frame(3, HEAD).serialize(),
    data_frame(1, b"abc").serialize(),
    reset_frame(1).serialize(),
    PingFrame(0, b"12345678").serialize(),
]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(SEEDS), st.binary(max_size=40)), max_size=12))
def test_garbage_never_raises(pieces: list[bytes]) -> None:
    """Whatever follows the preface, the codec answers with events and output, and its calls can be answered."""
    codec = Http2Codec(SMALL)
    codec.receive(PREFACE)
    for piece in pieces:
        for event in codec.receive(piece):
            if isinstance(event, RequestOpened | ProtocolRefused):
                codec.send_head(event.stream, 200, ())
                codec.end(event.stream)
        codec.take_output()
    assert codec.receive(b"") == []
