"""HTTP/2 streams: how many there may be, what is reset and how often, and what still comes for one that is over."""

from dataclasses import replace
from functools import partial

import h2.errors
import pytest
from hyperframe.frame import PingFrame

from gateway.driving import opened
from gateway.http2_client import REQUEST, Client, data_frame, headers_frame, reset_frame
from inferbridge.gateway.codecs.events import RequestCancelled, RequestData, RequestEnd, RequestOpened
from inferbridge.gateway.codecs.http2 import Http2Codec
from inferbridge.gateway.codecs.http2_abuse import Meter
from inferbridge.gateway.codecs.sniff import PREFACE
from inferbridge.gateway.limits import Limits
from inferbridge.http2 import frames

SMALL = replace(Limits(), streams=4)
HEAD = [(name.encode(), value.encode()) for name, value in REQUEST]
CODES = h2.errors.ErrorCodes


def client() -> Client:
    """With few streams."""
    return Client(Http2Codec(SMALL))


def answer(subject: Client, stream: int) -> None:
    """A small one."""
    subject.codec.send_whole(stream, 200, (), [b"ok"])


def test_the_limit_of_streams_is_no_trap_once_it_is_known() -> None:
    """A call too many is refused on its stream, also after the client has acknowledged the limit (RFC 9113 §5.1.2)."""
    subject = client()
    subject.exchange()
    events = subject.codec.receive(b"".join(headers_frame(stream, HEAD).serialize() for stream in range(1, 11, 2)))
    assert [event.stream for event in events if isinstance(event, RequestOpened)] == [1, 3, 5, 7]
    assert subject.codec.take_output() == b"\0\0\4\3\0\0\0\0\x09\0\0\0\7"  # RST_STREAM, stream 9, REFUSED_STREAM
    assert not subject.codec.closing


def test_what_was_on_its_way_when_its_stream_was_reset() -> None:
    """Late DATA and trailers are answered with RST_STREAM and cost no window; only what was reset lately is known."""
    subject = client()
    subject.exchange()
    last = 1 + 2 * 1000
    for stream in range(1, last + 2, 2):
        subject.codec.receive(headers_frame(stream, HEAD, end=False).serialize())
        subject.codec.reset(stream)
    subject.codec.take_output()
    codec = subject.codec
    closed = b"\0\0\4\3\0" + last.to_bytes(4) + b"\0\0\0\5"
    for _ in range(100):
        assert codec.receive(data_frame(last, b"x" * 16_000).serialize()) == []
        assert codec.take_output().endswith(closed)
    assert codec.receive(headers_frame(last, [(b"x", b"y")]).serialize()) == []
    assert codec.take_output() == closed
    assert codec.receive(headers_frame(1, [(b"x", b"y")]).serialize()) == []
    assert codec.closing


def test_trailers_of_a_reset_stream_again_and_again() -> None:
    """Header blocks for a stream that is over are counted as those that open too many."""
    subject = client()
    subject.exchange()
    subject.codec.receive(headers_frame(1, HEAD, end=False).serialize())
    subject.codec.reset(1)
    late = headers_frame(1, [(b"x", b"y")]).serialize()
    subject.codec.receive(late * 1000)
    assert not subject.codec.closing
    subject.codec.receive(late * 900)
    assert subject.codec.closing


@pytest.mark.parametrize(("size", "kind"), [(16_384, memoryview), (100, bytes)])
def test_a_large_body_is_not_copied(size: int, kind: type) -> None:
    """DATA is a view of what was read, unless it is so little that it would keep all the rest of that."""
    codec = Http2Codec(Limits())
    head = PREFACE + headers_frame(1, HEAD, end=False).serialize()
    read = head + data_frame(1, b"x" * size).serialize() * 3
    pieces = [event.data for event in codec.receive(read) if isinstance(event, RequestData)]
    assert [(type(piece), bytes(piece)) for piece in pieces] == [(kind, b"x" * size)] * 3
    small = codec.receive(data_frame(1, b"y" * 5000).serialize() + PingFrame(0, b"12345678").serialize() * 10)
    assert [bytes(event.data) for event in small if isinstance(event, RequestData)] == [b"y" * 5000]


