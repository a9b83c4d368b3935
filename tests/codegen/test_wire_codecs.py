"""Rendered codecs held against google.protobuf.

google.protobuf accepts, on purpose or not, two things that the codecs treat differently:

* Field number 0 passes inside a skipped group and in messages without fields. The encoding forbids it everywhere, and
  the codecs refuse it everywhere.
* A map entry that holds an unknown field is moved to the unknown fields as a whole. The codecs keep the entry, as other
  protobuf implementations do, and report its unknown field: nothing is lost unseen.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.internal import api_implementation
from google.protobuf.message import DecodeError, Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codegen.wire_support import (
    DESCRIPTORS,
    KINDS,
    Codecs,
    compile_text,
    inference,
    kinds,
    meaning_of_google,
    meaning_of_struct,
    messages,
)
from inferbridge.bridge import wire
from inferbridge.bridge.values import Buffer, join
from inferbridge.bridge.wire import WireError
from inferbridge_codegen.protos.index import ProtoIndex
from inferbridge_codegen.render.wire import render_wire

KIND_NAMES = ("Scalars", "Optionals", "Runs", "Unpacked", "Maps", "Choice", "Tree", "Names", "Empty")
INFERENCE_NAMES = ("ModelInferRequest", "ModelInferResponse", "ModelMetadataResponse", "RepositoryIndexResponse")
VARIANTS = ("triton", "mlserver", "kserve", "oip")
EVERY = [("kinds", name) for name in KIND_NAMES] + [("triton", name) for name in (*INFERENCE_NAMES, "ModelConfig")]

modest = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def codecs_of(variant: str) -> Codecs:
    """The codecs of the synthetic messages or of a runtime's."""
    return kinds() if variant == "kinds" else inference(variant)


def test_the_reference_is_upb() -> None:
    """What the codecs are compared with is the implementation in use everywhere, not a slow stand-in."""
    assert api_implementation.Type() == "upb"


# Valid messages


@pytest.mark.parametrize(("variant", "name"), EVERY)
def test_what_google_writes_is_read_alike(variant: str, name: str) -> None:
    """A valid message means the same to the codec, and what the codec writes of it means the same to google."""
    codecs = codecs_of(variant)

    @modest
    @given(messages(codecs, name))
    def check(message: Message) -> None:
        value, unknown = codecs.decode(name, message.SerializeToString())
        assert unknown == []
        assert meaning_of_struct(value, message.DESCRIPTOR) == meaning_of_google(message)
        again = codecs.google(name).FromString(bytes(codecs.encode(value)))
        assert meaning_of_google(again) == meaning_of_google(message)

    check()


@pytest.mark.parametrize(("variant", "name"), EVERY)
def test_structs_are_written_for_google_to_read(variant: str, name: str) -> None:
    """A struct made by hand is read by google as what it says."""
    codecs = codecs_of(variant)

    @modest
    @given(messages(codecs, name))
    def check(message: Message) -> None:
        written = bytes(codecs.encode(codecs.struct_of(message)))
        assert meaning_of_google(codecs.google(name).FromString(written)) == meaning_of_google(message)

    check()


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_message_of_every_runtime_has_a_codec(variant: str) -> None:
    """An empty message of each type is read from and written as nothing."""
    codecs = inference(variant)
    for name in codecs.descriptors:
        value, unknown = codecs.decode(name, b"")
        assert (value, unknown) == (getattr(codecs.module, name)(), [])
        assert codecs.encode(value) == b""


def test_fields_are_written_in_the_order_of_their_numbers() -> None:
    """The bytes of a message without maps are those google writes."""
    message = kinds().google("Names")(size=0.5, at=-1, m=b"x", tag=[1, 300], piece="p", head=b"h", Mixed_Case="m")
    assert kinds().encode(kinds().struct_of(message)) == message.SerializeToString(deterministic=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("double_field", 0.0),
        ("int32_field", 0),
        ("bool_field", False),
        ("string_field", ""),
        ("bytes_field", b""),
        ("enum_field", 0),
        ("fixed64_field", 0),
    ],
)
def test_presence_is_kept(name: str, value: object) -> None:
    """A default is left out where it cannot be told from absence, and written where it can."""
    module = kinds().module
    assert kinds().encode(module.Scalars(**{name: value})) == b""
    written = kinds().encode(module.Optionals(**{name: value}))
    assert kinds().google("Optionals").FromString(bytes(written)).HasField(name)
    assert getattr(kinds().decode("Optionals", written)[0], name) == value


