"""Large arrays: the same values and the same errors as small ones, with either parser."""

import json
import random
import tracemalloc
from collections.abc import Callable, Iterator
from decimal import Context, Decimal
from typing import Any

import numpy as np
import pytest

from bridge.tensor_bodies import FLOATS, INTEGERS, body, decoded, read, read_all, rounded, tensor
from inferbridge.bridge import json_arrays
from inferbridge.bridge.errors import BridgeError

pytestmark = pytest.mark.usefixtures("parser")
COUNT = 30_000


def numbers(seed: int, count: int = COUNT) -> list[float]:
    """Doubles of many magnitudes, some whole, some zero."""
    random_ = random.Random(seed)
    return [random_.choice((0.0, -1.0, random_.gauss(0, 1), random_.uniform(-9, 9) * 10 ** random_.randint(-30, 30)))
            for _ in range(count)]  # fmt: skip


@pytest.mark.parametrize("separator", [",", ", ", "\n ,\t"])
def test_doubles_are_exact(separator: str) -> None:
    """FP64 arrays of several pieces come out as Python's own parser reads them, whatever the white space."""
    values = numbers(1)
    text = f"[ {separator.join(map(repr, values))} ]"
    assert len(text) > 2 * json_arrays.PIECE
    assert read(text, "FP64") == np.array(values, "<f8").tobytes()


def test_singles_are_exact() -> None:
    """FP32 arrays come out as numpy's conversion from text to float32."""
    texts = [repr(value) for value in numbers(2)]
    assert read(f"[{','.join(texts)}]", "FP32") == np.array([np.float32(text) for text in texts], "<f4").tobytes()


