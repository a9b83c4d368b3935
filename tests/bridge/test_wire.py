"""The wire rules on their own, without a generated codec."""

import array
import os
import random
import subprocess
import sys

import pytest

from inferbridge.bridge import wire
from inferbridge.bridge.values import Buffer
from inferbridge.bridge.wire import WireError

INTEGERS = {
    "INT32": wire.INT32,
    "INT64": wire.INT64,
    "UINT32": wire.UINT32,
    "UINT64": wire.UINT64,
    "SINT32": wire.SINT32,
    "SINT64": wire.SINT64,
}


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("00", 0),
        ("7f", 127),
        ("8001", 128),
        ("ff7f", 16383),
        ("808001", 16384),
        ("8000", 0),  # longer than needed, but valid
        ("ffffffffffffffffff01", (1 << 64) - 1),
        ("ffffffffffffffffff7f", (1 << 64) - 1),  # what exceeds 64 bits is dropped
    ],
)
def test_varints_are_read(data: str, value: int) -> None:
    """A varint gives its value modulo 2**64 and ends behind its last byte."""
    octets = bytes.fromhex(data)
    assert wire.read_varint(b"\xff" + octets + b"\xff", 1) == (value, 1 + len(octets))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("", ""),
        ("0a0161", "a"),
        ("0a0161 0a0162", "b"),  # of a field that is not repeated the last one counts
        ("1005 0a0161 1a02ffff 210000000000000000 2d00000000 33 0a0178 34", "a"),  # not what a group holds
        ("0801 0a0161", "a"),  # of another wire type it is another field
        ("0a0161" + "1000" * 999, "a"),
        ("0a0161" + "1000" * 1000, ""),
    ],
)
def test_one_text_is_found_among_other_fields(data: str, text: str) -> None:
    """Field 1 is read as protobuf reads it, all others are passed over, and only so many of them."""
    assert wire.text_field(bytes.fromhex(data), 1) == text
    assert wire.text_field(memoryview(bytes.fromhex(data)), 1) == text


@pytest.mark.parametrize("data", ["0a", "0a0261", "0a01ff", "1a05", "2100", "33", "34", "00", "0f", "80"])
def test_a_text_is_not_found_in_what_is_no_message(data: str) -> None:
    """What a field cannot be passed over in is an error, never another text."""
    with pytest.raises(wire.BROKEN):
        wire.text_field(bytes.fromhex(data), 1)


def test_an_overlong_varint_is_refused() -> None:
    """Eleven bytes are no varint, whatever they say."""
    with pytest.raises(WireError, match="longer than 10 bytes"):
        wire.read_varint(b"\x80" * 10 + b"\x00", 0)


@pytest.mark.parametrize("data", ["808080808000", "ffffffff0f"])
def test_lengths_beyond_2_gib_are_refused(data: str) -> None:
    """A length is at most five bytes long and below 2**31."""
    with pytest.raises(WireError, match="larger than 2 GiB"):
        wire.read_size(bytes.fromhex(data), 0)


@pytest.mark.parametrize("data", ["808080808001", "ffffffff1f"])
def test_tags_beyond_32_bits_are_refused(data: str) -> None:
    """A tag is at most five bytes long and below 2**32."""
    with pytest.raises(WireError, match="out of range"):
        wire.read_tag(bytes.fromhex(data), 0)


@pytest.mark.parametrize(
    ("kind", "varint", "value"),
    [
        ("INT32", (1 << 64) - 1, -1),
        ("INT32", 1 << 31, -(1 << 31)),
        ("INT32", 1 << 32 | 5, 5),
        ("INT64", 1 << 63, -(1 << 63)),
        ("UINT32", (1 << 64) - 1, (1 << 32) - 1),
        ("UINT64", (1 << 64) - 1, (1 << 64) - 1),
        ("SINT32", 1, -1),
        ("SINT32", (1 << 32) - 1, -(1 << 31)),
        ("SINT32", 1 << 32 | 2, 1),
        ("SINT64", (1 << 64) - 1, -(1 << 63)),
        ("SINT64", (1 << 64) - 2, (1 << 63) - 1),
    ],
)
def test_varints_become_numbers(kind: str, varint: int, value: int) -> None:
    """The excess bits of a varint are dropped, the sign is restored."""
    assert INTEGERS[kind].of_varint(varint) == value


