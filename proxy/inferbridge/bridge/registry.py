"""The shapes of the generated tables: which APIs, endpoints and half-bridges there are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from inferbridge.bridge.context import Context
from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.event_stream import EventFraming
from inferbridge.bridge.values import Buffer, Chunks, GrpcReply, GrpcRequest, HttpReply, HttpRequest


@dataclass(frozen=True, slots=True)
class RestHalf:
    """Code between an endpoint's REST binding and its operation. Values of operations are generated structs."""

    method: str
    paths: tuple[str, ...]
    decode_request: Callable[[HttpRequest, Context], Any]
    encode_request: Callable[[Any, Context], HttpRequest]
    decode_reply: Callable[[HttpReply, Any, Context], Any] | None = None
    """None where the answer is always a stream."""
    encode_reply: Callable[[Any, Any, Context], HttpReply] | None = None
    decode_message: Callable[[Buffer, Context], Any] | None = None
    """One event's data to a neutral message; None where the answer is never a stream."""
    encode_message: Callable[[Any, Context], bytes] | None = None
    framing: EventFraming | None = None
    fields: frozenset[str] = frozenset()
    """Fields of the operation's request that the binding can say."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """What the API does where the client says nothing: field of the operation, and neutral value."""
    aliases: tuple[str, ...] = ()
    """Further paths that clients may use; runtimes do not know them."""


@dataclass(frozen=True, slots=True)
class GrpcHalf:
    """Code between an endpoint's gRPC binding and its operation."""

    rpc: str
    decode_request: Callable[[GrpcRequest, Context], Any]
    encode_request: Callable[[Any, Context], GrpcRequest]
    decode_reply: Callable[[GrpcReply, Any, Context], Any] | None = None
    encode_reply: Callable[[Any, Any, Context], GrpcReply] | None = None
    decode_message: Callable[[Buffer, Context], Any] | None = None
    """One message to a neutral one; None where the answer is never a stream."""
    encode_message: Callable[[Any, Context], Chunks] | None = None
    encode_error: Callable[[BridgeError, Any, Context], Chunks] | None = None
    """An error as a message of the stream, which goes on; the request is None where it cannot be read. None where an
    error is the call's status."""
    client_streaming: bool = False
    """The client sends any number of requests, each answered by some messages, in one call."""
    fields: frozenset[str] = frozenset()
    """As for REST."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    model_field: int = 0
    """Number of the request's field that names the model; 0 where none does."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One callable thing of an API."""

    name: str
    operation: str
    idempotent: bool
    rest: RestHalf | None
    grpc: GrpcHalf | None
    mode: str = "unary"
    """`unary`, `stream`, or `either`: the request's field `stream` decides."""
    rule: str = ""
    """What the tables cannot say, see `rules`."""
    fan_out: str = ""
    """As a runtime it takes one item of this list a call."""
    is_plain: bool = field(init=False)
    """Unary and said by its tables alone."""

    def __post_init__(self) -> None:
        # asked for with each call
        object.__setattr__(self, "is_plain", self.mode == "unary" and not self.rule and not self.fan_out)


@dataclass(frozen=True, slots=True)
class RestMethod:
    """A gRPC method that the generator made for an endpoint with a REST binding alone, see `rest_service.proto`."""

    rpc: str
    endpoint: str
    streams: bool
    path: Sequence[str] = ()
    """Fields of its request that stand in the path."""
    query: Sequence[str] = ()
    status: str = ""
    """The field of its reply that is true where the HTTP status is 200; empty: the reply is the body."""


@dataclass(frozen=True, slots=True)
class Api:
    """A family of endpoints; `variants` replace the gRPC halves of some of them."""

    name: str
    errors: str
    endpoints: Mapping[str, Endpoint]
    variants: Mapping[str, Mapping[str, GrpcHalf]]
    rest_methods: Sequence[RestMethod] = ()

    def grpc_half(self, endpoint: str, variant: str) -> GrpcHalf | None:
        """The gRPC half of an endpoint as the variant speaks it."""
        return self.variants.get(variant, {}).get(endpoint) or self.endpoints[endpoint].grpc
