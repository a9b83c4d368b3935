"""Tensors as people see them, from messages and bodies, right and wrong ones."""

import struct
from typing import Any

import pytest
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st

from inferbridge.bridge.datatypes import DATATYPES
from inferbridge.inspect.page import PAGE_BYTES, Budget, Page
from inferbridge.inspect.tensor_places import body_tensors, message_tensors
from inferbridge.inspect.tensors import tensor_lines
from inferbridge.protos import methods

METHOD = methods("open-inference").find("/inference.GRPCInferenceService/ModelInfer")
REQUEST = GetMessageClass(METHOD.input_type)


def request(datatype: str, shape: list[int], *raw: bytes, **contents: list[Any]) -> bytes:
    """The wire bytes of a request with one tensor."""
    message = REQUEST(raw_input_contents=raw)
    message.inputs.add(name="x", datatype=datatype, shape=shape, contents=contents or None)
    return bytes(message.SerializeToString())


def grpc_lines(wire: bytes) -> list[str]:
    """How a request's tensors are shown."""
    return list(tensor_lines(message_tensors(memoryview(wire), METHOD.input_type, Budget())))


def rest_lines(body: bytes, json_length: int | None = None) -> list[str]:
    """How a body's tensors are shown."""
    tensors = body_tensors(body, json_length)
    assert tensors is not None
    return list(tensor_lines(tensors))


def test_raw_contents_are_summed_up() -> None:
    """Name, datatype, shape, bytes, statistics of the finite numbers, NaN and Inf counts and the first eight."""
    raw = struct.pack("<10f", 1, 2, 3, 4, 5, 6, 7, float("nan"), float("inf"), -3)
    assert grpc_lines(request("FP32", [2, 5], raw)) == [
        '"x" FP32 [2,5], 40 bytes in raw_input_contents[0]',
        "  min -3.0, max 7.0, mean 3.125, 1 NaN, 1 Inf",
        "  first 8: 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, nan",
    ]


@pytest.mark.parametrize(
    ("datatype", "raw", "first"),
    [
        ("FP16", struct.pack("<2e", 1.5, -2), "1.5, -2.0"),
        ("BF16", b"\xc0\x3f\x00\xc0", "1.5, -2.0"),
        ("FP64", struct.pack("<2d", 0.1, 1e300), "0.1, 1e+300"),
        ("INT8", b"\xff\x7f", "-1, 127"),
        ("UINT64", struct.pack("<2Q", 2**64 - 1, 0), "18446744073709551615, 0"),
        ("BOOL", b"\0\1", "0, 1"),
        ("BYTES", b"\2\0\0\0hi\1\0\0\0\xff", '"hi", 1 bytes: ff'),
    ],
)
def test_every_datatype_is_read(datatype: str, raw: bytes, first: str) -> None:
    """Elements of each datatype are shown as numbers of that datatype."""
    assert grpc_lines(request(datatype, [2], raw))[-1] == f"  first 2: {first}"


def test_typed_contents_are_read() -> None:
    """Contents by field are shown with the field they are in."""
    assert grpc_lines(request("INT16", [3], int_contents=[-1, 2, 300])) == [
        '"x" INT16 [3], 13 bytes in int_contents',
        "  min -1, max 300, mean 100.333",
        "  first 3: -1, 2, 300",
    ]
    assert grpc_lines(request("BYTES", [1], bytes_contents=[b"a\nb"]))[1:] == ['  first 1: "a\\nb"']
    assert grpc_lines(request("FP32", [0])) == ['"x" FP32 [0], no data']


def test_json_and_binary_data_are_read() -> None:
    """A REST body may have tensors as nested arrays, as words of its own for NaN, and as bytes behind the JSON."""
    text = (
        b'{"inputs":[{"name":"a","shape":[2,2],"datatype":"FP32","data":[[1,2],[3,NaN]]},'
        b'{"name":"b","shape":[2],"datatype":"BYTES","data":["x","y\\u00e9"]},'
        b'{"name":"c","shape":[1],"datatype":"INT32","parameters":{"binary_data_size":4}}]}'
    )
    assert rest_lines(text + b"\7\0\0\0", len(text)) == [
        '"a" FP32 [2,2], 15 bytes in data',
        "  min 1.0, max 3.0, mean 2, 1 NaN, 0 Inf",
        "  first 4: 1.0, 2.0, 3.0, nan",
        '"b" BYTES [2], 15 bytes in data',
        '  first 2: "x", "y\\u00e9"',
        '"c" INT32 [1], 4 bytes in binary data',
        "  min 7, max 7, mean 7",
        "  first 1: 7",
    ]


