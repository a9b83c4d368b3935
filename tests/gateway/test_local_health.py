"""grpc.health.v1, answered by the gateway itself."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from gateway.local_calls import GRPC, framed, head_of, open_call, unary
from inferbridge.bridge.errors import Code
from inferbridge.gateway.local.health import ServiceStates, Status
from inferbridge.gateway.local.messages import message_class
from inferbridge.gateway.local.services import LocalServices

CHECK, LIST, WATCH = (f"/grpc.health.v1.Health/{method}" for method in ("Check", "List", "Watch"))
RESPONSE = "grpc.health.v1.HealthCheckResponse"


class Readiness:
    """Services that a test makes ready or not, and what answers for them."""

    def __init__(self, **ready: bool) -> None:
        self.ready = {name.replace("_", "."): value for name, value in ready.items()}
        self.asked: dict[str, Callable[[], bool]] = {name: self._asker(name) for name in self.ready}
        self.states = ServiceStates(self.asked)
        self.services = LocalServices([], self.states)

    def _asker(self, name: str) -> Callable[[], bool]:
        return lambda: self.ready[name]

    def set(self, name: str, ready: bool) -> None:
        """Change a service, or add one, and say so."""
        self.ready[name] = ready
        self.asked.setdefault(name, self._asker(name))
        self.states.changed()


def request(service: str = "") -> Any:
    """The message of Check and Watch."""
    return message_class("grpc.health.v1.HealthCheckRequest")(service=service)


def seen(call: Any) -> list[Status]:
    """What a Watch has told so far."""
    return [Status(message.status) for message in call.answer.messages(RESPONSE)]


@pytest.mark.parametrize(
    ("service", "status"), [("", Status.SERVING), ("a.B", Status.SERVING), ("a.C", Status.NOT_SERVING)]
)
def test_check_tells_the_state_of_a_service(service: str, status: Status) -> None:
    """Check answers from the readiness of the service, and "" is the gateway as a whole."""
    answer = unary(Readiness(a_B=True, a_C=False).services, CHECK, request(service))
    assert answer.status() == (0, "")
    assert [message.status for message in answer.messages(RESPONSE)] == [status]


def test_check_of_an_unknown_service_is_not_found() -> None:
    """A service nobody speaks for is NOT_FOUND, as the protocol says."""
    answer = unary(Readiness().services, CHECK, request("no.Such"))
    assert answer.status() == (Code.NOT_FOUND, "unknown service 'no.Such'")
    assert answer.body == b""


def test_whole_gateway_can_be_unready() -> None:
    """A readiness given for "" is what the gateway as a whole answers."""
    services = LocalServices([], ServiceStates({"": lambda: False}))
    (message,) = unary(services, CHECK, request()).messages(RESPONSE)
    assert message.status == Status.NOT_SERVING


def test_readiness_that_fails_is_not_ready(caplog: pytest.LogCaptureFixture) -> None:
    """A readiness that raises is logged and taken for not ready; no call fails by it."""

    def fails() -> bool:
        raise RuntimeError("broken")

    states = ServiceStates({"a": fails})
    with caplog.at_level(logging.ERROR):
        (message,) = unary(LocalServices([], states), CHECK, request("a")).messages(RESPONSE)
    assert message.status == Status.NOT_SERVING
    assert "the readiness of 'a' cannot be told" in caplog.text


def test_list_tells_all_states() -> None:
    """List answers with every service and the gateway as a whole."""
    answer = unary(Readiness(a=True, b=False).services, LIST, message_class("grpc.health.v1.HealthListRequest")())
    (message,) = answer.messages("grpc.health.v1.HealthListResponse")
    assert {name: held.status for name, held in message.statuses.items()} == {"": 1, "a": 1, "b": 2}


def test_list_has_a_limit() -> None:
    """More services than the protocol wants in one answer are RESOURCE_EXHAUSTED."""
    services = LocalServices([], ServiceStates({f"s{number}": lambda: True for number in range(100)}))
    answer = unary(services, LIST, message_class("grpc.health.v1.HealthListRequest")())
    assert answer.status()[0] == Code.RESOURCE_EXHAUSTED


def test_watch_tells_each_change_once() -> None:
    """Watch tells the state at once and then each change of this service, and nothing else."""
    readiness = Readiness(a=True, b=True)
    call = open_call(readiness.services, WATCH)
    call.send(request("a"))
    call.sink.on_end()
    readiness.set("b", False)
    readiness.set("a", True)
    assert seen(call) == [Status.SERVING]
    readiness.set("a", False)
    readiness.set("a", True)
    assert seen(call) == [Status.SERVING, Status.NOT_SERVING, Status.SERVING]
    assert not call.answer.ended


def test_watch_of_an_unknown_service_waits_for_it() -> None:
    """An unknown service is SERVICE_UNKNOWN, and the call goes on until there is one."""
    readiness = Readiness()
    call = open_call(readiness.services, WATCH)
    call.send(request("later"))
    readiness.set("later", True)
    del readiness.asked["later"]
    readiness.states.changed()
    assert seen(call) == [Status.SERVICE_UNKNOWN, Status.SERVING, Status.SERVICE_UNKNOWN]


def test_watch_ends_with_its_client() -> None:
    """A client that has gone is told nothing more."""
    readiness = Readiness(a=True)
    call = open_call(readiness.services, WATCH)
    call.send(request("a"))
    call.sink.on_cancel()
    readiness.set("a", False)
    assert seen(call) == [Status.SERVING]


def test_watch_ends_when_the_gateway_stops() -> None:
    """Closing ends every Watch with UNAVAILABLE, also one that comes later, and nothing is ready any more."""
    readiness = Readiness(a=True)
    before = open_call(readiness.services, WATCH)
    before.send(request("a"))
    readiness.services.close()
    after = open_call(readiness.services, WATCH)
    after.send(request("a"))
    for call in (before, after):
        assert call.answer.status() == (Code.UNAVAILABLE, "the gateway is stopping")
    (message,) = unary(readiness.services, CHECK, request("a")).messages(RESPONSE)
    assert message.status == Status.NOT_SERVING


def test_watches_may_end_each_other() -> None:
    """A Watch that ends while changes are told does not disturb the others."""
    readiness = Readiness(a=True)
    told: list[Status | None] = []
    ends: list[Callable[[], None]] = []
    readiness.states.watch("a", lambda status: ends[0]() if ends else None)
    ends.append(readiness.states.watch("a", told.append))
    readiness.set("a", False)
    assert told == [Status.SERVING]


@pytest.mark.parametrize("path", [CHECK, WATCH])
@pytest.mark.parametrize("count", [0, 2])
def test_one_message_is_wanted(path: str, count: int) -> None:
    """A call with no message or with two is INVALID_ARGUMENT."""
    answer = unary(Readiness(a=True).services, path, *[request("a")] * count)
    code, text = answer.status()
    assert code == Code.INVALID_ARGUMENT
    assert "takes one message" in text


@pytest.mark.parametrize("path", [CHECK, WATCH])
def test_malformed_messages_are_refused(path: str) -> None:
    """Bytes that are no message of the service are INVALID_ARGUMENT."""
    call = open_call(Readiness().services, path)
    call.sink.on_data(b"\0\0\0\0\2\x0a\x05")
    call.sink.on_end()
    assert call.answer.status()[0] == Code.INVALID_ARGUMENT


def test_large_messages_are_refused_and_the_rest_ignored() -> None:
    """A message beyond the limit is RESOURCE_EXHAUSTED before its bytes have come."""
    call = open_call(Readiness().services, CHECK)
    call.sink.on_data(b"\0\0\2\0\0")
    assert call.answer.status()[0] == Code.RESOURCE_EXHAUSTED
    call.sink.on_data(b"abc")
    call.sink.on_end()


@pytest.mark.parametrize("path", [CHECK, WATCH, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"])
def test_message_that_is_cut_off_is_an_error(path: str) -> None:
    """A client that ends within a message is not taken for one that ended well."""
    call = open_call(Readiness().services, path)
    call.sink.on_data(framed(request("a"))[:-1])
    call.sink.on_end()
    assert call.answer.status() == (Code.INTERNAL, "the last gRPC message is cut off")


def test_messages_may_come_in_pieces() -> None:
    """However the bytes are cut, the message is the same."""
    call = open_call(Readiness(a=False).services, CHECK)
    for byte in framed(request("a")):
        call.sink.on_data(bytes([byte]))
    call.sink.on_end()
    assert [message.status for message in call.answer.messages(RESPONSE)] == [Status.NOT_SERVING]


@pytest.mark.parametrize(
    ("path", "headers", "method"),
    [
        ("/grpc.health.v1.Health/Nope", GRPC, "POST"),
        ("/inference.GRPCInferenceService/ServerLive", GRPC, "POST"),
        (CHECK, GRPC, "GET"),
        (CHECK, (("content-type", "application/json"),), "POST"),
    ],
)
def test_other_calls_are_left_alone(path: str, headers: Any, method: str) -> None:
    """What is not a gRPC call of these services is somebody else's."""
    assert Readiness().services.find(head_of(path, headers, method)) is None


