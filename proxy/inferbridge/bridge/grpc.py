"""Rules of gRPC bindings that every generated gRPC half-bridge shares."""

from collections.abc import Callable, Mapping
from typing import Any

from inferbridge.bridge.context import Context, RuntimeFault
from inferbridge.bridge.errors import BridgeError, Code, invalid
from inferbridge.bridge.framing import unquote_message
from inferbridge.bridge.parameters import Parameter, decode_parameters, encode_parameters
from inferbridge.bridge.rest import BINARY_PARAMETERS, HTTP_TO_CODE
from inferbridge.bridge.values import Buffer, Chunks, GrpcReply, GrpcRequest, Headers, header, join
from inferbridge.bridge.wire import BROKEN, Unknown, WireError, text_field


def request_message(request: GrpcRequest) -> Buffer:
    """The one message of a unary call, contiguous."""
    if len(request.messages) != 1:
        raise invalid(f"{request.rpc} takes one message, got {len(request.messages)}")
    return join(request.messages[0]) if request.messages[0] else b""


def named_model(request: GrpcRequest, field: int) -> str:
    """The model that a request names in a field of this number, whatever else it says; BridgeError if unreadable."""
    try:
        return text_field(request_message(request), field)
    except BROKEN as error:
        raise invalid(f"the message is not readable: {error}") from error


def reply_message(reply: GrpcReply, context: Context) -> Buffer:
    """The one message of a unary answer; an answer that is an error is raised as one."""
    if reply.code:
        raise error_of(reply, context)
    if len(reply.messages) != 1:
        raise BridgeError(Code.INTERNAL, f"the runtime answered OK with {len(reply.messages)} messages instead of one")
    return join(reply.messages[0]) if reply.messages[0] else b""


def outcome(status: int, headers: Headers, trailers: Headers) -> tuple[int, str]:
    """The `grpc-status` and message of an answer over HTTP/2; BridgeError for an answer that has none."""
    fields = trailers if header(trailers, "grpc-status") is not None else headers  # "trailers-only"
    code = header(fields, "grpc-status")
    if code is None or not code.isdigit():
        raise no_status(status, headers)
    return int(code), unquote_message(header(fields, "grpc-message") or "") if code != "0" else ""


def no_status(status: int, headers: Headers) -> BridgeError:
    """The error for an answer without a `grpc-status`, such as the page of a proxy in between."""
    meant = HTTP_TO_CODE.get(status, Code.UNKNOWN) if status != 200 else Code.INTERNAL
    kind = "" if is_grpc(headers) else f" ({header(headers, 'content-type')})"
    return BridgeError(meant, f"HTTP {status}{kind} without a grpc-status")


def is_grpc(headers: Headers) -> bool:
    """Whether messages follow a head; one that does not say what follows is believed."""
    return (header(headers, "content-type") or "application/grpc").startswith("application/grpc")


def error_of(reply: GrpcReply, context: Context) -> BridgeError:
    """The neutral error of a failed gRPC answer."""
    try:
        code = Code(reply.code)
    except ValueError:
        code = Code.UNKNOWN
    for beginning, meant in context.profile.details:
        if reply.details.startswith(beginning):
            return RuntimeFault(meant, reply.details)
    return RuntimeFault(code, reply.details)


def told(text: str) -> RuntimeFault:
    """An error that a runtime tells as a message of its stream, without a code."""
    return RuntimeFault(Code.UNKNOWN, text)


def read[T](decode: Callable[[Buffer, Unknown], T], data: Buffer, context: Context) -> T:
    """Decode a message; fields that our copy of the proto does not know cannot be translated."""
    unknown: Unknown = []
    try:
        message = decode(data, unknown)
    except WireError as error:
        raise context.inexpressible(f"malformed message: {error}") from None
    for name, number in unknown:
        context.lose(f"{name} field {number}", "not in the proto this proxy was generated from")
    return message


def write[T](encode: Callable[[T], Chunks], message: T, context: Context) -> Chunks:
    """Encode a message."""
    try:
        return encode(message)
    except WireError as error:
        raise context.inexpressible(str(error)) from None


def parameters_of(entries: Mapping[str, Any], where: str) -> dict[str, Parameter]:
    """The neutral parameters of a protobuf map, without those that only steer the REST binary extension."""
    if not entries:
        return {}
    values = decode_parameters(entries, where)
    return {key: value for key, value in values.items() if key not in BINARY_PARAMETERS}


def parameters_to(
    values: Mapping[str, Parameter], factory: Callable[..., Any], where: str, context: Context
) -> dict[str, Any]:
    """The protobuf map of neutral parameters. A reply goes to a client, who knows what the API's own proto knows."""
    if not values:
        return {}
    kinds = ALL_KINDS if context.replying else context.profile.parameter_types
    return encode_parameters(values, factory, kinds, where, context.lose)


ALL_KINDS = frozenset({"bool", "int64", "uint64", "string", "double"})


def demand(name: str, value: bool, wanted: bool) -> None:
    """A constant of the binding says otherwise."""
    if value is not wanted:
        raise BridgeError(Code.INTERNAL, f"the runtime answered {name}={value}")
