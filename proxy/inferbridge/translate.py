"""Translates single calls offline, without a network: JSON forms in, JSON forms out.

A REST call is `{"method", "path", "headers": [[name, value]…], "body" | "body_base64"}`, its reply has `status`
instead of method and path. A gRPC call is `{"rpc", "metadata", "messages_base64"}`, its reply adds `code`, `details`
and `trailers`. A side is named `API/rest`, `API/grpc`, `runtime/rest` or `runtime/grpc`.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from inferbridge.bridge.bridge import Bridge, Crossing, End, Leg, lost_headers, not_the_clients
from inferbridge.bridge.chat_template import ChatTemplate
from inferbridge.bridge.context import Policy, RuntimeProfile, Setting
from inferbridge.bridge.dialects import error_reply
from inferbridge.bridge.errors import BridgeError, invalid
from inferbridge.bridge.framing import frame, quote_message, unframe, unquote_message
from inferbridge.bridge.matching import half_of, protocols, serving
from inferbridge.bridge.registry import Api, Endpoint
from inferbridge.bridge.routes import Match, Routes
from inferbridge.bridge.streams import GrpcSink
from inferbridge.bridge.values import Buffer, GrpcReply, GrpcRequest, Headers, HttpReply, HttpRequest, header, join
from inferbridge_generated import operations
from inferbridge_generated.registry import APIS
from inferbridge_generated.runtimes import PROFILES

type Form = Mapping[str, Any]
STRICT = Policy()
MAX_MESSAGE = 1 << 30


class Translator:
    """One pair of sides. Errors of the call come back as the answer that the client would get."""

    def __init__(
        self, client: str, runtime: str, policy: Policy = STRICT, chat_template: ChatTemplate | None = None
    ) -> None:
        self._client, self._client_protocol = side(client)
        self._runtime, self._runtime_protocol = side(runtime, runtime=True)
        self._policy = policy
        self._chat_template = chat_template
        self._api: Api = APIS[self._client.api]
        self._runtime_api: Api = APIS[self._runtime.api]
        if self._client.api != self._runtime.api and not _shared_operations(self._api, self._runtime_api):
            raise ValueError(f"{client} and {runtime} share no operation")
        self._routes = Routes([self._api])

    def call(self, form: Form) -> dict[str, Any]:
        """The runtime's form of a client's call; `{"calls": [form…]}` where a batch becomes several."""
        try:
            calls = [form_of(leg.call) for leg in self._cross(form)[1].legs]
        except BridgeError as error:
            return {"error": form_of(self._error(error))}
        return calls[0] if len(calls) == 1 else {"calls": calls}

    def reply(self, form: Form) -> dict[str, Any]:
        """The client's form of `{"request": client's call, "reply": runtime's answer}`; a batch has `replies`."""
        try:
            bridge, crossing = self._cross(form["request"])
            forms = form["replies"] if "replies" in form else [form["reply"]]
            answers = [reply_from(reply, self._runtime_protocol) for reply in forms]
            return form_of(_brought_back(bridge, crossing, answers))
        except BridgeError as error:
            return form_of(self._error(error))

    def _error(self, error: BridgeError) -> HttpReply | GrpcReply:
        profile = self._runtime if self._client.api == self._runtime.api else None
        rest = self._client_protocol == "rest"
        return error_reply(error, rest=rest, profile=profile, dialect=self._api.errors)

    def _cross(self, form: Form) -> tuple[Bridge, Crossing]:
        call = call_from(form, self._client_protocol)
        if isinstance(call, GrpcRequest):
            match = self._routes.rpc(call.rpc)
        else:
            (match,) = self._routes.rest(call.method, call.path)
            call = replace(call, variables=match.variables)
        bridge = self._bridge(match)
        return bridge, bridge.request(call)

    def _bridge(self, match: Match) -> Bridge:
        client = self._end(self._api, match.endpoint, self._client_protocol, self._client.variant)
        found = serving(self._api, match.endpoint, self._runtime_api, self._runtime_protocol, self._runtime.variant)
        if not found:
            raise invalid(f"{self._runtime.name} has nothing for {match.endpoint.name} over {self._runtime_protocol}")
        ends = [self._end(self._runtime_api, each, self._runtime_protocol, self._runtime.variant) for each in found]
        setting = Setting(client_api=self._api.name, operations=operations, chat_template=self._chat_template)
        return Bridge(client, ends[0], ends[-1], self._runtime, self._policy, setting)

    def _end(self, api: Api, endpoint: Endpoint, protocol: str, variant: str) -> End:
        half = half_of(api, endpoint.name, protocol, variant)
        if half is None:
            raise invalid(f"{endpoint.name} has no {protocol} binding")
        return End(api, endpoint, half)


