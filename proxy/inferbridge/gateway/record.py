"""What is known of one call: a value that everybody who handles the call adds to, read once the call has ended.

It travels as the attribute `record` of the call's `Responder`, which wrappers hand on. It is made in `recording`, which
also decides when a call has ended. Times are readings of `clock`, 0.0 for what has not happened.
"""

from collections.abc import Callable
from time import perf_counter
from typing import Any, Literal, Protocol

from msgspec import Struct, field

from inferbridge.auth.identity import ANONYMOUS, Identity
from inferbridge.bridge.context import RuntimeFault
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.visible import visible
from inferbridge.gateway.transcript import Transcript

clock = perf_counter
LONGEST = 256
"""Characters of a text that a client or a runtime chose."""
GAP_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 80.0)
"""Upper ends of the classes that the time between two messages of an answer is counted in; one more has the rest."""

type Flag = Literal["DC", "UC", "UT", "RL", "TE", "UAEX", "NR", "LR"]
"""Why a call ended as it did, in Envoy's letters where it has some:

DC the client went away, UC the upstream could not be reached or broke off, UT it took too long, RL a rate was exceeded,
TE something could not be translated, UAEX the caller is not known or not allowed, NR there is no such endpoint or
nobody who serves it, LR a limit of size was exceeded.
"""
_LIMITS = frozenset({413, 414, 431})
_TOO_MANY = 429
_DENIED = frozenset({Code.UNAUTHENTICATED, Code.PERMISSION_DENIED})


def bounded(text: str) -> str:
    """A text that others chose, as a log may hold it: no control, format or bidi characters, and cut."""
    if len(text) > LONGEST:
        text = text[: LONGEST - 1] + "…"
    escaped = visible(text)
    return escaped if len(escaped) <= LONGEST else escaped[: LONGEST - 1] + "…"


class Parent(Struct, frozen=True):
    """Of whose span a call is a child: what the client's `traceparent` says, and its `tracestate`."""

    trace_id: str
    span_id: str
    flags: int
    """The lowest bit is set where the client's own span is recorded."""
    state: str


class Generation(Struct):
    """What a trace tells of a call that generates texts, beside its record."""

    asked: Any = None
    """The operation's request."""
    answer_id: str = ""
    """The runtime's name for its answer."""
    model: str = ""
    """That the runtime says it is."""
    finished: dict[tuple[int, int], str] = field(default_factory=dict)
    """Why texts ended, in the operation's words, by the number of the runtime's answer and their index in it."""
    spent: Callable[[], tuple[int, int] | None] | None = None
    """As that of the record, where that has none: of an answer that passes through."""


class Trace(Protocol):
    """Where a call stands in a trace."""

    @property
    def sampled(self) -> bool:
        """Its spans are recorded."""

    generation: "Generation"
    """Noted of sampled calls alone."""

    def child(self) -> str:
        """The `traceparent` of a further call that is made for this one: each has a span of its own."""


class UpstreamCall(Struct, kw_only=True):
    """One call of a runtime that is made for a client's; only where that is traced. Times are as in its record."""

    traceparent: str
    upstream: str
    runtime: str
    protocol: str
    """`rest` or `grpc`."""
    host: str
    port: int
    method: str
    rpc: str
    """The path of a gRPC method; empty for REST, whose paths may hold what the client chose."""
    began: float
    first_byte: float = 0.0
    """Of the body of its answer."""
    ended: float = 0.0
    """0.0 for a call that was given up."""
    status: int | None = None
    grpc_status: int | None = None
    failure: Code | None = None
    """Why it failed on the way."""


