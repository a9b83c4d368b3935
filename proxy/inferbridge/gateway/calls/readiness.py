"""Whether upstreams are ready, asked of them in their own API when somebody wants to know.

An answer counts for `FRESH_SECONDS`, and while one is awaited everybody who asks waits for it: however many probes
there are, an upstream hears one. A runtime that does not know the question has answered, so it runs; what cannot be
reached, takes too long or fails is not ready.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from inferbridge.bridge.context import Context
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.framing import GRPC_HEADERS, frame
from inferbridge.bridge.matching import half_of
from inferbridge.bridge.registry import Api, GrpcHalf, RestHalf
from inferbridge.bridge.values import Headers, HttpRequest
from inferbridge.gateway.answering import Collected
from inferbridge.gateway.calls.targets import Itself, Target
from inferbridge.upstream.api import UpstreamRequest

OPERATION = "server_ready"
ANSWER_SECONDS = 1.0
FRESH_SECONDS = 2.0
_ANSWER_BYTES = 64 * 1024
_UNKNOWN_QUESTION = (Code.UNIMPLEMENTED, Code.NOT_FOUND)

type Then = Callable[[], None]


class Probe:
    """What is known of one upstream."""

    def __init__(self, target: Target, half: RestHalf | GrpcHalf, now: Callable[[], float] = time.monotonic) -> None:
        self._target = target
        self._half = half
        self._now = now
        self._answered: float | None = None
        self._waiting: list[Then] = []
        self.ready = False
        """As it was last answered."""

    @classmethod
    def of(cls, target: Target, api: Api) -> "Probe | None":
        """The probe of a target; None where its API has no such question over its protocol."""
        for endpoint in api.endpoints.values():
            half = half_of(api, endpoint.name, target.protocol, target.profile.variant)
            if endpoint.operation == OPERATION and half is not None:
                return cls(target, half)
        return None

    def ask(self, then: Then) -> None:
        """Call `then` once the answer is known."""
        if self._answered is not None and self._now() - self._answered < FRESH_SECONDS:
            then()
            return
        self._waiting.append(then)
        if len(self._waiting) == 1:
            self._send()

    def _send(self) -> None:
        context = Context(self._target.profile, setting=self._target.setting)
        request = context.operations.ServerReadyRequest()
        call = self._half.encode_request(request, context)
        if isinstance(call, HttpRequest):
            sent = UpstreamRequest(call.method, call.path, call.headers, call.chunks, idempotent=True)
        else:
            headers: Headers = (*GRPC_HEADERS, ("te", "trailers"), *call.metadata)
            sent = UpstreamRequest("POST", call.rpc, headers, frame(call.messages), idempotent=True)

        def read(answer: _Answer, trailers: Headers) -> bool:
            assert self._half.decode_reply is not None
            reply = self._half.decode_reply(answer.collected(trailers), request, context)  # type: ignore[arg-type]  # the answer is of the half's protocol
            return bool(reply.ready)

        self._target.send(sent, _Answer(call, read, self._take), ANSWER_SECONDS, Itself())

    def _take(self, ready: bool) -> None:
        self.ready, self._answered = ready, self._now()
        waiting, self._waiting = self._waiting, []
        for then in waiting:
            then()


class _Answer(Collected):
    """The answer of an upstream, as ready or not."""

    def __init__(self, call: object, read: Callable[["_Answer", Headers], bool], take: Callable[[bool], None]) -> None:
        super().__init__(call, _ANSWER_BYTES)  # type: ignore[arg-type]  # a request of either protocol
        self._read = read
        self._take = take

    def on_end(self, trailers: Headers) -> None:
        """The answer is complete."""
        try:
            ready = self._read(self, trailers)
        except BridgeError as error:
            ready = error.code in _UNKNOWN_QUESTION
        self._take(ready)

    def on_failure(self, error: BridgeError) -> None:
        """There is none."""
        self._take(False)


class Readiness:
    """Services (or upstreams) by name, and the upstreams that serve them: one that is ready is enough."""

    def __init__(self, served: Mapping[str, Sequence[Probe]]) -> None:
        self._served = served

    def ready(self, service: str) -> bool:
        """As was last known; so is one that nobody can be asked about."""
        probes = self._served[service]
        return not probes or any(probe.ready for probe in probes)

    def refresh(self, services: Iterable[str], then: Then) -> None:
        """Ask what these services depend on, and then call `then`."""
        probes = list(dict.fromkeys(probe for name in services for probe in self._served.get(name, ())))
        left = len(probes)

        def one_less() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                then()

        for probe in probes:
            probe.ask(one_less)
        if not probes:
            then()
