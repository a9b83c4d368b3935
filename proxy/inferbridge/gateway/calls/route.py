"""Where a call goes, and its requests as the pools of runtimes take them."""

from dataclasses import dataclass, field
from typing import Any

from inferbridge.auth.rules import EVERYTHING, Permit
from inferbridge.bridge.accept import StreamForm
from inferbridge.bridge.bridge import Bridge, Leg
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.framing import frame
from inferbridge.bridge.routes import Match
from inferbridge.bridge.values import Headers, HttpRequest
from inferbridge.gateway.calls.targets import Target
from inferbridge.gateway.record import CallRecord, Flag, bounded
from inferbridge.upstream.api import UpstreamRequest

_NOWHERE = frozenset({Code.NOT_FOUND, Code.UNIMPLEMENTED})


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
    path: str = ""
    """The endpoint's, as the specs have it: a template, or the gRPC method."""
    model: str = ""
    """That the path names, for the record."""
    sources: tuple[Target, ...] = ()
    """The upstreams whose answers make the client's together, where it lists models."""
    over: tuple[Target, Bridge] | None = None
    """The one target of all these calls and the bridge to it, where nothing in a body decides that."""
    declared: int = 0
    """Bytes that the body is to have; 0 where nothing says so."""
    inspects: bool = field(init=False)
    """The body is to be read before anything is sent."""

    def __post_init__(self) -> None:
        # asked for each call with the head, which is many
        object.__setattr__(self, "inspects", self.permit.inspects or bool(self.named_model))


def template(match: Match, protocol: str) -> str:
    """The path that led to a match, as the specs have it."""
    endpoint = match.endpoint
    if protocol == "grpc" or endpoint.rest is None:
        return endpoint.grpc.rpc if endpoint.grpc is not None else ""
    paths = endpoint.rest.aliases if match.is_alias else endpoint.rest.paths
    wanted = set(match.variables)
    return next((path for path in paths if {part[1:-1] for part in path.split("/") if part[:1] == "{"} == wanted), "")


def note_route(record: CallRecord, route: Route) -> None:
    """Tell the record of a call where it goes."""
    endpoint = route.match.endpoint
    record.path = record.path or route.path
    record.api, record.operation, record.model = route.match.api.name, endpoint.operation, route.model
    record.endpoint = endpoint.name
    record.streamed = endpoint.mode == "stream" and record.is_grpc


def note_request(record: CallRecord, request: Any) -> None:
    """Tell the record of a call which model it asks for, if that is not known yet, and its trace what else."""
    trace = record.trace
    if trace is not None and trace.sampled:
        trace.generation.asked = request
    if not record.model and (model := getattr(request, "model", None)):
        record.model = bounded(str(model))


def unrouted(error: BridgeError) -> Flag | None:
    """Why there is no route."""
    return "NR" if error.code in _NOWHERE else None


def translated(leg: Leg, route: Route) -> UpstreamRequest:
    """The request of a leg, with what crosses the bridge of the client's headers."""
    call, idempotent = leg.call, route.match.endpoint.idempotent
    if isinstance(call, HttpRequest):
        return UpstreamRequest(call.method, call.path, (*call.headers, *route.crossing), call.chunks, idempotent)
    headers = (*route.grpc, *call.metadata) if call.metadata else route.grpc
    return UpstreamRequest("POST", call.rpc, headers, frame(call.messages), idempotent)
