"""A bridge: the client's half and the runtime's half of one operation, meeting in a neutral value.

`request` takes a client's call across and gives a `Crossing`: one call of the runtime, or several where the runtime's
API takes one item of a batch a call. On the way back there are two roads:

    runtime's answer ─▶ read_reply ─▶ neutral reply ─▶ (join, unfold) ─▶ write_reply ─▶ client's answer
    runtime's stream ─▶ source     ─▶ neutral messages ─▶ (fold)      ─▶ sink        ─▶ client's stream

What fails on the way there is the client's to know; what fails on the way back is the runtime's doing and is INTERNAL,
unless the runtime itself answered with an error.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from inferbridge.bridge.accept import StreamForm
from inferbridge.bridge.context import Context, Policy, RuntimeFault, RuntimeProfile, Setting
from inferbridge.bridge.dialects import DIALECTS, OPEN_INFERENCE, Dialect, error_reply
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.folding import FOLDS, UNFOLDS, joined
from inferbridge.bridge.outgoing import (
    lose_lacking,
    name_adapter,
    own_time_limit,
    parts,
    render_messages,
    write_defaults_out,
)
from inferbridge.bridge.registry import Api, Endpoint, GrpcHalf, RestHalf
from inferbridge.bridge.rest import read_known
from inferbridge.bridge.rules import RULES
from inferbridge.bridge.rules.base import MessageWriter, Rule
from inferbridge.bridge.streams import ArraySink, EventSink, GrpcSink, GrpcSource, LineSink, RestSource, Sink, Source
from inferbridge.bridge.values import Buffer, GrpcReply, GrpcRequest, Headers, HttpReply, HttpRequest

LOST_HEADER = "x-inferbridge-lost"
_LENIENT = Policy(lossy=True)
_SINKS: Mapping[StreamForm, type[EventSink | LineSink]] = {"events": EventSink, "lines": LineSink, "array": ArraySink}


@dataclass(frozen=True, slots=True)
class End:
    """One end of a bridge: an endpoint as one API speaks it over one protocol."""

    api: Api
    endpoint: Endpoint
    half: RestHalf | GrpcHalf
    rule: Rule | None = field(init=False)
    """What the endpoint's table cannot say."""

    def __post_init__(self) -> None:
        # asked for several times a call
        object.__setattr__(self, "rule", RULES[self.endpoint.rule] if self.endpoint.rule else None)

    @property
    def dialect(self) -> Dialect:
        """How its API words errors."""
        return DIALECTS.get(self.api.errors, OPEN_INFERENCE)


class Leg(Struct):
    """One call of the runtime."""

    call: HttpRequest | GrpcRequest
    """What to send."""
    request: Any
    """What it asks, as a neutral value, before the rule of the runtime's API made its own of it."""


class Crossing(Struct):
    """A client's call that is on the other side."""

    request: Any
    context: Context
    runtime: End
    legs: tuple[Leg, ...]
    """More than one where a batch was fanned out; none for an empty batch."""
    time_limit: float | None = None
    """Seconds after which the texts end as they are, where the runtime knows no such limit."""
    reply: Any = None
    """The neutral reply where the runtime need not be asked."""

    @property
    def call(self) -> HttpRequest | GrpcRequest:
        """The only call, where the client's is not fanned out."""
        return self.legs[0].call

    @property
    def is_simple(self) -> bool:
        """One whole answer of the runtime makes one whole answer of the client."""
        return not self.context.stream and len(self.legs) == 1 and not self.streamed

    @property
    def streamed(self) -> bool:
        """Whether the runtime's answer is a stream."""
        return self.context.streamed


