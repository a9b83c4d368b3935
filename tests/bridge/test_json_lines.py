"""JSON values one a line or in an array, read from any cutting of the bytes."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.json_lines import ArrayWriter, LineFraming, LineReader

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def cut(text: bytes, places: list[int]) -> list[bytes]:
    """The text in pieces."""
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(edges)]


@given(
    values=st.lists(VALUES, max_size=6),
    end=st.sampled_from([b"\n", b"\r\n", b"\n\n", b" \n"]),
    places=st.lists(st.integers(0, 500), max_size=8),
)
def test_any_cutting_gives_the_same_lines(values: list[object], end: bytes, places: list[int]) -> None:
    """However the bytes arrive, the values are the same."""
    text = b"".join(json.dumps(value, ensure_ascii=False).encode() + end for value in values)
    reader = LineReader(10_000)
    assert [json.loads(line) for piece in cut(text, places) for line in reader.feed(piece)] == values
    assert reader.finish() == []


@pytest.mark.parametrize("data", [bytearray(b"{}\n[]\n"), memoryview(b"{}\n[]\n")])
def test_any_buffer_is_read(data: bytearray | memoryview) -> None:
    """Lines do not depend on what kind of buffer carries them."""
    assert LineReader(10).feed(data) == [b"{}", b"[]"]


@pytest.mark.parametrize("last", [b'{"a": 1}', b"[1]\r", b'"a"'])
def test_the_last_line_needs_no_end(last: bytes) -> None:
    """A value that tells by itself that it is whole is not lost for want of a line end."""
    reader = LineReader(100)
    assert reader.feed(b"{}\n" + last) == [b"{}"]
    assert reader.finish() == [last.strip()]


@pytest.mark.parametrize("last", [b'{"a": 1', b"12", b'"a', b"tru", b"x", b"\xff", b"[" * 99, b'{"a":"\xff"}'])
def test_a_cut_line_is_no_end(last: bytes) -> None:
    """What may go on is not taken for whole."""
    reader = LineReader(100)
    assert reader.feed(b"{}\n" + last) == [b"{}"]
    with pytest.raises(BridgeError, match="cut off") as caught:
        reader.finish()
    assert caught.value.code is Code.INTERNAL


@given(places=st.lists(st.integers(0, 200), max_size=8))
def test_a_line_has_a_limit(places: list[int]) -> None:
    """A line of the limit is read, a longer one is refused, whatever the cutting."""
    reader = LineReader(10)
    assert [line for piece in cut(b"1234567890\n" * 3, places) for line in reader.feed(piece)] == [b"1234567890"] * 3
    with pytest.raises(BridgeError) as caught:
        list(map(reader.feed, cut(b"12345678901\n", places)))
    assert caught.value.code is Code.RESOURCE_EXHAUSTED


def test_a_line_without_end_is_refused_before_it_is_there() -> None:
    """What never ends is an error and not memory."""
    reader = LineReader(10)
    assert reader.feed(b"0123456789") == []
    with pytest.raises(BridgeError, match="over the limit of 10"):
        reader.feed(b"0")


@pytest.mark.parametrize(
    ("framing", "written"),
    [
        (LineFraming(), b'{"a":1}\n\n{"code":3}\n'),
        (LineFraming("result", "error"), b'{"result":{"a":1}}\n\n{"error":{"code":3}}\n'),
    ],
    ids=["envoy", "grpc-gateway"],
)
def test_lines_are_written_as_transcoders_write_them(framing: LineFraming, written: bytes) -> None:
    """Values stand bare or under a key, and signs of life are no lines."""
    assert framing.encode(b'{"a":1}') + framing.keep_alive() + framing.encode_error(b'{"code":3}') == written
    assert LineReader(100).feed(written) == [line for line in written.splitlines() if line]


@given(values=st.lists(VALUES, max_size=5))
def test_an_array_holds_what_was_written(values: list[object]) -> None:
    """The pieces together are one JSON array, with or without signs of life, and not one before its end."""
    writer = ArrayWriter()
    text = b""
    for value in values:
        text += writer.keep_alive() + writer.encode(json.dumps(value).encode())
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)
    assert json.loads(text + writer.keep_alive() + writer.end()) == values
