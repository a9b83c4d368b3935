"""JSON to protobuf and back by descriptor, held against google.protobuf's own `json_format`."""

import json
import math
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.transcode import open_pool, to_json, to_message
from inferbridge_codegen.problems import Mark, Problems
from inferbridge_codegen.protos.compile import compile_protos


def compiled() -> DescriptorPool:
    """The protos of these tests."""
    problems = Problems()
    names = ["transcode/every.proto", "transcode/older.proto"]
    descriptors = compile_protos(Path(__file__).parent, names, problems, Mark("", 1, 1))
    assert descriptors is not None, problems.sorted()
    return open_pool(descriptors.SerializeToString())


POOL = compiled()
EVERY: Descriptor = POOL.FindMessageTypeByName("transcode.Every")
OLDER: Descriptor = POOL.FindMessageTypeByName("transcode.Older")
Every = GetMessageClass(EVERY)


def read(text: str, descriptor: Descriptor = EVERY) -> Any:
    """The message of a JSON text."""
    return GetMessageClass(descriptor).FromString(to_message(text.encode(), descriptor))


def written(message: Any, *, original_names: bool = False, plain_integers: bool = False) -> Any:
    """The JSON of a message, parsed."""
    wire = message.SerializeToString()
    text = to_json(wire, message.DESCRIPTOR, original_names=original_names, plain_integers=plain_integers)
    return json.loads(text)


def refused(text: str, descriptor: Descriptor = EVERY) -> str:
    """The error of a JSON text that cannot be read."""
    with pytest.raises(BridgeError) as caught:
        to_message(text.encode(), descriptor)
    assert caught.value.code is Code.INVALID_ARGUMENT
    return caught.value.message


# both ways, against json_format

SINGLES = st.floats(width=32, allow_nan=False) | st.just(math.nan)  # JSON has one NaN
SCALARS = {
    "flag": st.booleans(),
    "raw_data": st.binary(max_size=20),
    "double_value": st.floats(allow_nan=False) | st.just(math.nan),
    "float_value": SINGLES,
    "int32_value": st.integers(-(1 << 31), (1 << 31) - 1),
    "int64_value": st.integers(-(1 << 63), (1 << 63) - 1),
    "uint32_value": st.integers(0, (1 << 32) - 1),
    "uint64_value": st.integers(0, (1 << 64) - 1),
    "text": st.text(st.characters(codec="utf-8"), max_size=20),
    "colour": st.integers(0, 5),
    "maybe": st.integers(-5, 5),
    "odd_name": st.text(st.characters(codec="utf-8"), max_size=5),
    "numbers": st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=3),
    "floats": st.lists(SINGLES, max_size=3),
    "colours": st.lists(st.integers(0, 5), max_size=3),
    "by_number": st.dictionaries(st.integers(-(1 << 63), (1 << 63) - 1), st.text("ab"), max_size=2),
    "by_flag": st.dictionaries(st.booleans(), SINGLES, max_size=2),
    "word": st.text("ab", max_size=3),
}
FLAT = st.fixed_dictionaries({}, optional=SCALARS)
FIELDS = st.recursive(
    FLAT,
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            **SCALARS,
            "child": inner,
            "children": st.lists(inner, max_size=2),
            "by_name": st.dictionaries(st.text("ab."), inner, max_size=2),
        },
    ),
    max_leaves=6,
)


@given(FIELDS)
def test_both_ways_agree_with_json_format(fields: dict[str, Any]) -> None:
    """What is written is what json_format writes, and either's text is read back to the same message."""
    message = Every(**fields)
    theirs = json_format.MessageToJson(message, descriptor_pool=POOL)
    assert written(message) == json.loads(theirs)
    assert to_message(theirs.encode(), EVERY) == message.SerializeToString(deterministic=True)


@given(FIELDS)
def test_plain_integers_and_original_names_are_read_back_exactly(fields: dict[str, Any]) -> None:
    """64-bit integers as numbers, under the names of the proto, lose nothing."""
    message = Every(**fields)
    wire = message.SerializeToString(deterministic=True)
    text = to_json(wire, EVERY, original_names=True, plain_integers=True)
    assert to_message(text, EVERY) == wire


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 53), 1 << 53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=10,
)