@pytest.mark.parametrize("kind", INTEGERS)
@pytest.mark.parametrize("count", [0, 1, 40, 63, 64, 65, 700, 70_000])
@pytest.mark.parametrize("bits", [7, 14, 64])
def test_runs_come_back(kind: str, count: int, bits: int) -> None:
    """A packed run of any length, short or vectorised, reads back as the numbers that were written."""
    chance = random.Random(f"{kind} {count} {bits}")
    integer = INTEGERS[kind]
    limit = min(integer.high, 1 << bits)
    values = [chance.choice([chance.randint(max(integer.low, -limit), limit), integer.low]) for _ in range(count)]
    run = wire.integers_of(values, integer, "f")
    one_by_one = b"".join(wire.varint(integer.to_varint(value)) for value in values)
    assert run == one_by_one
    found: list[int] = []
    wire.read_run(b"xx" + run + b"x", 2, 2 + len(run), len(run) + 3, integer, found)
    assert found == values


def test_numpy_is_not_loaded_for_small_messages() -> None:
    """Text-only use never pays for the import."""
    script = """
import sys
from inferbridge.bridge import wire
run = wire.integers_of([1, 300], wire.INT64, "f")
wire.read_run(run, 0, len(run), len(run), wire.INT64, [])
sys.exit("numpy" in sys.modules)
"""
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    assert subprocess.run([sys.executable, "-c", script], env=environment, check=False).returncode == 0


@pytest.mark.parametrize("kind", INTEGERS)
def test_long_runs_of_too_wide_varints_are_narrowed(kind: str) -> None:
    """The vectorised path drops excess bits as the plain one does."""
    chance = random.Random(kind)
    varints = [chance.getrandbits(chance.choice([8, 33, 64])) for _ in range(500)]
    found: list[int] = []
    run = b"".join(map(wire.varint, varints))
    wire.read_run(run, 0, len(run), len(run), INTEGERS[kind], found)
    assert found == [INTEGERS[kind].of_varint(varint) for varint in varints]


@pytest.mark.parametrize("length", [8, 4096, 1 << 16, (1 << 16) + 7, 200_000])
def test_a_run_cut_inside_a_varint_is_refused(length: int) -> None:
    """A run whose last byte continues is refused, by the plain and by the vectorised path."""
    run = (b"\x80\x01" * length)[: length - 1] + b"\x80"
    with pytest.raises((WireError, IndexError)):
        wire.read_run(run, 0, len(run), len(run), wire.INT64, [])


@pytest.mark.parametrize("before", [0, 400, (1 << 16) - 4, 1 << 16])
def test_an_overlong_varint_in_a_run_is_refused(before: int) -> None:
    """Also across the border of two segments."""
    run = b"\x01" * before + b"\x80" * 10 + b"\x01" + b"\x81\x01" * 400
    with pytest.raises(WireError, match="longer than 10 bytes"):
        wire.read_run(run, 0, len(run), len(run), wire.INT64, [])


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("INT32", 1 << 31),
        ("INT32", -(1 << 31) - 1),
        ("INT64", 1 << 63),
        ("UINT32", -1),
        ("UINT32", 1 << 32),
        ("UINT64", -1),
        ("UINT64", 1 << 64),
        ("SINT32", 1 << 31),
        ("SINT64", -(1 << 63) - 1),
    ],
)
@pytest.mark.parametrize("count", [0, 300])
def test_numbers_out_of_range_are_named(kind: str, value: int, count: int) -> None:
    """One number outside the type refuses the run, naming field and number."""
    with pytest.raises(WireError, match=rf"^shape: {value} is not from "):
        wire.integers_of([*range(count), value], INTEGERS[kind], "shape")
    with pytest.raises(WireError, match=rf"^shape: {value} is not from "):
        wire.integer(8, value, INTEGERS[kind], "shape")


