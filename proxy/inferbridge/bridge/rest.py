"""Rules of JSON-over-HTTP bindings that every generated REST half-bridge shares."""

import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import msgspec

from inferbridge.bridge.context import Context, NanPolicy, RuntimeFault
from inferbridge.bridge.errors import BridgeError, Code, invalid
from inferbridge.bridge.json_tensors import TensorSource
from inferbridge.bridge.parameters import Parameter, check_finite, check_json_parameters
from inferbridge.bridge.values import Buffer, Chunks, Headers, HttpReply, HttpRequest, header, join

JSON_HEADERS: Headers = (("content-type", "application/json"),)
HEADER_LENGTH = "inference-header-content-length"
"""Length in bytes of the JSON part of a body in the binary tensor data extension."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f%]")
encode = msgspec.json.Encoder().encode
MAX_INFLATED = 64 * 1024 * 1024
BINARY_PARAMETERS = frozenset({"binary_data_size", "binary_data", "binary_data_output"})


def body_of(message: HttpRequest | HttpReply) -> Buffer:
    """The body with its Content-Encoding undone; gzip and deflate (zlib) only, bounded by MAX_INFLATED bytes."""
    body = join(message.chunks) if message.chunks else b""
    encoding = (header(message.headers, "content-encoding") or "identity").strip().lower()
    if encoding in {"identity", ""}:
        return body
    if encoding not in {"gzip", "x-gzip", "deflate"}:
        raise BridgeError(
            Code.UNIMPLEMENTED,
            f"content-encoding {encoding!r} is not supported; send gzip, deflate or identity",
            status=415,
        )
    return _inflate(body, 31 if "gzip" in encoding else 15)


def _inflate(body: Buffer, window_bits: int) -> bytes:
    inflater = zlib.decompressobj(window_bits)
    try:
        plain = inflater.decompress(body, MAX_INFLATED)
    except zlib.error as error:
        raise invalid(f"the compressed body is broken: {error}") from None
    if inflater.unconsumed_tail:
        raise BridgeError(Code.RESOURCE_EXHAUSTED, f"the body inflates to more than {MAX_INFLATED} bytes", status=413)
    if not inflater.eof or inflater.unused_data:
        raise invalid("the compressed body is cut off or has bytes after its end")
    return plain


def open_body(message: HttpRequest | HttpReply, nan: NanPolicy) -> TensorSource:
    """The body as JSON part and binary tail, split where the Inference-Header-Content-Length header says."""
    body = body_of(message)
    text = header(message.headers, HEADER_LENGTH)
    if text is None:
        return TensorSource(body, None, nan)
    if not text.isascii() or not text.isdigit() or int(text) > len(body):
        raise invalid(f"Inference-Header-Content-Length {text!r} is not a length within the body of {len(body)} bytes")
    if int(text) == 0:
        raise invalid(
            "Inference-Header-Content-Length 0 (a raw body without JSON) needs the model's metadata; send JSON"
        )
    return TensorSource(body, int(text), nan)


def read_json[T](decoder: msgspec.json.Decoder[T], text: bytes) -> T:
    """Decode `text`; errors name the place as a JSON path and, for an unknown field, line and column."""
    try:
        return decoder.decode(text or b"{}")
    except msgspec.ValidationError as error:
        raise invalid(f"{error}{_position_of_field(str(error), text)}") from None
    except msgspec.DecodeError as error:
        raise invalid(f"the body is not valid JSON: {error}{_position_of_byte(str(error), text)}") from None
    except RecursionError:
        raise invalid("the body is nested too deeply") from None
    except UnicodeDecodeError:
        raise invalid("the body is not UTF-8") from None


_UNKNOWN = re.compile(r"unknown field `([^`]*)`(?: - at `\$([^`]*)`)?")
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]")
_MOST_UNKNOWN = 64


def read_reply[T](decoder: msgspec.json.Decoder[T], text: bytes, context: Context) -> T:
    """As `read_json`, of a runtime's answer, which grows by version.

    A field that the schema does not know is left out: without a word when it is null, noted as a loss otherwise.
    """
    try:
        return decoder.decode(text)
    except msgspec.ValidationError as error:
        if "unknown field" not in str(error):
            return read_json(decoder, text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        if not text:  # for a request it would be `{}`
            raise invalid("the body is empty") from None
        return read_json(decoder, text)
    tree = msgspec.json.decode(text)
    for _ in range(_MOST_UNKNOWN):
        try:
            return decoder.decode(msgspec.json.encode(tree))
        except msgspec.ValidationError as error:
            found = _UNKNOWN.search(str(error))
            if found is None:
                raise invalid(str(error)) from None
            if _taken_out(tree, found) is not None:
                context.note(found[1])
    raise invalid(f"more than {_MOST_UNKNOWN} fields that are not known")


def read_known[T](call: HttpRequest, decode: Callable[[HttpRequest], T]) -> T:
    """What `decode` makes of a request without the members that the schema does not know: to look at, not to send."""
    for _ in range(_MOST_UNKNOWN):
        try:
            return decode(call)
        except BridgeError as error:
            found = _UNKNOWN.search(error.message)
            if found is None:
                raise
            tree = msgspec.json.decode(bytes(body_of(call)))
            _taken_out(tree, found)
            headers = tuple(pair for pair in call.headers if pair[0] != "content-encoding")
            call = HttpRequest(call.method, call.path, headers, (encode(tree),), call.variables)
    raise invalid(f"more than {_MOST_UNKNOWN} fields that are not known")


def _taken_out(tree: Any, unknown: re.Match[str]) -> Any:
    """The value of an unknown member, which is then no longer in the tree."""
    holder = tree
    for key, index in _STEP.findall(unknown[2] or ""):
        holder = holder[key] if key else holder[int(index)]
    return holder.pop(unknown[1])


def read_tensors[T](decoder: msgspec.json.Decoder[T], source: TensorSource) -> T:
    """As `read_json`; an error names the place in the body as it was sent, not in what the cuts left of it."""
    try:
        return decoder.decode(source.json)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        read_json(decoder, source.uncut)
    # only the rest is broken where arrays were cut out: the same words, without the places
    return read_json(decoder, source.json)


def _position_of_field(message: str, text: bytes) -> str:
    found = re.search(r"unknown field `(.*?)`", message)
    at = text.find(b'"' + found[1].encode() + b'"') if found else -1
    return f" (line {_line(text, at)}, column {_column(text, at)})" if at >= 0 else ""


def _position_of_byte(message: str, text: bytes) -> str:
    found = re.search(r"\(byte (\d+)\)", message)
    return f" (line {_line(text, int(found[1]))}, column {_column(text, int(found[1]))})" if found else ""


def _line(text: bytes, at: int) -> int:
    return text.count(b"\n", 0, at) + 1


def _column(text: bytes, at: int) -> int:
    return at - text.rfind(b"\n", 0, at)


def parameters_of(values: Any, where: str) -> dict[str, Any]:
    """The neutral parameters of a JSON `parameters` object, without those of the binary extension."""
    if values is msgspec.UNSET or values is None or not values:
        return {}
    if BINARY_PARAMETERS.isdisjoint(values):
        return check_json_parameters(values, where)
    return check_json_parameters({key: values[key] for key in values if key not in BINARY_PARAMETERS}, where)


def message_parameters_of(values: Any, where: str) -> dict[str, Any]:
    """As `parameters_of`, of an event; MLServer adds an object `headers`: what a whole answer has as HTTP headers."""
    if isinstance(values, dict) and isinstance(values.get("headers"), dict):
        values = {key: value for key, value in values.items() if key != "headers"}
    return parameters_of(values, where)


def binary_flag(values: Any, key: str, where: str) -> bool | None:
    """`binary_data` of an output or `binary_data_output` of a request; None when not said."""
    if values is msgspec.UNSET or not values or key not in values:
        return None
    if not isinstance(values[key], bool):
        raise invalid(f"{where}.parameters.{key} must be true or false")
    return bool(values[key])


def wants_binary(request: Any, name: str) -> bool:
    """Whether the client of this infer request asked for output `name` as binary data."""
    for output in request.outputs:
        if output.name == name and output.binary is not None:
            return bool(output.binary)
    return bool(request.binary_outputs)


def parameters_to(
    values: Mapping[str, Parameter], where: str, context: Context, **steering: bool | int | None
) -> dict[str, Any] | msgspec.UnsetType:
    """The JSON object of neutral parameters, with those of the binary extension that are not None added."""
    steer = {key: value for key, value in steering.items() if value is not None}
    if not values:
        return steer or msgspec.UNSET
    check_finite(values, where)
    if not context.replying:
        kinds = context.profile.parameter_types
        values = {key: value for key, value in values.items() if _has_kind(key, value, kinds, where, context)}
    return {**values, **steer}


def _has_kind(key: str, value: Parameter, kinds: frozenset[str], where: str, context: Context) -> bool:
    # over JSON a runtime tells kinds apart by itself; only doubles are dropped by some (runtime profile)
    if isinstance(value, float) and "double" not in kinds and not context.profile.json_doubles:
        context.lose(f"{where}[{key}]", f"{context.profile.name} has no parameters of type double")
        return False
    return True


def request_nan(context: Context) -> NanPolicy:
    """How NaN may be written in a request to this runtime."""
    return "literal" if context.profile.nan == "literal" else "reject"


def reply_nan(context: Context) -> NanPolicy:
    """How NaN is read from this runtime. A null stands for NaN and both infinities: only read when the user allows."""
    if context.profile.nan == "literal":
        return "literal"
    return "reject" if context.policy.nan == "reject" else "null"


def agree(place: str, value: Any, elsewhere: str) -> None:
    """A value named twice must be the same in both places, or the call means two things."""
    if value is not msgspec.UNSET and value is not None and value != elsewhere and value != "" and elsewhere != "":
        raise invalid(f"{place} says {value!r} but the path says {elsewhere!r}")


def optional[T](value: T) -> T | msgspec.UnsetType:
    """A neutral value for an optional JSON field: an empty one is left out."""
    return value or msgspec.UNSET


def given[T](value: T | msgspec.UnsetType | None, default: T) -> T:
    """A JSON field's value, or the neutral default when absent or null."""
    return default if value is None or isinstance(value, msgspec.UnsetType) else value


