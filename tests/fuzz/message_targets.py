"""Messages and their framing: any cutting gives the same, and the references read what we read."""

import json
import re
from contextlib import suppress
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import msgspec
from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from bridge.tensor_bodies import Body
from codegen.wire_support import Codecs, kinds, meaning_of_google, meaning_of_struct
from fuzz.cutting import cut
from inferbridge.bridge import json_tensors
from inferbridge.bridge.context import NanPolicy
from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.event_stream import Event, EventReader
from inferbridge.bridge.framing import parse_timeout, unframe
from inferbridge.bridge.grpc_messages import MessageReader
from inferbridge.bridge.json_lines import LineReader
from inferbridge.bridge.json_tensors import TensorSource
from inferbridge.bridge.rest import read_json
from inferbridge.bridge.transcode import open_pool, to_json, to_message
from inferbridge.bridge.wire import WireError
from inferbridge_codegen.problems import Mark, Problems
from inferbridge_codegen.protos.compile import compile_protos
from inferbridge_generated.open_inference import wire as open_inference
from inferbridge_generated.tgis import wire as tgis

_LIMIT = 1000
_ENCODINGS = ("identity", "gzip", "deflate", "br")


# Framing


def grpc_messages(data: bytes) -> None:
    """gRPC messages are the same in one body, in one read and in many, or refused in all."""
    encoding, data = _ENCODINGS[data[0] % 4] if data else "gzip", data[1:]
    whole, pieces = cut(data)
    at_once = _read_messages([whole], encoding)
    assert at_once == _read_messages(pieces, encoding)
    try:
        unframed = [b"".join(map(bytes, message)) for message in unframe(whole, encoding, _LIMIT)]
    except BridgeError:
        assert at_once is None or not at_once[1]
    else:
        assert at_once == (unframed, True)


def _read_messages(pieces: list[bytes], encoding: str) -> tuple[list[bytes], bool] | None:
    """The messages, and whether the stream ended behind one; None if it is refused."""
    reader, found = MessageReader(_LIMIT, encoding), []
    try:
        for piece in pieces:
            found += [bytes(message) for message in reader.feed(piece)]
    except BridgeError:
        return None
    try:
        reader.finish()
    except BridgeError:
        return found, False
    return found, True


def event_stream(data: bytes) -> None:
    """Server-sent events are what the HTML standard makes of the bytes, cut or not."""
    whole, pieces = cut(data)
    events = _read_events([whole])
    assert events == _read_events(pieces)
    if events is not None:
        assert events == _events_by_standard(whole)


def _read_events(pieces: list[bytes]) -> list[Event] | None:
    reader = EventReader(_LIMIT)
    try:
        return [event for piece in pieces for event in reader.feed(piece)]
    except BridgeError:
        return None


def _events_by_standard(text: bytes) -> list[Event]:
    found, name, data = [], "", []
    *lines, _ = re.split(rb"\r\n|\n|\r", text.removeprefix(b"\xef\xbb\xbf"))
    for line in lines:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if not line:
            found += [Event(name or "message", b"\n".join(data))] if data else []
            name, data = "", []
        elif field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")
    return found


def json_lines(data: bytes) -> None:
    """Lines of JSON are the lines of the text, cut or not; the last one counts if it is whole."""
    whole, pieces = cut(data)
    at_once = _read_lines([whole])
    assert at_once == _read_lines(pieces)
    if at_once is not None:
        expected = [line.strip(b" \t\r") for line in whole.split(b"\n")]
        assert at_once in ([line for line in lines if line] for lines in (expected, expected[:-1]))


def _read_lines(pieces: list[bytes]) -> list[bytes] | None:
    reader = LineReader(_LIMIT)
    try:
        found = [line for piece in pieces for line in reader.feed(piece)]
    except BridgeError:
        return None
    with suppress(BridgeError):
        found += reader.finish()
    return found


def grpc_timeout(data: bytes) -> None:
    """A timeout is digits and a unit, and so many seconds, or refused."""
    text = data.decode("latin-1")
    units = {"H": "3600", "M": "60", "S": "1", "m": "0.001", "u": "0.000001", "n": "0.000000001"}
    try:
        seconds = parse_timeout(text)
    except BridgeError:
        assert not re.fullmatch(r"[0-9]{1,8}[HMSmun]", text)
    else:
        assert abs(seconds - float(Decimal(text[:-1]) * Decimal(units[text[-1]]))) <= 1e-9 * seconds


# Tensors in JSON


_BODY = msgspec.json.Decoder(Body)


def json_tensors_(data: bytes) -> None:
    """A body with arrays cut out means what it means uncut, and what Python's parser reads; or both are refused."""
    nan: NanPolicy = "literal" if data[:1] > b"\x7f" else "reject"
    text = data[1:]
    plain = _tensors(text, nan)
    with mock.patch.multiple(json_tensors, LARGE=0, LEAST=0):
        apart = _tensors(text, nan)
    if isinstance(plain, str):
        assert isinstance(apart, str)
        return
    # an array called data that is no tensor's is only refused where it was cut out
    assert apart == plain or (isinstance(apart, str) and "stands where no tensor has its data" in apart)
    if nan == "reject":
        with suppress(UnicodeDecodeError):  # what stands in fields that nobody reads may be anything
            _check_tensors(json.loads(text), plain)