@pytest.mark.parametrize(
    ("data", "values"),
    [("", b""), ("0001", b"\0\1"), ("02", b"\1"), ("8000", b"\0"), ("ffffffffffffffffff0100", b"\1\0")],
)
def test_bools_are_0_and_1(data: str, values: bytes) -> None:
    """Any varint but zero is true, however long it is written."""
    octets = bytes.fromhex(data)
    assert wire.take_bools(octets, 0, len(octets), len(octets)) == values


@pytest.mark.parametrize("buffer", [b"\2", b"\1\xff", memoryview(b"\0\x80")])
def test_bools_that_are_not_0_or_1_are_not_written(buffer: Buffer) -> None:
    """A byte above 1 would be read as something else."""
    with pytest.raises(WireError, match="mask: a bool is neither 0 nor 1"):
        wire.bools_of(buffer, "mask")


@pytest.mark.parametrize(
    ("data", "stop"),
    [
        ("08 01", 2),
        ("09 0000000000000000", 9),
        ("0a 02 ffff", 4),
        ("0d 00000000", 5),
        ("0b 0c", 2),
        ("0b 08 01 13 0a 01 00 14 0d 00000000 0c", 14),
        ("83 04 84 04", 4),
    ],
)
def test_unknown_fields_are_skipped_and_reported(data: str, stop: int) -> None:
    """A field of every wire type ends where it does, groups at their own end, and is reported once."""
    octets = bytes.fromhex(data)
    unknown: wire.Unknown = []
    for _ in range(2):
        tag, at = wire.read_tag(octets, 0)
        assert wire.skip(octets, at, len(octets), tag, 0, "M", unknown) == stop == len(octets)
    assert unknown == [("M", tag >> 3)]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("00 00", "field number 0"),
        ("0c", "the end of a group that did not begin"),
        ("0e", "wire type 6"),
        ("0f", "wire type 7"),
        ("0b", "a group does not end"),
        ("0b 08 01", "a group does not end"),
        ("0b 14", "the end of a group that did not begin"),
        ("0b 13 0c 14", "the end of a group that did not begin"),
        ("0b 00 00 0c", "field number 0"),
        ("0b 0f 0c", "wire type 7"),
    ],
)
def test_broken_unknown_fields_are_refused(data: str, reason: str) -> None:
    """What is skipped must be well formed too."""
    octets = bytes.fromhex(data)
    tag, at = wire.read_tag(octets, 0)
    unknown: wire.Unknown = []
    with pytest.raises(WireError, match=reason):
        wire.skip(octets, at, len(octets), tag, 0, "M", unknown)


@pytest.mark.parametrize(("depth", "groups"), [(0, 100), (60, 40)])
def test_groups_nest_to_the_limit(depth: int, groups: int) -> None:
    """Groups count against the same limit as the messages around them."""
    fits, too_deep = (b"\x0b" * count + b"\x0c" * count for count in (groups, groups + 1))
    assert wire.skip(fits, 1, len(fits), 11, depth, "M", []) == len(fits)
    with pytest.raises(WireError, match="nested deeper than 100"):
        wire.skip(too_deep, 1, len(too_deep), 11, depth, "M", [])


def test_unknown_fields_do_not_fill_the_memory() -> None:
    """However many fields are unknown, only so many are remembered."""
    unknown: wire.Unknown = []
    for number in range(1, 2 * wire.MAX_UNKNOWN):
        wire.skip(b"\0", 0, 1, number << 3, 0, "M", unknown)
    assert len(unknown) == wire.MAX_UNKNOWN


def test_small_fields_are_copied_and_large_ones_are_views() -> None:
    """A large field shares memory with what was received."""
    data = bytes(wire.VIEW_FROM + 1)
    small = wire.take(data, 0, wire.VIEW_FROM - 1, len(data))
    large = wire.take(data, 0, wire.VIEW_FROM, len(data))
    assert isinstance(small, bytes)
    assert isinstance(large, memoryview)
    assert large.obj is data


