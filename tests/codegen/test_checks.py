"""What attributes of mapping lines and keys of endpoints may not say, each with its exact place."""

import shutil
from pathlib import Path

import pytest

from codegen.test_link import lines_of
from inferbridge.bridge import converters
from inferbridge.bridge.rules import RULES as BRIDGE_RULES
from inferbridge_codegen.model.checks import RULES
from inferbridge_codegen.model.mapping import CONVERTER_FIELDS, CONVERTERS

STRUCTURED = Path(__file__).resolve().parent.parent / "golden" / "structured"
API = "apis/trips.yaml"
OPERATION = "operations/plan.yaml"
CASES = {
    "default of another type": (
        API, "default: 7", "default: many",
        "apis/trips.yaml:61:40: days is optional<int64>, its default cannot be 'many'",
    ),
    "default that is no value of the enum": (
        API, "default: slow", "default: slo",
        "apis/trips.yaml:60:34: pace is optional<pace>, its default cannot be 'slo'; did you mean 'slow'?",
    ),
    "default of a part": (
        API, "limit: budget.limit\n          options", "limit: {field: budget.limit, default: 1}\n          options",
        "apis/trips.yaml:63:47: options.limits.money.limit: only a field of the request itself can have a default",
    ),
    "default in a reply": (
        API, "title: title\n    grpc", "title: {field: title, default: trip}\n    grpc",
        "apis/trips.yaml:79:26: title: default is for requests",
    ),
    "unset of another type": (
        API, "{field: days, unset: 0}", "{field: days, unset: none}",
        "apis/trips.yaml:88:38: options.limits.days is integer, so it is never 'none'; unset names a value",
    ),
    "unset of a list": (
        API, "        tags: tags\n", "        tags: {field: tags, unset: a}\n",
        "apis/trips.yaml:85:23: tags is list<string>, so it is never 'a'; unset names a value",
    ),
    "unset where protobuf knows": (
        API, "options.choice.must: must", "options.choice.must: {field: must, unset: a}",
        "apis/trips.yaml:92:38: options.choice.must has presence, so unset is not needed: absent says it",
    ),
    "milliseconds with a point": (
        API, "options.limits.patience: patience", "options.limits.patience: {field: patience, unit: ms}",
        "apis/trips.yaml:62:44: unit ms needs integer, options.limits.patience is double",
    ),
    "whole seconds": (
        API, "unit: ms", "unit: s",
        "apis/trips.yaml:89:49: unit s needs float32 or double, options.limits.patience_millis is integer",
    ),
    "null in protobuf": (
        API, "        title: title\n        ways", "        title: {field: title, nullable: true}\n        ways",
        "apis/trips.yaml:96:24: title: nullable is for JSON, protobuf has no null",
    ),
    "converter of another field": (
        API, "extra: {field: extra, converter: json_text}", "extra: {field: must, converter: json_text}",
        "apis/trips.yaml:94:39: converter json_text is for any, must is optional<string>",
    ),
    "attribute outside of the body": (
        API, "header.x-key: key", "header.x-key: {field: key, unset: none}",
        "apis/trips.yaml:57:33: header.x-key: unset is for places in the body",
    ),
    "number in the query": (
        API, "query.tag: tags", "query.tag: days",
        "apis/trips.yaml:56:22: a query value is a string or list<string> of the request, days is optional<int64>",
    ),
    "list in a header": (
        API, "header.x-key: key", "header.x-key: wishes",
        "apis/trips.yaml:57:25: a header value is a string of the request, wishes is list<string>",
    ),
    "two places of one field": (
        API, "options.must: must", "options.must: traveller",
        "apis/trips.yaml:65:25: traveller is mapped to traveller already; mark one of them with alias",
    ),
    "alias of nothing": (
        API, "options.must: must", "options.must: {field: must, alias: true}",
        "apis/trips.yaml:65:33: options.must is an alias of no line for must, it is never written",
    ),
    "absent of no bool": (
        API, "{absent: closing}", "{absent: text}",
        "apis/trips.yaml:117:32: absent needs a bool, text is string",
    ),
    "absent of no field": (
        API, "{absent: closing}", "{absent: closed}",
        "apis/trips.yaml:117:32: PlanMessage has no field 'closed'; did you mean 'closing'?",
    ),
    "absent of no item": (
        API, "        title: title\n        ways[].text", "        title: {absent: title}\n        ways[].text",
        "apis/trips.yaml:96:9: title: absent is for a place such as choices[0]",
    ),
    "constant that is a list": (
        API, "{constant: plan}", "{constant: [plan]}",
        "apis/trips.yaml:72:28: constant must be a string, a number, true or false",
    ),
    "unknown rule": (
        API, "    fan_out: wishes", "    rule: tgiss",
        "apis/trips.yaml:107:11: there is no rule 'tgiss'; did you mean 'tgis'?",
    ),
    "fan out of no list": (
        API, "fan_out: wishes", "fan_out: wish",
        "apis/trips.yaml:107:14: PlanRequest has no list 'wish' to fan out; did you mean 'wishes'?",
    ),
    "either without a say": (
        API, "map: {traveller: traveller, wishes: wishes, stream: stream}\n      reply",
        "map: {traveller: traveller, wishes: wishes}\n      reply",
        "apis/trips.yaml:138:9: mode either needs a line for the field stream, which decides",
    ),
    "method that does not stream": (
        API, "trips.Planner/Follow", "trips.Planner/Plan",
        "apis/trips.yaml:122:15: trips.Planner/Plan answers with a reply, so it needs mode unary",
    ),
    "method that streams": (
        API, "trips.Planner/Plan", "trips.Planner/Follow",
        "apis/trips.yaml:81:15: trips.Planner/Follow answers with a message, so it needs mode stream",
    ),
    "method that takes a stream": (
        "protos/trips/service.proto", "rpc Plan(PlanRequest)", "rpc Plan(stream PlanRequest)",
        "apis/trips.yaml:81:15: trips.Planner/Plan takes a stream of requests, which no mode is for",
    ),
    "off of another type": (
        OPERATION, "off: 0}", "off: none}",
        "operations/plan.yaml:35:7: days is optional<int64>, so it is never 'none'; off names a value",
    ),
    "off that is no plain value": (
        OPERATION, "off: 0}", "off: [0]}",
        "operations/plan.yaml:35:79: off must be a string, a number, true or false",
    ),
    "required in what may be missing": (
        API, "limit: {type: int64}", "limit: {type: int64, required: true}",
        "apis/trips.yaml:63:11: money may be left out, so 'limit' in schema Money cannot be required",
    ),
    "enum value twice": (
        OPERATION, "[slow, fast]", "[slow, fast, slow]",
        "operations/plan.yaml:2:9: enum pace has the value 'slow' twice",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_has_no_effect_or_another_one_is_refused(case: str, tmp_path: Path) -> None:
    """One edit of a valid spec set gives exactly this line among the problems."""
    file, old, new, expected = CASES[case]
    root = Path(shutil.copytree(STRUCTURED, tmp_path / "specs"))
    text = (root / file).read_text(encoding="utf-8")
    assert old in text
    (root / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    assert expected in lines_of(root)


def test_the_structured_set_links() -> None:
    """The set that the cases break is valid."""
    assert lines_of(STRUCTURED) == []


def test_the_generator_knows_the_rules_and_converters_of_the_bridge() -> None:
    """Names that specs may give are names that the bridge has, and the other way round."""
    assert set(RULES) == set(BRIDGE_RULES)
    pairs = {name.removesuffix("_to_wire") for name in vars(converters) if name.endswith("_to_wire")}
    assert pairs == set(CONVERTERS) == set(CONVERTER_FIELDS)
