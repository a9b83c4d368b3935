"""Answers over a bridge between APIs: streamed, folded, unfolded, fanned out, failing at any point."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway.test_service import Client
from inferbridge.bridge.context import Policy, Setting
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.framing import frame, unframe
from inferbridge.bridge.values import header, join
from inferbridge.gateway.application import RequestHead, RequestSink
from inferbridge.gateway.calls.targets import Target
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.service import GatewayService
from inferbridge.upstream.api import Receiver, UpstreamRequest
from inferbridge_generated import operations
from inferbridge_generated.registry import APIS
from inferbridge_generated.runtimes import PROFILES
from inferbridge_generated.tgis import wire

GRPC = (("content-type", "application/grpc"),)
OK = (("grpc-status", "0"),)
EVENTS = (("content-type", "text/event-stream"),)


class Upstream:
    """A pool whose calls the test answers itself, one by one."""

    def __init__(self) -> None:
        self.calls: list[tuple[UpstreamRequest, Receiver]] = []
        self.cancelled: list[int] = []

    def send(self, request: UpstreamRequest, receiver: Receiver, timeout: float | None = None) -> "_Call":
        self.calls.append((request, receiver))
        return _Call(self, len(self.calls) - 1)

    async def close(self) -> None:
        """Nothing to close."""


class _Call:
    def __init__(self, upstream: Upstream, number: int) -> None:
        self._upstream, self._number = upstream, number

    def cancel(self) -> None:
        self._upstream.cancelled.append(self._number)

    def throttle(self, paused: bool) -> None:
        pass


class Clock:
    """Timers that the test lets run out."""

    def __init__(self) -> None:
        self.waiting: list[tuple[float, Callable[[], None]]] = []
        self.cancelled = 0

    def later(self, seconds: float, callback: Callable[[], None]) -> "Clock":
        self.waiting.append((seconds, callback))
        return self

    def cancel(self) -> None:
        self.cancelled += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of time limits."""
    made = Clock()
    monkeypatch.setattr("inferbridge.gateway.calls.translating.later", made.later)
    return made


