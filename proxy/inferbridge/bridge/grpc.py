"""Rules of gRPC bindings that every generated gRPC half-bridge shares."""

from inferbridge.bridge.context import Context
from inferbridge.bridge.errors import BridgeError, Code, invalid
from inferbridge.bridge.values import Buffer, GrpcReply, GrpcRequest, join
from inferbridge.bridge.wire import WireError


def request_message(request: GrpcRequest) -> Buffer:
    """The one message of a unary call, contiguous."""
    if len(request.messages) != 1:
        raise invalid(f"{request.rpc} takes one message, got {len(request.messages)}")
    return join(request.messages[0]) if request.messages[0] else b""


def reply_message(reply: GrpcReply) -> Buffer:
    """The one message of a unary answer; an answer that is an error is raised as one."""
    if reply.code:
        raise error_of(reply)
    if len(reply.messages) != 1:
        raise BridgeError(Code.INTERNAL, f"the runtime answered OK with {len(reply.messages)} messages instead of one")
    return join(reply.messages[0]) if reply.messages[0] else b""


def error_of(reply: GrpcReply) -> BridgeError:
    """The neutral error of a failed gRPC answer."""
    try:
        code = Code(reply.code)
    except ValueError:
        code = Code.UNKNOWN
    return BridgeError(code, reply.details)


def refuse_unknown(unknown: list[tuple[str, int]], context: Context) -> None:
    """Fields that our copy of the proto does not know cannot be translated."""
    for message, number in unknown:
        context.lose(f"{message} field {number}", "not in the proto this proxy was generated from, so it cannot be translated")


def malformed(error: WireError) -> BridgeError:
    """A message that is not valid protobuf."""
    return invalid(f"malformed message: {error}")
