"""Calls of runtimes in a trace: each has a `traceparent` of its own, and is noted in the record it is made for.

    client ──traceparent──▶ span of the call ──┬──traceparent──▶ runtime        (header or metadata, as the client's)
                                               └──traceparent──▶ runtime        (one for each call of a batch or a list)

The client's `tracestate` goes on with them, unless its `traceparent` was not valid: then it belongs to no trace. Other
contexts (`grpc-trace-bin`, `b3`) cross as any header does.
"""

from msgspec import structs

from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.values import Buffer, Headers
from inferbridge.gateway.record import CallRecord, Trace, UpstreamCall, clock
from inferbridge.gateway.records.recording import grpc_status
from inferbridge.upstream.address import Address
from inferbridge.upstream.api import Receiver, UpstreamRequest

_PARENT = frozenset({"traceparent"})
_CONTEXT = frozenset({"traceparent", "tracestate"})


def traced(
    request: UpstreamRequest, receiver: Receiver, record: CallRecord, trace: Trace, address: Address | None
) -> tuple[UpstreamRequest, Receiver]:
    """The request as a child of the client's call, and a receiver that notes the answer where the trace is sampled."""
    traceparent = trace.child()
    replaced = _CONTEXT if record.parent is None else _PARENT
    headers = tuple(pair for pair in request.headers if pair[0] not in replaced)
    request = structs.replace(request, headers=headers, own=(*request.own, ("traceparent", traceparent)))
    if not trace.sampled:
        return request, receiver
    call = UpstreamCall(
        traceparent=traceparent,
        upstream=record.upstream,
        runtime=record.runtime,
        protocol=record.upstream_protocol,
        host=address.host if address is not None else "",
        port=address.port if address is not None else 0,
        method=request.method,
        rpc=request.path if record.upstream_protocol == "grpc" else "",
        began=clock(),
    )
    record.upstream_calls = (*record.upstream_calls, call)
    return request, TracedReceiver(receiver, call)


class TracedReceiver:
    """What a runtime answers one call, noted on its way to the receiver."""

    __slots__ = ("_call", "_receiver")

    def __init__(self, receiver: Receiver, call: UpstreamCall) -> None:
        self._receiver = receiver
        self._call = call

    def on_head(self, status: int, headers: Headers) -> None:
        """Status and headers."""
        self._call.status = status
        self._outcome(headers)
        self._receiver.on_head(status, headers)

    def on_data(self, data: Buffer) -> None:
        """A piece of the body."""
        if not self._call.first_byte:
            self._call.first_byte = clock()
        self._receiver.on_data(data)

    def on_end(self, trailers: Headers) -> None:
        """The answer is complete."""
        self._call.ended = clock()
        self._outcome(trailers)
        self._receiver.on_end(trailers)

    def on_failure(self, error: BridgeError) -> None:
        """The call failed on the way."""
        self._call.ended, self._call.failure = clock(), error.code
        self._receiver.on_failure(error)

    def _outcome(self, fields: Headers) -> None:
        status = grpc_status(fields)
        if status is not None:
            self._call.grpc_status = status
