"""Where a call goes, and its requests as the pools of runtimes take them."""

from dataclasses import dataclass, field

from inferbridge.auth.rules import EVERYTHING, Permit
from inferbridge.bridge.accept import StreamForm
from inferbridge.bridge.bridge import Leg
from inferbridge.bridge.framing import frame
from inferbridge.bridge.routes import Match
from inferbridge.bridge.values import Headers, HttpRequest
from inferbridge.gateway.targets import Target
from inferbridge.upstream.api import UpstreamRequest


@dataclass(frozen=True, slots=True)
class Route:
    """What follows from a call's head alone."""

    protocol: str
    """`rest` or `grpc`."""
    match: Match
    targets: tuple[Target, ...]
    """Those that speak the endpoint."""
    timeout: float
    """Seconds the runtime may take."""
    body_limit: int
    """Bytes."""
    crossing: Headers
    """What of the client's headers goes over a bridge."""
    grpc: Headers
    """The same for a gRPC runtime, with what every gRPC request needs."""
    deadline: float | None = None
    """Seconds that the client itself allows."""
    form: StreamForm = "events"
    """How a REST client wants a streamed answer."""
    permit: Permit = EVERYTHING
    """What the body still has to decide."""
    named_model: str = ""
    """The model that metadata names, beside path and body."""
    sources: tuple[Target, ...] = ()
    """The upstreams whose answers make the client's together, where it lists models."""
    inspects: bool = field(init=False)
    """The body is to be read before anything is sent."""

    def __post_init__(self) -> None:
        # asked for each call with the head, which is many
        object.__setattr__(self, "inspects", self.permit.inspects or bool(self.named_model))


def translated(leg: Leg, route: Route) -> UpstreamRequest:
    """The request of a leg, with what crosses the bridge of the client's headers."""
    call, idempotent = leg.call, route.match.endpoint.idempotent
    if isinstance(call, HttpRequest):
        return UpstreamRequest(call.method, call.path, (*call.headers, *route.crossing), call.chunks, idempotent)
    headers = (*route.grpc, *call.metadata) if call.metadata else route.grpc
    return UpstreamRequest("POST", call.rpc, headers, frame(call.messages), idempotent)
