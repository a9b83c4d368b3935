"""OpenTelemetry's names for what a record says of a call: all attributes and metrics that leave us over OTLP.

From the semantic conventions 1.41: HTTP is stable there, RPC a release candidate, GenAI in development. What has got
another name since (`TOKENS_LATEST`) has it with `OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental`.

    span of a call         SERVER   `POST /v1/completions`, `fmaas.GenerationService/Generate`
    span of an upstream's  CLIENT   `text_completion llama` where it generates, else `POST` or the gRPC method

Nothing here is as the client sent it, but for the name of the model, numbers that say how texts are to be made, an
acceptable `x-request-id` and an address: paths are those of the specs, and there are no queries, no headers, no
identities, no errors' texts and no contents. The runtime's own words are its answer's id and its model's name.
"""

from collections.abc import Mapping, Sequence

from inferbridge.bridge.errors import Code
from inferbridge.gateway.record import CallRecord, UpstreamCall, bounded

SCHEMA = "https://opentelemetry.io/schemas/1.41.0"
OPT_IN = "OTEL_SEMCONV_STABILITY_OPT_IN"
LATEST_GEN_AI = "gen_ai_latest_experimental"

CLIENT_ADDRESS, CLIENT_PORT = "client.address", "client.port"
SERVER_ADDRESS, SERVER_PORT = "server.address", "server.port"
ERROR_TYPE = "error.type"
HTTP_METHOD, HTTP_ROUTE, HTTP_STATUS = "http.request.method", "http.route", "http.response.status_code"
PROTOCOL_NAME, PROTOCOL_VERSION = "network.protocol.name", "network.protocol.version"
RPC_SYSTEM, RPC_METHOD, RPC_STATUS = "rpc.system.name", "rpc.method", "rpc.response.status_code"
GEN_AI_OPERATION, GEN_AI_PROVIDER = "gen_ai.operation.name", "gen_ai.provider.name"
GEN_AI_MODEL, GEN_AI_STREAM = "gen_ai.request.model", "gen_ai.request.stream"
GEN_AI_INPUT, GEN_AI_OUTPUT = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"
GEN_AI_FINISH = "gen_ai.response.finish_reasons"
GEN_AI_ANSWER, GEN_AI_ANSWERING = "gen_ai.response.id", "gen_ai.response.model"
_ASKED = {
    "max_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "seed": "gen_ai.request.seed",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "n": "gen_ai.request.choice.count",
}
"""Of a request its numbers; stop sequences are texts."""
GEN_AI_FIRST_CHUNK, GEN_AI_TOKEN_TYPE = "gen_ai.response.time_to_first_chunk", "gen_ai.token.type"
REQUEST_ID, API, OPERATION, FLAGS = (
    "inferbridge.request_id", "inferbridge.api", "inferbridge.operation", "inferbridge.flags",
)  # fmt: skip
UPSTREAM, RUNTIME = "inferbridge.upstream", "inferbridge.runtime"

HTTP_DURATION, RPC_DURATION = "http.server.request.duration", "rpc.server.call.duration"
GEN_AI_DURATION, GEN_AI_FIRST_TOKEN = "gen_ai.client.operation.duration", "gen_ai.server.time_to_first_token"
TOKENS, TOKENS_LATEST = "gen_ai.client.token.usage", "gen_ai.client.inference.tokens"
"""A histogram in 1.41; the latest has a counter instead."""
CALL_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
GEN_AI_BUCKETS = tuple(0.01 * 2**step for step in range(14))
FIRST_TOKEN_BUCKETS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
TOKEN_BUCKETS = tuple(float(4**step) for step in range(14))

OTHER = "_OTHER"
_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
_CODES = {int(code): code.name for code in Code}
_FAULTS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
"""What is a server's fault; other codes tell the client of its own."""
_OPERATIONS = {"generate": "text_completion", "embed": "embeddings"}
_CHAT = "chat"
_REASONS = {
    "eos_token": "stop", "stop_sequence": "stop", "max_tokens": "length", "token_limit": "length",
    "time_limit": "length", "cancelled": "abort",
}  # fmt: skip
"""Why texts end, in the words of OpenAI and vLLM, whatever the runtime says; others are the operation's own."""

type Attribute = str | int | float | bool | Sequence[str]
type Attributes = dict[str, Attribute]


def server_name(record: CallRecord) -> str:
    """Of a call's span."""
    if record.is_grpc:
        return record.path[1:] or "grpc"
    method = record.method if record.method in _METHODS else "HTTP"
    return f"{method} {record.path}" if record.path else method


def server_attributes(record: CallRecord) -> Attributes:
    """Of a call's span."""
    found = server_dimensions(record)
    host, _, port = record.peer.rpartition(":")
    if host:
        found[CLIENT_ADDRESS] = host.strip("[]")
        if port.isdecimal():
            found[CLIENT_PORT] = int(port)
    if not record.is_grpc and record.protocol:
        found[PROTOCOL_NAME] = "http"
    for name, text in ((REQUEST_ID, record.request_id), (API, record.api), (OPERATION, record.operation)):
        if text:
            found[name] = text
    if record.flags:
        found[FLAGS] = record.flags
    if len(record.upstream_calls) > 1:
        found |= usage(record) | answered(record)  # of all of them: which has used how much is not known
    return found