@given(JSON)
def test_any_json_passes_through_a_value(value: Any) -> None:
    """A google.protobuf.Value gives back the JSON that was put in."""
    assert written(read(json.dumps({"value": value}))).get("value") == value


@settings(max_examples=300)
@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**38), max_value=10**38))
def test_floats_are_rounded_once(number: Any) -> None:
    """A float is the nearest one to the decimal text, not to the double nearest to the text."""
    got = read(f'{{"floatValue": {number:e}}}').float_value
    for towards in (-math.inf, math.inf):
        assert abs(Fraction(got) - Fraction(number)) <= abs(Fraction(_next_float(got, towards)) - Fraction(number))


@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize(
    "number", ["-0.0E4444444444444444444444440", "1e-4444444444444444444444444", "-0.1E-9999999999999999999"]
)
def test_exponents_beyond_all_numbers_are_read(number: str, quote: str) -> None:
    """What is 0, or closer to it than any float, is 0 with its sign."""
    text = f"{quote}{number}{quote}"
    got = read(f'{{"floatValue": {text}}}').float_value
    assert (got, math.copysign(1, got)) == (0, -1 if number[0] == "-" else 1)


def _next_float(value: float, towards: float) -> float:
    bits = struct.unpack("<i", struct.pack("<f", value))[0]
    if value == 0:
        return math.copysign(2.0**-149, towards)
    away = (value > 0) == (towards > 0)
    return float(struct.unpack("<f", struct.pack("<i", bits + (1 if away else -1)))[0])


@pytest.mark.parametrize("text", ['"-0"', '"-0.0"', "-0.0", '"-0e5"'])
def test_a_zero_keeps_its_sign(text: str) -> None:
    """Minus zero is minus zero, also in a string, and an integer's zero has no sign."""
    assert math.copysign(1.0, read(f'{{"doubleValue": {text}}}').double_value) == -1.0
    assert math.copysign(1.0, read(f'{{"floats": [{text}]}}').floats[0]) == -1.0
    assert read(f'{{"numbers": [{text}]}}').numbers == [0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.00000005960464477539", 1.0),
        ("1.000000059604644775390625", 1.0),
        ("1.00000005960464477540", 1.0000001192092896),
        ('"1.00000005960464477540"', 1.0000001192092896),
        ("9007199791611905", 9007200328482816.0),
    ],
)
def test_halfway_floats_follow_their_text(text: str, expected: float) -> None:
    """Where the double is halfway between two floats, the digits beyond it decide, in strings and integers too."""
    assert read(f'{{"floatValue": {text}}}').float_value == expected


# what is read


def test_both_names_of_a_field_are_read() -> None:
    """lowerCamelCase, the proto's own name, and a `json_name` of the proto are all understood."""
    message = read('{"int64Value": 1, "int32_value": 2, "strange": "a"}')
    assert (message.int64_value, message.int32_value, message.odd_name) == (1, 2, "a")
    assert read('{"odd_name": "b"}').odd_name == "b"


def test_null_leaves_fields_unset_except_where_it_is_a_value() -> None:
    """null is the absence of a field, but a value of Value and NullValue."""
    message = read('{"text": null, "numbers": null, "child": null, "byName": null, "word": null, "number": 3}')
    assert message == Every(number=3)
    assert read('{"value": null}').value.WhichOneof("kind") == "null_value"
    assert read('{"nothing": null}').WhichOneof("choice") == "nothing"
    assert written(read('{"values": [null, 1]}')) == {"values": [None, 1]}
    assert not read('{"values": null}').values, "a list of values is a list first"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"9007199254740993"', 9007199254740993),
        ("9007199254740993.0", 9007199254740993),
        ("9.007199254740993e15", 9007199254740993),
        ("-9223372036854775808", -(1 << 63)),
        ('"1e3"', 1000),
        ("3.0", 3),
    ],
)
def test_integers_are_exact_in_every_spelling(text: str, expected: int) -> None:
    """A 64-bit integer keeps all digits as a number, in a string, with a fraction of zero and with an exponent."""
    assert read(f'{{"int64Value": {text}}}').int64_value == expected


