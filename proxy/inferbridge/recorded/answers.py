"""Answers as one value each, so that they can be compared.

Where two streams were cut into pieces is no difference. A stream of an operation that can be folded is therefore read
as a runtime's answer is, to neutral messages, and stands for the whole answer that these make; any other stream is the
list of its messages.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from inferbridge.bridge.bridge import End
from inferbridge.bridge.context import Context, Policy, RuntimeProfile, Setting
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.folding import FOLDS
from inferbridge.bridge.framing import unframe
from inferbridge.bridge.grpc import outcome
from inferbridge.bridge.matching import half_of
from inferbridge.bridge.registry import GrpcHalf, RestHalf
from inferbridge.bridge.routes import Match
from inferbridge.bridge.streams import GrpcSource, RestSource
from inferbridge.bridge.values import GrpcRequest, HttpRequest, header
from inferbridge.recorded.bodies import EVENTS, LIMIT, content_type, is_grpc, reply_body
from inferbridge.recorded.exchanges import Message, Side
from inferbridge.recorded.facts import find_endpoint

_LENIENT = Policy(lossy=True, nan="literal")


@dataclass(frozen=True, slots=True)
class Answer:
    """How a call ended, and with what."""

    status: str
    """`HTTP 200`, `NOT_FOUND: no such model`, or why there is none."""
    value: Any = None
    is_folded: bool = False
    """The value is the operation's own, not what stood on the wire."""

    @property
    def fields(self) -> Mapping[str, Any]:
        """All of it, to compare."""
        return {"status": self.status, "answer": self.value}


def answers(recorded: Side, new: Side) -> tuple[Answer, Answer]:
    """Both in the same form: folded only where both can be."""
    folded = [_folded(side) for side in (recorded, new)]
    if all(value is not None for value in folded):
        one, other = (Answer(_status(side), value, True) for side, value in zip((recorded, new), folded, strict=True))
        return one, other
    return _plain(recorded), _plain(new)


def _plain(side: Side) -> Answer:
    body = reply_body(side)
    value = [json.loads(text) for text in body.value] if body.kind == "messages" else body.value
    if body.kind == "binary":
        value = f"{len(body.value)} bytes: {body.value[:64].hex()}"
    if body.unknown and isinstance(value, list):
        value = [*value, {"fields that no proto has": list(body.unknown)}]
    return Answer(_status(side), value[0] if body.kind == "messages" and len(value) == 1 else value)


def _status(side: Side) -> str:
    told = side.told
    if told is None:
        return side.error or "there is no answer"
    if side.protocol != "grpc" or not is_grpc(told):
        return f"HTTP {told.status}"
    try:
        code, details = outcome(told.status, told.headers, told.trailers)
    except BridgeError as error:
        return error.message
    name = Code(code).name if code in set(Code) else str(code)
    return f"{name}: {details}" if details else name


def _folded(side: Side) -> Any:
    """None for what is no stream that can be."""
    match = find_endpoint(side.protocol, side.asked.method, side.asked.target)
    if match is None or side.told is None or match.endpoint.operation not in FOLDS:
        return None
    half = half_of(match.api, match.endpoint.name, side.protocol, side.variant)
    streams = content_type(side.told) == EVENTS if side.protocol == "rest" else match.endpoint.mode == "stream"
    if half is None or half.decode_message is None or not streams:
        return None
    try:
        return _read(side, side.told, match, half)
    except (BridgeError, ValueError):
        return None


def _read(side: Side, told: Message, match: Match, half: RestHalf | GrpcHalf) -> Any:
    from inferbridge_generated import operations

    end = End(match.api, match.endpoint, half)
    setting = Setting(operations=operations)
    context = Context(
        RuntimeProfile(name="", api=match.api.name), _LENIENT, setting=setting, across=True, replying=True
    )
    request = _request(side, match, half, Context(context.profile, _LENIENT, setting=setting))
    reader = end.rule.reader(request, context) if end.rule is not None else None
    source: GrpcSource | RestSource
    if isinstance(half, GrpcHalf):
        source = GrpcSource(half, reader, context, LIMIT)
    else:
        source = RestSource(half, end.dialect, reader, context, LIMIT)
    fold = FOLDS[match.endpoint.operation](operations)
    source.head(told.status, told.headers)
    for message in (*source.feed(told.body), *source.finish(told.trailers)):
        fold.add(message)
    return msgspec.to_builtins(fold.reply())


def _request(side: Side, match: Match, half: RestHalf | GrpcHalf, context: Context) -> Any:
    """The neutral request: what the answer means may depend on it."""
    asked = side.asked
    if isinstance(half, RestHalf):
        call = HttpRequest(asked.method, asked.target, asked.headers, (asked.body,), match.variables)
        return half.decode_request(call, context)
    messages = unframe(asked.body, header(asked.headers, "grpc-encoding") or "identity", LIMIT)
    return half.decode_request(GrpcRequest(half.rpc, asked.headers, messages), context)
