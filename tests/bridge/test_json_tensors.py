"""Tensors behind the JSON part of a body, and what a tensor must have."""

import json
from typing import Any

import msgspec
import pytest

from bridge.tensor_bodies import (
    body,
    read_all,
    refused,
    tensor,
)
from inferbridge.bridge.json_tensors import TensorSource


def binary_body(sizes: list[Any], tail: bytes, data: str = "") -> tuple[bytes, int]:
    """A body with UINT8 tensors of these sizes in the tail, and the length of its JSON part."""
    items = [
        f'{{"name":"t{number}","datatype":"UINT8","shape":[2],"parameters":{{"binary_data_size":{json.dumps(size)}}}{data}}}'
        for number, size in enumerate(sizes)
    ]
    text = f'{{"inputs":[{",".join(items)}]}}'.encode()
    return text + tail, len(text)


def test_binary_tensors_are_taken_in_order() -> None:
    """Each tensor gets its bytes from behind the JSON part, as views of the body."""
    assert read_all(*binary_body([2, 2], b"abcd")) == [b"ab", b"cd"]
    text, length = binary_body([2], b"ab")
    source = TensorSource(text, length, "reject")
    assert isinstance(source.take(msgspec.UNSET, "UINT8", [2], {"binary_data_size": 2}, "x"), memoryview)


def test_binary_and_json_tensors_in_one_body() -> None:
    """Both forms mix in one body."""
    text = body(
        tensor("[1,2]", "INT8"),
        tensor("", "INT8", [3])[: -len(b',"data":}')] + b',"parameters":{"binary_data_size":3}}',
    )
    assert read_all(text + b"abc", len(text)) == [b"\1\2", b"abc"]


@pytest.mark.parametrize(
    ("sizes", "tail", "data", "message"),
    [
        ([2], b"a", "", "tensor 't0': binary_data_size is 2, behind the JSON part are 1 bytes left"),
        ([2, 2], b"abc", "", "tensor 't1': binary_data_size is 2, behind the JSON part are 1 bytes left"),
        ([2], b"abc", "", "1 bytes are left behind the last binary tensor"),
        ([3], b"abc", "", "tensor 't0': shape [2] of UINT8 needs 2 bytes, the raw data has 3"),
        ([-1], b"abc", "", "tensor 't0': binary_data_size is -1, behind the JSON part are 3 bytes left"),
        ([True], b"a", "", "tensor 't0': binary_data_size is True, behind the JSON part are 1 bytes left"),
        (["2"], b"ab", "", "tensor 't0': binary_data_size is '2', behind the JSON part are 2 bytes left"),
        ([2.0], b"ab", "", "tensor 't0': binary_data_size is 2.0, behind the JSON part are 2 bytes left"),
        ([2], b"ab", ',"data":[1,2]', "tensor 't0': has both data and the parameter binary_data_size"),
    ],
)
def test_binary_tails_that_do_not_fit(sizes: list[Any], tail: bytes, data: str, message: str) -> None:
    """Every byte behind the JSON part belongs to one tensor."""
    text, length = binary_body(sizes, tail, data)
    assert refused(text, header_length=length) == message


def test_binary_data_without_its_header() -> None:
    """A size without the header that says where the JSON part ends cannot be used."""
    text, _ = binary_body([2], b"")
    assert "behind the JSON part are 0 bytes left" in refused(text)


def test_neither_form() -> None:
    """A tensor with elements must have data."""
    text = body(tensor("null", "FP32", [1]))
    assert refused(text) == "tensor 'x': has neither data nor the parameter binary_data_size"
    assert refused(text.replace(b',"data":null', b"")) == refused(text)


def test_an_unknown_datatype() -> None:
    """The datatype is looked at before the data."""
    assert "unknown datatype 'FP23', did you mean FP32?" in refused(body(tensor("[1]", "FP23")))
