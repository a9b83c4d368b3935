"""The shapes of the generated tables: which APIs, endpoints and half-bridges there are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from inferbridge.bridge.context import Context
from inferbridge.bridge.values import GrpcReply, GrpcRequest, HttpReply, HttpRequest


@dataclass(frozen=True, slots=True)
class RestHalf:
    """Code between an endpoint's REST binding and its operation. Values of operations are generated structs."""

    method: str
    paths: tuple[str, ...]
    decode_request: Callable[[HttpRequest, Context], Any]
    encode_request: Callable[[Any, Context], HttpRequest]
    decode_reply: Callable[[HttpReply, Any, Context], Any]
    encode_reply: Callable[[Any, Any, Context], HttpReply]


@dataclass(frozen=True, slots=True)
class GrpcHalf:
    """Code between an endpoint's gRPC binding and its operation."""

    rpc: str
    decode_request: Callable[[GrpcRequest, Context], Any]
    encode_request: Callable[[Any, Context], GrpcRequest]
    decode_reply: Callable[[GrpcReply, Any, Context], Any]
    encode_reply: Callable[[Any, Any, Context], GrpcReply]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One callable thing of an API."""

    name: str
    operation: str
    idempotent: bool
    rest: RestHalf | None
    grpc: GrpcHalf | None


@dataclass(frozen=True, slots=True)
class Api:
    """A family of endpoints; `variants` replace the gRPC halves of some of them."""

    name: str
    errors: str
    endpoints: Mapping[str, Endpoint]
    variants: Mapping[str, Mapping[str, GrpcHalf]]

    def grpc_half(self, endpoint: str, variant: str) -> GrpcHalf | None:
        """The gRPC half of an endpoint as the variant speaks it."""
        return self.variants.get(variant, {}).get(endpoint) or self.endpoints[endpoint].grpc
