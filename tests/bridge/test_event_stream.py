"""Server-sent events, read from any cutting of the bytes and written in an API's own form."""

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.event_stream import Event, EventFraming, EventReader

STREAMS = {
    "one line": (b"data: {}\n\n", [Event("message", b"{}")]),
    "CR LF": (b"event: message\r\ndata: a\r\n\r\n", [Event("message", b"a")]),
    "CR": (b"data: a\r\rdata: b\r\r", [Event("message", b"a"), Event("message", b"b")]),
    "several lines": (b"data: a\ndata: b\n\n", [Event("message", b"a\nb")]),
    "many at once": (b"data: a\n\ndata: \n\ndata: c\n\n", [Event("message", data) for data in (b"a", b"", b"c")]),
    "other lines among them": (b"data: a\n\nid: 1\n\ndata: b\n\n", [Event("message", b"a"), Event("message", b"b")]),
    "no space": (b"data:a\n\n", [Event("message", b"a")]),
    "named": (b"event: error\ndata: x\n\ndata: y\n\n", [Event("error", b"x"), Event("message", b"y")]),
    "comments": (b": ping\n\ndata: a\n\n", [Event("message", b"a")]),
    "no data": (b"event: x\n\nid: 1\n\n", []),
    "field without colon": (b"data\n\n", [Event("message", b"")]),
    "byte order mark": (b"\xef\xbb\xbfdata: a\n\n", [Event("message", b"a")]),
}


def cut(text: bytes, places: list[int]) -> list[bytes]:
    """The text in pieces."""
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(edges)]


@pytest.mark.parametrize("stream", STREAMS)
@given(places=st.lists(st.integers(0, 200), max_size=6))
def test_any_cutting_gives_the_same_events(stream: str, places: list[int]) -> None:
    """However the bytes of a stream arrive, its events are the same, and it ends between events."""
    text, expected = STREAMS[stream]
    reader = EventReader(1000)
    found = [event for piece in cut(text, places) for event in reader.feed(piece)]
    assert found + reader.feed(b"") == expected
    assert reader.finish()


def test_a_stream_that_breaks_off_is_told_from_one_that_ends() -> None:
    """An event without its empty line was not complete."""
    reader = EventReader(1000)
    assert reader.feed(b"data: a\n\ndata: b\n") == [Event("message", b"a")]
    assert not reader.finish()


def test_an_event_has_a_limit() -> None:
    """An event that never ends is an error and not memory."""
    reader = EventReader(100)
    for _ in range(9):
        reader.feed(b"data: 0123456789\n")
    with pytest.raises(BridgeError) as caught:
        reader.feed(b"data: 0123456789012345\n")
    assert caught.value.code is Code.RESOURCE_EXHAUSTED


def test_empty_lines_of_data_count_too() -> None:
    """An event of nothing but empty data lines is an error when it never ends, as any other."""
    reader = EventReader(100)
    for _ in range(101):
        reader.feed(b"data:\n")
    with pytest.raises(BridgeError) as caught:
        reader.feed(b"data:\n")
    assert caught.value.code is Code.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("size", [7, 1 << 20])
def test_the_limit_is_the_size_of_the_data(size: int) -> None:
    """An event of exactly the limit is taken and one byte more is refused, in one piece or several."""
    text = b"data: " + b"a" * 100 + b"\n\n"
    assert read(text, size) == [Event("message", b"a" * 100)]
    with pytest.raises(BridgeError, match="larger than 100"):
        read(b"data: a" + text.removeprefix(b"data: "), size)


def read(text: bytes, size: int) -> list[Event]:
    """The events of a stream in pieces of a size."""
    reader = EventReader(100)
    return [event for at in range(0, len(text), size) for event in reader.feed(text[at : at + size])]


def test_a_long_event_costs_no_more_for_its_many_pieces() -> None:
    """The pieces of an event are joined once: a reader that kept joining them would copy gigabytes here."""
    reader, piece, count = EventReader(1 << 26), b"x" * 1000, 40_000
    began = time.process_time()
    reader.feed(b"data: ")
    for _ in range(count):
        assert reader.feed(piece) == []
    (event,) = reader.feed(b"\n\n")
    assert len(event.data) == count * len(piece)
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "framing",
    [EventFraming(), EventFraming("message", "\r\n", error_event="error"), EventFraming(done="[DONE]")],
    ids=["plain", "caikit", "openai"],
)
def test_what_is_written_is_read(framing: EventFraming) -> None:
    """Events come out of the reader as they went into the framing, signs of life do not come out at all."""
    reader = EventReader(1000)
    written = framing.encode(b'{"a":1}') + framing.keep_alive() + framing.encode_error(b"{}") + framing.done_event
    names = [framing.event or "message", framing.error_event or "message"]
    expected = [Event(names[0], b'{"a":1}'), Event(names[1], b"{}")]
    if framing.done:
        expected.append(Event(names[0], framing.done.encode()))
    assert reader.feed(written) == expected