def test_maps_keep_the_order_they_were_filled_in() -> None:
    """The same map is always written the same way."""
    value = kinds().module.Maps(by_string={"b": kinds().module.Optionals(), "a": kinds().module.Optionals()})
    written = bytes(kinds().encode(value))
    assert written.index(b"b") < written.index(b"a")
    assert list(kinds().decode("Maps", written)[0].by_string) == ["b", "a"]


# Valid, but rarely written


RARE = [
    pytest.param("Scalars", "1801 1802", id="the last of two scalars counts"),
    pytest.param("Scalars", "1801 1800", id="also when it is the default"),
    pytest.param("Scalars", "18ffffffffffffffffff01", id="int32 from ten bytes"),
    pytest.param("Scalars", "188080808010", id="int32 without its excess bits"),
    pytest.param("Scalars", "28ffffffffffffffff7f", id="uint32 without its excess bits"),
    pytest.param("Scalars", "68808001", id="bool of a large varint"),
    pytest.param("Scalars", "80018080808008", id="enum of a large varint"),
    pytest.param("Scalars", "8001ffffffffffffffffff01", id="enum that nobody declared"),
    pytest.param("Scalars", "988000 01", id="tag longer than needed"),
    pytest.param("Optionals", "8a01021801 8a01022002", id="two parts of a message merge"),
    pytest.param("Optionals", "8a01021801 8a01021800", id="a default overrides in a merge"),
    pytest.param("Choice", "1001 1805", id="the last member of a oneof counts"),
    pytest.param("Choice", "1805 1001 1806", id="a member comes back empty"),
    pytest.param("Choice", "4202 1801 4202 2002", id="a message of a oneof merges"),
    pytest.param("Choice", "4202 1801 1001 4202 2002", id="but not across another member"),
    pytest.param("Choice", "4a03 0a0178 4a05 4203 1801", id="nor is its content lost"),
    pytest.param("Runs", "0900000000000000f03f 0a080000000000000040", id="fixed run, both forms"),
    pytest.param("Runs", "1500000000 1500000040", id="unpacked floats"),
    pytest.param("Runs", "1a020102 1803 1a00 1a0104", id="varint run in pieces and single"),
    pytest.param("Runs", "38ff01 3a02ff01", id="sint run, both forms"),
    pytest.param("Runs", "6a03000102 6805 6800 6a00", id="bool run, both forms"),
    pytest.param("Runs", "8201048080808008 800107", id="enum run, both forms"),
    pytest.param("Unpacked", "0a08000000000000f03f 1a020102 42020102 6a020100", id="packed though declared unpacked"),
    pytest.param("Maps", "0a00", id="map entry without key and value"),
    pytest.param("Maps", "0a020805 0a09110000000000000040", id="map entry without one of them"),
    pytest.param("Maps", "5a020801", id="map entry without a message value"),
    pytest.param("Maps", "5a0912000801 12021805", id="map entry with its value before its key"),
    pytest.param("Maps", "5a0a0801 12021801 12022002", id="map entry whose message comes in two parts"),
    pytest.param("Maps", "1a0408051001 1a0408051002", id="the last of two entries counts"),
    pytest.param("Maps", "1a06080508061001", id="the last of two keys counts"),
    pytest.param("Names", "faffffff0f00", id="the highest field number"),
]


@pytest.mark.parametrize(("name", "data"), RARE)
def test_rare_forms_are_read_as_google_reads_them(name: str, data: str) -> None:
    """What the encoding allows beside the usual form is understood, and nothing of it is taken for unknown."""
    compare(kinds(), name, bytes.fromhex(data))


