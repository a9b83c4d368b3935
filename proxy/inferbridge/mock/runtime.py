"""The mocked runtime as the `Application` behind a gateway's client side: the half-bridges of its APIs, backwards.

    client's bytes ─▶ codec ─▶ decode_request ─▶ answer ─▶ encode_reply | encode_message ─▶ client's bytes

The runtime reads a call as the gateway reads a client's, and writes its answer as the gateway writes one for a client,
with the rules of the API. So whatever has a spec can be mocked, over either protocol.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import count

from inferbridge.bridge.bridge import Bridge, End
from inferbridge.bridge.context import Policy, RuntimeProfile, Setting
from inferbridge.bridge.dialects import error_reply
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.matching import half_of
from inferbridge.bridge.registry import GrpcHalf
from inferbridge.bridge.routes import Match, Routes
from inferbridge.bridge.values import GrpcRequest
from inferbridge.gateway.answering import answer, is_grpc
from inferbridge.gateway.application import RequestHead, RequestSink, Responder
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.local.health import ServiceStates
from inferbridge.gateway.local.services import LocalServices
from inferbridge.mock.duplex import Duplex
from inferbridge.mock.exchange import Exchange, Observer, Part, Seen
from inferbridge.mock.script import Scenario, Script
from inferbridge.protos import descriptor_set
from inferbridge_generated import operations
from inferbridge_generated.registry import APIS

NO_SCENARIO = Scenario()
CREATED = 1_700_000_000.0
"""When all answers are made, in seconds since 1970."""


class MockRuntime:
    """Serves APIs of a runtime over one protocol; over gRPC with health and reflection."""

    def __init__(
        self,
        profiles: Sequence[RuntimeProfile],
        protocol: str,
        scenario: Scenario = NO_SCENARIO,
        observer: Observer = lambda seen: None,
    ) -> None:
        self.limits = Limits()
        self._protocol = protocol
        self._scenario = scenario
        self._observer = observer
        self._profiles = {profile.api: profile for profile in profiles}
        self._routes = Routes([APIS[profile.api] for profile in profiles])
        ids = count(1)
        # the same calls in the same order get the same answers
        self._setting = Setting(operations=operations, now=lambda: CREATED, new_id=lambda: f"mock-{next(ids)}")
        self._local = _local_services(profiles) if protocol == "grpc" else None

    def open(self, head: RequestHead, responder: Responder) -> RequestSink:
        """A call begins."""
        local = self._local.find(head) if self._local is not None else None
        if local is not None:
            return local(head, responder)
        part = self._duplex_part(head)
        if part is not None:
            return Duplex(head, responder, self.limits, part, self._observer)
        return Exchange(head, responder, self.limits, self._cast, self.refuse, self._observer)

    def _duplex_part(self, head: RequestHead) -> Part | None:
        """What to play in a call whose client sends several requests."""
        try:
            match, bridge, script = self._cast(head)
        except BridgeError:
            return None  # said when the request is complete
        half = bridge.client.half
        if not isinstance(half, GrpcHalf) or not half.client_streaming:
            return None
        return Part(bridge, script, Seen(match, GrpcRequest(half.rpc)))

    def refuse(self, error: BridgeError, head: RequestHead | None, responder: Responder) -> None:
        """Answer what cannot be served."""
        dialect = APIS[next(iter(self._profiles))].errors
        answer(error_reply(error, rest=head is None or not is_grpc(head), dialect=dialect), responder)

    def close(self) -> None:
        """Nothing is served any more."""
        if self._local is not None:
            self._local.close()

    def _cast(self, head: RequestHead) -> tuple[Match, Bridge, Script]:
        grpc = is_grpc(head)
        if grpc != (self._protocol == "grpc"):
            raise BridgeError(Code.UNIMPLEMENTED, f"this port speaks {self._protocol} only", status=415)
        match = self._routes.rpc(head.target) if grpc else self._routes.rest(head.method, head.target)[0]
        script = self._scenario.of(f"{match.api.name}/{match.endpoint.name}")
        return match, self._bridge(match), script

    def _bridge(self, match: Match) -> Bridge:
        """The client side of a bridge; there is nothing behind it."""
        profile = self._profiles[match.api.name]
        half = half_of(match.api, match.endpoint.name, self._protocol, profile.variant)
        if half is None:
            raise BridgeError(Code.UNIMPLEMENTED, f"{match.endpoint.name} is not spoken over {self._protocol}")
        end = End(match.api, match.endpoint, half)
        setting = replace(self._setting, client_api=match.api.name)
        return Bridge(end, end, end, profile, Policy(nan=profile.nan), setting)


def _local_services(profiles: Iterable[RuntimeProfile]) -> LocalServices:
    sets = [descriptor_set(profile.api, profile.variant) for profile in profiles]
    services = {
        endpoint.grpc.rpc.split("/")[1]: lambda: True
        for profile in profiles
        for endpoint in APIS[profile.api].endpoints.values()
        if endpoint.grpc is not None
    }
    return LocalServices(sets, ServiceStates(services))


def endpoints_of(profiles: Iterable[RuntimeProfile]) -> set[str]:
    """What a runtime serves, as `API/endpoint`."""
    return {f"{profile.api}/{name}" for profile in profiles for name in APIS[profile.api].endpoints}
