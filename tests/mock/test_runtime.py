"""Mocked runtimes in memory: every endpoint answers, with what a client of its API can read."""

import asyncio
import json
from itertools import pairwise
from typing import Any

import pytest

from inferbridge.bridge.context import Context, RuntimeProfile, Setting
from inferbridge.bridge.errors import Code
from inferbridge.bridge.framing import GRPC_HEADERS, frame
from inferbridge.bridge.matching import half_of
from inferbridge.bridge.registry import Endpoint, GrpcHalf, RestHalf
from inferbridge.bridge.values import GrpcRequest, HttpRequest
from inferbridge.gateway.application import RequestHead
from inferbridge.mock.script import Failure, Scenario, Script
from inferbridge.mock.values import hints
from inferbridge.protos import methods
from inferbridge_generated import operations
from inferbridge_generated.registry import APIS
from inferbridge_generated.runtimes import PROFILES
from mock_calls import Heard, ask, begin, runtime

COMPLETIONS = "/v1/completions"
GENERATE = "/fmaas.GenerationService/GenerateStream"


def every_binding() -> list[tuple[RuntimeProfile, str, str]]:
    """Each endpoint of each runtime over each protocol that it has a port for."""
    return [
        (profile, name, protocol)
        for profiles in PROFILES.values()
        for profile in profiles
        for name in APIS[profile.api].endpoints
        for protocol in profile.ports
        if half_of(APIS[profile.api], name, protocol, profile.variant) is not None
    ]


def example(endpoint: Endpoint, half: RestHalf | GrpcHalf) -> Any:
    """A small request that the binding can say: a model, and a chat or the first list of texts, of both to compare."""
    if endpoint.operation == "infer":
        x, y = (operations.Tensor(name=name, datatype="INT32", shape=[1], data=b"\1\0\0\0") for name in "xy")
        return operations.InferRequest(model="m", inputs=[x, y])
    kind = getattr(operations, "".join(map(str.capitalize, endpoint.operation.split("_"))) + "Request")
    said = {name: hint for name, hint in hints(kind).items() if name in half.fields}
    texts = [name for name, hint in said.items() if hint == list[str]][: 2 if endpoint.operation == "similarity" else 1]
    made: dict[str, Any] = {**{name: ["a b"] for name in texts}, **({"model": "m"} if "model" in hints(kind) else {})}
    if "messages" in said:
        made = {"model": "m", "messages": [{"role": "user", "content": "a b"}]}
    return kind(**made)


@pytest.mark.parametrize(
    ("profile", "name", "protocol"), every_binding(), ids=lambda value: getattr(value, "name", value)
)
async def test_every_endpoint_answers_what_its_clients_can_read(
    profile: RuntimeProfile, name: str, protocol: str
) -> None:
    """A call made by the half-bridge of a binding gets an answer that the same half-bridge reads."""
    endpoint = APIS[profile.api].endpoints[name]
    half = half_of(APIS[profile.api], name, protocol, profile.variant)
    assert half is not None
    context = Context(profile, setting=Setting(operations=operations))
    request = example(endpoint, half)
    heard = await ask(runtime(profile.name, protocol, api=profile.api), half.encode_request(request, context))
    context.replying = True
    if half.decode_reply is not None:
        half.decode_reply(heard.reply(protocol), request, context)  # type: ignore[arg-type]  # of the same protocol
    else:
        assert half.decode_message is not None
        read = [half.decode_message(message, context) for message in wire_messages(half, heard)]
        assert len(read) > 1
    assert not context.losses


def wire_messages(half: RestHalf | GrpcHalf, heard: Heard) -> list[bytes]:
    """The messages of a stream without their frames."""
    if isinstance(half, GrpcHalf):
        assert heard.code == 0
        return heard.messages
    return events(heard)


def events(heard: Heard) -> list[bytes]:
    """The data of all events."""
    return [line.removeprefix(b"data: ") for line in heard.body.splitlines() if line.startswith(b"data: ")]