@pytest.fixture(autouse=True)
def no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs of life need an event loop, which these tests have none of."""
    monkeypatch.setattr("inferbridge.gateway.calls.pulse.Pulse.start", lambda self: None)


def begun(
    runtime: str, protocol: str, path: str, body: bytes, grpc: bool = False
) -> tuple[Client, Upstream, RequestSink]:
    """A call of a client through a gateway with one upstream."""
    upstream = Upstream()
    setting = Setting(operations=operations, now=lambda: 7.0, new_id=lambda: "id")
    targets = [Target(runtime, profile, protocol, upstream, ("*",), setting) for profile in PROFILES[runtime]]
    client = Client()
    head = RequestHead("POST", path, "a", GRPC if grpc else (("content-type", "application/json"),), "1.1")
    sink = GatewayService(targets, APIS, Policy(), Limits()).open(head, client)
    sink.on_data(body)
    sink.on_end()
    return client, upstream, sink


def completion(stream: bool, **more: Any) -> tuple[Client, Upstream, RequestSink]:
    """An OpenAI completion to a TGIS runtime."""
    body = {"model": "m", "prompt": "a", "temperature": 0, "stream": stream, **more}
    return begun("tgis", "grpc", "/v1/completions", json.dumps(body).encode())


def message(**values: Any) -> bytes:
    """A framed message of a TGIS stream."""
    return b"".join(frame([wire.encode_GenerationResponse(wire.GenerationResponse(**values))]))


def generate_stream(model: str = "m") -> tuple[Client, Upstream, RequestSink]:
    """A TGIS stream to a vLLM runtime."""
    asked = wire.SingleGenerationRequest(model_id=model, request=wire.GenerationRequest(text="a"))
    body = b"".join(frame([wire.encode_SingleGenerationRequest(asked)]))
    return begun("vllm-amd", "rest", "/fmaas.GenerationService/GenerateStream", body, grpc=True)


def event(**values: Any) -> bytes:
    """An event of an OpenAI stream."""
    return b"data: " + json.dumps(values).encode() + b"\n\n"


def choice(text: str, reason: str | None = None) -> list[dict[str, Any]]:
    """The choices of one event."""
    return [{"index": 0, "text": text, "finish_reason": reason, "stop_reason": None}]


def events_of(client: Client) -> list[Any]:
    """The events a client got."""
    data = [line.removeprefix("data: ") for line in client.body.decode().split("\n\n") if line]
    return [json.loads(text) if text.startswith("{") else text for text in data]


def responses_of(client: Client) -> list[wire.GenerationResponse]:
    """The messages a gRPC client got."""
    messages = unframe(client.body, "identity", 1 << 20)
    return [wire.decode_GenerationResponse(join(each), []) for each in messages]


def test_each_message_goes_out_as_it_comes() -> None:
    """A streaming client sees a delta as soon as the runtime has sent it, before the stream ends."""
    client, upstream, _ = completion(stream=True)
    request, receiver = upstream.calls[0]
    assert request.path == "/fmaas.GenerationService/GenerateStream"
    receiver.on_head(200, GRPC)
    receiver.on_data(message(input_token_count=2))
    assert client.status == 0
    receiver.on_data(message(generated_token_count=1, text="x"))
    assert [each["choices"][0]["text"] for each in events_of(client)] == ["x"]
    receiver.on_data(message(generated_token_count=2, stop_reason=2))
    receiver.on_end(OK)
    *_, last, done = events_of(client)
    assert (client.status, header(client.headers, "content-type")) == (200, "text/event-stream; charset=utf-8")
    assert last["choices"][0]["finish_reason"] == "stop"
    assert done == "[DONE]"
    assert client.ended


def test_an_error_before_the_first_message_has_its_status() -> None:
    """A stream that fails at once is an ordinary error answer."""
    client, upstream, _ = completion(stream=True)
    _, receiver = upstream.calls[0]
    receiver.on_head(200, (*GRPC, ("grpc-status", "3"), ("grpc-message", "too long")))
    receiver.on_end(())
    assert client.status == 400
    assert json.loads(client.body)["error"]["message"] == "too long"


FAILURES: dict[str, Callable[[Receiver], None]] = {
    "status": lambda receiver: receiver.on_end((("grpc-status", "13"), ("grpc-message", "engine died"))),
    "transport": lambda receiver: receiver.on_failure(BridgeError(Code.UNAVAILABLE, "reset")),
    "cut message": lambda receiver: (receiver.on_data(b"\0\0\0"), receiver.on_end(OK))[0],
    "garbage": lambda receiver: receiver.on_data(b"\0\0\0\0\2\xff\xff"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_an_error_within_a_stream_is_told_there(failure: str) -> None:
    """What fails after the first message is an error event, and no mark of success follows."""
    client, upstream, _ = completion(stream=True)
    _, receiver = upstream.calls[0]
    receiver.on_head(200, GRPC)
    receiver.on_data(message(generated_token_count=1, text="x"))
    FAILURES[failure](receiver)
    first, last = events_of(client)
    assert first["choices"][0]["text"] == "x"
    assert last["error"]["code"] >= 500
    assert client.ended


def test_a_client_that_leaves_cancels_every_call() -> None:
    """Cancelling reaches all calls that a batch has become, and nothing is written any more."""
    client, upstream, sink = completion(stream=True, prompt=["a", "b"])
    sink.on_cancel()
    assert upstream.cancelled == [0, 1]
    upstream.calls[0][1].on_head(200, GRPC)
    upstream.calls[0][1].on_data(message(generated_token_count=1, text="x"))
    assert client.body == b""


def test_a_batch_streams_with_its_indexes() -> None:
    """Each prompt of a list is a stream of its own, told apart by the index of its choice."""
    client, upstream, _ = completion(stream=True, prompt=["a", "b"])
    for number in (1, 0):
        _, receiver = upstream.calls[number]
        receiver.on_head(200, GRPC)
        receiver.on_data(message(generated_token_count=1, text=f"t{number}", stop_reason=2))
        receiver.on_end(OK)
    *events, done = events_of(client)
    assert [(each["choices"][0]["index"], each["choices"][0]["text"]) for each in events] == [(1, "t1"), (0, "t0")]
    assert done == "[DONE]"


def test_the_first_failure_of_a_batch_ends_it() -> None:
    """One failed call fails the whole, the others are cancelled."""
    asked = wire.BatchedGenerationRequest(requests=[wire.GenerationRequest(text=text) for text in "ab"])
    body = b"".join(frame([wire.encode_BatchedGenerationRequest(asked)]))
    client, upstream, _ = begun("vllm-amd", "rest", "/fmaas.GenerationService/Generate", body, grpc=True)
    assert len(upstream.calls) == 2
    _, receiver = upstream.calls[1]
    receiver.on_head(400, (("content-type", "application/json"),))
    receiver.on_data(b'{"error":{"message":"no","type":"BadRequestError","param":null,"code":400}}')
    receiver.on_end(())
    assert (client.get("grpc-status"), client.get("grpc-message")) == ("3", "no")
    assert 0 in upstream.cancelled


def test_events_become_messages() -> None:
    """vLLM's events reach a TGIS client as messages: the input first, then text with rising counts, then the reason."""
    client, upstream, _ = generate_stream()
    request, receiver = upstream.calls[0]
    asked = json.loads(join(request.chunks))
    assert asked["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    receiver.on_head(200, EVENTS)
    receiver.on_data(event(choices=choice("x"), usage={"prompt_tokens": 2, "completion_tokens": 1}))
    receiver.on_data(event(choices=choice("", "stop"), usage={"prompt_tokens": 2, "completion_tokens": 2}))
    receiver.on_data(event(choices=[], usage={"prompt_tokens": 2, "completion_tokens": 2}) + b"data: [DONE]\n\n")
    receiver.on_end(())
    first, text, last = responses_of(client)
    assert (first.input_token_count, first.text) == (2, "")
    assert (text.text, text.generated_token_count, text.stop_reason) == ("x", 1, 0)
    assert (last.generated_token_count, last.stop_reason) == (2, 2)
    assert client.get("grpc-status") == "0"


def test_what_came_before_an_error_is_not_undone() -> None:
    """Text and error in one piece: the text goes out, then the error is told in the stream."""
    client, upstream, _ = generate_stream()
    _, receiver = upstream.calls[0]
    receiver.on_head(200, EVENTS)
    receiver.on_data(event(choices=choice("x")) + b'data: {"error": {"message": "bad", "code": 400}}\n\n')
    assert [each.text for each in responses_of(client)] == ["", "x"]
    assert client.get("grpc-status") == "3"


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        (b"", "14"),
        (event(choices=choice("")) + b'data: {"error": {"message": "bad", "code": 400}}\n\n', "3"),
        (b"data: {nonsense\n\n", "13"),
        (b'data: {"error": {"message": "bad", "code": 400}}\n\ndata: [DONE]\n\n', "3"),
    ],
    ids=["cut off", "error after an event", "garbage", "error event"],
)
def test_a_stream_without_its_mark_of_success_is_no_success(ending: bytes, code: str) -> None:
    """An SSE body that just ends, or tells of an error, is a failed call for a gRPC client."""
    client, upstream, _ = generate_stream()
    _, receiver = upstream.calls[0]
    receiver.on_head(200, EVENTS)
    receiver.on_data(event(choices=choice("x")))
    receiver.on_data(ending)
    receiver.on_end(())
    assert client.get("grpc-status") == code
    assert [each.text for each in responses_of(client)] == ["", "x"]


