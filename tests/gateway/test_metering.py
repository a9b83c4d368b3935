"""How many tokens answers used, over a bridge and passed through, with clients and runtimes in memory."""

import json
import logging
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.test_service import Client
from gateway.test_translating import (
    EVENTS,
    GRPC,
    OK,
    Upstream,
    begun,
    choice,
    completion,
    event,
    generate_stream,
    message,
)
from inferbridge.bridge.context import Policy, Setting
from inferbridge.bridge.framing import frame
from inferbridge.bridge.values import Headers, header
from inferbridge.gateway.application import RequestHead
from inferbridge.gateway.calls.targets import Target
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.records.usage import Tally, Usage
from inferbridge.gateway.service import GatewayService
from inferbridge_generated import operations
from inferbridge_generated.registry import APIS
from inferbridge_generated.runtimes import PROFILES
from inferbridge_generated.tgis import wire

JSON: Headers = (("content-type", "application/json"),)
BODY = b'{"model":"m","prompt":"a"}'
USAGE = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
WHOLE = {"choices": [{"index": 0, "text": "hi", "finish_reason": "stop"}], "vendor": 1}


@pytest.fixture(autouse=True)
def no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs of life need an event loop, which these tests have none of."""
    monkeypatch.setattr("inferbridge.gateway.calls.pulse.Pulse.start", lambda self: None)


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[Usage]:
    """What the calls of a test are found to use."""
    return counted(monkeypatch)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Usage]:
    """Have the tokens of all calls counted."""
    found: list[Usage] = []
    monkeypatch.setattr("inferbridge.gateway.calls.exchange.booking", lambda lease: found.append)
    return found


def answer(upstream: Upstream, pieces: Iterable[bytes], headers: Headers = JSON, number: int = 0) -> None:
    """The runtime answers its call with a body, or a stream."""
    _, receiver = upstream.calls[number]
    receiver.on_head(200, headers)
    for piece in pieces:
        receiver.on_data(piece)
    receiver.on_end(OK if headers == GRPC else ())


def passed(body: bytes = BODY, path: str = "/v1/completions", runtime: str = "vllm-amd") -> tuple[Client, Upstream]:
    """A REST call that its runtime speaks itself."""
    client, upstream, _ = begun(runtime, "rest", path, body)
    return client, upstream


def generated(*responses: wire.GenerationResponse) -> bytes:
    """A framed TGIS answer."""
    return b"".join(frame([wire.encode_BatchedGenerationResponse(wire.BatchedGenerationResponse(list(responses)))]))


def total(used: list[Usage]) -> tuple[int, int]:
    """All of it."""
    return sum(each.prompt_tokens for each in used), sum(each.completion_tokens for each in used)


def vllm(upstream: Upstream) -> GatewayService:
    """A gateway in front of vLLM."""
    setting = Setting(operations=operations)
    targets = [Target("vllm", profile, "rest", upstream, ("*",), setting) for profile in PROFILES["vllm-amd"]]
    return GatewayService(targets, APIS, Policy(), Limits())


def ask(service: GatewayService, headers: Headers) -> Client:
    """Who asks for a completion."""
    client = Client()
    sink = service.open(RequestHead("POST", "/v1/completions", "a", headers, "1.1"), client)
    sink.on_data(BODY)
    sink.on_end()
    return client


# over a bridge


def test_a_whole_answer_over_a_bridge(used: list[Usage]) -> None:
    """The counts of the runtime's answer are known before the client has its own."""
    client, upstream, _ = completion(stream=False)
    assert used == []
    answer(upstream, [generated(wire.GenerationResponse(text="x", input_token_count=3, generated_token_count=2))], GRPC)
    assert used == [(3, 2)]
    assert json.loads(client.body)["usage"]["total_tokens"] == 5


def test_a_stream_over_a_bridge_is_counted_message_by_message(used: list[Usage]) -> None:
    """Counts of a TGIS stream are cumulative, what is told is what each message adds."""
    _, upstream, _ = completion(stream=True)
    _, receiver = upstream.calls[0]
    receiver.on_head(200, GRPC)
    receiver.on_data(message(input_token_count=4))
    assert used == [(4, 0)]
    receiver.on_data(message(text="a", generated_token_count=1) + message(text="bc", generated_token_count=3))
    assert used == [(4, 0), (0, 1), (0, 2)]
    receiver.on_data(message(generated_token_count=3, stop_reason=2))
    receiver.on_end(OK)
    assert total(used) == (4, 3)


def test_a_grpc_client_of_a_rest_stream(used: list[Usage]) -> None:
    """OpenAI's usage in each event, and the last one with usage alone, are the same tokens."""
    client, upstream, _ = generate_stream()
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    events = [event(choices=choice("a"), usage=usage)]
    events += [event(choices=choice("b", "stop"), usage=usage | {"completion_tokens": 2})]
    events += [event(choices=[], usage=usage | {"completion_tokens": 2}), b"data: [DONE]\n\n"]
    answer(upstream, events, EVENTS)
    assert total(used) == (3, 2)
    assert client.get("grpc-status") == "0"


