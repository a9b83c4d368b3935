"""Recorded calls as they are read: of the gateway's flows, of any traffic, of broken files."""

from pathlib import Path
from typing import Any

import pytest
from mitmproxy.test import tflow

from inferbridge.inspect.exact_json import exact_json
from inferbridge.recorded.bodies import reply_body, request_body
from inferbridge.recorded.exchanges import Exchange, Unreadable, read_exchanges
from recorded_flows import GRPC, JSON, OK, exchange, flow_of, grpc_flow, written

INFER = "/inference.GRPCInferenceService/ModelInfer"


def test_traffic_of_strangers_is_understood_as_far_as_the_specs_know_it() -> None:
    """API, operation, model, status and times of a flow that no gateway has made."""
    call = exchange(flow_of("POST", "/v2/models/mnist/infer?x=1", b"{}", status=404))
    assert dict(call.record) == {
        "method": "POST",
        "api": "open-inference",
        "operation": "infer",
        "model": "mnist",
        "status": 404,
        "ttft_ms": 1000.0,
        "duration_ms": 3000.0,
    }
    assert (call.client.protocol, call.client.url, call.legs) == ("rest", "http://127.0.0.1:8080", ())
    record = exchange(grpc_flow(INFER, "open-inference", '{"model_name":"m"}', trailers=(("grpc-status", "5"),))).record
    assert (record["operation"], record["model"], record["grpc_status"]) == ("infer", "m", 5)


def test_both_sides_of_the_gateways_flows_are_read() -> None:
    """The record, the losses, and each call of a runtime with its answer."""
    leg = {
        "upstream": "u", "runtime": "tgis", "api": "tgis", "variant": "", "protocol": "grpc", "method": "POST",
        "target": "/a.B/C", "status": 200, "error": "",
        "asked": {"headers": [["content-type", "application/grpc"]], "body": b"\0\0\0\0\0", "size": 5, "trailers": []},
        "told": {"headers": [], "body": b"12", "size": 3, "trailers": [["grpc-status", "0"]]},
    }  # fmt: skip
    told = {"client": {"api": "openai", "endpoint": "chat", "way": "rest"}, "losses": ["seed"], "upstream": [leg]}
    call = exchange(flow_of(body=b"1", metadata={**told, "call": {"model": "m", "ttft_ms": 5.0, "bytes_in": 2}}))
    assert (call.client.api, call.client.endpoint, call.losses) == ("openai", "chat", ("seed",))
    assert call.record == {"model": "m", "ttft_ms": 5.0, "bytes_in": 2}
    assert call.client.asked.is_cut
    (side,) = call.legs
    assert (side.upstream, side.runtime, side.protocol, side.asked.target) == ("u", "tgis", "grpc", "/a.B/C")
    assert side.told is not None
    assert (side.told.trailers, side.told.is_cut, side.asked.is_cut) == (OK, True, False)


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"client": None, "upstream": None, "losses": None, "call": None},
        {"upstream": [{}, None, {"told": {}}, {"status": 200}]},
        {"client": {"way": 1}, "upstream": [{"asked": {"headers": [["a"], ["b", "c"]], "body": None}}]},
    ],
)
def test_anything_may_be_missing(told: dict[str, Any]) -> None:
    """A flow with half of what a gateway writes is read all the same."""
    call = exchange(flow_of(metadata=told))
    assert call.client.asked.method == "POST"
    assert len(call.legs) == len(told.get("upstream") or ())


def test_an_edited_flow_is_whole() -> None:
    """What somebody made of a request in mitmproxy's interfaces is all of it, though the client had sent more."""
    flow = flow_of(body=b'{"prompt":"long"}', metadata={"call": {"bytes_in": 17}})
    assert not exchange(flow).client.asked.is_cut
    flow.backup()
    flow.request.content = b"{}"
    assert (exchange(flow).client.asked.body, exchange(flow).client.asked.is_cut) == (b"{}", False)


def test_flows_that_are_no_calls_are_named(tmp_path: Path) -> None:
    """What is not HTTP is no call, and not passed over in silence."""
    found = list(read_exchanges(written(tmp_path / "x", [tflow.ttcpflow(), flow_of()])))
    assert found[0] == "flow 1 is tcp, not HTTP"
    assert isinstance(found[1], Exchange)
    assert found[1].number == 2


def test_a_file_that_breaks_off_is_read_up_to_there(tmp_path: Path) -> None:
    """The calls before it, then an error that says how many these were."""
    file = written(tmp_path / "x", [flow_of(), flow_of()])
    file.write_bytes(file.read_bytes()[:-20])
    calls = read_exchanges(file)
    assert isinstance(next(calls), Exchange)
    with pytest.raises(Unreadable, match="after 1 of them"):
        next(calls)


@pytest.mark.parametrize(
    ("body", "headers", "kind"),
    [
        (b'{"a":[1]}', JSON, "json"),
        (b'{"a":1,"a":2}', JSON, "text"),
        (b'{"a":NaN}', JSON, "text"),
        (b'{"a":1e999}', JSON, "text"),
        (b"plain", (), "text"),
        (b"\xff\0", (), "binary"),
        (b"", JSON, "empty"),
        (b"data: {}\n\ndata: [DONE]\n\n", (("content-type", "text/event-stream"),), "events"),
        (b"data: {}\n\ndata: [DO", (("content-type", "text/event-stream"),), "text"),
        (b'{"a":1}\n\n{"a":2}\n', (("content-type", "application/x-ndjson"),), "lines"),
    ],
)
def test_bodies_are_taken_apart_if_nothing_gets_lost(body: bytes, headers: Any, kind: str) -> None:
    """JSON with a member given twice, or a stream that broke off, stays the text that it was."""
    assert reply_body(exchange(flow_of(reply=body, reply_headers=headers)).client).kind == kind


def test_numbers_keep_their_digits() -> None:
    """Integers of any length."""
    assert exact_json('{"a":123456789012345678901}') == {"a": 123456789012345678901}


def test_fields_that_no_proto_has_are_named() -> None:
    """A message is read by name, and what has no name is told of."""
    side = exchange(flow_of("POST", "/grpc.health.v1.Health/Check", b"\0\0\0\0\x05\x0a\x01x\x50\x01", GRPC)).client
    body = request_body(side)
    assert (body.kind, body.value) == ("messages", ['{"service":"x"}'])
    assert len(body.unknown) == 1
    assert "10" in body.unknown[0]
