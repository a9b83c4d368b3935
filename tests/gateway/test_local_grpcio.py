"""Health and reflection with gRPC's own Python clients over a real socket."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from gateway.serving import TIMEOUT, serving
from inferbridge.bridge.dialects import error_reply
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.gateway.answering import answer
from inferbridge.gateway.application import RequestHead, RequestSink, Responder
from inferbridge.gateway.local.health import ServiceStates
from inferbridge.gateway.local.services import LocalServices
from inferbridge_generated import open_inference

SERVICE = "inference.GRPCInferenceService"
INFERENCE = (Path(open_inference.__file__).parent / "protos.binpb").read_bytes()


class LocalOnly:
    """An application of nothing but the gateway's own services."""

    def __init__(self) -> None:
        self.ready = True
        self.states = ServiceStates({SERVICE: lambda: self.ready})
        self.services = LocalServices([INFERENCE], self.states)

    def open(self, head: RequestHead, responder: Responder) -> RequestSink:
        opener = self.services.find(head)
        if opener is None:
            raise BridgeError(Code.UNIMPLEMENTED, head.target)
        return opener(head, responder)

    def refuse(self, error: BridgeError, head: RequestHead | None, responder: Responder) -> None:
        answer(error_reply(error, rest=False), responder)


@pytest.fixture
async def gateway(confdir: Path) -> AsyncIterator[tuple[LocalOnly, str]]:
    """A gateway and where it listens."""
    application = LocalOnly()
    async with serving(application, confdir) as port, asyncio.timeout(TIMEOUT):
        yield application, f"127.0.0.1:{port}"


async def test_health_client_checks_and_lists(gateway: tuple[LocalOnly, str]) -> None:
    """The stubs of grpcio-health-checking get states, a list, and NOT_FOUND."""
    application, address = gateway
    async with grpc.aio.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for ready, status in ((True, "SERVING"), (False, "NOT_SERVING")):
            application.ready = ready
            reply = await stub.Check(health_pb2.HealthCheckRequest(service=SERVICE), timeout=TIMEOUT)
            assert health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status) == status
        listed = await stub.List(health_pb2.HealthListRequest())
        assert {name: held.status for name, held in listed.statuses.items()} == {"": 1, SERVICE: 2}
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Check(health_pb2.HealthCheckRequest(service="no.Such"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_health_client_watches(gateway: tuple[LocalOnly, str]) -> None:
    """A Watch sees changes while it is open, its cancellation reaches the gateway, and closing ends another."""
    application, address = gateway
    async with grpc.aio.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        calls = [stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE)) for _ in range(2)]
        for call in calls:
            assert (await call.read()).status == health_pb2.HealthCheckResponse.SERVING
        application.ready = False
        application.states.changed()
        for call in calls:
            assert (await call.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        calls[0].cancel()
        application.services.close()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await calls[1].read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_watch_deadline_of_the_client(gateway: tuple[LocalOnly, str]) -> None:
    """A Watch with a deadline ends with it."""
    _, address = gateway
    async with grpc.aio.insecure_channel(address) as channel:
        call = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=0.2)
        await call.read()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_reflection_client_builds_messages(gateway: tuple[LocalOnly, str]) -> None:
    """A client that knows no proto lists the services and builds the messages of one."""
    _, address = gateway
    services, fields = await asyncio.to_thread(_reflected, address)
    assert services == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        SERVICE,
    ]
    assert "raw_input_contents" in fields


def _reflected(address: str) -> tuple[list[str], list[str]]:
    """The services, and the fields of ModelInfer's request: grpcio's reflection client knows no asyncio."""
    with grpc.insecure_channel(address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        pool = DescriptorPool(database)
        method = pool.FindServiceByName(SERVICE).FindMethodByName("ModelInfer")
        message = GetMessageClass(method.input_type)(model_name="a")
        with pytest.raises(KeyError):
            pool.FindMessageTypeByName("no.Such")
        return list(database.get_services()), [field.name for field in message.DESCRIPTOR.fields]


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_reflection_answers_while_the_client_still_asks(
    gateway: tuple[LocalOnly, str], version: str, compression: grpc.Compression
) -> None:
    """Each question is answered before the next is sent, in both versions, compressed or not."""
    _, address = gateway
    async with grpc.aio.insecure_channel(address, compression=compression) as channel:
        ask = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        call = ask()
        for symbol in _symbols():
            await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol))
            reply = await call.read()
            assert reply.original_request.file_containing_symbol == symbol
            assert len(reply.file_descriptor_response.file_descriptor_proto) == (0 if symbol == "no.Such" else 2)
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK


def _symbols() -> Iterator[str]:
    """Some that are there and one that is not."""
    yield SERVICE
    yield "no.Such"
    yield f"{SERVICE}.ModelInfer"
