"""The services that the gateway answers itself, found by the path of a call."""

from collections.abc import Callable, Iterable
from functools import partial

from inferbridge.bridge.values import Buffer
from inferbridge.gateway.answering import is_grpc
from inferbridge.gateway.application import RequestHead, RequestSink, Responder
from inferbridge.gateway.local.calls import StreamCall, UnaryCall
from inferbridge.gateway.local.descriptors import DescriptorIndex
from inferbridge.gateway.local.health import Health, ServiceStates, Then, WatchCall
from inferbridge.gateway.local.reflection import Reflection, ReflectionCall
from inferbridge.protos import grpc_services

type Opener = Callable[[RequestHead, Responder], RequestSink]
HEALTH = "grpc.health.v1.Health"
REFLECTIONS = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


class LocalServices:
    """Health (Check, List, Watch) and reflection (v1 and v1alpha).

    Reflection tells of `descriptor_sets`, serialized `FileDescriptorSet`s of which the first to declare a name is
    served, and of these services themselves. `states` is what health answers from.
    """

    def __init__(self, descriptor_sets: Iterable[bytes], states: ServiceStates) -> None:
        health, self._states = Health(states), states
        self.index = DescriptorIndex([grpc_services(), *descriptor_sets])
        reflection = Reflection(self.index)
        self._openers: dict[str, Opener] = {
            f"/{HEALTH}/Check": _unary(health.check, health.prepare_check),
            f"/{HEALTH}/List": _unary(health.list, health.prepare_list),
            f"/{HEALTH}/Watch": _stream(partial(WatchCall, states=states)),
            **{
                f"/{service}/ServerReflectionInfo": _stream(partial(ReflectionCall, reflection=reflection))
                for service in REFLECTIONS
            },
        }

    def find(self, head: RequestHead) -> Opener | None:
        """What opens a call, as `Application.open` does; None for calls of other services."""
        return self._openers.get(head.target) if head.method == "POST" and is_grpc(head) else None

    def succeed(self, before: "LocalServices") -> None:
        """Whoever watches what `before` says of health hears of these services from now on."""
        self._states.succeed(before._states)

    def stopping(self) -> None:
        """Nothing is ready any more, though calls are served yet."""
        self._states.stopping()

    def close(self) -> None:
        """The gateway stops: nothing is ready any more, and every Watch ends."""
        self._states.close()


def _unary(answer: Callable[[Buffer], bytes], prepare: Callable[[Buffer, Then], None]) -> Opener:
    return lambda head, responder: UnaryCall(head, responder, answer, prepare).begun()


def _stream(make: Callable[[RequestHead, Responder], StreamCall]) -> Opener:
    return lambda head, responder: make(head, responder).begun()