def ok_reply(chunks: Chunks, header_length: int | None = None) -> HttpReply:
    """A 200 with a JSON body, or JSON and binary tensor data when `header_length` is given."""
    if header_length is None:
        return HttpReply(200, JSON_HEADERS, chunks)
    return HttpReply(200, _binary_headers(header_length), chunks)


def call(
    method: str, path: str, chunks: Chunks | None = None, header_length: int | None = None, headers: Headers = ()
) -> HttpRequest:
    """A request; runtimes on FastAPI refuse JSON without its content type."""
    if chunks is None:
        return HttpRequest(method, path, headers)
    kind = JSON_HEADERS if header_length is None else _binary_headers(header_length)
    return HttpRequest(method, path, (*kind, *headers) if headers else kind, chunks)


def query(request: HttpRequest, name: str) -> list[str]:
    """All values of a query parameter."""
    return [value for key, value in parse_qsl(urlsplit(request.path).query, keep_blank_values=True) if key == name]


def with_query(path: str, name: str, values: str | list[str]) -> str:
    """The path with a query parameter for each value of a list, or for a text that is not empty."""
    if not values:
        return path
    pairs = [(name, value) for value in ([values] if isinstance(values, str) else values)]
    return f"{path}{'&' if '?' in path else '?'}{urlencode(pairs)}"