def _brought_back(bridge: Bridge, crossing: Crossing, answers: list[HttpReply | GrpcReply]) -> HttpReply | GrpcReply:
    """The client's answer from the runtime's, whole or as all of a stream."""
    if len(answers) != len(crossing.legs):
        raise invalid(f"the call becomes {len(crossing.legs)} calls of the runtime, there are {len(answers)} replies")
    pairs = list(zip(crossing.legs, answers, strict=True))
    if not pairs:
        return bridge.write_reply(crossing, ())
    if crossing.context.stream:
        return _streamed(bridge, crossing, pairs)
    if not crossing.streamed:
        replies = [bridge.read_reply(crossing, leg, answer) for leg, answer in pairs]
        return bridge.write_reply(crossing, replies)
    return bridge.write_reply(crossing, [_folded(bridge, crossing, leg, answer) for leg, answer in pairs])


def _folded(bridge: Bridge, crossing: Crossing, leg: Leg, answer: HttpReply | GrpcReply) -> Any:
    fold = bridge.fold()
    for message in _messages_of(bridge, crossing, leg, answer):
        fold.add(message)
    return fold.reply()


def _messages_of(bridge: Bridge, crossing: Crossing, leg: Leg, answer: HttpReply | GrpcReply) -> Iterator[Any]:
    """The neutral messages of one answer; raises the error that it ends with."""
    if not crossing.streamed:
        yield from bridge.unfold(bridge.read_reply(crossing, leg, answer))
        return
    source = bridge.source(crossing, leg, MAX_MESSAGE)
    if isinstance(answer, HttpReply):
        source.head(answer.status, answer.headers)
        yield from source.feed(join(answer.chunks))
        yield from source.finish(())
    else:
        status = (("grpc-status", str(answer.code)), ("grpc-message", quote_message(answer.details)))
        source.head(200, answer.metadata)
        for chunk in frame(answer.messages):
            yield from source.feed(chunk)
        yield from source.finish((*status, *answer.trailers))


def _streamed(
    bridge: Bridge, crossing: Crossing, pairs: list[tuple[Leg, HttpReply | GrpcReply]]
) -> HttpReply | GrpcReply:
    sink, writer = bridge.sink(crossing), bridge.writer(crossing)
    out: list[Buffer] = []
    end: tuple[Sequence[Buffer], Headers]
    try:
        for number, (leg, answer) in enumerate(pairs):
            for message in _messages_of(bridge, crossing, leg, answer):
                if len(pairs) > 1:
                    message.index += number
                out += sink.write(writer.write(message) if writer is not None else (message,))
        out += sink.write(writer.finish()) if writer is not None else ()
        end = sink.end()
    except BridgeError as error:
        if not out and not sink.tells_errors:
            raise not_the_clients(error) from error
        end = sink.fail(not_the_clients(error))
    out += end[0]
    headers = (*sink.headers, *lost_headers(crossing.context))
    if isinstance(sink, GrpcSink):
        code, details = header(end[1], "grpc-status") or "0", unquote_message(header(end[1], "grpc-message") or "")
        return GrpcReply(int(code), details, (), unframe(b"".join(out), "identity", MAX_MESSAGE))
    return HttpReply(sink.status, headers, out)