async def test_deadline_ends_a_watch() -> None:
    """A Watch with a grpc-timeout ends with DEADLINE_EXCEEDED when it has passed."""
    readiness = Readiness(a=True)
    call = open_call(readiness.services, WATCH, (*GRPC, ("grpc-timeout", "1n")))
    call.send(request("a"))
    async with asyncio.timeout(10):
        while not call.answer.ended:  # noqa: ASYNC110 - the recorder tells nobody
            await asyncio.sleep(0)
    assert call.answer.status()[0] == Code.DEADLINE_EXCEEDED
    readiness.set("a", False)
    assert seen(call) == [Status.SERVING]


def test_deadline_that_cannot_be_read_is_refused() -> None:
    """A malformed grpc-timeout is INVALID_ARGUMENT."""
    call = open_call(Readiness().services, CHECK, (*GRPC, ("grpc-timeout", "soon")))
    call.send(request())
    call.sink.on_end()
    assert call.answer.status()[0] == Code.INVALID_ARGUMENT


def test_a_watcher_follows_to_the_successor() -> None:
    """When the services are built anew who watches hears of the new ones, in the same call, and of nothing twice."""
    before, after = Readiness(a=True), Readiness(a=False, b=True)
    calls = [open_call(before.services, WATCH) for _ in range(2)]
    calls[0].send(request("a"))
    after.services.succeed(before.services)
    calls[1].send(request("b"))  # begun before, asked after
    before.set("a", False)
    after.set("a", True)
    assert seen(calls[0]) == [Status.SERVING, Status.NOT_SERVING, Status.SERVING]
    assert seen(calls[1]) == [Status.SERVING]
    calls[1].sink.on_cancel()
    after.set("b", False)
    assert seen(calls[1]) == [Status.SERVING]
    after.services.close()
    assert calls[0].answer.status()[0] == Code.UNAVAILABLE


def test_a_gateway_that_stops_serves_nothing_yet_answers() -> None:
    """While it drains every service is NOT_SERVING to those who ask and to those who watch, whose calls go on."""
    readiness = Readiness(a=True)
    call = open_call(readiness.services, WATCH)
    call.send(request("a"))
    readiness.services.stopping()
    readiness.set("a", True)
    assert seen(call) == [Status.SERVING, Status.NOT_SERVING]
    assert not call.answer.ended
    for service in ("", "a"):
        (message,) = unary(readiness.services, CHECK, request(service)).messages(RESPONSE)
        assert message.status == Status.NOT_SERVING
