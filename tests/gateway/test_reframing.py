"""Streams passed through in another framing: the data of the runtime's events as they came, in memory."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.test_service import Client
from gateway.test_translating import Upstream
from inferbridge.bridge.context import Policy
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.event_stream import EventFraming
from inferbridge.bridge.values import Headers, header
from inferbridge.gateway.application import RequestHead
from inferbridge.gateway.calls.reframing import ReframedAnswer
from inferbridge.gateway.calls.targets import Target
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.service import GatewayService
from inferbridge_generated.registry import APIS
from inferbridge_generated.runtimes import PROFILES

EVENTS: Headers = (("content-type", "text/event-stream; charset=utf-8"), ("x-request-id", "7"))
BODY = b'{"model":"m","prompt":"a","stream":true}'
STREAM = b'data: {"vendor":1}\n\n: ping\n\ndata: {"x":\ndata:  2}\n\ndata: [DONE]\n\n'


def called(path: str, accept: str, runtime: str = "vllm-amd", body: bytes = BODY) -> tuple[Client, Upstream]:
    """A call that is passed through to a runtime."""
    upstream, client = Upstream(), Client()
    targets = [Target(runtime, profile, "rest", upstream) for profile in PROFILES[runtime]]
    headers = (("content-type", "application/json"), ("accept", accept), ("accept-encoding", "gzip"))
    sink = GatewayService(targets, APIS, Policy(), Limits()).open(
        RequestHead("POST", path, "a", headers, "1.1"), client
    )
    sink.on_data(body)
    sink.on_end()
    return client, upstream


def streamed(accept: str, data: bytes, status: int = 200, headers: Headers = EVENTS) -> Client:
    """What a client of completions gets when the runtime streams this."""
    client, upstream = called("/v1/completions", accept)
    _, receiver = upstream.calls[0]
    receiver.on_head(status, headers)
    receiver.on_data(data)
    receiver.on_end(())
    return client


def test_events_become_lines() -> None:
    """One line an event, whatever is in it; comments stay signs of life, the mark of success says no more."""
    client = streamed("application/x-ndjson", STREAM)
    assert client.status == 200
    assert client.headers == (("content-type", "application/x-ndjson"), ("x-request-id", "7"))
    assert [json.loads(line) for line in client.body.split(b"\n") if line] == [{"vendor": 1}, {"x": 2}]
    assert client.ended


def test_the_runtime_is_asked_for_what_it_can() -> None:
    """It knows its own framing alone, and what it compresses could not be read."""
    _, upstream = called("/v1/completions", "application/x-ndjson")
    request, _ = upstream.calls[0]
    assert header(request.headers, "accept") == "text/event-stream, application/json"
    assert header(request.headers, "accept-encoding") is None
    _, upstream = called("/v1/completions", "application/json")
    assert header(upstream.calls[0][0].headers, "accept-encoding") == "gzip"


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/event-stream"])
def test_events_stay_events(accept: str) -> None:
    """Byte for byte, with the `Accept` of OpenAI's SDKs as well."""
    client = streamed(accept, STREAM)
    assert (client.headers, client.body) == (EVENTS, STREAM)


def test_who_asks_for_an_array_gets_one() -> None:
    """caikit's stream as one array, in the order it came."""
    path = "/api/v1/task/server-streaming-text-generation"
    client, upstream = called(path, "application/json;stream=array", "caikit-tgis", b'{"inputs":"a","model_id":"m"}')
    _, receiver = upstream.calls[0]
    receiver.on_head(200, EVENTS)
    receiver.on_data(b'event: message\r\ndata: {"a":1}\r\n\r\n')
    assert client.body == b'[{"a":1}'
    receiver.on_data(b'event: message\r\ndata: {"a":2}\r\n\r\n')
    receiver.on_end(())
    assert json.loads(client.body) == [{"a": 1}, {"a": 2}]


def test_an_answer_that_is_no_stream_is_left_alone() -> None:
    """An error, or a whole answer, goes as it is."""
    plain: Headers = (("content-type", "application/json"),)
    for status in (400, 200):
        client = streamed("application/x-ndjson", b'{"error": "no"}', status, plain)
        assert (client.status, client.headers, client.body) == (status, plain, b'{"error": "no"}')
        assert client.ended


@pytest.mark.parametrize(
    "data", [b'data: {"a":1}\n\n', b'data: {"a":1}\n\ndata: {"a'], ids=["no mark", "half an event"]
)
def test_a_stream_that_breaks_off_says_so(data: bytes) -> None:
    """Lines have no mark of success, so a missing one must be told."""
    client = streamed("application/x-ndjson", data)
    first, error = (json.loads(line) for line in client.body.split(b"\n") if line)
    assert first == {"a": 1}
    assert "broke off" in error["error"]["message"]
    assert client.ended


def test_a_failure_on_the_way_is_told_in_the_stream() -> None:
    """Nothing is cut that can still be ended; before the head it is an ordinary error."""
    for begun in (True, False):
        client, upstream = called("/v1/completions", "application/x-ndjson")
        _, receiver = upstream.calls[0]
        if begun:
            receiver.on_head(200, EVENTS)
        receiver.on_failure(BridgeError(Code.UNAVAILABLE, "gone"))
        assert client.status == (200 if begun else 503)
        assert json.loads(client.body)["error"]["message"] == "gone"
        assert client.ended
        assert not client.aborted


def test_an_event_over_the_limit_ends_the_stream() -> None:
    """A runtime cannot fill the memory; what comes after is not looked at."""
    client = Client()
    answer = ReframedAnswer(client, "openai", EventFraming(done="[DONE]"), "lines", 10)
    answer.on_head(200, EVENTS)
    answer.on_data(b"data: " + b"1" * 100)
    answer.on_data(b"data: 1\n\n")
    assert b"larger than 10 bytes" in client.body
    assert client.ended


def test_what_came_before_an_error_goes_out_before_it() -> None:
    """An event that is no JSON on one line cannot be a line; those before it can."""
    client = streamed("application/x-ndjson", b'data: {"a":1}\n\ndata: {\ndata: no\n\n')
    first, error = (json.loads(line) for line in client.body.split(b"\n") if line)
    assert first == {"a": 1}
    assert "not JSON" in error["error"]["message"]


@given(values=st.lists(st.dictionaries(st.text(), st.integers(0, 1 << 53))), size=st.integers(1, 30))
def test_any_stream_holds_the_same_values_in_any_framing(values: list[dict[str, int]], size: int) -> None:
    """However the bytes arrive, lines and the array hold what the events held."""
    framing = EventFraming(done="[DONE]")
    data = b"".join(framing.encode(json.dumps(value).encode()) for value in values) + framing.done_event
    found = []
    for form in ("lines", "array"):
        client = Client()
        answer = ReframedAnswer(client, "openai", framing, form, 1 << 20)
        answer.on_head(200, EVENTS)
        for at in range(0, len(data), size):
            answer.on_data(data[at : at + size])
        answer.on_end(())
        texts = [client.body] if form == "array" else [line for line in client.body.split(b"\n") if line]
        read = [json.loads(text) for text in texts]
        found.append(read[0] if form == "array" else read)
    assert found == [values, values]