def test_the_same_api_passes_through() -> None:
    """A client of the runtime's own API and protocol gets the runtime's bytes."""
    client, upstream, _ = begun("vllm-amd", "rest", "/v1/completions", b'{"prompt":"a","vendor":1}')
    request, receiver = upstream.calls[0]
    assert join(request.chunks) == b'{"prompt":"a","vendor":1}'
    receiver.on_head(200, EVENTS)
    receiver.on_data(b"data: anything\n\n")
    receiver.on_end(())
    assert client.body == b"data: anything\n\n"


def test_lines_are_written_for_those_who_ask() -> None:
    """`Accept: application/x-ndjson` gives one JSON object a line."""
    upstream, client = Upstream(), Client()
    target = Target("tgis", PROFILES["tgis"][0], "grpc", upstream, ("*",), Setting(operations=operations))
    accept = (("content-type", "application/json"), ("accept", "application/x-ndjson"))
    head = RequestHead("POST", "/v1/completions", "a", accept, "1.1")
    sink = GatewayService([target], APIS, Policy(), Limits()).open(head, client)
    sink.on_data(b'{"prompt":"a","stream":true}')
    sink.on_end()
    _, receiver = upstream.calls[0]
    receiver.on_head(200, GRPC)
    receiver.on_data(message(generated_token_count=1, text="x", stop_reason=2))
    receiver.on_end(OK)
    (line,) = client.body.splitlines()
    assert json.loads(line)["choices"][0]["text"] == "x"


@pytest.mark.parametrize(("runtime", "cancelled"), [("caikit-tgis", []), ("vllm-amd", [0])])
def test_a_runtime_that_a_cut_stream_harms_is_read_to_its_end(runtime: str, cancelled: list[int]) -> None:
    """caikit's REST side leaks a thread for each stream that is cut, so a client's leaving does not reach it."""
    asked = wire.SingleGenerationRequest(model_id="m", request=wire.GenerationRequest(text="a"))
    body = b"".join(frame([wire.encode_SingleGenerationRequest(asked)]))
    client, upstream, sink = begun(runtime, "rest", "/fmaas.GenerationService/GenerateStream", body, grpc=True)
    sink.on_cancel()
    assert upstream.cancelled == cancelled
    upstream.calls[0][1].on_head(200, EVENTS)
    upstream.calls[0][1].on_data(b"data: {}\n\n")
    assert client.body == b""