def _binary_headers(header_length: int) -> Headers:
    return (("content-type", "application/octet-stream"), (HEADER_LENGTH, str(header_length)))


def segment(value: str, name: str) -> str:
    """A path variable percent-encoded, so that it can never add a segment or leave one."""
    parts = value.replace("\\", "/").split("/")
    if not parts[0] or not {".", ".."}.isdisjoint(parts) or _CONTROL.search(value):
        raise invalid(f"{name} {value!r} cannot stand in a path")
    return quote(value, safe="!$&'()*+,;=:@")


def boolean_status(reply: HttpReply, context: Context) -> bool:
    """A boolean carried by the status: 200 is true, the runtime's not-ready statuses are false, else an error."""
    if reply.status == 200:
        return True
    if reply.status in context.profile.not_ready:
        return False
    raise error_of(reply, context)


def status_reply(value: bool, chunks: Chunks, context: Context) -> HttpReply:
    """The answer whose status carries a boolean."""
    return HttpReply(200 if value else _not_ready(context), JSON_HEADERS, chunks)


def bare_status(value: bool, text: str, context: Context) -> HttpReply:
    """The answer whose status says all; its body is a plain text, or empty."""
    if not value:
        return HttpReply(_not_ready(context), (), ())
    return (
        HttpReply(200, (("content-type", "text/plain; charset=utf-8"),), (text.encode(),)) if text else HttpReply(200)
    )


