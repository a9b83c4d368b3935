"""Big arrays are cut out of a body without ever mistaking anything for one."""

import json
import struct

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.tensor_bodies import (
    Body,
    body,
    read_all,
    refused,
    tensor,
)
from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.json_cut import MARK
from inferbridge.bridge.json_numbers import LARGE
from inferbridge.bridge.json_tensors import TensorSource

BIG = f"[{','.join(['1.5'] * 3000)}]"
BIG_RAW = struct.pack("<3000f", *[1.5] * 3000)


def test_a_big_array_does_not_reach_the_struct_decoder() -> None:
    """The JSON part is small whatever the tensors are; the text around stays as it was."""
    text = b' {"id":"a", "inputs" : [' + tensor(BIG) + b" , " + tensor(BIG) + b"]}\n"
    source = TensorSource(text, None, "reject")
    assert len(source.json) < 250
    assert source.json == text.replace(BIG.encode(), MARK + b"00001", 1).replace(BIG.encode(), MARK + b"00002", 1)
    assert read_all(text) == [BIG_RAW, BIG_RAW]


@pytest.mark.parametrize(
    "key", [b'"data"', b'"d\\u0061ta"', b'"\\u0064\\u0061\\u0074\\u0061"', b' "data"\n\t\r ', b'"data" ']
)
@pytest.mark.parametrize("before", [b"", b" ", b"\n\t\r "])
def test_any_spelling_of_the_key(key: bytes, before: bytes) -> None:
    """White space and escapes in the key change nothing."""
    text = body(tensor(BIG)).replace(b'"data":[', key + b":" + before + b"[ \n")
    assert read_all(text) == [BIG_RAW]


@pytest.mark.parametrize("string", [r"\"data\":[1,2,", r"\\\"data\":[1", r"\"data\":[[1]]}", "\\\\", "data", "]}["])
def test_strings_that_look_like_data(string: str) -> None:
    """Text inside strings is never taken for an array."""
    text = body(tensor(BIG), tensor(f'["{string}","b"]', "BYTES", [2]), tensor(BIG))
    text = text[:-1] + b',"id":"' + string.encode() + b'"}'
    value = json.loads(f'"{string}"').encode()
    assert read_all(text) == [BIG_RAW, struct.pack("<I", len(value)) + value + b"\1\0\0\0b", BIG_RAW]
    source = TensorSource(text, None, "reject")
    assert msgspec.json.decode(source.json, type=Body).id == json.loads(f'"{string}"')


def forged(data: str, extra: str = "") -> bytes:
    """A body with this text for data, and a big array that may be cut out elsewhere."""
    head = json.dumps({"name": "x", "datatype": "FP32", "shape": [3000]})[:-1]
    return f'{{"inputs":[{head},"data":{data}{extra}}}]}}'.encode()


MARKERS = ["-0.0E-00001", "-0.0E-1", "-1", "-0", "-0.0", '"-0.0E-00001"', "[-0.0E-00001]"]


@pytest.mark.parametrize("data", MARKERS)
@pytest.mark.parametrize(
    "extra",
    ["", f',"parameters":{{"data":{BIG}}}', f',"parameters":{{"a":{{"data":{BIG}}}}}'],
)
def test_a_marker_cannot_be_forged(data: str, extra: str) -> None:
    """A client that writes a marker gets an error, also when a real array was cut out elsewhere."""
    refused(forged(data, extra))
    refused(forged(data, extra) + b" " * LARGE)


def test_markers_in_values_are_only_values() -> None:
    """A body that has something like a marker in it is read all the same, without cutting."""
    text = body(tensor(BIG), tensor("[-0.0E-00001]", "FP32"))
    assert read_all(text) == [BIG_RAW, struct.pack("<f", -0.0)]
    assert read_all(body(tensor(BIG, name="-0.0E-00001"))) == [BIG_RAW]


def test_an_array_where_no_data_belongs() -> None:
    """An array called data among parameters was cut out but nobody asked for it."""
    message = refused(forged(BIG, f',"parameters":{{"data":{BIG}}}'))
    assert message == 'the key "data" with an array stands where no tensor has its data, or twice in one tensor'


@pytest.mark.parametrize("first", [BIG, "[1]", "-1", '["a"]', "[[1]]", "null"])
@pytest.mark.parametrize("second", [BIG, "[2]"])
def test_data_twice(first: str, second: str) -> None:
    """Data given twice is an error, whichever of them a decoder would take."""
    head = json.dumps({"name": "x", "datatype": "FP32", "shape": [3000 if second == BIG else 1]})[:-1]
    assert "twice" in refused(f'{{"inputs":[{head},"data":{first},"data":{second}}}]}}'.encode())


def test_data_twice_that_is_no_text() -> None:
    """Bytes that are no UTF-8 are the client's error also in the first of two values, which nobody reads."""
    with pytest.raises(BridgeError, match="the body is not UTF-8"):
        read_all(body(tensor("[1]").replace(b'"data"', b'"data":["\xff"],"data"')))


def test_a_parameter_called_data_is_only_a_parameter() -> None:
    """The key data elsewhere, with a plain value, is nothing special."""
    assert read_all(forged(BIG, ',"parameters":{"data":5}')) == [BIG_RAW]
    assert read_all(body(tensor("[1]")[:-1] + b',"parameters":{"data":"[1,2]"}}')) == [struct.pack("<f", 1)]


@pytest.mark.parametrize(
    "text", [b"", b"{", b'{"inputs":[{"data":[1', b'"data":[1,', b'"data":[[1,2]', b'"data"', b"\xff\xfe"]
)
@pytest.mark.parametrize("padding", [0, LARGE])
def test_torn_bodies(text: bytes, padding: int) -> None:
    """Half a body is the struct decoder's to refuse, not ours to crash on."""
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        msgspec.json.decode(TensorSource(text + b" " * padding, None, "literal").json, type=Body)


def test_many_openings_are_read_in_linear_time() -> None:
    """A body of nothing but beginnings of arrays is scanned once, not once for each."""
    for opening in (b'"data":[1,', b'"data":[[1],', b'"data":[[', b'"data":[' + b"[" * 50, b'"data":' + b" " * 50):
        text = opening * 100_000
        assert TensorSource(text, None, "reject").json == text


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer(kind: type) -> None:
    """A body may be any kind of buffer."""
    assert read_all(kind(body(tensor(BIG)))) == [BIG_RAW]
    text = body(tensor("[1]"))
    assert read_all(kind(text), len(text)) == [struct.pack("<f", 1)]


PIECES = ["[1,2]", BIG, f"[{BIG},{BIG}]", '["a]"]', "[true]", "null", "-0.0E-00001", '"data"', "[[],[]]"]
PIECES += ['{"data":[1]}', f'{{"data":{BIG}}}']


@settings(max_examples=100)
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=4), st.booleans())
def test_cutting_is_the_same_as_not_cutting(values: list[str], escaped: bool) -> None:
    """A cut body means what the whole body means to a JSON parser, or is refused."""
    items = [f'{{"name":"x","datatype":"FP32","shape":[3000],"data":{value}}}' for value in values]
    text = f'{{"inputs":[{",".join(items)}]}}'
    if escaped:
        text = text.replace('"data"', '"dat\\u0061"')
    whole = [item["data"] for item in json.loads(text)["inputs"]]
    try:
        found = read_all(text.encode())
    except BridgeError:
        assert any(not isinstance(data, list) or len(data) != 3000 for data in whole)
    else:
        assert found == [struct.pack("<3000f", *data) for data in whole]