@pytest.mark.parametrize(
    ("name", "data", "number"),
    [
        ("Scalars", "1a020801", 3),
        ("Scalars", "1d00000000", 3),
        ("Scalars", "0801", 1),
        ("Scalars", "72 00 70 01", 14),
        ("Scalars", "1b 0801 1c", 3),
        ("Runs", "7801", 15),
        ("Runs", "0d00000000", 1),
        ("Empty", "fa3f00", 1023),
        ("Tree", "13 14", 2),
    ],
)
def test_known_numbers_of_the_wrong_type_are_unknown(name: str, data: str, number: int) -> None:
    """Another wire type than the field's makes it an unknown field, as for google; it is reported."""
    compare(kinds(), name, bytes.fromhex(data))
    assert kinds().decode(name, bytes.fromhex(data))[1] == [(f"kinds.{name}", number)]


def test_unknown_fields_are_reported_from_every_depth() -> None:
    """A nested message's unknown field carries the nested message's name."""
    data = bytes.fromhex("1205 1203 f83f01")
    compare(kinds(), "Tree", data)
    value, unknown = kinds().decode("Tree", data)
    assert value.left.left == kinds().module.Tree()
    assert unknown == [("kinds.Tree", 1023)]


def test_an_unknown_field_of_a_map_entry_is_reported_and_the_entry_kept() -> None:
    """Where google hides the whole entry, the codec keeps it and says what it did not know."""
    value, unknown = kinds().decode("Maps", bytes.fromhex("1a06 0805 1007 1801"))
    assert value.by_uint32 == {5: 7}
    assert unknown == [("kinds.Maps.ByUint32Entry", 3)]


# Malformed messages


def google_reads(codecs: Codecs, name: str, data: bytes) -> Message | None:
    """google's reading, None when it refuses."""
    message = codecs.google(name)()
    try:
        message.ParseFromString(data)
    except DecodeError:
        return None
    return message


def codec_reads(codecs: Codecs, name: str, data: Buffer) -> tuple[Any, list[tuple[str, int]]] | WireError:
    """The codec's reading, or its refusal; any other exception fails the test."""
    try:
        return codecs.decode(name, data)
    except WireError as error:
        return error


def compare(codecs: Codecs, name: str, data: bytes) -> bool:
    """Hold the codec to google's verdict on `data`, whatever buffer it comes in; answers the verdict."""
    expected = google_reads(codecs, name, data)
    for buffer in (data, bytearray(data), memoryview(data)):
        found = codec_reads(codecs, name, buffer)
        if isinstance(found, WireError):
            assert expected is None or "field number 0" in found.reason
            assert found.offset is not None
        else:
            assert expected is not None
            value, unknown = found
            if not any(message.endswith("Entry") for message, _ in unknown):
                assert meaning_of_struct(value, expected.DESCRIPTOR) == meaning_of_google(expected)
    return expected is not None


