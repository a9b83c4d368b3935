"""Frames of an HTTP/2 client that are larger than 16 KiB: DATA is handed on as it comes, nothing else may be large."""

from dataclasses import replace

import pytest
from hyperframe.frame import ContinuationFrame, DataFrame, HeadersFrame

from gateway.http2_client import data_frame, headers_frame, reset_frame
from inferbridge.gateway.codecs.events import (
    Event,
    ProtocolRefused,
    RequestCancelled,
    RequestData,
    RequestEnd,
    RequestOpened,
)
from inferbridge.gateway.codecs.http2 import Http2Codec
from inferbridge.gateway.limits import Limits
from inferbridge.http2 import frames
from inferbridge.http2.data import FRAME_SIZE
from inferbridge.http2.frames import PREFACE, ErrorCode, frame_header

WIDE = replace(Limits(), stream_window=4 << 20, connection_window=8 << 20)
HEAD = [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/")]


def opened(limits: Limits = WIDE, *fields: tuple[bytes, bytes]) -> Http2Codec:
    """A codec with stream 1 open."""
    codec = Http2Codec(limits)
    codec.receive(PREFACE + frames.settings({}) + headers_frame(1, [*HEAD, *fields], end=False).serialize())
    codec.take_output()
    return codec


def fed(codec: Http2Codec, data: bytes, size: int = 10_000) -> list[Event]:
    """What comes of bytes that arrive in reads of this size."""
    return [event for at in range(0, len(data), size) for event in codec.receive(data[at : at + size])]


def bodies(events: list[Event]) -> tuple[bytes, int]:
    """The content in some events, and its credit."""
    pieces = [event for event in events if isinstance(event, RequestData)]
    return b"".join(piece.data for piece in pieces), sum(piece.credit for piece in pieces)


def goaway(codec: Http2Codec) -> int:
    """The code that a connection was closed with."""
    output = codec.take_output()
    assert codec.closing
    return int.from_bytes(output[-4:])


def test_clients_are_told_how_large_frames_may_be() -> None:
    """The first SETTINGS say that DATA may come in frames of 1 MiB."""
    greeting = Http2Codec(Limits()).take_output()
    assert b"\0\5" + FRAME_SIZE.to_bytes(4) in greeting


@pytest.mark.parametrize("padding", [None, 0, 200])
@pytest.mark.parametrize("size", [1000, 4095, 10_000, 65_536, 200_000])
def test_a_frame_is_handed_on_as_it_comes(size: int, padding: int | None) -> None:
    """Content arrives whole, with credit for all of the frame, of which no more than the first 4 KiB wait."""
    codec = opened()
    content = bytes(number % 251 for number in range(FRAME_SIZE - 300))
    frame = DataFrame(1, content, flags=["END_STREAM"])
    if padding is not None:
        frame.flags.add("PADDED")
        frame.pad_length = padding
    sent = frame.serialize()
    events: list[Event] = []
    for at in range(0, len(sent), size):
        events += codec.receive(sent[at : at + size])
        assert len(codec._reader._partial) < 9 + 4096
        assert bodies(events)[1] >= min(at, FRAME_SIZE // 2) - 4096
    body, credit = bodies(events)
    assert body == content
    assert events[-1] == RequestEnd(1)
    assert sum(isinstance(event, RequestEnd) for event in events) == 1
    codec.acknowledge(1, credit)  # the codec has done so for padding that came by itself
    assert codec._window.balanced


def test_pieces_that_come_together_are_one() -> None:
    """The first piece has 4 KiB at least: what a body begins with says how much is to come."""
    codec = opened()
    events = fed(codec, data_frame(1, b"x" * 50_000).serialize(), 100)
    first = next(event for event in events if isinstance(event, RequestData))
    assert len(first.data) == 4096
    assert bodies(fed(codec, data_frame(1, b"y" * 4096).serialize(), 100)) == (b"y" * 4096, 4096)


def test_frames_behind_a_large_one_are_read() -> None:
    """Where a large frame ends within a read, the next one begins."""
    codec = opened()
    sent = data_frame(1, b"x" * 100_000).serialize() + data_frame(1, b"y" * 20, end=True).serialize()
    events = fed(codec, sent + headers_frame(3, HEAD).serialize(), 7777)
    assert bodies(events) == (b"x" * 100_000 + b"y" * 20, 100_020)
    assert [event.stream for event in events if isinstance(event, RequestEnd)] == [1, 3]


@pytest.mark.parametrize(
    ("begun", "code"),
    [
        (frame_header(FRAME_SIZE + 1, frames.DATA, 0, 1), ErrorCode.FRAME_SIZE_ERROR),
        (frame_header(FRAME_SIZE + 1, frames.HEADERS, 4, 3), ErrorCode.FRAME_SIZE_ERROR),
        (frame_header(16_385, frames.SETTINGS, 0, 0), ErrorCode.FRAME_SIZE_ERROR),
        (frame_header(16_385, frames.PING, 0, 0), ErrorCode.FRAME_SIZE_ERROR),
        (frame_header(16_385, frames.GOAWAY, 0, 0), ErrorCode.FRAME_SIZE_ERROR),
        (frame_header(16_385, 0x77, 0, 0), ErrorCode.FRAME_SIZE_ERROR),
        (frame_header(140_000, frames.HEADERS, 4, 3), ErrorCode.ENHANCE_YOUR_CALM),
        (frame_header(140_000, frames.CONTINUATION, 4, 3), ErrorCode.ENHANCE_YOUR_CALM),
        (frame_header(100_000, frames.DATA, frames.PADDED, 1) + b"\xff" * 4096, 0),
        (frame_header(100_000, frames.DATA, 0, 5) + bytes(4096), ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_what_may_not_be_large_is_refused_at_its_header(begun: bytes, code: int) -> None:
    """Nothing of a frame that is too large is collected; DATA for an idle stream is refused when it has begun."""
    codec = opened()
    codec.receive(begun)
    assert not code or goaway(codec) == code


def test_a_window_is_kept_by_the_whole_frame() -> None:
    """A frame that exceeds its window ends the connection when it begins, and nothing of it is handed on."""
    codec = opened(replace(Limits(), stream_window=100_000))
    assert codec.receive(frame_header(100_001, frames.DATA, 0, 1) + bytes(5000)) == [RequestCancelled(1)]
    assert goaway(codec) == ErrorCode.FLOW_CONTROL_ERROR


@pytest.mark.parametrize(("length", "ends"), [(99_999, True), (100_000, False)])
def test_a_length_is_kept_by_the_whole_frame(length: int, ends: bool) -> None:
    """A frame that cannot fit its content-length ends the connection when it begins."""
    codec = opened(WIDE, (b"content-length", b"%d" % (length + (1 if ends else -1))))
    flags = frames.END_STREAM if ends else 0
    assert codec.receive(frame_header(length, frames.DATA, flags, 1) + bytes(5000)) == [RequestCancelled(1)]
    assert goaway(codec) == ErrorCode.PROTOCOL_ERROR


def test_a_large_header_block_in_one_frame() -> None:
    """What may come in CONTINUATION frames may come in one, since a client is told that frames may be larger."""
    fields = [(b"x%d" % number, b"a" * 1000) for number in range(40)]
    codec = opened()
    events = fed(codec, headers_frame(3, [*HEAD, *fields]).serialize())
    assert [type(event) for event in events] == [RequestOpened, RequestEnd]
    fields = [(b"x%d" % number, b"a" * 1000) for number in range(80)]
    events = fed(codec, headers_frame(5, [*HEAD, *fields]).serialize())
    assert [type(event) for event in events] == [ProtocolRefused]


def test_a_header_block_is_bounded_by_what_is_announced() -> None:
    """Frames of a header block count before they have come."""
    codec = opened()
    codec.receive(HeadersFrame(3, b"a" * 100_000).serialize())
    assert not codec.closing
    codec.receive(ContinuationFrame(3, b"a" * 50_000).serialize()[:9])
    assert goaway(codec) == ErrorCode.ENHANCE_YOUR_CALM


def test_data_within_a_header_block() -> None:
    """DATA does not interrupt a header block, whole or not."""
    codec = opened()
    codec.receive(HeadersFrame(3, b"a").serialize())
    assert bodies(codec.receive(frame_header(100_000, frames.DATA, 0, 1) + bytes(5000))) == (b"", 0)
    assert goaway(codec) == ErrorCode.PROTOCOL_ERROR


def test_a_call_that_is_over_before_its_frame() -> None:
    """The rest of the frame is thrown away, and the connection's window has it again."""
    codec = opened()
    frame = data_frame(1, b"x" * FRAME_SIZE).serialize()
    _, credit = bodies(codec.receive(frame[:100_000]))
    codec.acknowledge(1, credit)
    codec.reset(1)
    assert fed(codec, frame[100_000:]) == []
    assert codec._window.balanced
    assert codec.receive(reset_frame(1).serialize() + headers_frame(3, HEAD).serialize())[0].stream == 3


def test_a_frame_for_nobody_comes_as_fast_as_a_head() -> None:
    """A client waits in vain with DATA that no call reads; the body of a call has the time of a body."""
    codec = opened()
    fed(codec, data_frame(1, b"x" * FRAME_SIZE).serialize()[:100_000])
    assert codec.awaits_head is None
    codec.reset(1)
    awaited = codec.awaits_head
    assert awaited is not None
    codec.receive(b"x" * 1000)
    assert codec.awaits_head == awaited
    codec.receive(b"x" * 17_000)
    assert codec.awaits_head > awaited
    codec.receive(b"x" * FRAME_SIZE)
    assert codec.closing