def test_a_large_answer_is_not_copied() -> None:
    """Frames of 256 KiB and more leave as they are, those before them together, and all of them in order."""
    codec = Http2Codec(Limits())
    said = {frames.INITIAL_WINDOW_SIZE: 4 << 20, frames.MAX_FRAME_SIZE: 1 << 20}
    codec.receive(PREFACE + frames.settings(said) + frames.window_update(0, 4 << 20))
    codec.receive(headers_frame(1, HEAD).serialize())
    codec.send_whole(1, 200, (), [b"head", memoryview(bytes(1 << 20)), b"tail"])
    taken = [codec.take_output()]
    while codec.more:
        taken.append(codec.take_output())
    assert [type(piece) for piece in taken] == [bytes, memoryview, bytes]
    assert (taken[0][-4:], len(taken[1]), taken[2][4 + 9 :]) == (b"head", (1 << 20) - 4, b"tail")


def test_too_many_streams() -> None:
    """A call beyond the limit is refused so that the client may retry it, and nobody hears of it."""
    subject = client()
    frames = [headers_frame(stream, HEAD) for stream in range(1, 11, 2)]
    handshake = subject.h2.data_to_send()
    events = subject.codec.receive(handshake + b"".join(frame.serialize() for frame in frames))
    assert [event.stream for event in events if isinstance(event, RequestOpened)] == [1, 3, 5, 7]
    output = subject.codec.take_output()
    assert b"\0\0\4\3\0\0\0\0\x09\0\0\0\7" in output  # RST_STREAM, stream 9, REFUSED_STREAM
    assert not subject.codec.closing


def test_streams_are_counted_while_they_live() -> None:
    """The limit is on concurrent calls, not on all."""
    subject = client()
    for _ in range(20):
        stream = subject.send()
        opened(subject.exchange())
        answer(subject, stream)
        subject.exchange()
        assert subject.ended(stream)


class Clock:
    """Says what it is told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of codecs that are made from now on."""
    made = Clock()
    monkeypatch.setattr("inferbridge.gateway.codecs.http2.Meter", partial(Meter, now=made))
    return made


def cancelled_calls(subject: Client, count: int) -> None:
    """Calls that the client resets as soon as they are open, until it is sent away."""
    for _ in range(count):
        if not subject.codec.closing:
            subject.h2.reset_stream(subject.send(end=False), CODES.CANCEL)
            subject.exchange()


def test_rapid_reset(clock: Clock) -> None:
    """A client that resets more than two hundred calls at once is told to calm down."""
    subject = client()
    subject.exchange()
    cancelled_calls(subject, 200)
    assert not subject.codec.closing
    cancelled_calls(subject, 1)
    assert subject.codec.closing
    assert subject.goaway_code() == CODES.ENHANCE_YOUR_CALM


def test_resets_that_the_server_is_made_to_send_count_as_well(clock: Clock) -> None:
    """A client that has two hundred calls reset for a mistake, at once, is told to calm down."""
    subject = client()
    for stream in range(1, 401, 2):
        subject.raw(headers_frame(stream, HEAD), data_frame(stream, b"x"))
    assert not subject.codec.closing
    subject.raw(headers_frame(401, HEAD), data_frame(401, b"x"))
    assert subject.codec.closing
    assert subject.goaway_code() == CODES.ENHANCE_YOUR_CALM


def test_a_client_that_cancels_everything_in_its_own_time_is_served(clock: Clock) -> None:
    """Code completion cancels most calls, by the next key: fifty a second, for minutes, are no attack."""
    subject = client()
    subject.exchange()
    for _ in range(100):
        cancelled_calls(subject, 50)
        clock.now += 1
    assert not subject.codec.closing


def test_request_reset_in_the_same_breath() -> None:
    """A request that is opened and reset in one read is harmless to the connection, even when it is answered."""
    subject = client()
    events = subject.raw(headers_frame(1, HEAD), reset_frame(1), headers_frame(3, HEAD))
    assert [type(event) for event in events] == [RequestOpened, RequestEnd, RequestCancelled, RequestOpened, RequestEnd]
    answer(subject, 1)
    answer(subject, 3)
    subject.exchange()