def _shared_operations(one: Api, other: Api) -> set[str]:
    return {each.operation for each in one.endpoints.values()} & {each.operation for each in other.endpoints.values()}


def side(text: str, *, runtime: bool = False) -> tuple[RuntimeProfile, str]:
    """The profile and the protocol that `name/rest` or `name/grpc` means; raises ValueError.

    A name that is both an API's and a runtime's, such as `tgis`, is the runtime's where a runtime is meant.
    """
    name, _, protocol = text.rpartition("/")
    if protocol not in {"rest", "grpc"}:
        raise ValueError(f"{text!r} must end in /rest or /grpc")
    if name in APIS and not (runtime and name in PROFILES):
        return RuntimeProfile(name=name, api=name, json_doubles=True), protocol
    if name in PROFILES:
        spoken = (profile for profile in PROFILES[name] if protocol in protocols(APIS[profile.api]))
        return next(spoken, PROFILES[name][0]), protocol
    raise ValueError(f"{name!r} is none of {', '.join(sorted([*APIS, *PROFILES]))}")


def translate_call(client: str, runtime: str, call: Form, policy: Policy = STRICT) -> dict[str, Any]:
    """As `Translator.call`."""
    return Translator(client, runtime, policy).call(call)


def translate_reply(client: str, runtime: str, exchange: Form, policy: Policy = STRICT) -> dict[str, Any]:
    """As `Translator.reply`."""
    return Translator(client, runtime, policy).reply(exchange)


def _headers(value: Any) -> Headers:
    if not isinstance(value, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        raise invalid("headers and metadata are lists of [name, value]")
    return tuple((str(name).lower(), str(text)) for name, text in value)


def _body(form: Form) -> bytes:
    if "body_base64" in form:
        return base64.b64decode(form["body_base64"])
    return str(form.get("body", "")).encode()


def _messages(form: Form) -> tuple[tuple[bytes, ...], ...]:
    return tuple((base64.b64decode(text),) for text in form.get("messages_base64", []))


def call_from(form: Form, protocol: str) -> HttpRequest | GrpcRequest:
    """A call from its JSON form."""
    try:
        if protocol == "rest":
            return HttpRequest(form["method"], form["path"], _headers(form.get("headers", [])), (_body(form),))
        return GrpcRequest(form["rpc"], _headers(form.get("metadata", [])), _messages(form))
    except KeyError as error:
        raise invalid(f"the call has no {error}") from None


def reply_from(form: Form, protocol: str) -> HttpReply | GrpcReply:
    """A reply from its JSON form."""
    if protocol == "rest":
        return HttpReply(form["status"], _headers(form.get("headers", [])), (_body(form),))
    headers, trailers = _headers(form.get("metadata", [])), _headers(form.get("trailers", []))
    return GrpcReply(form.get("code", 0), form.get("details", ""), headers, _messages(form), trailers)


def form_of(value: HttpRequest | HttpReply | GrpcRequest | GrpcReply) -> dict[str, Any]:
    """The JSON form of a call or reply."""
    if isinstance(value, HttpRequest):
        return {"method": value.method, "path": value.path, **_http_rest(value)}
    if isinstance(value, HttpReply):
        return {"status": value.status, **_http_rest(value)}
    messages = [base64.b64encode(join(chunks) if chunks else b"").decode() for chunks in value.messages]
    if isinstance(value, GrpcRequest):
        return {"rpc": value.rpc, "metadata": [list(pair) for pair in value.metadata], "messages_base64": messages}
    return {
        "code": value.code,
        "details": value.details,
        "metadata": [list(pair) for pair in value.metadata],
        "messages_base64": messages,
        "trailers": [list(pair) for pair in value.trailers],
    }


def _http_rest(value: HttpRequest | HttpReply) -> dict[str, Any]:
    body = bytes(join(value.chunks)) if value.chunks else b""
    headers = [list(pair) for pair in value.headers]
    try:
        return {"headers": headers, "body": body.decode()}
    except UnicodeDecodeError:
        return {"headers": headers, "body_base64": base64.b64encode(body).decode()}
