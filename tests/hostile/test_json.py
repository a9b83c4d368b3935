"""JSON that is broken, deep, huge or ambiguous: through the readers of bodies, and through a running proxy."""

import json
import re
import zlib
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from google.protobuf.struct_pb2 import Value

from hostile.conftest import Scene
from hostile.json_cases import DEEP, MAYBE, N, Y
from hostile.proxy import read_to_end
from inferbridge.bridge import rest, transcode
from inferbridge.bridge.errors import BridgeError

ANY = msgspec.json.Decoder(Any)
COMPLETION = b'{"model":"m","prompt":%s,"temperature":0}'
ALL = N | MAYBE | Y
_STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3})")


def test_there_are_enough_cases() -> None:
    """All classes together have at least 150."""
    assert len(Y) + len(N) + len(MAYBE) >= 150


@pytest.mark.parametrize("text", Y.values(), ids=Y)
def test_what_is_json_means_the_same_to_all_readers(text: bytes) -> None:
    """The reader of bodies takes it, and reads what Python's reader reads."""
    assert rest.read_json(ANY, text) == json.loads(text)


@pytest.mark.parametrize("text", N.values(), ids=N)
def test_what_is_no_json_is_refused_by_the_readers(text: bytes) -> None:
    """Bodies and messages in JSON that are none raise the error that a client can be told."""
    with pytest.raises(BridgeError):
        rest.read_json(ANY, text)
    with pytest.raises(BridgeError):
        transcode.to_message(text, Value.DESCRIPTOR)


@pytest.mark.parametrize("text", MAYBE.values(), ids=MAYBE)
def test_what_may_be_json_never_breaks_a_reader(text: bytes) -> None:
    """It is read or refused; no other exception gets out."""
    for read in (lambda: rest.read_json(ANY, text), lambda: transcode.to_message(text, Value.DESCRIPTOR)):
        with suppress(BridgeError):
            read()


def post(scene: Scene, path: str, body: bytes, *fields: bytes) -> int:
    """The status of a call with this body."""
    lines = (b"POST %s HTTP/1.1" % path.encode(), b"Host: a", b"Connection: close", b"Content-Length: %d" % len(body))
    with scene.proxy.connect() as client:
        client.sendall(b"\r\n".join((*lines, b"Content-Type: application/json", *fields)) + b"\r\n\r\n" + body)
        match = _STATUS.match(read_to_end(client))
    assert match is not None
    return int(match[1])


@pytest.mark.parametrize("text", ALL.values(), ids=ALL)
def test_no_body_breaks_the_proxy(scene: Scene, text: bytes) -> None:
    """A completion whose prompt is the text, and a body that is nothing else, are answered or refused: never 5xx."""
    inside = post(scene, "/v1/completions", COMPLETION % text)
    assert inside in ((400,) if text in N.values() else (200, 400))
    if inside == 400:
        assert (scene.grpc.requests, scene.rest.requests) == ([], [])
    assert post(scene, "/v1/completions", text) == 400


INFER = '{"inputs":[{"name":"x","shape":%s,"datatype":"FP32","data":[1]}]}'
DEADLY = {
    "Triton's": INFER % "[9223372036854775807,3]",
    "one dimension": INFER % "[9223372036854775807]",
    "over 64 bits": INFER % "[18446744073709551617]",
    "product over 64 bits": INFER % "[4294967296,4294967296]",
    "product wraps to 1": INFER % "[6700417,641,4294967297]",
    "negative": INFER % "[-9223372036854775808,3]",
    "with a zero": INFER % "[9223372036854775807,0]",
    "many": INFER % f"[{','.join(['2'] * 40)}]",
    "many digits": INFER % f"[{'9' * 500},3]",
    "thousands of spaces": INFER % f"[{' ' * 10_000}9223372036854775807,3]",
    "thousands of dimensions": INFER % f"[{','.join(['2'] * 10_000)}]",
    "spaces": INFER.replace('"shape":', '"shape" \n: ') % "[ 9223372036854775807 , 3 ]",
    "escaped name": INFER.replace('"shape"', '"sh\\u0061pe"') % "[9223372036854775807,3]",
    "named twice, first": INFER.replace('"datatype"', '"shape":[1],"datatype"') % "[9223372036854775807,3]",
    "named twice, last": INFER.replace('"datatype"', '"shape":[9223372036854775807,3],"datatype"') % "[1]",
    "of an output": '{"inputs":[],"outputs":[{"name":"y","shape":[9223372036854775807,3]}]}',
    "behind NaN": '{"x":NaN,' + (INFER % "[9223372036854775807,3]")[1:],
    "deep arrays": INFER.replace("[1]", "[" * DEEP + "1" + "]" * DEEP) % "[1]",
    "deep objects": '{"parameters":' * DEEP + "{}" + "}" * DEEP,
    "deep, hidden behind a string": '{"x":"' + "]" * DEEP + '","y":' + "[" * DEEP + "]" * DEEP + "}",
    "deep and open": "[" * DEEP,
}


@pytest.mark.parametrize("body", DEADLY.values(), ids=DEADLY)
@pytest.mark.parametrize("coding", ["", "gzip", "binary"])
def test_what_kills_a_runtime_does_not_reach_it(scene: Scene, body: str, coding: str) -> None:
    """A shape that overflows and JSON that is too deep are refused even where the body is passed through unread."""
    data, fields = body.encode(), []
    if coding == "gzip":
        packer = zlib.compressobj(wbits=31)
        data, fields = packer.compress(data) + packer.flush(), [b"Content-Encoding: gzip"]
    elif coding == "binary":
        data, fields = data + b"\0\0\0\0", [b"Inference-Header-Content-Length: %d" % len(data)]
    assert post(scene, "/v2/models/m/infer", data, *fields) == 400
    assert scene.rest.requests == []


HARMLESS = {
    "ordinary": INFER % "[1]",
    "unknown dimension": INFER % "[-1,3]",
    "empty": INFER % "[0]",
    "nested data": INFER.replace("[1]", json.dumps([[1, 2], [3, 4]] * 500)) % "[1000,2]",
    "large integers as data": INFER.replace("[1]", "[9223372036854775807,9223372036854775807]") % "[2]",
    "brackets in a string": '{"inputs":[],"x":"' + "[" * 1000 + '"}',
    "a shape in a string": '{"inputs":[],"x":"shape: [9223372036854775807,3]"}',
}


@pytest.mark.parametrize("body", HARMLESS.values(), ids=HARMLESS)
def test_what_is_harmless_is_passed_on_as_it_is(scene: Scene, body: str) -> None:
    """Ordinary bodies reach the runtime byte for byte."""
    assert post(scene, "/v2/models/m/infer", body.encode()) == 200
    assert [content for _, _, content in scene.rest.requests] == [body.encode()]


@pytest.mark.parametrize("window", [31, 15], ids=["gzip", "deflate"])
@pytest.mark.parametrize("path", ["/v2/models/m/infer", "/v1/completions"], ids=["passed through", "translated"])
def test_a_decompression_bomb_is_refused(scene: Scene, path: str, window: int) -> None:
    """200 MB of zeros in 200 KB are refused with 413, and memory grows by no more than one body may have."""
    packer = zlib.compressobj(9, wbits=window)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(200)) + packer.flush()
    before = scene.proxy.rss()
    coding = b"gzip" if window == 31 else b"deflate"
    assert post(scene, path, bomb, b"Content-Encoding: " + coding) == 413
    assert scene.proxy.rss() - before < 160 << 20
    assert (scene.rest.requests, scene.grpc.requests) == ([], [])