MALFORMED = [
    pytest.param("Scalars", "18", "int32_field: truncated", id="no value"),
    pytest.param("Scalars", "1880", "int32_field: truncated", id="varint cut"),
    pytest.param("Scalars", "98", "truncated", id="tag cut"),
    pytest.param("Scalars", "0900000000000000", "double_field: truncated", id="double cut"),
    pytest.param("Scalars", "15000000", "float_field: truncated", id="float cut"),
    pytest.param("Scalars", "72", "string_field: truncated", id="no length"),
    pytest.param("Scalars", "720261", "string_field: truncated", id="string cut"),
    pytest.param("Scalars", "7a0261", "bytes_field: truncated", id="bytes cut"),
    pytest.param("Scalars", "72ffffffff07", "string_field: truncated", id="length far past the end"),
    pytest.param("Scalars", "72ffffffff0f", "string_field: a length is larger than 2 GiB", id="length beyond 2 GiB"),
    pytest.param("Scalars", "18" + "80" * 10 + "01", "int32_field: a varint is longer than 10 bytes", id="overlong"),
    pytest.param("Scalars", "808080808001", "a field number is out of range", id="tag too long"),
    pytest.param("Scalars", "0000", "field number 0", id="field number 0"),
    pytest.param("Scalars", "1e", "int32_field: wire type 6 does not exist", id="wire type 6"),
    pytest.param("Scalars", "1f", "int32_field: wire type 7 does not exist", id="wire type 7"),
    pytest.param("Scalars", "1c", "int32_field: the end of a group that did not begin", id="end of no group"),
    pytest.param("Scalars", "1b", "int32_field: a group does not end", id="group without end"),
    pytest.param("Scalars", "1b24", "int32_field: the end of a group that did not begin", id="end of another group"),
    pytest.param("Scalars", "7201ff", "string_field: the string is not valid UTF-8", id="bad UTF-8"),
    pytest.param("Scalars", "7203eda080", "string_field: the string is not valid UTF-8", id="surrogate in UTF-8"),
    pytest.param("Scalars", "7202c080", "string_field: the string is not valid UTF-8", id="overlong UTF-8"),
    pytest.param("Runs", "7a0161 7201ff", "string_list: the string is not valid UTF-8", id="bad UTF-8 in a list"),
    pytest.param("Runs", "0a07" + "00" * 7, "double_run: 7 bytes are not a whole", id="run with a remainder"),
    pytest.param("Runs", "0a08" + "00" * 7, "double_run: truncated", id="run cut"),
    pytest.param("Runs", "1a020180", "int32_run: truncated", id="packed varint cut"),
    pytest.param("Runs", "6a020180", "bool_run: truncated", id="packed bool cut"),
    pytest.param("Optionals", "8a01011801", "message_field.int32_field: truncated", id="value past its message"),
    pytest.param("Optionals", "8a01031801", "message_field.int32_field: truncated", id="message past the end"),
    pytest.param("Tree", "1204120212 01", "left.left.left: truncated", id="length past the outer message"),
    pytest.param(
        "Tree", "22051203 0a01ff", "named.value.label: the string is not valid UTF-8", id="inside a map value"
    ),
    pytest.param("Maps", "62030a01ff", "by_string.key: the string is not valid UTF-8", id="bad UTF-8 in a map key"),
    pytest.param("Maps", "3a0415000000", "by_fixed32.value: truncated", id="map entry cut"),
]


@pytest.mark.parametrize(("name", "data", "text"), MALFORMED)
def test_malformed_messages_are_refused(name: str, data: str, text: str) -> None:
    """What google refuses is refused, with the field and the offset in the error."""
    octets = bytes.fromhex(data)
    assert not compare(kinds(), name, octets)
    with pytest.raises(WireError, match=f"{re.escape(text)}.* at byte [0-9]+$"):
        kinds().decode(name, octets)


def deep(tag: int, levels: int, inside: bytes = b"") -> bytes:
    """Messages in field `tag` of each other."""
    for _ in range(levels):
        inside = wire.head(tag, len(inside)) + inside
    return inside


@pytest.mark.parametrize(
    ("data", "fits"),
    [
        pytest.param(deep(18, 100), True, id="messages"),
        pytest.param(deep(18, 101), False, id="messages, one too many"),
        pytest.param(deep(18, 5000), False, id="messages without end"),
        pytest.param(deep(18, 99, b"\x2a\x00"), True, id="another type innermost"),
        pytest.param(deep(18, 100, b"\x2a\x00"), False, id="another type innermost, one too many"),
        pytest.param(deep(18, 99, b"\x2a\x03\x8a\x01\x00"), False, id="a third type innermost, one too many"),
        pytest.param(deep(18, 99, b"\x22\x00"), True, id="a map entry innermost"),
        pytest.param(deep(18, 100, b"\x22\x00"), False, id="a map entry innermost, one too many"),
        pytest.param(deep(18, 60, b"\x2b" * 40 + b"\x2c" * 40), True, id="groups innermost"),
        pytest.param(deep(18, 60, b"\x2b" * 41 + b"\x2c" * 41), False, id="groups innermost, one too many"),
        pytest.param(b"\x2b" * 9999 + b"\x2c" * 9999, False, id="groups without end"),
    ],
)
def test_depth_is_limited_as_google_limits_it(data: bytes, fits: bool) -> None:
    """Messages, map entries and groups together nest 100 levels below the outermost, and no further."""
    assert compare(kinds(), "Tree", data) is fits