@dataclass(frozen=True, slots=True)
class Bridge:
    """Between a client's endpoint and the endpoint of a runtime that serves it; either may speak REST or gRPC."""

    client: End
    unary: End
    """The runtime's endpoint for a call with one answer."""
    streaming: End
    """The runtime's endpoint for a call with a streamed answer; often the same."""
    profile: RuntimeProfile
    policy: Policy
    setting: Setting = field(default_factory=Setting)

    # to the runtime

    def request(self, call: HttpRequest | GrpcRequest) -> Crossing:
        """The client's call as the runtime's; raises `BridgeError`."""
        context = self.context()
        return self.cross(self.client.half.decode_request(call, context), context)  # type: ignore[arg-type]  # the half fits the call's protocol

    def context(self) -> Context:
        """The surroundings of a new call."""
        return Context(self.profile, self.policy, setting=self.setting)

    def cross(self, request: Any, context: Context) -> Crossing:
        """What the client asks, as the runtime's call; raises `BridgeError`."""
        client = self.client.endpoint
        if self.client.rule is not None:
            self.client.rule.received_request(request, context)
        if self.profile.lacks:
            lose_lacking(request, context)
        if client.is_plain and self.unary.endpoint.is_plain:
            leg = Leg(self.unary.half.encode_request(request, context), request)
            context.crossed()
            return Crossing(request, context, self.unary, (leg,))
        if self.setting.default_model and not getattr(request, "model", self.setting.default_model):
            request.model = self.setting.default_model
        context.stream = client.mode == "stream" or (client.mode == "either" and bool(request.stream))
        runtime = self.streaming if context.stream else self.unary
        reply = self.client.rule.empty_reply(request, context) if self.client.rule is not None else None
        if reply is not None:
            return Crossing(request, context, runtime, (), reply=reply)
        if runtime.api is not self.client.api:
            write_defaults_out(request, self.client.half.defaults, runtime.half)
        limit = own_time_limit(request, runtime.endpoint, runtime.half)
        context.streamed = runtime.endpoint.mode == "stream"
        if runtime.endpoint.mode == "either":  # a text can only end early that comes piece by piece
            context.streamed = context.stream or limit is not None
        render_messages(request, runtime.half, context)
        legs = [_leg(part, runtime, context) for part in parts(request, runtime.endpoint, runtime.half)]
        context.crossed()
        return Crossing(request, context, runtime, tuple(legs), limit)

    def read(self, call: HttpRequest | GrpcRequest) -> Any:
        """A client's call as a neutral value, to look at; what the vocabulary does not know is left out."""
        context = Context(self.profile, _LENIENT, setting=self.setting)
        if isinstance(call, HttpRequest):
            return read_known(call, lambda known: self.client.half.decode_request(known, context))  # type: ignore[arg-type]  # as above
        return self.client.half.decode_request(call, context)  # type: ignore[arg-type]  # as above

    def model(self, call: HttpRequest | GrpcRequest) -> str:
        """The model that a client's call names; empty for none."""
        request = self.read(call)
        return str(getattr(request, "model", "") or next(iter(getattr(request, "models", ())), ""))

    # back to the client

    def read_reply(self, crossing: Crossing, leg: Leg, answer: HttpReply | GrpcReply) -> Any:
        """The neutral value of one whole answer; raises what the runtime answers as an error."""
        context, runtime = crossing.context, crossing.runtime
        context.replying = True
        decode = runtime.half.decode_reply
        assert decode is not None
        try:
            reply = decode(answer, leg.request, context)  # type: ignore[arg-type]  # as in `request`
            if runtime.rule is not None:
                runtime.rule.received_reply(reply, leg.request, context)
        except RuntimeFault:
            raise
        except BridgeError as error:
            raise not_the_clients(error) from error
        return reply

    def write_reply(self, crossing: Crossing, replies: Sequence[Any]) -> HttpReply | GrpcReply:
        """The client's answer from the neutral replies of all legs; from its own where there are none."""
        reply = joined(replies) if replies else crossing.reply
        self.prepare_reply(crossing, reply)
        return self.encode_reply(crossing, reply)

    def prepare_reply(self, crossing: Crossing, reply: Any) -> None:
        """A neutral reply as the client's API means it."""
        crossing.context.replying = True
        if self.client.rule is not None:
            try:
                self.client.rule.sent_reply(reply, crossing.request, crossing.context)
            except BridgeError as error:
                raise not_the_clients(error) from error

    def encode_reply(self, crossing: Crossing, reply: Any) -> HttpReply | GrpcReply:
        """A prepared reply as the client's answer."""
        context = crossing.context
        encode = self.client.half.encode_reply
        assert encode is not None
        try:
            answer: HttpReply | GrpcReply = encode(reply, crossing.request, context)
        except BridgeError as error:
            raise not_the_clients(error) from error
        return answer if not context.losses else with_losses(answer, context)

    def fold(self) -> Any:
        """What collects a stream for a client that wants one answer."""
        operation = self.client.endpoint.operation
        if operation not in FOLDS:
            raise BridgeError(Code.UNIMPLEMENTED, f"a streamed {operation} cannot be folded into one answer")
        return FOLDS[operation](self.setting.operations)

    def unfold(self, reply: Any) -> list[Any]:
        """A whole answer as messages, for a client that wants a stream."""
        operation = self.client.endpoint.operation
        if operation not in UNFOLDS:
            raise BridgeError(Code.UNIMPLEMENTED, f"the answer of {operation} cannot be streamed")
        return UNFOLDS[operation](reply, self.setting.operations)

    def out_of_time(self) -> Any:
        """The message that ends a text at its time limit."""
        return self.setting.operations.GenerateMessage(text="", finish_reason="time_limit")

    def source(self, crossing: Crossing, leg: Leg, limit: int) -> Source:
        """Reads the streamed answer of one leg; `limit` in bytes for each message."""
        end, context = crossing.runtime, crossing.context
        context.replying = True
        reader = end.rule.reader(leg.request, context) if end.rule is not None else None
        if isinstance(end.half, GrpcHalf):
            return GrpcSource(end.half, reader, context, limit)
        return RestSource(end.half, end.dialect, reader, context, limit)

    def writer(self, crossing: Crossing) -> MessageWriter | None:
        """Makes the client API's own sequence of messages; None: as they come."""
        rule = self.client.rule
        return rule.writer(crossing.request, crossing.context) if rule is not None else None

    def sink(self, crossing: Crossing, form: StreamForm = "events") -> Sink:
        """Writes the client's stream; `form` is what a REST client asks for."""
        half, context = self.client.half, crossing.context
        if isinstance(half, GrpcHalf):
            return GrpcSink(half, crossing.request, context)
        return _SINKS[form](half, self.client.dialect, context)

    def failure(self, error: BridgeError) -> tuple[Sequence[Buffer], Headers]:
        """How the stream of a gRPC client tells of a request that cannot be taken across, and the trailers."""
        assert isinstance(self.client.half, GrpcHalf)
        return GrpcSink(self.client.half, None, self.context()).fail(error)

    def error(self, error: BridgeError) -> HttpReply | GrpcReply:
        """An error in the client's dialect."""
        profile = self.profile if self.unary.api is self.client.api else None
        rest = isinstance(self.client.half, RestHalf)
        return error_reply(error, rest=rest, profile=profile, dialect=self.client.api.errors)


