"""The rows of the table: what is measured, what others cost, and what is aimed at, in CPU microseconds a call."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One path."""

    what: str
    others: str
    """What other proxies cost on the machine of the aims."""
    reach: float
    """At most this, for a beginning."""
    aim: float
    reason: str
    """Why it costs what it costs, where that is more."""
    envoy: float | None = None
    """What Envoy costs on the machine of the aims."""


@dataclass(frozen=True)
class Found:
    """What one path cost; None where Envoy did not run."""

    row: Row
    own: float | None
    envoy: float | None

    def scaled(self, slower: float) -> float:
        """What it would be on the machine of the aims; `slower` is for a row that Envoy says nothing of."""
        assert self.own is not None
        return self.own / (self.envoy / self.row.envoy if self.envoy and self.row.envoy else slower)


@dataclass(frozen=True)
class Bulk:
    """Large bodies."""

    what: str
    copies: float
    """CPU of one way, in copies of the body from memory to memory."""
    relay: float
    """The same of a relay that moves the bytes and does nothing else."""
    held: float
    """Memory at the peak beyond that of an idle proxy, in bodies."""

    @property
    def beyond(self) -> float:
        """What is the proxy's own, in copies."""
        return self.copies - self.relay


_SMALL = (
    "a small call is bytecode from end to end: head, key and rates, route, JSON, protobuf, HTTP/2 frames and the "
    "record of the call each take a share."
)
_HTTP2 = "as the row of a small call; HTTP/2 on both sides is Python throughout, and so is what lies between."
ROWS = (
    Row("V2 JSON to gRPC, 16 FP32", "rest-proxy 96, grpc-gateway 158", 130, 95, _SMALL, 145),
    Row(
        "V2 JSON to gRPC, 1 024 FP32",
        "rest-proxy 690, grpc-gateway 1 610",
        220,
        150,
        "numbers are read and written by orjson and NumPy; what is left is the call of the row above, and shortest "
        "decimal texts of float32.",
        496,
    ),
    Row(
        "V2 JSON to gRPC, 65 536 FP32",
        "rest-proxy 39 300, grpc-gateway 93 050",
        5000,
        3500,
        "most of it is reading and writing decimal texts of float32, both in C.",
        24_500,
    ),
    Row("gRPC to gRPC, passed through", "", 110, 85, _HTTP2, 89),
    Row("gRPC to V2 REST, 16 FP32", "none", 160, 120, _HTTP2),
    Row("OpenAI chat, REST to REST", "SMG (Rust) 238, LiteLLM 10 767", 200, 150, _SMALL),
    Row(
        "OpenAI chat to fmaas gRPC, a stream of 32",
        "SMG, REST stream 610, LiteLLM 37 150",
        610,
        400,
        "each message is decoded, made neutral and written as an event of its own.",
    ),
)
REACH_COPIES, AIM_COPIES = 3, 2
BULK_REASON = (
    "40 MB: the pieces of a body are copied to their place, once. The rest is Python's: sockets are read 256 KiB at a "
    "time, which makes more than three hundred turns of the event loop for a call."
)
MEMORY_REASON = (
    "Idle memory: imports, of which mitmproxy's are 30 MB, ours 20, numpy 20, cryptography 15 and Python itself 10 "
    "(before garbage is collected); mitmproxy imports all its protocols, also those that are never served here."
)
REACH_MB, AIM_MB = 110, 90
REACH_SECONDS, AIM_SECONDS = 2.0, 1.0