@pytest.mark.parametrize(
    ("wire", "note"),
    [
        (request("FP32", [3], bytes(8)), "tensor 'x': shape [3] needs 3 elements, raw_input_contents[0] has 2"),
        (request("FP32", [1], bytes(7)), "7 bytes are not a whole number of 4-byte elements"),
        (request("FP32", [-1], bytes(4)), "tensor 'x': shape [-1] has a negative dimension"),
        (request("INT32", [1], fp32_contents=[1.0]), "INT32 data belongs in int_contents"),
        (request("FP32", [1], bytes(4), fp32_contents=[1.0]), "has fp32_contents and raw_input_contents"),
        (request("FP32", [1], bytes(4), bytes(4)), "raw_input_contents has 2 entries for 1 tensors"),
        (request("FLOAT32", [1], bytes(4)), "did you mean FP32?"),
        (request("BYTES", [1], b"\x09\0\0\0hi"), "element 0 is cut off"),
    ],
)
def test_what_is_wrong_is_told(wire: bytes, note: str) -> None:
    """A tensor that no runtime would take is shown with the reason."""
    assert any(line.startswith("  ! ") and note in line for line in grpc_lines(wire))


def test_what_is_wrong_in_json_is_told() -> None:
    """Data that are not of the datatype, and sizes beyond the body, are named."""
    wrong = b'{"inputs":[{"name":"a","shape":[2],"datatype":"INT32","data":[1,0.5]}]}'
    assert "  ! the data are not elements of INT32" in rest_lines(wrong)
    short = b'{"inputs":[{"name":"a","shape":[2],"datatype":"INT32","parameters":{"binary_data_size":8}}]}'
    assert "  ! binary_data_size is 8, 4 bytes are left" in rest_lines(short + bytes(4), len(short))
    assert body_tensors(b'{"inputs": "a text for caikit"}') is None
    with pytest.raises(ValueError, match="too many to read"):
        body_tensors(
            b'{"inputs":[{"name":"a","datatype":"BYTES","shape":[1],"data":["%s"]}]}' % bytes(25 * 1024 * 1024)
        )


def test_outputs_that_are_asked_for_are_no_tensors() -> None:
    """A request names the outputs it wants, which have no elements."""
    assert body_tensors(b'{"inputs":[],"outputs":[{"name":"y","parameters":{"binary_data":true}}]}') == []


def test_a_long_array_is_counted_whole_and_read_in_part() -> None:
    """Statistics of a part say so, and the count of elements is still exact."""
    count = 400_000
    body = b'{"inputs":[{"name":"a","shape":[%d],"datatype":"INT64","data":[%s]}]}'
    lines = rest_lines(body % (count, b",".join([b"123456"] * count)))
    assert lines[1].startswith("  min 123456, max 123456, mean 123456 (of the first ")
    assert lines[1].endswith(f" of {count})")
    assert len(lines) == 3


@given(
    wire=st.binary(max_size=200)
    | st.builds(lambda raw, end: raw[:end], st.just(request("FP32", [2], bytes(8))), st.integers(0, 40)),
)
def test_any_message_has_a_form(wire: bytes) -> None:
    """Random and cut messages never raise."""
    grpc_lines(wire)


@given(
    datatype=st.sampled_from(sorted(DATATYPES)),
    shape=st.lists(st.integers(-2, 2**40), max_size=4),
    raw=st.binary(max_size=100),
    data=st.text(alphabet='[]{}",:0123456789.eE-+ntrufalsNI \\', max_size=60),
)
def test_any_tensor_has_a_form(datatype: str, shape: list[int], raw: bytes, data: str) -> None:
    """Whatever elements a tensor has, it is shown within a page."""
    page = Page()
    page.add_all(grpc_lines(request(datatype, shape, raw)))
    body = f'{{"inputs":[{{"name":"a","shape":{shape},"datatype":"{datatype}","data":[{data}]}}]}}'
    page.add_all(tensor_lines(body_tensors(body.encode()) or []))
    assert len(page.text().encode()) <= PAGE_BYTES
