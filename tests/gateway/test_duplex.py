"""Calls in which both sides stream: a real gRPC client and server, the gateway between them on real sockets."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from gateway.serving import TIMEOUT, serving
from inferbridge.auth.authenticator import Chain
from inferbridge.auth.identity import Grant, Identity, Presented
from inferbridge.bridge.values import join
from inferbridge.config import Flags
from inferbridge.gateway import build
from inferbridge.gateway.calls.guard import Access, Guard
from inferbridge_generated.open_inference import wire
from inferbridge_generated.open_inference.mlserver import wire as mlserver
from upstream.h1_server import Answer, Request, h1_server

RPC = "/inference.GRPCInferenceService/ModelStreamInfer"


def asked(name: str) -> bytes:
    """A request that names itself."""
    tensor = wire.ModelInferRequest_InferInputTensor(name="x", datatype="INT32", shape=[1])
    request = wire.ModelInferRequest(model_name="m", id=name, inputs=[tensor], raw_input_contents=[b"\1\0\0\0"])
    return bytes(join(wire.encode_ModelInferRequest(request)))


class Runtime:
    """A gRPC server whose streams answer each message with itself, in upper case, at once."""

    def __init__(self) -> None:
        self.port = 0
        self.cancelled = asyncio.Event()
        self.slow = asyncio.Event()
        """Messages are read only after this is set."""
        self.slow.set()
        self.waits = False
        """It goes on after the last request."""

    async def stream(self, requests: AsyncIterator[bytes], context: object) -> AsyncIterator[bytes]:
        await self.slow.wait()
        async for request in requests:
            yield request.upper()
        if self.waits:
            try:  # requests end in the same way when the client says so and when it leaves; only then are we cancelled
                await asyncio.Event().wait()
            finally:
                self.cancelled.set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Runtime"]:
        server = grpc.aio.server()
        service, method = RPC[1:].split("/")
        handler = grpc.stream_stream_rpc_method_handler(self.stream)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        self.port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield self
        finally:
            await server.stop(None)


@asynccontextmanager
async def gateway(upstream: str, confdir: Path) -> AsyncIterator[grpc.aio.StreamStreamMultiCallable]:
    """The stream method of a client of a gateway in front of `upstream`."""
    async with served(build.application(build.settings(None, {}, Flags(upstream=(upstream,)))), confdir) as stream:
        yield stream


@asynccontextmanager
async def served(application: Guard, confdir: Path) -> AsyncIterator[grpc.aio.StreamStreamMultiCallable]:
    """The stream method of a client of this gateway."""
    async with (
        serving(application, confdir) as port,
        asyncio.timeout(TIMEOUT),
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        yield channel.stream_stream(RPC)
    await application.close()


async def test_answers_come_before_the_request_is_complete(confdir: Path) -> None:
    """Each message reaches the runtime, and its answer the client, while the client's stream stays open."""
    async with Runtime().serving() as runtime, gateway(f"triton=grpc://127.0.0.1:{runtime.port}", confdir) as stream:
        call = stream()
        for message in (b"one", b"two", b"x" * 300_000):
            await call.write(message)
            assert await call.read() == message.upper()
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK


@pytest.mark.parametrize(("model", "code"), [("a1", grpc.StatusCode.OK), ("b", grpc.StatusCode.NOT_FOUND)])
async def test_an_upstream_of_some_models_gets_no_others(
    confdir: Path, tmp_path: Path, model: str, code: grpc.StatusCode
) -> None:
    """The first message names the model, which one upstream alone must serve as well."""
    message = b"".join(map(bytes, wire.encode_ModelInferRequest(wire.ModelInferRequest(model_name=model))))
    file = tmp_path / "inferbridge.yaml"
    async with Runtime().serving() as runtime:
        upstream = f'{{runtime: triton, url: "grpc://127.0.0.1:{runtime.port}", models: ["a*"]}}'
        file.write_text(f"upstreams: [{upstream}]")
        async with served(build.application(build.settings(file)), confdir) as stream:
            call = stream()
            await call.write(message)
            await call.done_writing()
            if code is grpc.StatusCode.OK:
                assert [answer async for answer in call] == [message.upper()]
            assert await call.code() is code


async def test_a_client_that_leaves_ends_the_runtimes_call(confdir: Path) -> None:
    """Cancelling a stream that is open on both sides cancels it at the runtime."""
    async with Runtime().serving() as runtime, gateway(f"triton=grpc://127.0.0.1:{runtime.port}", confdir) as stream:
        runtime.waits = True
        call = stream()
        await call.write(b"one")
        assert await call.read() == b"ONE"
        call.cancel()
        await runtime.cancelled.wait()