@pytest.mark.parametrize("datatype", INTEGERS)
def test_integers_are_exact_to_their_limits(datatype: str) -> None:
    """Every integer type holds its least and greatest value, also beyond 2**53."""
    unsigned, bits = INTEGERS[datatype]
    low, high = (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    values = [low, high, high - 1, 0, 1] * 6000
    kind = f"<{'u' if unsigned else 'i'}{bits // 8}"
    assert read(json.dumps(values), datatype) == np.array(values, kind).tobytes()


def test_booleans() -> None:
    """A BOOL is one byte, 0 or 1."""
    values = [random.Random(3).random() < 0.5 for _ in range(COUNT)]
    assert read(json.dumps(values), "BOOL") == bytes(values)


WRONG = [
    ("INT8", "128", "tensor 'x': 128 is not from -128 to 127 (INT8)"),
    ("INT8", "-129", "tensor 'x': -129 is not from -128 to 127 (INT8)"),
    ("UINT8", "-1", "tensor 'x': -1 is not from 0 to 255 (UINT8)"),
    ("UINT64", "-1", "tensor 'x': -1 is not from 0 to 18446744073709551615 (UINT64)"),
    ("UINT64", str(2**64), f"tensor 'x': {2**64} is not from 0 to {2**64 - 1} (UINT64)"),
    ("INT64", str(2**63), f"tensor 'x': {2**63} is not from {-(2**63)} to {2**63 - 1} (INT64)"),
    ("INT64", str(-(2**63) - 1), f"tensor 'x': {-(2**63) - 1} is not from {-(2**63)} to {2**63 - 1} (INT64)"),
    ("INT32", "1.0", "tensor 'x': element 25000 is 1.0, INT32 needs an integer"),
    ("INT32", "1e3", "tensor 'x': element 25000 is 1000.0, INT32 needs an integer"),
    ("INT32", "true", "tensor 'x': element 25000 is true, INT32 needs an integer"),
    ("INT32", '"1"', "tensor 'x': element 25000 is \"1\", INT32 needs an integer"),
    ("FP32", "true", "tensor 'x': element 25000 is true, FP32 needs a number"),
    ("FP32", "null", "tensor 'x': element 25000 is null, FP32 needs a number"),
    ("FP32", "{}", None),
    ("FP32", "NaN", "tensor 'x': data is not valid: NaN is not JSON"),
    ("FP32", "1e39", "tensor 'x': 1e+39 is out of the range of FP32"),
    ("FP16", "65520", "tensor 'x': 65520.0 is out of the range of FP16"),
    ("BF16", "3.4e38", "tensor 'x': 3.4e+38 is out of the range of BF16"),
    ("FP64", "1e309", "tensor 'x': data is not valid: 1e309 is out of range"),
    ("FP64", "9" * 309, f"tensor 'x': {'9' * 40}… is out of range"),
    ("FP64", "1" * 401, "tensor 'x': a number in data is longer than 400 characters"),
    ("FP64", "0." + "1" * 600, "tensor 'x': a number in data is longer than 400 characters"),
    ("FP64", "01", None),
    ("FP64", "1 2", None),
    ("FP64", "", None),
    ("FP64", "+1", None),
    ("FP64", "0x1", None),
    ("BOOL", "1", "tensor 'x': element 25000 is 1, BOOL needs true or false"),
    ("BOOL", "null", "tensor 'x': element 25000 is null, BOOL needs true or false"),
    ("BOOL", "falsetrue", None),
    ("BYTES", "1", "tensor 'x': element 0 is "),
]


@pytest.mark.parametrize(("datatype", "wrong", "message"), WRONG)
def test_a_wrong_element_is_named(datatype: str, wrong: str, message: str | None) -> None:
    """An element of another kind or out of range is an error that names the tensor and what is wrong."""
    texts = ["true" if datatype == "BOOL" else "7"] * COUNT
    texts[25_000] = wrong
    with pytest.raises(BridgeError) as caught:
        read(f"[{','.join(texts)}]", datatype, [COUNT])
    if message is None:
        return
    assert caught.value.message.startswith(message)


def test_integers_beyond_64_bits_are_numbers_for_floats() -> None:
    """A float tensor takes any integer that a double can hold, correctly rounded."""
    values = [2**64, 2**53 + 1, -(10**30), 10**308]
    assert (
        read(json.dumps(values * 3000), "FP64") == np.array([float(value) for value in values * 3000], "<f8").tobytes()
    )


@pytest.mark.parametrize("found", [COUNT - 1, COUNT + 1, 2 * COUNT])
def test_a_wrong_count_is_named(found: int) -> None:
    """Shape and data must agree; both numbers are told."""
    with pytest.raises(BridgeError) as caught:
        read(f"[{','.join(['0.5'] * found)}]", "FP32", [COUNT])
    assert caught.value.message == f"tensor 'x': shape [{COUNT}] needs {COUNT} elements, data has {found}"


@pytest.fixture
def peak() -> Iterator[Callable[[], int]]:
    """The most memory that was in use since the test began, in bytes."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    yield lambda: tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()


def test_a_lying_shape_allocates_nothing(peak: Callable[[], int]) -> None:
    """Two thousand million elements are refused before memory is taken for them."""
    with pytest.raises(BridgeError, match="needs 2147483647 elements, data has 5000"):
        read(f"[{','.join(['1'] * 5000)}]", "FP64", [2**31 - 1])
    assert peak() < 10_000_000


@pytest.mark.parametrize("end", [",]", "]]", "", "]}", "}"])
def test_a_broken_end_is_refused(end: str) -> None:
    """Trailing commas, and brackets too many or too few, are errors."""
    with pytest.raises((BridgeError, ValueError)):
        read("[" + ",".join(["1.5"] * COUNT) + end, "FP32", [COUNT])


def test_a_trailing_comma_at_the_cut_is_refused() -> None:
    """A comma right where a piece ends has nothing behind it."""
    text = "1," * (json_arrays.PIECE // 2) + " " * 8 + "1,"
    text = "[" + text[:-1] + ",]"
    with pytest.raises(BridgeError):
        read(text, "INT8", [text.count("1")])
    with pytest.raises(BridgeError):
        read(text, "INT8", [text.count("1") + 1])


@pytest.mark.parametrize("shape", [[10, 3000], [3000, 10], [30, 10, 100], [1, COUNT], [COUNT, 1], [2, 3, 5, 1, 1000]])
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("datatype", ["FP32", "INT64", "BOOL"])
def test_nested_arrays(shape: list[int], indent: int | None, datatype: str) -> None:
    """Nested data of the shape is the same as flat data."""
    values: Any = np.arange(COUNT) % 3 == 0 if datatype == "BOOL" else np.arange(COUNT)
    kind = {"FP32": "<f4", "INT64": "<i8", "BOOL": "bool"}[datatype]
    text = json.dumps(values.reshape(shape).tolist(), indent=indent)
    assert read(text, datatype, shape) == values.astype(kind).tobytes()


def nested(rows: int = 3000, columns: int = 10) -> str:
    """Text of a nested array of ones."""
    return "[" + ",".join(["[" + ",".join(["1"] * columns) + "]"] * rows) + "]"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[1,1,", "[1,[1],"),
        ("[1,1,", "[[1,1,"),
        ("1],[1", "1,1],["),
        ("1],[1", "1[],[1"),
        ("1],[1", "1],1[,1"),
        ("1],[1", "],[1"),
        ("1],[1", "]1,[1"),
        ("1],[1", "1],1["),
        ("1],[1", "1],[1]1,"),
        ("1],[1", "1]1,[1"),
        ("1],[1", "1],1[1"),
        ("1],[1", "1]],[[1"),
        ("1],[1", "1],,[1"),
        ("1],[1", "1][1"),
        ("1],[1", "1 1],[1"),
        ("1],[1", '1],["1"'),
    ],
)
def test_ragged_and_broken_nesting_is_refused(old: str, new: str) -> None:
    """Nested data must be exactly the shape's, wherever the flaw is."""
    text = nested()
    for place in (text.find(old), text.find(old, len(text) // 2), text.rfind(old)):
        with pytest.raises((BridgeError, ValueError)):
            read(text[:place] + new + text[place + len(old) :], "FP32", [3000, 10])


def test_nested_arrays_in_a_flat_one_are_refused() -> None:
    """A flat array stays flat to its end, also where it was not cut out."""
    for text in ("1," * 5000 + "[1],1", "1," * 5000 + "[1,1]", "1," * 5000 + "[],1,1"):
        whole = body(tensor(f"[{text}]", "FP32", [5002])).replace(b'"data"', b'"dat\\u0061"')
        with pytest.raises(BridgeError):
            read_all(whole)


@pytest.mark.parametrize(
    "shape", [[30_000, 1], [1, 30_000], [10, 3000], [3000, 10, 1], [3000, 11], [2999, 10], [15, 2000]]
)
def test_nesting_of_another_shape_is_refused(shape: list[int]) -> None:
    """Nested data of the right count but another shape is an error."""
    with pytest.raises(BridgeError, match=r"tensor 'x': (data is nested, but not as shape|shape .* needs)"):
        read(nested(), "FP32", shape)


def test_a_bracket_at_the_cut_is_refused() -> None:
    """The check of nesting holds where the text was cut."""
    first = "1" + " " * json_arrays.PIECE
    assert read(f"[[{first},2]]", "FP32", [1, 2]) == np.array([1, 2], "<f4").tobytes()
    for text in (f"[{first}[,2]]", f"[[{first}],2]", f"[[{first}[,2]]]"):
        for shape in ([1, 2], [1, 1, 2], [2, 1]):
            with pytest.raises((BridgeError, ValueError)):
                read(text, "FP32", shape)


def test_many_dimensions_of_one_do_not_cost_memory(peak: Callable[[], int]) -> None:
    """The nesting a shape asks for is not built when the text is too short to have it."""
    with pytest.raises(BridgeError, match="data is nested, but not as shape"):
        read("[" + ",".join(["[1]"] * 50_000) + "]", "FP32", [50_000] + [1] * 60)
    assert peak() < 5_000_000


@pytest.mark.parametrize("datatype", FLOATS)
def test_null_is_nan_where_the_policy_says_so(datatype: str) -> None:
    """With the policy "null", null is NaN, which no other policy allows."""
    text = "[" + ",".join(["1", "null"] * 4000) + "]"
    raw = read(text, datatype, nan="null")
    size = len(raw) // 8000
    values = [decoded(raw[at : at + size], datatype) for at in range(0, len(raw), size)]
    assert values[::2] == [1.0] * 4000
    assert all(value != value for value in values[1::2])
    for nan in ("reject", "literal"):
        with pytest.raises(BridgeError, match="element 1 is null"):
            read(text, datatype, nan=nan)


@pytest.mark.parametrize("datatype", FLOATS)
def test_words_where_the_policy_says_so(datatype: str) -> None:
    """With the policy "literal", NaN, Infinity and -Infinity are values; an overflow still is an error."""
    texts = ["1", "NaN", "Infinity", "-Infinity"] * 2000
    raw = read(f"[{','.join(texts)}]", datatype, nan="literal")
    size = len(raw) // 8000
    assert [repr(decoded(raw[at : at + size], datatype)) for at in range(0, 4 * size, size)] == [
        "1.0",
        "nan",
        "inf",
        "-inf",
    ]
    with pytest.raises(BridgeError, match="out of range"):
        read(f"[{','.join([*texts, '1e999'])}]", datatype, nan="literal")


def ties(datatype: str) -> list[str]:
    """Decimal texts on and around the midpoints of neighbouring values, which rounding twice gets wrong."""
    random_ = random.Random(4)
    digits = {"FP32": 24, "FP16": 11, "BF16": 8}[datatype]
    least, greatest = {"FP32": (-149, 100), "FP16": (-24, 4), "BF16": (-133, 119)}[datatype]
    context = Context(prec=400)
    texts = []
    for _ in range(200):
        significand = random_.choice(
            (random_.getrandbits(digits), random_.randint(0, 3), 2 ** (digits - 1) - 1, 2**digits - 1)
        )
        exponent = random_.choice((least, random_.randint(least, greatest)))
        midpoint = context.multiply(Decimal(2 * significand + 1), context.power(2, exponent - 1))
        for nudge in ("0", "1e-60", "-1e-60", "1e-40", "-1e-17"):
            texts.append(str(context.multiply(midpoint, context.add(1, Decimal(nudge)))))
    return [text for text in texts if len(text) <= 400 and rounded(text, datatype)]


@pytest.mark.parametrize("datatype", ["FP32", "FP16", "BF16"])
@pytest.mark.parametrize("few", [False, True])
def test_midpoints_are_rounded_by_their_text(datatype: str, few: bool) -> None:
    """Every text rounds as exact arithmetic says, also next to midpoints, subnormals and the greatest value."""
    texts = ties(datatype)
    expected = [rounded(text, datatype) for text in texts]
    if few:
        found = [read(f"[0.1,-{text}]", datatype) for text in texts[:500]]
        expected = [rounded("0.1", datatype) + rounded("-" + text, datatype) for text in texts[:500]]  # type: ignore[operator]
        assert found == expected
    else:
        assert read(f"[{','.join(texts)}]", datatype) == b"".join(filter(None, expected))


def test_whole_numbers_on_midpoints() -> None:
    """Whole numbers on midpoints go to the even neighbour; beyond 2**53 by all their digits."""
    values = [2**24 + 1, 2**24 + 3, -(2**24) - 1, 2**60 + 2**36, 2**60 + 2**36 + 1, 2**60 + 2**36 - 1]
    expected = b"".join(rounded(str(value), "FP32") or b"" for value in values)
    assert read(json.dumps(values * 1000), "FP32") == expected * 1000


def test_large_and_small_tensors_in_one_body() -> None:
    """Arrays that were cut out and arrays that were not keep their places."""
    big = f"[{','.join(['1.5'] * 3000)}]"
    texts = [tensor("[1,2]"), tensor(big), tensor('["a","b"]', "BYTES"), tensor(big, "FP64"), tensor("[true]", "BOOL")]
    found = read_all(body(*texts))
    assert [len(raw) for raw in found] == [8, 12_000, 10, 24_000, 1]
    assert found[1] == np.full(3000, 1.5, "<f4").tobytes()