@pytest.mark.parametrize("text", ["aGk_-w==", "aGk_-w", "aGk/+w==", "aGk/+w"])
def test_base64_of_both_alphabets_is_read(text: str) -> None:
    """Bytes come in the standard and the URL-safe alphabet, padded or not."""
    assert read(json.dumps({"rawData": text})).raw_data == b"hi\x3f\xfb"


@pytest.mark.parametrize(
    ("text", "special"), [('"NaN"', math.nan), ('"Infinity"', math.inf), ('"-Infinity"', -math.inf)]
)
def test_nan_and_infinity_are_strings(text: str, special: float) -> None:
    """NaN and Infinity are read from strings, and written as such."""
    message = read(f'{{"doubleValue": {text}, "floatValue": {text}}}')
    assert repr((message.double_value, message.float_value)) == repr((special, special))
    assert written(message) == {"doubleValue": json.loads(text), "floatValue": json.loads(text)}


@pytest.mark.parametrize(
    "text",
    [
        '{"any":{"@type":"type.googleapis.com/transcode.Every","text":"in","numbers":["1"]}}',
        '{"any":{"@type":"type.googleapis.com/google.protobuf.Duration","value":"1.500s"}}',
        '{"any":{"@type":"type.googleapis.com/google.protobuf.Any","value":{"@type":"x/transcode.Every"}}}',
        '{"any":{}}',
        '{"time":"2024-02-29T23:59:59.500Z"}',
        '{"span":"-1.000000001s"}',
        '{"mask":"a,bC.d"}',
        '{"boxed":"0"}',
        '{"boxedFloat":0.1}',
        '{"empty":{}}',
        '{"maybe":0}',
        '{"struct":{"a":[1,{"b":null}]}}',
        '{"parameters":{"k":-0.0,"l":true}}',
    ],
)
def test_wellknown_messages_have_their_own_form(text: str) -> None:
    """The messages of google.protobuf are read and written in the form ProtoJSON has for each."""
    ours = to_message(text.encode(), EVERY)
    theirs = json_format.Parse(text, Every(), descriptor_pool=POOL)
    assert ours == theirs.SerializeToString(deterministic=True)
    assert to_json(ours, EVERY, original_names=False, plain_integers=False).decode() == text


def test_proto2_has_its_rules() -> None:
    """Extensions, groups and closed enums are read and written; a missing required field is an error."""
    text = '{"name":"a","closed":"TWO","part":{"size":1},"[transcode.extra]":"5","[transcode.extras]":["x"]}'
    wire = to_message(text.encode(), OLDER)
    assert to_json(wire, OLDER, original_names=False, plain_integers=False).decode() == text
    assert "name" in refused("{}", OLDER)
    assert refused('{"name": "a", "closed": 3}', OLDER) == "closed: transcode.Closed has no value 3"
    assert refused('{"name": "a", "[transcode.none]": 3}', OLDER).startswith("[transcode.none]: transcode.Older has no")


def test_top_level_may_be_a_wellknown_message() -> None:
    """A Value or a Struct by itself is any JSON and any object."""
    value = POOL.FindMessageTypeByName("google.protobuf.Value")
    assert written(read("[1, 2.5]", value)) == [1, 2.5]


# numbers in a Value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.0", "1"),
        ("100000000000000000", "100000000000000000"),
        ("-0.0", "-0.0"),
        ("1e300", "1e+300"),
        ("18446744073709551616", "1.8446744073709552e+19"),
        ("2.5", "2.5"),
    ],
)
def test_whole_doubles_of_a_value_are_written_as_integers(text: str, expected: str) -> None:
    """A number of a Value is an integer in JSON when it is one that 64 bits hold."""
    wire = to_message(f'{{"value":{text}}}'.encode(), EVERY)
    plain = to_json(wire, EVERY, original_names=False, plain_integers=False).decode()
    assert plain.replace("e3", "e+3").replace("e1", "e+1") == f'{{"value":{expected}}}'


@pytest.mark.parametrize("text", ["9007199254740993", "-9007199254740993", "1" + "0" * 400])
def test_integers_that_a_double_cannot_hold_are_refused(text: str) -> None:
    """An integer in a Value is never rounded without a word: the error has it and its place."""
    message = refused(f'{{"parameters": {{"seed": [1, {text}]}}}}')
    assert message.startswith(f'parameters["seed"][1]: the integer {text[:40]}')