def completion(**more: Any) -> HttpRequest:
    """A call of completions."""
    return HttpRequest("POST", COMPLETIONS, (), (json.dumps({"model": "m", "prompt": "a b", **more}).encode(),))


def tgis_stream(text: str) -> GrpcRequest:
    """A streamed call of TGIS."""
    body = json.dumps({"model_id": "m", "request": {"text": text}}).encode()
    return GrpcRequest(GENERATE, (), ((methods("tgis").request_from_json(GENERATE, body),),))


async def test_a_stream_has_a_message_for_each_token_and_ends_well() -> None:
    """First the input, then a word a message with its count, then the reason; over gRPC and as events."""
    heard = await ask(runtime("tgis", "grpc"), tgis_stream("a b"))
    said = [json.loads(methods("tgis").reply_to_json(GENERATE, message)) for message in heard.messages]
    assert said == [
        {"input_token_count": 2},
        {"text": "a", "generated_token_count": 1},
        {"text": " b", "generated_token_count": 2},
        {"generated_token_count": 3, "stop_reason": "EOS_TOKEN"},
    ]
    assert heard.code == 0
    heard = await ask(runtime("vllm-amd", "rest"), completion(stream=True))
    *chunks, done = events(heard)
    assert done == b"[DONE]"
    assert [json.loads(chunk)["choices"][0]["text"] for chunk in chunks] == ["a", " b", ""]
    assert json.loads(chunks[-1])["choices"][0]["finish_reason"] == "stop"