def limited(stream: bool, *texts: str) -> tuple[Client, Upstream, RequestSink]:
    """A TGIS call with a time limit of 1.5 s to a vLLM runtime, which knows none."""
    params = wire.Parameters(stopping=wire.StoppingCriteria(time_limit_millis=1500))
    items = [wire.GenerationRequest(text=text) for text in texts]
    if stream:
        single = wire.SingleGenerationRequest(model_id="m", request=items[0], params=params)
        body = wire.encode_SingleGenerationRequest(single)
    else:
        body = wire.encode_BatchedGenerationRequest(
            wire.BatchedGenerationRequest(model_id="m", requests=items, params=params)
        )
    method = "GenerateStream" if stream else "Generate"
    return begun("vllm-amd", "rest", f"/fmaas.GenerationService/{method}", b"".join(frame([body])), grpc=True)


COUNTED = {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}


def test_a_stream_ends_at_its_time_limit(clock: Clock) -> None:
    """A runtime without time limits is stopped in time, and the text ends as it is, with the reason."""
    client, upstream, _ = limited(True, "a")
    request, receiver = upstream.calls[0]
    assert "time" not in json.loads(join(request.chunks))
    receiver.on_head(200, EVENTS)
    receiver.on_data(event(choices=choice("x"), usage=COUNTED))
    (seconds, out_of_time), *more = clock.waiting
    assert (seconds, more) == (1.5, [])
    out_of_time()
    *_, text, last = responses_of(client)
    assert (text.text, last.text, last.stop_reason, last.generated_token_count) == ("x", "", 4, 1)
    assert (client.trailers, upstream.cancelled) == (OK, [0])


def test_a_batch_ends_at_its_time_limit(clock: Clock) -> None:
    """For a whole answer the runtime streams, so that there is something to answer with when the time is over."""
    client, upstream, _ = limited(False, "a", "b", "c")
    for request, receiver in upstream.calls[:2]:
        assert json.loads(join(request.chunks))["stream"] is True
        receiver.on_head(200, EVENTS)
        receiver.on_data(event(choices=choice("x"), usage=COUNTED))
    upstream.calls[0][1].on_data(event(choices=choice("", "length"), usage=COUNTED))
    clock.waiting[0][1]()
    (message,) = unframe(client.body, "identity", 1 << 20)
    answers = wire.decode_BatchedGenerationResponse(join(message), []).responses
    assert [(each.text, each.stop_reason) for each in answers] == [("x", 6), ("x", 4), ("", 4)]
    assert sorted(upstream.cancelled) == [0, 1, 2]


def test_a_text_in_time_knows_no_limit(clock: Clock) -> None:
    """The clock stops when all is answered, when the call fails, and when the client has left."""
    client, upstream, _ = limited(False, "a")
    receiver = upstream.calls[0][1]
    receiver.on_head(200, EVENTS)
    receiver.on_data(event(choices=choice("x", "stop"), usage=COUNTED) + b"data: [DONE]\n\n")
    receiver.on_end(())
    assert (client.ended, clock.cancelled) == (True, 1)
    _, upstream, _ = limited(True, "a")
    upstream.calls[0][1].on_failure(BridgeError(Code.UNAVAILABLE, "gone"))
    assert clock.cancelled == 2
    _, _, sink = limited(True, "a")
    sink.on_cancel()
    assert clock.cancelled == 3


@pytest.mark.parametrize(
    ("said", "told"), [("7", "7"), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("-1", None), ("٣", None)]
)
def test_when_to_try_again_crosses_the_bridge(said: str, told: str | None) -> None:
    """The seconds of a REST runtime's `Retry-After` reach a gRPC client as metadata; a date does not."""
    client, upstream, _ = generate_stream()
    _, receiver = upstream.calls[0]
    receiver.on_head(429, (("content-type", "application/json"), ("retry-after", said)))
    receiver.on_data(b'{"error":{"message":"busy"}}')
    receiver.on_end(())
    assert (client.get("grpc-status"), client.get("grpc-message"), client.get("retry-after")) == ("8", "busy", told)


def test_an_empty_batch_is_answered_without_the_runtime() -> None:
    """fmaas' answer to no texts is no texts; a REST runtime would call it an error."""
    body = b"".join(frame([wire.encode_BatchedGenerationRequest(wire.BatchedGenerationRequest(model_id="m"))]))
    client, upstream, _ = begun("vllm-amd", "rest", "/fmaas.GenerationService/Generate", body, grpc=True)
    assert upstream.calls == []
    assert (client.get("grpc-status"), client.body) == ("0", b"\0\0\0\0\0")