def mutations(data: bytes) -> st.SearchStrategy[bytes]:
    """`data` with a few cuts, flips, insertions and repeats."""
    place = st.integers(0, len(data))
    piece = st.one_of(
        st.binary(min_size=1, max_size=4),
        st.sampled_from([b"\x80" * 10, b"\xff" * 9 + b"\x01", b"\x0b\x13\x14\x0c", b"\x0b", b"\x0c", b"\x00", b"\x0f"]),
    )
    return st.one_of(
        place.map(lambda at: data[:at]),
        st.tuples(place, piece).map(lambda drawn: data[: drawn[0]] + drawn[1] + data[drawn[0] :]),
        st.tuples(place, piece).map(lambda drawn: data[: drawn[0]] + drawn[1] + data[drawn[0] + len(drawn[1]) :]),
        st.tuples(place, st.integers(1, 9)).map(lambda drawn: data[: drawn[0]] + data[sum(drawn) :]),
        st.tuples(place, place).map(lambda drawn: data + data[min(drawn) : max(drawn)]),
    )


@pytest.mark.parametrize(("variant", "name"), EVERY)
def test_mutated_messages_get_googles_verdict(variant: str, name: str) -> None:
    """A damaged message is refused exactly when google refuses it, and else means the same."""
    codecs = codecs_of(variant)

    @settings(modest, max_examples=150)
    @given(messages(codecs, name).flatmap(lambda message: mutations(message.SerializeToString()).flatmap(mutations)))
    def check(data: bytes) -> None:
        compare(codecs, name, data)

    check()


@pytest.mark.parametrize("name", KIND_NAMES)
def test_random_bytes_get_googles_verdict(name: str) -> None:
    """Bytes that were never a message are refused exactly when google refuses them."""

    @settings(modest, max_examples=150)
    @given(st.binary(max_size=24))
    def check(data: bytes) -> None:
        compare(kinds(), name, data)

    check()


# Buffers


def tensor_request(raw: bytes) -> Any:
    """A request of one FP32 tensor."""
    module = inference("triton").module
    tensor = module.ModelInferRequest_InferInputTensor(name="x", datatype="FP32", shape=[len(raw) // 4])
    return module.ModelInferRequest(model_name="m", inputs=[tensor], raw_input_contents=[raw])


def test_large_tensors_are_never_copied() -> None:
    """A tensor is decoded as a view of what arrived and encoded as the very object that was given."""
    raw = bytes(100_000)
    request = tensor_request(raw)
    module = inference("triton").module
    chunks = module.encode_ModelInferRequest(request)
    assert [len(chunk) for chunk in chunks] == [len(chunks[0]), len(raw)]
    assert chunks[1] is raw
    data = bytes(join(chunks))
    decoded = module.decode_ModelInferRequest(data, [])
    assert decoded.raw_input_contents[0].obj is data
    assert decoded == request


def test_packed_floats_are_never_copied() -> None:
    """The elements of `contents` stay the bytes they are on the wire."""
    module = inference("triton").module
    data = bytes(module.encode_InferTensorContents(module.InferTensorContents(fp32_contents=bytes(1000)))[0])
    assert module.decode_InferTensorContents(data, []).fp32_contents == bytes(1000)
    large = bytes(join(module.encode_InferTensorContents(module.InferTensorContents(fp64_contents=bytes(80_000)))))
    assert module.decode_InferTensorContents(large, []).fp64_contents.obj is large


def test_a_run_sent_element_by_element_takes_linear_time() -> None:
    """400 000 unpacked elements are read at once, not copied 400 000 times."""
    value, _ = kinds().decode("Runs", b"\x15\0\0\x80\x3f" * 400_000)
    assert value.float_run == b"\0\0\x80\x3f" * 400_000


# What cannot be written


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda m: m.Scalars(int32_field=1 << 31), "Scalars.int32_field: 2147483648 is not from -2147483648 to"),
        (lambda m: m.Scalars(uint64_field=-1), "Scalars.uint64_field: -1 is not from 0 to"),
        (lambda m: m.Scalars(sint64_field=1 << 63), "Scalars.sint64_field: 9223372036854775808 is not from"),
        (lambda m: m.Scalars(enum_field=1 << 40), "Scalars.enum_field: 1099511627776 is not from"),
        (lambda m: m.Scalars(fixed32_field=-1), "Scalars.fixed32_field: -1 does not fit"),
        (lambda m: m.Scalars(float_field=1e300), "Scalars.float_field: 1e+300 does not fit"),
        (lambda m: m.Scalars(string_field="\ud800"), "Scalars.string_field: a lone surrogate"),
        (lambda m: m.Runs(string_list=["a", "\udfff"]), "Runs.string_list: a lone surrogate"),
        (lambda m: m.Runs(uint32_run=[1, 1 << 32]), "Runs.uint32_run: 4294967296 is not from"),
        (lambda m: m.Runs(float_run=bytes(7)), "Runs.float_run: 7 bytes are not a whole number of 4-byte elements"),
        (lambda m: m.Runs(bool_run=b"\2"), "Runs.bool_run: a bool is neither 0 nor 1"),
        (lambda m: m.Maps(by_string={"\ud800": m.Optionals()}), "Maps.by_string: a lone surrogate"),
        (lambda m: m.Maps(by_fixed32={1: "\ud800"}), "Maps.by_fixed32: a lone surrogate"),
        (lambda m: m.Tree(left=m.Tree(label="\ud800")), "Tree.label: a lone surrogate"),
    ],
)
def test_values_that_do_not_fit_are_refused(make: Any, text: str) -> None:
    """The error names the message and the field."""
    with pytest.raises(WireError, match=f"^{re.escape(text)}"):
        kinds().encode(make(kinds().module))


