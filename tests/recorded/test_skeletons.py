"""Specs of recorded traffic: what a skeleton says of it, and what is left for a person."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from inferbridge.bridge.framing import frame
from inferbridge.cli import main
from inferbridge.recorded.guessed_schemas import shape
from recorded_flows import GRPC, OK, flow_of, written

ASK = b'{"text":"a","options":{"top":3}}'


def run(*arguments: str) -> Result:
    """What a command did."""
    return CliRunner().invoke(main, list(arguments))


def test_rest_traffic_becomes_a_skeleton(tmp_path: Path) -> None:
    """Paths with their variables, members of bodies, streams as such; each mapping is a question."""
    events = b'data: {"piece":"a"}\n\ndata: [DONE]\n\n'
    flows = [
        flow_of("POST", "/api/jobs/123/run?dry=1", ASK, reply=b'{"out":["x"],"score":0.5}'),
        flow_of("POST", "/api/jobs/77/run", b'{"text":"b"}', reply=b'{"out":[],"score":1}'),
        flow_of("POST", "/api/stream", ASK, reply=events, reply_headers=(("content-type", "text/event-stream"),)),
        flow_of("POST", "/v1/completions", b"{}"),
        flow_of("GET", "/favicon.ico", status=404),
    ]
    file = written(tmp_path / "acme.flows", flows)
    result = run("export", "spec", str(file), "-o", str(tmp_path / "specs"))
    assert result.exit_code == 0, result.stderr
    api = yaml.safe_load((tmp_path / "specs" / "apis" / "acme.yaml").read_text())
    jobs, stream = api["endpoints"]
    assert jobs["rest"]["paths"] == ["/api/jobs/{id}/run"]
    assert {"path.id", "query.dry", "text", "options.top"} <= jobs["rest"]["request"]["map"].keys()
    assert all("???" in str(question) for question in jobs["rest"]["request"]["map"].values())
    assert stream["mode"] == "stream"
    assert "call 4: POST /v1/completions is known already, as openai/completions" in result.stderr
    assert "call 5: GET /favicon.ico was not answered by an endpoint" in result.stderr
    assert "is still to decide" in run("lint", "--specs", str(tmp_path / "specs")).stderr


def test_grpc_traffic_becomes_a_proto_and_a_skeleton(tmp_path: Path) -> None:
    """Methods, streams, and fields by number with the likeliest types; the proto compiles."""
    # field 1 text, field 2 varint, field 3 a message of one varint
    asked = b"\x0a\x02hi\x10\x05\x1a\x02\x08\x07"
    body = b"".join(frame([(b"\x0d\x00\x00\x80\x3f",), (b"",)]))
    flow = flow_of(
        "POST", "/acme.v1.Things/Make", b"".join(frame([(asked,)])), GRPC, reply=body, reply_headers=GRPC, trailers=OK
    )
    out = tmp_path / "specs"
    result = run("export", "spec", str(written(tmp_path / "acme.flows", [flow])), "-o", str(out), "--name", "acme")
    assert result.exit_code == 0, result.stderr
    proto = (out / "protos" / "acme" / "v1.proto").read_text()
    for line in ("string field_1 = 1;", "int64 field_2 = 2;", "Field3 field_3 = 3;", "float field_1 = 1;"):
        assert line in proto
    assert "returns (stream ThingsMakeReply)" in proto or "returns (stream .acme.v1.ThingsMakeReply)" in proto
    (endpoint,) = yaml.safe_load((out / "apis" / "acme.yaml").read_text())["endpoints"]
    assert endpoint["grpc"]["method"] == "acme.v1.Things/Make"
    assert run("import", str(out / "protos" / "acme" / "v1.proto"), "--out", str(tmp_path / "again")).exit_code == 0


def test_known_traffic_needs_no_skeleton(tmp_path: Path) -> None:
    """A file with nothing new in it is said to be that."""
    result = run("export", "spec", str(written(tmp_path / "x.flows", [flow_of()])), "-o", str(tmp_path / "specs"))
    assert result.exit_code == 100
    assert "no call that the specs do not know already" in result.stderr


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1", "2.5"], {"type": "number"}),
        (["1", "true"], {}),
        (["null", '"a"'], {"type": "string"}),
        (["[1]", "[]"], {"type": "array", "items": {"type": "integer"}}),
        (
            ['{"a":1,"b":2}', '{"a":3}'],
            {
                "type": "object",
                "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
                "required": ["a"],
            },
        ),
    ],
)
def test_a_shape_is_what_all_values_have(values: list[str], expected: object) -> None:
    """Types that agree, members that are always there, and nothing where values differ."""
    assert shape([json.loads(value) for value in values]) == expected