class CallRecord(Struct, kw_only=True):
    """One call. Texts are empty and numbers None where nothing is known."""

    request_id: str = ""
    own_id: bool = False
    """The id was made here: the client sent none, or one that is not acceptable."""
    hostile_id: bool = False
    """The client sent one that is not acceptable, or several."""
    trace_id: str = ""
    """Of the client's `traceparent`, as is `span_id`; where calls are traced, of the call's own span."""
    span_id: str = ""
    parent: Parent | None = None
    """None where the client sent no `traceparent`, or none that is valid."""
    trace: Trace | None = None
    """None unless calls are traced."""
    upstream_calls: tuple[UpstreamCall, ...] = ()
    """Of a call whose trace is sampled, in the order in which they were sent."""
    peer: str = ""
    """Address of the client, host:port."""
    protocol: str = ""
    """HTTP/1.0, HTTP/1.1, HTTP/2 or gRPC; empty for what is none of them."""
    method: str = ""
    path: str = ""
    """The path of the endpoint as the specs have it, never as it was sent."""
    endpoint: str = ""
    """Its name in the specs."""
    operation: str = ""
    api: str = ""
    """That the client speaks."""
    runtime: str = ""
    upstream: str = ""
    upstream_protocol: str = ""
    """`rest` or `grpc`."""
    model: str = ""
    identity: Identity = ANONYMOUS

    status: int | None = None
    """That the client got, as is `grpc_status`."""
    grpc_status: int | None = None
    upstream_status: int | None = None
    """The highest where several were asked, as is `upstream_grpc_status`."""
    upstream_grpc_status: int | None = None
    flags: tuple[Flag, ...] = ()
    error: str = ""
    code: Code | None = None
    """Of the error, where it is ours."""
    losses: str = ""
    """Names of fields that were dropped, as `x-inferbridge-lost` has them."""
    transcript: Transcript | None = None
    """Both sides as they went over the wire, where somebody wants to see them."""
    observed: bool = False
    """Somebody will read the record: what costs something to find out is worth it."""
    failing: bool = False
    """The connection has given the call up, for a fault or a broken rule, and goes on to refuse it or cut it."""

    bytes_in: int = 0
    """Of the client's body, without HTTP's framing."""
    bytes_out: int = 0
    messages_in: int = 0
    """gRPC messages, or one body."""
    messages_out: int = 0
    """gRPC messages, events or lines of a stream, or one body."""
    tokens_in: int | None = None
    tokens_out: int | None = None
    spent: Callable[[], tuple[int, int] | None] | None = None
    """Asked at the end for the tokens of prompts and texts, unless they are `metered`; None when nobody said any."""
    metered: bool = False
    """Tokens are counted in as they come."""
    streamed: bool = False
    """The answer is a stream by its kind, however much of it there is."""
    gaps: list[int] | None = None
    """Pieces of a streamed answer by the time since the one before, in the classes of `GAP_SECONDS` and one more."""
    gap_seconds: float = 0.0
    """The sum of these times."""

    began_at: float = 0.0
    """Seconds since 1970."""
    began: float = 0.0
    admitted: float = 0.0
    """The guard knows who calls."""
    received: float = 0.0
    """The client's body is complete."""
    first_byte: float = 0.0
    """Of the body of the answer."""
    upstream_began: float = 0.0
    upstream_head: float = 0.0
    upstream_ended: float = 0.0
    ended: float = 0.0

    def flag(self, flag: Flag) -> None:
        """Note why the call ends as it does."""
        if flag not in self.flags:
            self.flags = (*self.flags, flag)

    def routed(self, api: str, operation: str, path: str) -> None:
        """Note what is called. The first word holds: calls may be made of calls."""
        if not self.path:
            self.path = path
        self.api, self.operation = api, operation

    def failed(self, error: BridgeError, flag: Flag | None = None) -> None:
        """Note an error; `flag` says where it arose, unless the error itself tells more. The first one is kept."""
        if self.error or self.code is not None:
            return
        self.error = bounded(error.message)
        if isinstance(error, RuntimeFault):
            return  # the runtime's own word, which its status tells as well
        self.code = error.code
        if error.code in _DENIED:
            flag = "UAEX"
        elif error.status in _LIMITS:
            flag = "LR"
        elif error.status == _TOO_MANY:
            flag = "RL"
        elif error.code is Code.NOT_FOUND and flag == "TE":
            flag = "NR"
        elif error.code is Code.UNAVAILABLE and flag == "TE":
            flag = "UC"
        if flag is not None:
            self.flag(flag)

    def use(self, prompt_tokens: int, completion_tokens: int) -> None:
        """Add tokens that the call has used."""
        self.tokens_in = (self.tokens_in or 0) + prompt_tokens
        self.tokens_out = (self.tokens_out or 0) + completion_tokens

    @property
    def is_grpc(self) -> bool:
        """The client speaks gRPC."""
        return self.protocol == "gRPC"

    @property
    def direction(self) -> str:
        """Both sides' protocols, such as `rest-grpc`; `none` where no upstream was asked."""
        return ("grpc-" if self.protocol == "gRPC" else "rest-") + (self.upstream_protocol or "none")

    @property
    def duration(self) -> float:
        """Seconds from the client's head to the end of the answer."""
        return self.ended - self.began

    @property
    def ttft(self) -> float | None:
        """Seconds to the first byte of the answer's body."""
        return self.first_byte - self.began if self.first_byte else None

    @property
    def upstream_seconds(self) -> float | None:
        """Seconds in which some upstream was at work; None where none was asked."""
        return (self.upstream_ended or self.ended) - self.upstream_began if self.upstream_began else None

    @property
    def mapped(self) -> float:
        """Of the overhead, seconds from the client's whole body to the call of a runtime."""
        began, received = self.upstream_began, self.received
        return began - received if began > received else 0.0

    @property
    def overhead(self) -> float | None:
        """Seconds that went by here: neither the client's body nor an upstream's answer was waited for."""
        began, received, ended = self.upstream_began, self.received, self.ended
        if not began or not received:
            return None
        spent = ended - (received if received < began else began) - ((self.upstream_ended or ended) - began)
        return spent if spent > 0.0 else 0.0