# The generator


def test_rendering_is_deterministic() -> None:
    """The same descriptors give the same text, whatever the hash seed."""
    script = "from codegen.wire_support import kinds; import sys; sys.stdout.write(kinds().source)"
    paths = [path for path in sys.path if path]
    for seed in ("1", "2"):
        environment = {"PYTHONPATH": ":".join(paths), "PYTHONHASHSEED": seed}
        run = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
        )
        assert run.stdout == kinds().source


@pytest.mark.parametrize("variant", ["kinds", *VARIANTS])
def test_rendered_code_needs_no_formatter(variant: str, tmp_path: Path) -> None:
    """The text is already in the form that the formatter and the linter want."""
    path = tmp_path / "wire.py"
    path.write_text(codecs_of(variant).source, "utf-8")
    config = ["--config", str(Path(__file__).parents[2] / "pyproject.toml"), "--no-cache"]
    for command in (["format", "--check"], ["check"]):
        run = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *config, str(path)], capture_output=True, text=True
        )
        assert run.returncode == 0, run.stdout


def test_the_header_names_the_sources() -> None:
    """The first line says what the file was made from."""
    assert kinds().source.startswith("# Generated by `inferbridge generate` from test.proto. Do not edit.\n")


def test_messages_of_the_same_generated_name_are_refused() -> None:
    """Two packages may both declare a message; one module cannot."""
    descriptors = FileDescriptorSet.FromString((DESCRIPTORS / "v2_mlserver.binpb").read_bytes())
    with pytest.raises(ValueError, match="has the same generated name RepositoryIndexRequest as"):
        render_wire(ProtoIndex(descriptors).messages(), ["test.proto"])


def test_a_contained_message_must_be_rendered_too() -> None:
    """A module that would fail at its first use is not made."""
    index = ProtoIndex(compile_text(KINDS))
    with pytest.raises(ValueError, match=r"message kinds\.Scalars is not among the messages"):
        render_wire([message for message in index.messages() if message.name == "Choice"], ["test.proto"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('syntax = "proto2"; message M { required int32 a = 1; }', "M.a: groups and required fields"),
        ('syntax = "proto2"; message M { optional group G = 1 {} }', "M.g: groups and required fields"),
        ('syntax = "proto2"; enum E { A = 0; } message M { optional E a = 1; }', "M.a: closed enums"),
        ('syntax = "proto3"; message M { string list = 1; }', "M.list: a field cannot be named list"),
        ('syntax = "proto3"; message Buffer {}', "message Buffer has the same generated name"),
    ],
)
def test_what_the_codecs_cannot_do_is_refused(text: str, reason: str) -> None:
    """Rather than wrong code there is an error that names the field."""
    with pytest.raises(ValueError, match=re.escape(reason)):
        render_wire(ProtoIndex(compile_text(text)).messages(), ["test.proto"])