def _leg(request: Any, runtime: End, context: Context) -> Leg:
    rule = runtime.rule
    sent = name_adapter(request, runtime.half, context)
    sent = rule.sent_request(sent, context) if rule is not None else sent
    if runtime.endpoint.mode == "either" and sent.stream is not context.streamed:
        sent = copy(sent)
        sent.stream = context.streamed
    return Leg(runtime.half.encode_request(sent, context), request)


def not_the_clients(error: BridgeError) -> BridgeError:
    """An error on the way back is not the client's fault, unless the runtime says so itself."""
    if isinstance(error, RuntimeFault) or error.code not in (Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED):
        return error
    message = f"the runtime's answer cannot be translated: {error.message}"
    if error.code is Code.RESOURCE_EXHAUSTED:  # 413 and 429 would say that the client sent too much
        return BridgeError(Code.RESOURCE_EXHAUSTED, message, status=500)
    return BridgeError(Code.INTERNAL, message)


def lost_headers(context: Context) -> Headers:
    """The names of what was lost, in `x-inferbridge-lost`."""
    return ((LOST_HEADER, ", ".join(dict.fromkeys(context.losses))),) if context.losses else ()


def with_losses(reply: HttpReply | GrpcReply, context: Context) -> HttpReply | GrpcReply:
    """The answer with the names of what was lost."""
    lost = lost_headers(context)
    if isinstance(reply, HttpReply):
        return HttpReply(reply.status, (*reply.headers, *lost), reply.chunks)
    return GrpcReply(reply.code, reply.details, (*reply.metadata, *lost), reply.messages, reply.trailers)