async def test_usage_stands_in_every_message_that_asks_for_it() -> None:
    """`continuous_usage_stats` of the OpenAI API: counts so far with each chunk, role and usage chunk included."""
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "a b"}]}
    body["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
    call = HttpRequest("POST", "/v1/chat/completions", (), (json.dumps(body).encode(),))
    heard = await ask(runtime("vllm-amd", "rest"), call)
    usages = [json.loads(chunk)["usage"] for chunk in events(heard)[:-1]]
    assert {usage["prompt_tokens"] for usage in usages} == {2}
    assert [usage["completion_tokens"] for usage in usages] == [0, 1, 2, 3, 3]
    assert all(usage["total_tokens"] == usage["completion_tokens"] + 2 for usage in usages)


async def test_the_same_calls_get_the_same_answers() -> None:
    """Nothing depends on the clock or on chance, ids and dates included."""
    mocks = (runtime("vllm-amd", "rest"), runtime("vllm-amd", "rest"))
    first, second = [[(await ask(mock, completion())).body for _ in range(2)] for mock in mocks]
    assert first == second
    assert first[0] != first[1]  # each answer has an id of its own


@pytest.mark.parametrize(
    ("call", "name", "protocol", "status", "said"),
    [
        (completion(oops=1), "vllm-amd", "rest", 400, "oops"),
        (HttpRequest("GET", "/nowhere"), "vllm-amd", "rest", 404, "no endpoint for GET /nowhere"),
        (HttpRequest("GET", COMPLETIONS), "vllm-amd", "rest", 405, "use POST"),
        (tgis_stream("a"), "vllm-amd", "rest", 415, "this port speaks rest only"),
    ],
)
async def test_what_the_runtime_would_refuse_is_refused(
    call: HttpRequest | GrpcRequest, name: str, protocol: str, status: int, said: str
) -> None:
    """Calls that mean nothing get an error that says why."""
    heard = await ask(runtime(name, protocol), call)
    if isinstance(call, HttpRequest):
        assert heard.status == status
        assert said in heard.body.decode()
    else:
        assert heard.code == Code.UNIMPLEMENTED


def scripted(endpoint: str, **script: Any) -> Scenario:
    """A scenario of one endpoint."""
    return Scenario(Script(), {endpoint: script})


@pytest.mark.parametrize(("code", "status"), [(Code.UNAVAILABLE, 503), (Code.RESOURCE_EXHAUSTED, 429)])
async def test_scripted_errors_have_the_status_of_the_api(code: Code, status: int) -> None:
    """An error before the first message is an answer with its own status, streamed or not."""
    mock = runtime("vllm-amd", "rest", scripted("openai/completions", error=Failure(code)))
    for stream in (False, True):
        heard = await ask(mock, completion(stream=stream))
        assert heard.status == status
        assert json.loads(heard.body)["error"]["message"] == f"{code.name}, as the mock was told"


@pytest.mark.parametrize("after", [1, 2, 99])
async def test_scripted_errors_break_a_stream_off(after: int) -> None:
    """After so many messages the error stands in the stream, and no mark of success follows."""
    mock = runtime("vllm-amd", "rest", scripted("openai/completions", error=Failure(Code.INTERNAL, after)))
    heard = await ask(mock, completion(stream=True))
    *chunks, error = events(heard)
    assert len(chunks) == min(after, 3)
    assert "as the mock was told" in error.decode()
    mock = runtime("tgis", "grpc", scripted("tgis/generate_stream", error=Failure(Code.ABORTED, after)))
    heard = await ask(mock, tgis_stream("a b"))
    assert (len(heard.messages), heard.code) == (min(after, 4), Code.ABORTED)


async def test_fixed_answers_are_said_as_they_are() -> None:
    """The JSON of a scenario is the answer, over REST and, as a message, over gRPC; a list is a stream."""
    mock = runtime("vllm-amd", "rest", scripted("openai/completions", answer={"any": "thing"}))
    heard = await ask(mock, completion())
    assert json.loads(heard.body) == {"any": "thing"}
    assert events(await ask(mock, completion(stream=True))) == [b'{"any":"thing"}', b"[DONE]"]
    answer = [{"text": "one"}, {"text": "two", "stop_reason": "ERROR"}]
    mock = runtime("tgis", "grpc", scripted("tgis/generate_stream", answer=answer))
    heard = await ask(mock, tgis_stream("a"))
    assert [json.loads(methods("tgis").reply_to_json(GENERATE, message)) for message in heard.messages] == answer
    mock = runtime("tgis", "grpc", scripted("tgis/generate_stream", answer={"no_such": 1}))
    assert (await ask(mock, tgis_stream("a"))).code == Code.INVALID_ARGUMENT


async def test_requests_of_one_stream_are_answered_as_they_come() -> None:
    """A client of ModelStreamInfer has its answer before it sends the next request; an error is a message of it."""
    rpc = "/inference.GRPCInferenceService/ModelStreamInfer"
    good, wrong = (
        b"".join(frame(((methods("open-inference").request_from_json(rpc, json.dumps(body).encode()),),)))
        for body in (
            {"model_name": "m", "id": "7", "inputs": [{"name": "x", "datatype": "INT8", "shape": [1]}],
             "raw_input_contents": ["Bw=="]},
            {"model_name": "m", "inputs": [{"name": "x", "datatype": "NONE", "shape": [1]}]},
        )
    )  # fmt: skip
    heard = Heard()
    sink = runtime("triton", "grpc").open(RequestHead("POST", rpc, "", GRPC_HEADERS, "2"), heard)
    for request in (good, wrong, good):
        heard.more.clear()
        sink.on_data(request)
        async with asyncio.timeout(5):
            await heard.more.wait()
    sink.on_end()
    async with asyncio.timeout(5):
        await heard.over.wait()
    first, error, last = (
        json.loads(methods("open-inference").reply_to_json(rpc, message)) for message in heard.messages
    )
    assert first == last
    assert first["infer_response"]["raw_output_contents"] == ["Bw=="]
    assert "NONE" in error["error_message"]
    assert heard.code == 0


async def test_each_message_waits() -> None:
    """A delay stands before every message, and ends when the client leaves."""
    clock: list[float] = []
    mock = runtime("tgis", "grpc", scripted("tgis/generate_stream", delay=0.01))
    heard, over = begin(mock, tgis_stream("a b"))
    loop = over.get_loop()
    note = heard.data
    heard.data = lambda data: (clock.append(loop.time()), note(data))[1]  # type: ignore[method-assign]
    started = loop.time()
    await over
    assert all(later - earlier >= 0.009 for earlier, later in pairwise([started, *clock]))
    assert len(clock) == 4