async def test_a_runtime_that_ends_the_call_ends_it_for_the_client(confdir: Path) -> None:
    """The runtime's status arrives while the client still has its stream open."""
    runtime = Runtime()

    async def refuse(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        async for _ in requests:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such model")
        yield b""

    runtime.stream = refuse  # type: ignore[method-assign, assignment]  # another behaviour
    async with runtime.serving(), gateway(f"triton=grpc://127.0.0.1:{runtime.port}", confdir) as stream:
        call = stream()
        await call.write(b"one")
        with pytest.raises(grpc.aio.AioRpcError, match="no such model"):
            await call.read()
        assert await call.code() is grpc.StatusCode.NOT_FOUND


async def test_a_slow_runtime_slows_the_client_down(confdir: Path) -> None:
    """What a runtime does not read stays with the client: it can send no more than the windows on the way hold."""
    runtime = Runtime()
    runtime.slow.clear()
    message, sent = b"x" * 1_000_000, 0
    async with runtime.serving(), gateway(f"triton=grpc://127.0.0.1:{runtime.port}", confdir) as stream:
        call = stream()

        async def write() -> None:
            nonlocal sent
            for _ in range(40):
                await call.write(message)
                sent += 1
            await call.done_writing()

        writing = asyncio.create_task(write())
        await asyncio.wait([writing], timeout=0.5)
        assert sent < 20
        runtime.slow.set()
        for _ in range(40):
            assert await call.read() == message.upper()
        await writing
        assert await call.code() is grpc.StatusCode.OK


async def test_each_message_is_a_call_of_a_rest_runtime(confdir: Path) -> None:
    """MLServer's gRPC stream with only its REST side to ask: one request a message, in order, answered at once."""

    def behave(request: Request) -> Answer:
        name = json.loads(request.body)["id"]
        events = "".join(
            f'data: {{"model_name":"m","id":"{name}","outputs":[{{"name":"y","shape":[1],"datatype":"INT32",'
            f'"data":[{part}]}}]}}\n\n'
            for part in (7, 8)
        ).encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(events)
        return Answer(head + events)

    async with h1_server(behave) as server:
        url = server.url.replace("http://", "http://")
        async with gateway(f"mlserver={url}", confdir) as stream:
            call = stream()
            for name in ("a", "b"):
                await call.write(asked(name))
                for part in (7, 8):
                    reply = mlserver.decode_ModelInferResponse(await call.read(), [])
                    assert (reply.id, bytes(reply.raw_output_contents[0])) == (name, bytes([part, 0, 0, 0]))
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF
            assert await call.code() is grpc.StatusCode.OK
        assert [request.line for request in server.requests] == ["POST /v2/models/m/infer_stream HTTP/1.1"] * 2


async def test_an_error_of_one_message_ends_a_stream_that_tells_errors_by_status(confdir: Path) -> None:
    """A runtime's error to the second message comes after the answers to the first."""

    def behave(request: Request) -> Answer:
        if json.loads(request.body)["id"] == "bad":
            return Answer(b'HTTP/1.1 404 Not Found\r\ncontent-length: 13\r\n\r\n{"error":"n"}')
        event = b'data: {"model_name":"m","outputs":[]}\n\n'
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(event)
        return Answer(head + event)

    async with h1_server(behave) as server, gateway(f"mlserver={server.url}", confdir) as stream:
        call = stream()
        await call.write(asked("good"))
        await call.write(asked("bad"))
        assert mlserver.decode_ModelInferResponse(await call.read(), []).model_name == "m"
        with pytest.raises(grpc.aio.AioRpcError, match="n"):
            await call.read()
        assert await call.code() is grpc.StatusCode.NOT_FOUND


async def test_an_error_of_one_message_is_a_message_where_the_api_says_so(confdir: Path) -> None:
    """In Triton's form the stream goes on after an error, which names the request it is about."""

    def behave(request: Request) -> Answer:
        return Answer(b'HTTP/1.1 404 Not Found\r\ncontent-length: 13\r\n\r\n{"error":"n"}')

    async with h1_server(behave) as server, gateway(f"triton={server.url}", confdir) as stream:
        call = stream()
        for name in ("a", "b"):
            await call.write(asked(name))
            reply = wire.decode_ModelStreamInferResponse(await call.read(), [])
            assert reply.infer_response is not None
            assert (reply.error_message, reply.infer_response.id) == ("n", name)
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK


class Caller:
    """Everybody is one caller, who may call some models."""

    method = "keys"
    challenge = "Bearer"

    def authenticate(self, presented: Presented) -> Identity:
        return Identity("alice", grant=Grant(models=("m",)))

    def posture(self) -> tuple[str, ...]:
        return ()

    async def close(self) -> None:
        """Nothing to close."""


@asynccontextmanager
async def limited_gateway(upstream: str, confdir: Path) -> AsyncIterator[grpc.aio.StreamStreamMultiCallable]:
    """As `gateway`, for a caller who may call the model `m` alone."""
    inner = build.service(build.settings(None, {}, Flags(upstream=(upstream,))))
    async with served(Guard(inner, Access(Chain([Caller()]))), confdir) as stream:
        yield stream


def asked_of(model: str, name: str) -> bytes:
    """A request to a model."""
    request = wire.ModelInferRequest(model_name=model, id=name)
    return bytes(join(wire.encode_ModelInferRequest(request)))


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_each_message_of_a_limited_caller_is_looked_at(confdir: Path, compression: grpc.Compression) -> None:
    """The first message opens no way for others: those before the forbidden one are answered, it reaches nobody."""
    seen: list[bytes] = []

    class Listening(Runtime):
        async def stream(self, requests: AsyncIterator[bytes], context: object) -> AsyncIterator[bytes]:
            async for request in requests:
                seen.append(request)
                yield request

    async with (
        Listening().serving() as runtime,
        limited_gateway(f"triton=grpc://127.0.0.1:{runtime.port}", confdir) as stream,
    ):
        call = stream(compression=compression)
        await call.write(asked_of("m", "one"))
        assert b"one" in await call.read()
        await call.write(asked_of("m", "two"))
        assert b"two" in await call.read()
        await call.write(asked_of("secret", "three"))
        assert await call.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "'secret'" in (await call.details() or "")
    assert len(seen) == 2