def test_the_legs_of_a_batch_add_up(used: list[Usage]) -> None:
    """Each call of the runtime that one of the client's became has its own tokens."""
    _, upstream, _ = completion(stream=True, prompt=["a", "b"])
    for number, tokens in enumerate((2, 5)):
        pieces = [message(input_token_count=tokens), message(text="x", generated_token_count=1, stop_reason=2)]
        answer(upstream, pieces, GRPC, number)
    assert total(used) == (7, 2)


def test_the_texts_of_a_whole_answer_add_up(used: list[Usage]) -> None:
    """A batch that the runtime answers at once is counted with all of its prompts."""
    _, upstream, _ = completion(stream=False, prompt=["a", "b"])
    responses = [wire.GenerationResponse(text="x", input_token_count=n, generated_token_count=1) for n in (2, 5)]
    answer(upstream, [generated(*responses)], GRPC)
    assert total(used) == (7, 2)


def test_an_error_of_the_runtime_uses_nothing(used: list[Usage], caplog: pytest.LogCaptureFixture) -> None:
    """Neither over a bridge nor passed through, and the log says nothing of it."""
    _, upstream, _ = completion(stream=False)
    _, receiver = upstream.calls[0]
    receiver.on_head(200, (*GRPC, ("grpc-status", "3"), ("grpc-message", "no")))
    receiver.on_end(())
    client, upstream = passed()
    _, receiver = upstream.calls[0]
    receiver.on_head(400, JSON)
    receiver.on_data(b"{")
    receiver.on_end(())
    assert (client.status, client.body, used, caplog.records) == (400, b"{", [], [])


# passed through


def test_a_whole_answer_that_is_passed_through(used: list[Usage]) -> None:
    """It reaches the client byte for byte, whatever fields it has, and is counted."""
    body = json.dumps(WHOLE | {"usage": USAGE}).encode()
    client, upstream = passed()
    answer(upstream, [body[:9], body[9:]])
    assert (client.body, used) == (body, [(3, 5)])


def test_embeddings_have_prompts_alone(used: list[Usage]) -> None:
    """Of an operation that generates nothing the prompt's tokens are all."""
    body = {"data": [{"index": 0, "embedding": [0.5]}], "usage": {"prompt_tokens": 6, "total_tokens": 6}}
    client, upstream = passed(b'{"model":"m","input":"a"}', "/v1/embeddings")
    answer(upstream, [json.dumps(body).encode()])
    assert client.ended
    assert used == [(6, 0)]


def stream_of(*texts: str, usage: Any = None) -> bytes:
    """A stream of completions."""
    events = [event(choices=choice(text)) for text in texts]
    events += [event(choices=[], usage=usage)] if usage else []
    return b"".join([*events, b"data: [DONE]\n\n"])


def test_a_stream_that_says_its_usage(used: list[Usage]) -> None:
    """Text by text at first, and by its own count in the end, which is no less."""
    client, upstream = passed()
    stream = stream_of("a", "b", "", usage=USAGE)
    answer(upstream, [stream[:70], stream[70:]], EVENTS)
    assert (client.body, total(used)) == (stream, (3, 5))
    assert used[0] == (0, 1)


def test_a_stream_that_does_not_say_counts_at_least_its_texts(used: list[Usage]) -> None:
    """Without `stream_options.include_usage` each message with text is one token, and the prompt none."""
    _, upstream = passed()
    answer(upstream, [stream_of("a", "b", "")], EVENTS)
    assert total(used) == (0, 2)


def test_reasoning_and_calls_of_tools_are_generated_too(used: list[Usage]) -> None:
    """A chat that has no text yet has tokens all the same."""
    _, upstream = passed(b'{"model":"m","messages":[]}', "/v1/chat/completions")
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": ""},
        {"reasoning": "hm"},
        {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]},
    ]
    answer(upstream, [event(choices=[{"index": 0, "delta": delta}]) for delta in deltas], EVENTS)
    assert total(used) == (0, 2)


def test_the_answers_of_one_prompt_share_it(used: list[Usage]) -> None:
    """With usage in every event of several texts, the texts add up and the prompt does not."""
    _, upstream = passed()
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    events = [event(choices=[{"index": index, "text": "x"}], usage=usage) for index in (0, 1)]
    answer(upstream, events, EVENTS)
    assert total(used) == (3, 4)


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_grpc_that_is_passed_through(size: int, used: list[Usage]) -> None:
    """Unary and streamed, in whatever pieces it arrives."""
    for rpc, body in (
        ("Generate", generated(wire.GenerationResponse(text="x", input_token_count=3, generated_token_count=2))),
        ("GenerateStream", message(input_token_count=3) + message(text="x", generated_token_count=2)),
    ):
        used.clear()
        client, upstream, _ = begun("tgis", "grpc", f"/fmaas.GenerationService/{rpc}", b"\0\0\0\0\0", grpc=True)
        answer(upstream, [body[at : at + size] for at in range(0, len(body), size)], GRPC)
        assert (client.body, client.trailers, total(used)) == (body, OK, (3, 2))


