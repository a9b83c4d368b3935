"""An API that is REST alone, called over gRPC: real grpcio at one end, a small HTTP server at the other."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

import inferbridge_generated
from gateway.serving import TIMEOUT, curl, serving
from gateway.test_connect import Tgis
from inferbridge.bridge.transcode import open_pool
from inferbridge.config import Flags
from inferbridge.gateway import build

SERVICE = "inferbridge.openai.OpenaiService"
POOL = open_pool((Path(inferbridge_generated.__file__).parent / "openai/rest_service.binpb").read_bytes())
COMPLETION = {
    "id": "cmpl-1",
    "object": "text_completion",
    "created": 7,
    "model": "m",
    "choices": [{"index": 0, "text": "hi", "finish_reason": "stop", "stop_reason": None}],
    "usage": {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3},
    "kv_transfer_params": None,
    "brand_new": {"x": 1},
}


def message(name: str, **fields: Any) -> Message:
    """A message of the service's package."""
    made = GetMessageClass(POOL.FindMessageTypeByName(f"inferbridge.openai.{name}"))()
    return json_format.ParseDict(fields, made)


def decoder(name: str) -> Any:
    """What reads a message."""
    return GetMessageClass(POOL.FindMessageTypeByName(f"inferbridge.openai.{name}")).FromString


