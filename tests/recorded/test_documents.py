"""HAR and JSON lines: valid by their schemas whatever was recorded, without credentials, and with all that was said."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from mitmproxy import http

from inferbridge.cli import main
from inferbridge.recorded import lines
from inferbridge.recorded.calls import Place
from inferbridge.recorded.har import har_entry, har_log
from inferbridge.recorded.lines import json_text, line_of, schema
from recorded_flows import JSON, OK, exchange, flow_of, grpc_flow, written

HAR: Any = json.loads(Path(__file__).with_name("har-1.2.schema.json").read_text())
TGIS = "/fmaas.GenerationService/Generate"
EVENTS = b'data: {"a":1}\n\ndata: [DONE]\n\n'
LEG = {
    "upstream": "u", "runtime": "tgis", "api": "tgis", "variant": "", "protocol": "grpc", "method": "POST",
    "target": TGIS, "status": 200, "error": "",
    "asked": {
        "headers": [["content-type", "application/grpc"], ["authorization", "Bearer canary"]],
        "body": b"\0\0\0\0\x03\x0a\x01m",
    },
    "told": {"headers": [["content-type", "application/grpc"]], "body": b"", "trailers": [list(OK[0])]},
}  # fmt: skip
FLOWS = [
    flow_of(body=b'{"model":"m"}', reply=EVENTS, reply_headers=(("content-type", "text/event-stream"),)),
    flow_of("GET", "/v1/models?api_key=canary&a=b%20c", headers=(("cookie", "a=canary"),), reply=b"\xff\0"),
    grpc_flow(TGIS, "tgis", '{"model_id":"m"}', '{"responses":[{"text":"t"}]}'),
    flow_of(metadata={"upstream": [LEG], "losses": ["seed"], "call": {"model": "m", "flags": ["TE"]}}),
]


def run(*arguments: str) -> Result:
    """What a command did."""
    return CliRunner().invoke(main, ["export", *arguments])


def har(*flows: http.HTTPFlow) -> Any:
    """The document of some flows, as it is written."""
    calls = [exchange(flow) for flow in flows]
    return json.loads(json_text(har_log([har_entry(call, call.client, Place()) for call in calls])))


def line(flow: http.HTTPFlow) -> Any:
    """The line of a flow, as it is written."""
    return json.loads(json_text(line_of(exchange(flow), reveal=False)))


def test_the_published_schema_is_that_of_the_lines() -> None:
    """The file in the package says what the code writes; when they differ, this prints what it must say."""
    published = json.loads(Path(lines.__file__).with_name("exchange.schema.json").read_text("utf-8"))
    assert published == schema(), json.dumps(schema(), indent=2)


def test_files_are_valid(tmp_path: Path) -> None:
    """What the commands write fits the schemas: one HAR, one line for each call."""
    file = str(written(tmp_path / "x.flows", FLOWS))
    jsonschema.validate(json.loads(run("har", file).stdout), HAR)
    written_lines = run("jsonl", file).stdout.splitlines()
    assert len(written_lines) == len(FLOWS)
    for text in written_lines:
        jsonschema.validate(json.loads(text), schema())


def test_the_schema_of_har_refuses_what_is_none() -> None:
    """A document without timings, or with a field that HAR does not have, is not valid."""
    document = har(FLOWS[0])
    for key, value in (("timings", None), ("extra", 1)):
        broken = json.loads(json.dumps(document))
        broken["log"]["entries"][0][key] = value
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, HAR)


TEXT = st.text(max_size=8)


@given(target=TEXT, name=TEXT, value=TEXT, body=st.binary(max_size=30), kind=st.sampled_from(["", "json", "grpc"]))
@settings(max_examples=60, deadline=None)
def test_whatever_was_recorded_is_valid(target: str, name: str, value: str, body: bytes, kind: str) -> None:
    """Text that is none in UTF-8, control characters, broken bodies: both documents stay valid, in one line each."""
    headers = (("content-type", f"application/{kind}"), (name.encode(errors="replace").decode(), value))
    safe = [text.encode(errors="replace").decode() for text in (target, headers[1][1])]
    flow = flow_of("POST", f"/{safe[0]}", body, (headers[0], (headers[1][0], safe[1])), reply=body)
    jsonschema.validate(har(flow), HAR)
    text = json_text(line_of(exchange(flow), reveal=False))
    assert b"\n" not in text
    jsonschema.validate(json.loads(text), schema())


def test_a_line_has_both_sides_by_name() -> None:
    """Messages of gRPC, events, trailers, losses and what the gateway knew."""
    found = line(FLOWS[3])
    (runtime,) = found["runtimes"]
    assert runtime["request"]["body"]["value"] == [{"model_id": "m"}]
    assert runtime["reply"]["trailers"] == [["grpc-status", "0"]]
    assert (found["losses"], found["record"]["flags"]) == (["seed"], ["TE"])
    assert line(FLOWS[2])["client"]["reply"]["body"]["value"] == [{"responses": [{"text": "t"}]}]
    assert line(FLOWS[0])["client"]["reply"]["body"]["value"][0] == {"event": "message", "data": {"a": 1}}
    assert line(FLOWS[1])["client"]["reply"]["body"] == {
        "kind": "binary", "value": "/wA=", "size": 2, "is_cut": False, "unknown": [],
    }  # fmt: skip


def test_har_has_times_and_all_of_the_exchange() -> None:
    """Waiting and receiving in milliseconds; what HAR has no place for stands in `_inferbridge`."""
    (entry,) = har(FLOWS[3])["log"]["entries"]
    assert entry["timings"] == {"send": 0, "wait": 1000.0, "receive": 2000.0}
    assert entry["startedDateTime"] == "1970-01-01T00:16:40.000+00:00"
    assert entry["_inferbridge"]["runtimes"][0]["runtime"] == "tgis"


@pytest.mark.parametrize("form", ["har", "jsonl", "curl", "python"])
def test_credentials_leave_on_demand_alone(tmp_path: Path, form: str) -> None:
    """Those in headers, the query, cookies and the runtimes' side."""
    file = str(written(tmp_path / "x.flows", FLOWS))
    assert "canary" not in run(form, file).stdout
    assert "canary" in run(form, file, "--with-secrets").stdout