def test_runs_of_one_field_grow_in_place() -> None:
    """Appending element by element takes linear time: nothing is copied again."""
    first = wire.append_run(b"", b"\0\0\0\0")
    whole = wire.append_run(first, b"\1\1\1\1")
    assert first == b"\0\0\0\0"
    assert wire.append_run(whole, b"\2\2\2\2") is whole
    assert whole == bytes.fromhex("00000000 01010101 02020202")


@pytest.mark.parametrize("width", [4, 8])
def test_a_run_holds_whole_elements(width: int) -> None:
    """A remainder is refused on both ways."""
    with pytest.raises(WireError, match=f"not a whole number of {width}-byte elements"):
        wire.take_run(bytes(9), 0, 9, 9, width)
    with pytest.raises(WireError, match=f"^f: 9 bytes are not a whole number of {width}-byte elements"):
        wire.run_of(bytes(9), width, "f")


@pytest.mark.parametrize(
    "buffer", [bytes(10_000), bytearray(10_000), memoryview(bytes(10_000)), bytes(3), bytearray(3)]
)
def test_any_buffer_is_readable(buffer: Buffer) -> None:
    """Bytes stay what they are, others become bytes or a view of single bytes."""
    readable = wire.readable(buffer)
    assert readable == buffer
    assert isinstance(readable, bytes) or readable.format == "B"


def test_views_of_arrays_count_as_bytes() -> None:
    """The view of an array is written as its memory: its length counts elements, the wire counts bytes."""
    numbers = array.array("f", [1.0, 2.0, 3.0])
    assert wire.octets(memoryview(numbers)) == numbers.tobytes()
    assert wire.run_of(memoryview(numbers), 4, "f") == numbers.tobytes()
    assert wire.octets(memoryview(bytes(6)).cast("B", [2, 3])) == bytes(6)
    assert wire.octets(memoryview(array.array("d"))) == b""
    assert wire.readable(memoryview(numbers)) == numbers.tobytes()


def test_chunks_keep_large_parts() -> None:
    """Parts, given back to front, come in order; small ones joined, large ones as they are."""
    large = memoryview(bytes(wire.JOIN_BELOW))
    parts: list[Buffer] = [b"d", large, b"c", b"b", large, b"a"]
    chunks = wire.chunks(parts, 2 * wire.JOIN_BELOW + 4)
    assert [bytes(chunk) for chunk in chunks] == [b"a", bytes(large), b"bc", bytes(large), b"d"]
    assert chunks[1] is large
    assert wire.chunks([large, large], 2 * wire.JOIN_BELOW) == [large, large]


def test_a_small_message_is_one_chunk() -> None:
    """Also an empty one, so that a message is always at least one chunk."""
    assert wire.chunks([b"c", b"", b"ab"], 3) == [b"abc"]
    assert wire.chunks([], 0) == [b""]


def test_a_message_beyond_2_gib_is_not_written() -> None:
    """No protobuf reader would take it."""
    with pytest.raises(WireError, match="larger than 2 GiB"):
        wire.chunks([], 1 << 31)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (WireError("truncated"), "truncated"),
        (WireError("truncated", "inputs"), "inputs: truncated"),
        (WireError("truncated", "inputs.name", 7), "inputs.name: truncated at byte 7"),
    ],
)
def test_errors_say_where(error: WireError, text: str) -> None:
    """The text has the field and the offset when they are known."""
    assert str(error) == text


@pytest.mark.parametrize(
    ("value", "answer"), [(0.0, False), (-0.0, True), (1.0, True), (float("nan"), True), (0, False)]
)
def test_minus_zero_is_set(value: float, answer: bool) -> None:
    """Minus zero is not a default and must be sent."""
    assert wire.is_set(value) is answer


@pytest.mark.parametrize(
    ("form", "value"), [("f", 1e300), ("I", -1), ("I", 1 << 32), ("q", 1 << 63), ("Q", 1.5), ("d", 10**400)]
)
def test_fixed_numbers_out_of_range_are_named(form: str, value: float) -> None:
    """A number that does not fit its width is refused, naming the field."""
    with pytest.raises(WireError, match=r"^rate: .* does not fit$"):
        wire.number(9, value, form, "rate")