def server_dimensions(record: CallRecord) -> Attributes:
    """What a call's span and its duration have in common."""
    found: Attributes = {}
    if record.is_grpc:
        found[RPC_SYSTEM], found[RPC_METHOD] = "grpc", record.path[1:] or OTHER
        if (status := _grpc_outcome(record)) is not None:
            found[RPC_STATUS] = status
    else:
        found[HTTP_METHOD] = record.method if record.method in _METHODS else OTHER
        if record.path:
            found[HTTP_ROUTE] = record.path
        if record.status is not None:
            found[HTTP_STATUS] = record.status
        if record.protocol:
            found[PROTOCOL_VERSION] = record.protocol.removeprefix("HTTP/").removesuffix(".0") or OTHER
    if error := server_error(record):
        found[ERROR_TYPE] = error
    return found


def _grpc_outcome(record: CallRecord) -> str | None:
    if record.grpc_status is not None:
        return code_name(record.grpc_status)
    return "CANCELLED" if "DC" in record.flags else None


def code_name(status: int) -> str:
    """Of a gRPC status."""
    return _CODES.get(status, str(status))


def server_error(record: CallRecord) -> str:
    """The `error.type` of a call that failed here or at its runtime; empty where all went well or the client erred."""
    if record.is_grpc and record.grpc_status is not None:
        name = code_name(record.grpc_status)
        return name if name in _FAULTS else ""
    if record.status is None:
        return "" if "DC" in record.flags else OTHER
    if record.status >= 500:
        return str(record.status)
    if record.error and record.status < 400:  # cut off, or told in the stream
        return record.code.name if record.code is not None else OTHER
    return ""


def client_name(record: CallRecord, call: UpstreamCall) -> str:
    """Of the span of an upstream's call."""
    if operation := gen_ai_operation(record):
        return f"{operation} {record.model}" if record.model else operation
    return call.rpc[1:] if call.rpc else call.method


def client_attributes(record: CallRecord, call: UpstreamCall) -> Attributes:
    """Of the span of an upstream's call."""
    found: Attributes = {UPSTREAM: call.upstream, RUNTIME: call.runtime}
    if call.host:
        found[SERVER_ADDRESS], found[SERVER_PORT] = call.host, call.port
    if call.rpc:
        found[RPC_SYSTEM], found[RPC_METHOD] = "grpc", call.rpc[1:]
        if (status := _upstream_outcome(call)) is not None:
            found[RPC_STATUS] = status
    else:
        found[HTTP_METHOD] = call.method
        if call.status is not None:
            found[HTTP_STATUS] = call.status
    if error := client_error(call):
        found[ERROR_TYPE] = error
    if gen_ai_operation(record):
        found |= gen_ai_dimensions(record, call.runtime, record.model) | asked(record) | _of_answer(record, call)
    return found


def _of_answer(record: CallRecord, call: UpstreamCall) -> Attributes:
    found = usage(record) | answered(record) if len(record.upstream_calls) == 1 else {}
    if record.streamed:
        found[GEN_AI_STREAM] = True
        if call.first_byte:
            found[GEN_AI_FIRST_CHUNK] = call.first_byte - call.began
    return found


def _upstream_outcome(call: UpstreamCall) -> str | None:
    if call.failure is not None:
        return call.failure.name
    if call.grpc_status is not None:
        return code_name(call.grpc_status)
    return None if call.ended else "CANCELLED"


def client_error(call: UpstreamCall) -> str:
    """The `error.type` of an upstream's call; empty where it went well."""
    if call.failure is not None:
        return call.failure.name
    if not call.ended:
        return "CANCELLED"
    if call.rpc:
        return code_name(call.grpc_status) if call.grpc_status else ""
    return str(call.status) if call.status is not None and call.status >= 400 else ""


def gen_ai_operation(record: CallRecord) -> str:
    """The operation in GenAI's words; empty for one that it has no word for."""
    operation = _OPERATIONS.get(record.operation, "")
    return _CHAT if operation and record.endpoint == _CHAT else operation


def gen_ai_dimensions(record: CallRecord, runtime: str, model: str) -> Attributes:
    """What is generated by whom. The provider is the runtime: GenAI's own list knows hosted services alone."""
    found: Attributes = {GEN_AI_OPERATION: gen_ai_operation(record), GEN_AI_PROVIDER: runtime}
    if model:
        found[GEN_AI_MODEL] = model
    return found


def usage(record: CallRecord) -> Attributes:
    """Tokens, where they are known."""
    tokens = record.tokens_in, record.tokens_out
    if tokens == (None, None) and record.trace is not None and record.trace.generation.spent is not None:
        tokens = record.trace.generation.spent() or tokens
    counts = dict(zip((GEN_AI_INPUT, GEN_AI_OUTPUT), tokens, strict=True))
    return {name: count for name, count in counts.items() if count is not None}


def asked(record: CallRecord) -> Attributes:
    """How a traced call wants its texts made, as far as it says so."""
    request = record.trace.generation.asked if record.trace is not None else None
    said = {attribute: getattr(request, name, None) for name, attribute in _ASKED.items()}
    return {attribute: number for attribute, number in said.items() if number is not None}


def answered(record: CallRecord) -> Attributes:
    """Which answer a traced call has, and why its texts ended, in their order; what nobody said is missing."""
    if record.trace is None:
        return {}
    generation = record.trace.generation
    reasons = tuple(_REASONS.get(reason, reason) for _, reason in sorted(generation.finished.items()))
    found: Attributes = {
        GEN_AI_ANSWER: bounded(generation.answer_id),
        GEN_AI_ANSWERING: bounded(generation.model),
        GEN_AI_FINISH: reasons,
    }
    return {name: value for name, value in found.items() if value}


def latest_gen_ai(environment: Mapping[str, str]) -> bool:
    """Whether names of GenAI are wanted that are newer than the conventions of this module."""
    return LATEST_GEN_AI in (word.strip() for word in environment.get(OPT_IN, "").split(","))