class Vllm:
    """An HTTP server that remembers what it was asked and answers as told."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        self.status = 200
        self.kind = "application/json"
        self.body = json.dumps(COMPLETION)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        while head := await reader.readuntil(b"\r\n\r\n"):
            first, *lines = head.decode().rstrip().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines)
            size = int(headers.get("content-length", 0))
            data = await reader.readexactly(size) if size else b""
            method, target, _ = first.split()
            self.asked.append((method, target, headers, json.loads(data) if data else None))
            writer.write(
                f"HTTP/1.1 {self.status} X\r\ncontent-type: {self.kind}\r\nx-request-id: 1\r\n"
                f"content-length: {len(self.body.encode())}\r\n\r\n{self.body}".encode()
            )

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the other side leaves."""
        try:
            await self.handle(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """Run; gives the port."""
        async with await asyncio.start_server(self.connected, "127.0.0.1", 0) as server:
            yield server.sockets[0].getsockname()[1]


@pytest.fixture
async def served(confdir: Path) -> AsyncIterator[tuple[Vllm, str]]:
    """The server behind a gateway, and the gateway's address."""
    vllm = Vllm()
    async with vllm.serving() as upstream:
        settings = build.settings(None, {}, Flags(upstream=(f"vllm-nvidia=http://127.0.0.1:{upstream}",)))
        application = build.application(settings)
        async with serving(application, confdir) as port, asyncio.timeout(TIMEOUT):
            yield vllm, f"127.0.0.1:{port}"
        await application.close()


@pytest.fixture
async def gateway(served: tuple[Vllm, str]) -> AsyncIterator[tuple[Vllm, grpc.aio.Channel]]:
    """The server behind a gateway, and a gRPC channel to the gateway."""
    vllm, address = served
    async with grpc.aio.insecure_channel(address) as channel:
        yield vllm, channel


def unary(channel: grpc.aio.Channel, method: str, reply: str) -> Any:
    """A stub of one method."""
    return channel.unary_unary(
        f"/{SERVICE}/{method}",
        request_serializer=lambda each: each.SerializeToString(),
        response_deserializer=decoder(reply),
    )


async def test_a_message_is_a_body_and_back(gateway: tuple[Vllm, grpc.aio.Channel]) -> None:
    """Every field crosses, those without a counterpart elsewhere too; numbers keep all digits; null says nothing."""
    vllm, channel = gateway
    asked = message("CompletionRequest", model="m", prompt=["a", "b"], seed=str(2**63 + 1), best_of=2, temperature=0.0)
    call = unary(channel, "Completions", "Completion")(asked, metadata=(("x-who", "me"),))
    answer = await call
    method, target, headers, body = vllm.asked[0]
    assert (method, target) == ("POST", "/v1/completions")
    assert body == {
        "model": "m", "prompt": ["a", "b"], "seed": 2**63 + 1, "best_of": 2, "temperature": 0.0, "stream": False,
    }  # fmt: skip
    assert headers["x-who"] == "me"
    assert headers["content-type"] == "application/json"
    assert answer.choices[0].text == "hi"
    assert answer.usage.total_tokens == 3
    assert not answer.choices[0].HasField("stop_reason")
    assert ("x-inferbridge-lost", "brand_new") in tuple(await call.trailing_metadata())


async def test_events_are_messages(gateway: tuple[Vllm, grpc.aio.Channel]) -> None:
    """Each event is a message, the mark of success is the status."""
    vllm, channel = gateway
    vllm.kind = "text/event-stream"
    chunk = {"id": "c", "object": "text_completion", "choices": [{"index": 0, "text": "x"}]}
    vllm.body = f"data: {json.dumps(chunk)}\n\n" * 2 + "data: [DONE]\n\n"
    stub = channel.unary_stream(
        f"/{SERVICE}/CompletionsStream",
        request_serializer=lambda each: each.SerializeToString(),
        response_deserializer=decoder("Completion"),
    )
    texts = [each.choices[0].text async for each in stub(message("CompletionRequest", prompt="a"))]
    assert texts == ["x", "x"]
    assert vllm.asked[0][3] == {"prompt": "a", "stream": True}


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (
            'data: {"error":{"message":"bad regex","type":"BadRequestError","code":400}}\n\ndata: [DONE]\n\n',
            3,
            "bad regex",
        ),
        ('data: {"choices":[]}\n\n', 14, "broke off"),
    ],
)
async def test_a_stream_that_fails_has_a_status(
    gateway: tuple[Vllm, grpc.aio.Channel], body: str, code: int, words: str
) -> None:
    """An error event and a missing mark of success are the status of the call."""
    vllm, channel = gateway
    vllm.kind, vllm.body = "text/event-stream", body
    stub = channel.unary_stream(
        f"/{SERVICE}/ChatStream",
        request_serializer=lambda each: each.SerializeToString(),
        response_deserializer=decoder("Chat"),
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        _ = [each async for each in stub(message("ChatRequest", messages=[{"role": "user", "content": "a"}]))]
    assert caught.value.code().value[0] == code
    assert words in str(caught.value.details())


async def test_an_error_answer_is_a_status(gateway: tuple[Vllm, grpc.aio.Channel]) -> None:
    """vLLM's error object becomes code and message."""
    vllm, channel = gateway
    vllm.status, vllm.body = 404, '{"error":{"message":"no such model","type":"NotFoundError","code":404}}'
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await unary(channel, "Completions", "Completion")(message("CompletionRequest", model="x", prompt="a"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "no such model"


@pytest.mark.parametrize(("status", "ready"), [(200, True), (503, False)])
async def test_a_status_is_a_bool(gateway: tuple[Vllm, grpc.aio.Channel], status: int, ready: bool) -> None:
    """Where the HTTP status says all, the message has a field for it."""
    vllm, channel = gateway
    vllm.status, vllm.body = status, ""
    answer = await unary(channel, "Health", "HealthAnswer")(message("HealthCall"))
    assert answer.ready is ready
    assert vllm.asked[0][:2] == ("GET", "/health")


async def test_a_field_of_a_newer_proto_is_refused(gateway: tuple[Vllm, grpc.aio.Channel]) -> None:
    """What the schema does not know is no member of a body, so the call is refused by number."""
    vllm, channel = gateway
    stub = channel.unary_unary(f"/{SERVICE}/Version", response_deserializer=decoder("Version"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub(b"\x98\x06\x01")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "VersionCall#99" in str(caught.value.details())
    assert vllm.asked == []


async def test_two_messages_are_refused(gateway: tuple[Vllm, grpc.aio.Channel]) -> None:
    """The methods take one message."""
    _, channel = gateway
    stub = channel.stream_unary(
        f"/{SERVICE}/Completions",
        request_serializer=lambda each: each.SerializeToString(),
        response_deserializer=decoder("Completion"),
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub(iter([message("CompletionRequest", prompt="a")] * 2))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_runtime_of_another_api_serves_it_too(confdir: Path) -> None:
    """The REST call is an ordinary one of the gateway: in front of a TGIS upstream it is translated."""
    runtime = Tgis()
    async with runtime.serving() as upstream:
        settings = build.settings(None, {}, Flags(upstream=(f"tgis=grpc://127.0.0.1:{upstream}",)))
        application = build.application(settings)
        async with (
            serving(application, confdir) as port,
            asyncio.timeout(TIMEOUT),
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            stub = unary(channel, "Completions", "Completion")
            answer = await stub(message("CompletionRequest", model="m", prompt="a"))
            assert answer.choices[0].text == "a!"
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub(message("CompletionRequest", model="m", prompt="a", best_of=3))
            assert "best_of" in str(caught.value.details())
        await application.close()


def _by_reflection(address: str) -> str:
    """The text of a completion asked for without a .proto; grpcio's reflection client knows no asyncio."""
    with grpc.insecure_channel(address) as channel:
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        method = pool.FindServiceByName(SERVICE).FindMethodByName("Completions")
        asked = json_format.ParseDict({"model": "m", "prompt": "a"}, GetMessageClass(method.input_type)())
        call = channel.unary_unary(
            f"/{SERVICE}/{method.name}",
            request_serializer=lambda each: each.SerializeToString(),
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        return str(call(asked, timeout=TIMEOUT).choices[0].text)


async def test_no_proto_is_needed(served: tuple[Vllm, str]) -> None:
    """Reflection tells all that a client needs to make the messages and to call the method."""
    _, address = served
    assert await asyncio.to_thread(_by_reflection, address) == "hi"


async def test_json_is_enough(served: tuple[Vllm, str]) -> None:
    """The service answers in Connect's form too: a stream of lines for curl, and OpenAI's error by its code."""
    vllm, address = served
    vllm.kind = "text/event-stream"
    chunk = {"choices": [{"index": 0, "text": "x"}]}
    vllm.body = f"data: {json.dumps(chunk)}\n\n" * 2 + "data: [DONE]\n\n"
    url = f"http://{address}/{SERVICE}/CompletionsStream"
    lines = (await curl("-d", '{"prompt":"a"}', url)).splitlines()
    assert [json.loads(line) for line in lines] == [{"choices": [{"index": "0", "text": "x"}]}] * 2
    vllm.status, vllm.kind = 404, "application/json"
    vllm.body = '{"error":{"message":"no such model","type":"NotFoundError","code":404}}'
    answer = json.loads(await curl("-d", '{"prompt":"a"}', url))
    assert answer == {"code": "not_found", "message": "no such model"}