def test_filters_choose_the_calls(tmp_path: Path) -> None:
    """Only the calls that fit, and an error with a column for an expression that is none."""
    file = str(written(tmp_path / "x.flows", FLOWS))
    (found,) = run("jsonl", file, "--filter", "lossy:true").stdout.splitlines()
    assert json.loads(found)["losses"] == ["seed"]
    wrong = run("jsonl", file, "--filter", "op:chat modl:x")
    assert wrong.exit_code == 2
    assert "--filter: column 9: there is no term 'modl'; did you mean 'model'?" in wrong.stderr
    none = run("jsonl", file, "--filter", "model:nobody")
    assert (none.exit_code, none.stdout) == (1, "")
    assert "no call of it could be used" in none.stderr


def test_calls_of_a_runtime_need_to_know_where_it_is(tmp_path: Path) -> None:
    """The gateway's own call with `--to`, and a reason on stderr without."""
    file = str(written(tmp_path / "x.flows", FLOWS))
    missing = run("curl", file, "--side", "runtime")
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "where u is was not recorded; say it with --to" in missing.stderr
    found = run("curl", file, "--side", "runtime", "--to", "grpc://127.0.0.1:8033")
    assert f"--http2-prior-knowledge --globoff --path-as-is -X POST http://127.0.0.1:8033{TGIS}" in found.stdout


def test_files_are_not_overwritten(tmp_path: Path) -> None:
    """What is there stays there without --force; a file that is none of flows is the user's input gone wrong."""
    file = written(tmp_path / "x.flows", [flow_of(headers=JSON)])
    out = tmp_path / "out"
    assert run("har", str(file), "-o", str(out)).exit_code == 0
    refused = run("har", str(file), "-o", str(out))
    assert (refused.exit_code, "--force" in refused.stderr) == (2, True)
    broken = run("jsonl", str(out))
    assert broken.exit_code == 0
    nothing = tmp_path / "nothing"
    nothing.write_bytes(b"\x00\xff")
    assert run("jsonl", str(nothing)).exit_code == 100