def test_a_value_cannot_be_nan_in_json() -> None:
    """NaN inside a Value has no JSON, and is an error with its place."""
    message = Every()
    message.parameters["a"].number_value = math.nan
    with pytest.raises(BridgeError, match=r"parameters: a google\.protobuf\.Value cannot be nan"):
        written(message)


# what is refused


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('{"children": [{}, {"bogus": 1}]}', "children[1].bogus: transcode.Every has no such field"),
        ('{"byName": {"a": {"byNumber": {"01": ""}}}}', 'byName["a"].byNumber["01"]: the key "01" is not an integer'),
        ('{"int64Value": 1, "int64_value": 1}', "int64_value: excludes int64Value, and both are given"),
        ('{"word": "a", "number": 1}', "number: excludes word, and both are given"),
        ('{"numbers": [1, 1.5]}', "numbers[1]: must be an integer, not 1.5"),
        ('{"numbers": [null]}', "numbers[0]: must be an integer, not null"),
        ('{"numbers": 1}', "numbers: must be an array, not 1"),
        ('{"numbers": [true]}', "numbers[0]: must be an integer, not true"),
        ('{"int64Value": 1.00000000000000000001}', "int64Value: must be an integer, not 1.00000000000000000001"),
        ('{"int32Value": 2147483648}', "int32Value: 2147483648 is out of range, -2147483648 to 2147483647"),
        ('{"uint64Value": -1}', "uint64Value: -1 is out of range, 0 to 18446744073709551615"),
        ('{"int64Value": "1_0"}', 'int64Value: must be a number, not "1_0"'),
        ('{"int64Value": "\u0661"}', 'int64Value: must be a number, not "\\u0661"'),
        ('{"doubleValue": ""}', 'doubleValue: must be a number, not ""'),
        ('{"doubleValue": []}', "doubleValue: must be a number, not an array"),
        ('{"doubleValue": "1e400"}', "doubleValue: 1e400 is out of range"),
        ('{"floatValue": 3.5e38}', "floatValue: 3.5e+38 is out of range for a float"),
        ('{"flag": 1}', "flag: must be true or false, not 1"),
        ('{"flag": "true"}', 'flag: must be true or false, not "true"'),
        ('{"byFlag": {"1": 1}}', 'byFlag["1"]: the key "1" is neither true nor false'),
        ('{"byNumber": {"0": "", "-0": ""}}', 'byNumber["-0"]: the key is given twice'),
        ('{"text": 1}', "text: must be a string, not 1"),
        ('{"text": "\\ud800"}', "text: holds half of a surrogate pair"),
        ('{"rawData": "a"}', 'rawData: must be a string of base64, not "a"'),
        ('{"rawData": "YQ="}', 'rawData: must be a string of base64, not "YQ="'),
        ('{"rawData": "Y Q=="}', 'rawData: must be a string of base64, not "Y Q=="'),
        ('{"colour": "GREEN"}', 'colour: transcode.Colour has no value "GREEN"'),
        ('{"child": []}', "child: must be an object, not an array"),
        ('{"time": "yesterday"}', "time: "),
        ('{"time": 5}', "time: must be a string, not 5"),
        ('{"span": "1"}', "span: "),
        ('{"any": {"text": "a"}}', 'any: "@type" must name the type of the message'),
        ('{"any": {"@type": "x/no.Such"}}', 'any: the type "x/no.Such" is not known'),
        ('{"any": {"@type": "x/google.protobuf.Duration"}}', "any: google.protobuf.Duration goes into one field"),
        ('{"any": {"@type": "x/transcode.Every", "bogus": 1}}', "any.bogus: transcode.Every has no such field"),
        ("[]", "must be an object, not an array"),
        ('{"flag": true, "flag": true}', 'not valid JSON: "flag" is given twice in one object'),
        ('{"value": {"a": 1, "a": 1}}', 'not valid JSON: "a" is given twice in one object'),
        ('{"doubleValue": NaN}', 'not valid JSON: NaN is written as a string, "NaN"'),
        ('{"value": -Infinity}', 'not valid JSON: -Infinity is written as a string, "-Infinity"'),
        ('{"value": 1e400}', "not valid JSON: 1e400 is out of range"),
        ("", "not valid JSON: "),
        ("{}{}", "not valid JSON: "),
    ],
)
def test_wrong_input_is_named_with_its_place(text: str, error: str) -> None:
    """Whatever is wrong is refused, and the error says where and why."""
    message = refused(text)
    assert message.startswith(error)