def _not_ready(context: Context) -> int:
    """The status that clients of the runtime's own API know; others are told that it is unavailable."""
    foreign = context.client_api not in {"", context.profile.api}
    return 503 if foreign else context.profile.not_ready[0]


def check_status(reply: HttpReply, context: Context) -> None:
    """Raise what a failed reply says; Triton's `generate` fails with 200 when a model gives no answer, or several."""
    if not 200 <= reply.status < 300 or (reply.chunks and bytes(reply.chunks[0][:9]) == b'{"error":'):
        raise error_of(reply, context)


def error_of(reply: HttpReply, context: Context) -> BridgeError:
    """The neutral error of a failed REST reply; the text is found by content, for content types lie."""
    profile = context.profile
    code = profile.codes.get(reply.status) or HTTP_TO_CODE.get(reply.status, Code.UNKNOWN)
    status = reply.status if reply.status >= 400 else 502
    return RuntimeFault(code, _error_text(reply), status=status, retry_after=_retry_after(reply))


def _retry_after(reply: HttpReply) -> int | None:
    """The seconds of a `Retry-After`; its other form, a date, is not carried on."""
    text = header(reply.headers, "retry-after") or ""
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else None


def _error_text(reply: HttpReply) -> str:
    body = bytes(body_of(reply)).removeprefix(b"data: ")  # Triton's streams fail with an event
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return body.decode("utf-8", "replace").strip() or f"HTTP {reply.status}"
    for key in ("error", "detail", "details", "message"):
        if isinstance(value, dict) and key in value:
            text = value[key]
            if isinstance(text, dict) and isinstance(text.get("message"), str):
                return str(text["message"])  # OpenAI's form
            return text if isinstance(text, str) else msgspec.json.encode(text).decode()
    return body.decode("utf-8", "replace")


# From the gRPC project's http-grpc-status-mapping, with the statuses it leaves at UNKNOWN filled by meaning.
HTTP_TO_CODE: dict[int, Code] = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    405: Code.UNIMPLEMENTED,
    409: Code.ABORTED,
    412: Code.FAILED_PRECONDITION,
    413: Code.RESOURCE_EXHAUSTED,
    415: Code.INVALID_ARGUMENT,
    422: Code.INVALID_ARGUMENT,
    429: Code.RESOURCE_EXHAUSTED,
    431: Code.RESOURCE_EXHAUSTED,
    499: Code.CANCELLED,
    500: Code.INTERNAL,
    501: Code.UNIMPLEMENTED,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.DEADLINE_EXCEEDED,
}

# grpc-gateway's table, which KServe and Envoy users know.
CODE_TO_HTTP: dict[Code, int] = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}