def test_lines_instead_of_events_are_counted(used: list[Usage]) -> None:
    """The copy is of what the runtime sends, in whatever framing the client gets it."""
    upstream = Upstream()
    client = ask(vllm(upstream), (*JSON, ("accept", "application/x-ndjson")))
    answer(upstream, [stream_of("a", usage=USAGE)], EVENTS)
    assert header(client.headers, "content-type") == "application/x-ndjson"
    assert total(used) == (3, 5)


def test_the_runtime_is_not_asked_to_compress(used: list[Usage]) -> None:
    """A compressed copy would say nothing, so no compression is offered for a call that is counted."""
    upstream = Upstream()
    ask(vllm(upstream), (*JSON, ("accept-encoding", "gzip")))
    assert header(upstream.calls[0][0].headers, "accept-encoding") is None


def test_nothing_is_read_of_calls_that_nobody_counts() -> None:
    """Without a limit of tokens the runtime's answer goes to the client as directly as ever."""
    upstream = Upstream()
    ask(vllm(upstream), (*JSON, ("accept-encoding", "gzip")))
    request, receiver = upstream.calls[0]
    assert type(receiver).__name__ == "PassthroughAnswer"
    assert header(request.headers, "accept-encoding") == "gzip"


def test_operations_without_tokens_are_not_read(used: list[Usage]) -> None:
    """Tensors are none of our business here."""
    body = b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1]}]}'
    _, upstream = passed(body, "/v2/models/m/infer", "triton")
    assert type(upstream.calls[0][1]).__name__ == "PassthroughAnswer"
    assert used == []


def test_an_answer_that_cannot_be_read_reaches_its_client(used: list[Usage], caplog: pytest.LogCaptureFixture) -> None:
    """It counts as unknown, and the log has one line for the endpoint."""
    upstream = Upstream()
    service = vllm(upstream)
    for number in range(3):
        client = ask(service, JSON)
        answer(upstream, [b"no JSON"], number=number)
        assert (client.body, client.ended) == (b"no JSON", True)
    assert used == []
    (record,) = caplog.records
    assert "openai/completions" in record.getMessage()
    assert record.levelno == logging.WARNING


def test_an_answer_without_counts_is_told_of_and_counts_its_texts(
    used: list[Usage], caplog: pytest.LogCaptureFixture
) -> None:
    """A model behind Triton that does not say how many tokens there were used one at least."""
    path = "/v2/models/m/generate"
    client, upstream = passed(b'{"text_input":"a"}', path, "triton")
    answer(upstream, [b'{"text_output":"hi"}'])
    assert client.ended
    assert total(used) == (0, 1)
    assert "no numbers of tokens" in caplog.text


@given(
    st.one_of(
        st.binary(max_size=200),
        st.builds(lambda at: stream_of("a", "b", usage=USAGE)[:at], st.integers(0, 400)),
        st.builds(lambda at: json.dumps(WHOLE | {"usage": USAGE}).encode()[:at], st.integers(0, 200)),
    ),
    st.sampled_from([JSON, EVENTS, GRPC, ()]),
    st.integers(1, 50),
    st.sampled_from([200, 404]),
)
def test_reading_never_changes_an_answer(body: bytes, headers: Headers, size: int, status: int) -> None:
    """Whatever a runtime answers, whole or broken, a client gets the same with its tokens counted and without."""
    got = []
    for count in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if count:
                counted(patch)
            client, upstream = passed()
        _, receiver = upstream.calls[0]
        receiver.on_head(status, headers)
        for at in range(0, len(body), size):
            receiver.on_data(body[at : at + size])
        receiver.on_end(())
        got.append(client)
    assert got[0] == got[1]


@given(
    st.lists(st.tuples(st.integers(0, 2), st.one_of(st.none(), st.integers(0, 9)), st.text(max_size=1)), max_size=30)
)
def test_what_is_told_only_grows(said: list[tuple[int, int | None, str]]) -> None:
    """However a runtime counts, each step adds something and none takes back; texts count one at least."""
    used: list[Usage] = []
    tally = Tally(used.append, pytest.fail)
    for index, count, text in said:
        tally.message(operations.GenerateMessage(index=index, completion_tokens=count, text=text))
    assert all(step.prompt_tokens >= 0 and step.completion_tokens > 0 for step in used)
    if all(count is None for _, count, _ in said):
        assert total(used)[1] == sum(bool(text) for _, _, text in said)


def test_operations_are_found_by_their_names() -> None:
    """Each operation of an endpoint has a struct for what it answers, which tells whether it has tokens."""
    kinds = {endpoint.operation for api in APIS.values() for endpoint in api.endpoints.values()}
    counting = set()
    for kind in kinds:
        name = "".join(part.capitalize() for part in kind.split("_"))
        reply = getattr(operations, f"{name}Reply")
        if "total_tokens" in reply.__struct_fields__:
            counting.add(kind)
    assert counting == {"generate", "embed", "similarity", "rerank"}