def test_text_must_be_utf8() -> None:
    """UTF-16 is not guessed at, and broken UTF-8 is refused."""
    for text in (b'{"text": "\xff"}', '{"text": "a"}'.encode("utf-16")):
        with pytest.raises(BridgeError, match="UTF-8"):
            to_message(text, EVERY)


def test_fields_that_nobody_knows_are_told() -> None:
    """What is in the message but not in its descriptor is named to who asks, at any depth."""
    wire = b"\xc8\x3e\x07" + Every(children=[Every(flag=True)]).SerializeToString()
    nested = b"\x5a" + bytes([len(wire)]) + wire  # as `child`
    unknown: list[tuple[str, int]] = []
    text = to_json(nested, EVERY, original_names=False, plain_integers=False, unknown=unknown)
    assert json.loads(text) == {"child": {"children": [{"flag": True}]}}
    assert unknown == [("transcode.Every", 1001)]


# bounds


@pytest.mark.parametrize(
    ("opening", "closing", "levels"), [('{"child":', "}", 99), ("[", "]", 49), ('{"a":', "}", 32), ("", "", 0)]
)
def test_depth_is_bounded_where_parsers_bound_it(opening: str, closing: str, levels: int) -> None:
    """The deepest text that is taken gives a message that parsers take, and one level more is refused."""
    outside, inside = ('{"value":', "}") if "child" not in opening else ("", "")
    innermost = "{}" if "child" in opening else "1"
    text = f"{outside}{opening * levels}{innermost}{closing * levels}{inside}"
    message = read(text)
    assert written(message) == json.loads(text)
    if levels:
        deeper = f"{outside}{opening * (levels + 1)}{innermost}{closing * (levels + 1)}{inside}"
        assert "more than 100 messages within each other" in refused(deeper)


def test_bottomless_json_is_refused() -> None:
    """Nesting that exhausts the parser is an error like any other."""
    assert refused("[" * 200_000) == "the JSON is nested too deep"


def test_any_within_any_is_bounded() -> None:
    """Messages hidden as bytes within each other count as nested, in both directions."""
    message = Every()
    for _ in range(101):
        outer = Every()
        outer.any.Pack(message)
        message = outer
    with pytest.raises(BridgeError, match="more than 100 messages"):
        written(message)
    text = "".join(['{"@type":"x/transcode.Every","any":'] * 60 + ["{}"] + ["}"] * 60)
    assert "more than 100 messages" in refused(f'{{"any":{text}}}')


def test_size_is_bounded_on_both_sides() -> None:
    """Text and message are held to the limit, coming in and going out."""
    text = b'{"numbers":[' + b",".join([b"9223372036854775807"] * 50) + b"]}"
    wire = to_message(text, EVERY)
    for call in (
        lambda: to_message(text, EVERY, limit=len(text) - 1),
        lambda: to_message(b'{"values":[1,1,1,1]}', EVERY, limit=20),
        lambda: to_json(wire, EVERY, original_names=True, plain_integers=True, limit=len(wire) - 1),
        lambda: to_json(wire, EVERY, original_names=True, plain_integers=True, limit=len(text) - 1),
    ):
        with pytest.raises(BridgeError) as caught:
            call()
        assert (caught.value.code, caught.value.status) == (Code.RESOURCE_EXHAUSTED, 413)
    assert to_json(wire, EVERY, original_names=True, plain_integers=True, limit=len(text)) == text


@given(st.binary(max_size=60))
def test_any_wire_bytes_give_json_or_an_error(wire: bytes) -> None:
    """Bytes that are no message, or hold what JSON cannot say, raise BridgeError and nothing else."""
    try:
        text = to_json(wire, EVERY, original_names=False, plain_integers=True)
    except BridgeError:
        return
    json.loads(text)
