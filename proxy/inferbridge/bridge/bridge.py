"""A bridge: the client's half and the runtime's half of one operation, meeting in a neutral value.

`request` takes a client's call across and gives a `Crossing`; `reply` takes the runtime's answer back over it. What
fails on the way there is the client's to know; what fails on the way back is the runtime's doing and is INTERNAL,
unless the runtime itself answered with an error.
"""

from dataclasses import dataclass
from typing import Any

from inferbridge.bridge.context import Context, Policy, RuntimeFault, RuntimeProfile
from inferbridge.bridge.dialects import error_reply
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.registry import Endpoint, GrpcHalf, RestHalf
from inferbridge.bridge.values import GrpcReply, GrpcRequest, Headers, HttpReply, HttpRequest

LOST_HEADER = "x-inferbridge-lost"


@dataclass(slots=True)
class Crossing:
    """A call that is on the other side."""

    call: HttpRequest | GrpcRequest
    """What to send to the runtime."""
    request: Any
    context: Context


@dataclass(frozen=True, slots=True)
class Bridge:
    """Two half-bridges of one endpoint; either may speak REST or gRPC."""

    endpoint: Endpoint
    client: RestHalf | GrpcHalf
    runtime: RestHalf | GrpcHalf
    profile: RuntimeProfile
    policy: Policy

    def request(self, call: HttpRequest | GrpcRequest) -> Crossing:
        """The client's call as the runtime's; raises `BridgeError`."""
        context = Context(self.profile, self.policy)
        request = self.client.decode_request(call, context)  # type: ignore[arg-type]  # the half fits the call's protocol
        return Crossing(self.runtime.encode_request(request, context), request, context)

    def reply(self, crossing: Crossing, answer: HttpReply | GrpcReply) -> HttpReply | GrpcReply:
        """The runtime's answer as the client's; an error becomes an answer in the client's dialect."""
        context = crossing.context
        context.replying = True
        try:
            reply = self.runtime.decode_reply(answer, crossing.request, context)  # type: ignore[arg-type]  # as above
            return with_losses(self.client.encode_reply(reply, crossing.request, context), context)
        except RuntimeFault as fault:
            return self.error(fault)
        except BridgeError as error:
            return self.error(_not_the_clients(error))

    def error(self, error: BridgeError) -> HttpReply | GrpcReply:
        """An error in the client's dialect."""
        return error_reply(error, rest=isinstance(self.client, RestHalf), profile=self.profile)


def _not_the_clients(error: BridgeError) -> BridgeError:
    if error.code is Code.INVALID_ARGUMENT:
        return BridgeError(Code.INTERNAL, f"the runtime's answer cannot be translated: {error.message}")
    return error


def with_losses(reply: HttpReply | GrpcReply, context: Context) -> HttpReply | GrpcReply:
    """The answer with the names of what was lost in `x-inferbridge-lost`."""
    if not context.losses:
        return reply
    lost: Headers = ((LOST_HEADER, ", ".join(dict.fromkeys(context.losses))),)
    if isinstance(reply, HttpReply):
        return HttpReply(reply.status, (*reply.headers, *lost), reply.chunks)
    return GrpcReply(reply.code, reply.details, (*reply.metadata, *lost), reply.messages, reply.trailers)