def _tensors(text: bytes, nan: NanPolicy) -> list[bytes] | str:
    """What is in the tensors, or why the body is refused."""
    try:
        source = TensorSource(text, None, nan)
        items = read_json(_BODY, source.json).inputs
        found = [source.take(item.data, item.datatype, item.shape, item.parameters, item.name) for item in items]
        source.finish()
    except BridgeError as error:
        return error.message
    return [bytes(raw) for raw in found]


def _check_tensors(body: Any, found: list[bytes]) -> None:
    """By the widths and the integers; how floats are rounded is tested elsewhere, digit by digit."""
    for tensor, raw in zip(body["inputs"], found, strict=True):
        kind = re.fullmatch(r"(U?)INT(8|16|32|64)", tensor["datatype"])
        if kind:
            width = int(kind[2]) // 8
            values = [raw[at : at + width] for at in range(0, len(raw), width)]
            flat = list(_flat(tensor.get("data") or []))
            assert [int.from_bytes(value, "little", signed=not kind[1]) for value in values] == flat


def _flat(data: Any) -> Any:
    for item in data:
        if isinstance(item, list):
            yield from _flat(item)
        else:
            yield item


# Protobuf


class _Message(NamedTuple):
    name: str
    decode: Any
    google: Any


@cache
def _wire_messages() -> list[_Message]:
    """Messages with a codec: one for each rule, and those of the shipped APIs."""
    codecs: Codecs = kinds()
    found = [_Message(name, getattr(codecs.module, f"decode_{name}"), codecs.google(name)) for name in ("Tree", "Maps")]
    for module in (open_inference, tgis):
        path = Path(str(module.__file__)).with_name("protos.binpb")
        pool = DescriptorPool()
        files = FileDescriptorSet.FromString(path.read_bytes()).file
        for file in files:
            pool.AddSerializedFile(file.SerializeToString())
        for file in files:
            for message in file.message_type:
                decode = getattr(module, f"decode_{message.name}", None)
                if decode is not None:
                    descriptor = pool.FindMessageTypeByName(f"{file.package}.{message.name}")
                    found.append(_Message(message.name, decode, GetMessageClass(descriptor)))
    return found


def protobuf(data: bytes) -> None:
    """Bytes are a message to our readers exactly when they are one to google.protobuf, and it says the same."""
    messages = _wire_messages()
    message, data = messages[(data[0] if data else 0) % len(messages)], data[1:]
    try:
        expected = message.google.FromString(data)
    except DecodeError:
        expected = None
    unknown: list[tuple[str, int]] = []
    try:
        found = message.decode(data, unknown)
    except WireError as error:
        assert expected is None or "field number 0" in error.reason  # which google lets pass in groups
        return
    assert expected is not None
    if not any(name.endswith("Entry") for name, _ in unknown):  # google moves such an entry as a whole
        assert meaning_of_struct(found, expected.DESCRIPTOR) == meaning_of_google(expected)


@cache
def _every() -> tuple[DescriptorPool, Any]:
    problems = Problems()
    folder = Path(__file__).parent.parent / "bridge"
    names = ["transcode/every.proto", "transcode/older.proto"]
    compiled = compile_protos(folder, names, problems, Mark("", 1, 1))
    assert compiled is not None, problems.sorted()
    pool = open_pool(compiled.SerializeToString())
    return pool, pool.FindMessageTypeByName("transcode.Every")


def transcode(data: bytes) -> None:
    """JSON that we take is taken by google's json_format and is the same message, as is what comes of either's JSON."""
    pool, descriptor = _every()
    try:
        wire = to_message(data, descriptor)
    except BridgeError:
        return
    message = GetMessageClass(descriptor)()
    try:
        json_format.Parse(data, message, descriptor_pool=pool, max_recursion_depth=200)
    except json_format.ParseError as error:
        if isinstance(error.__cause__, AttributeError):
            return  # google's fault: it knows no null for a list of google.protobuf.Value, which is an empty one
        raise
    assert message.SerializeToString(deterministic=True) == wire
    text = to_json(wire, descriptor, original_names=False, plain_integers=True)
    theirs = json_format.MessageToJson(message, descriptor_pool=pool)  # in which every NullValue is the same null
    assert to_message(text, descriptor) == to_message(theirs.encode(), descriptor)


def transcode_back(data: bytes) -> None:
    """A message becomes the JSON that json_format makes of it, or is refused."""
    pool, descriptor = _every()
    try:
        text = to_json(data, descriptor, original_names=False, plain_integers=False)
    except BridgeError:
        return
    message = GetMessageClass(descriptor).FromString(data)
    assert json.loads(text) == json.loads(json_format.MessageToJson(message, descriptor_pool=pool))
