"""What a client gets for each fault: the one table behind the tests and docs/faults.md; `clients` says how it reads."""

from faults.clients import KINDS, Kind
from faults.faults import Wire

_ALL_UNAVAILABLE = ("503", "503", "UNAVAILABLE", "UNAVAILABLE")
_ALL_INTERNAL = ("500", "500", "INTERNAL", "INTERNAL")
_ALL_LATE = ("504", "504", "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
_GOOD = ("200", "done", "OK", "OK")

_ROWS: dict[str, dict[Wire, tuple[str, str, str, str]]] = {
    "connection refused": {"rest": _ALL_UNAVAILABLE, "grpc": _ALL_UNAVAILABLE},
    "closed when accepted": {"rest": _ALL_UNAVAILABLE, "grpc": _ALL_UNAVAILABLE},
    "closed before the head": {"rest": _ALL_UNAVAILABLE, "grpc": _ALL_UNAVAILABLE},
    "reset before the head": {"rest": _ALL_UNAVAILABLE, "grpc": _ALL_UNAVAILABLE},
    "reset after the head": {
        "rest": ("200 cut", "no event, 503", "UNAVAILABLE", "UNAVAILABLE"),
        "grpc": _ALL_UNAVAILABLE,
    },
    "cut within a message": {
        "rest": ("200 cut", "events, cut", "UNAVAILABLE", "messages, UNAVAILABLE"),
        "grpc": ("503", "events, 503", "UNAVAILABLE", "messages, UNAVAILABLE"),
    },
    "garbage instead of an answer": {"rest": _ALL_INTERNAL, "grpc": _ALL_INTERNAL},
    "garbage within an answer": {
        "rest": ("200 cut", "events, 500", "INTERNAL", "messages, INTERNAL"),
        "grpc": ("500", "events, 500", "INTERNAL", "messages, INTERNAL"),
    },
    "stream reset before the head": {"grpc": _ALL_INTERNAL},
    "stream reset within an answer": {"grpc": ("500", "events, 500", "INTERNAL", "messages, INTERNAL")},
    "stream refused": {"grpc": _ALL_UNAVAILABLE},
    "stream refused once": {"grpc": _GOOD},
    "stream cancelled": {"grpc": ("499", "499", "CANCELLED", "CANCELLED")},
    "told to calm down": {"grpc": ("429", "429", "RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED")},
    "going away unprocessed": {"grpc": _GOOD},
    "going away in peace": {"grpc": _GOOD},
    "going away with an error": {"grpc": ("503", "events, 503", "UNAVAILABLE", "messages, UNAVAILABLE")},
    "stall before the head": {"rest": _ALL_LATE, "grpc": _ALL_LATE},
    "stall within an answer": {
        "rest": ("200 cut", "events, cut", "DEADLINE_EXCEEDED", "messages, DEADLINE_EXCEEDED"),
        "grpc": ("504", "events, 504", "DEADLINE_EXCEEDED", "messages, DEADLINE_EXCEEDED"),
    },
    "drip without end": {
        "rest": ("200 cut", "events, cut", "DEADLINE_EXCEEDED", "messages, DEADLINE_EXCEEDED"),
        "grpc": ("504", "events, 504", "DEADLINE_EXCEEDED", "messages, DEADLINE_EXCEEDED"),
    },
    "drip": {"rest": _GOOD, "grpc": _GOOD},
    "wrong content type": {
        "rest": ("200 as sent", "200 as sent", "INTERNAL", "INTERNAL"),
        "grpc": _ALL_INTERNAL,
    },
    "page of a proxy": {
        "rest": ("502 as sent", "502 as sent", "UNAVAILABLE", "UNAVAILABLE"),
        "grpc": _ALL_UNAVAILABLE,
    },
    "truncated message": {
        "rest": ("200 as sent", "as sent", "INTERNAL", "messages, INTERNAL"),
        "grpc": ("500", "events, 500", "OK as sent", "OK as sent"),
    },
    "message shorter than its prefix": {"grpc": ("500", "events, 500", "OK as sent", "OK")},
    "end without success": {
        "rest": ("200", "end without [DONE]", "OK", "messages, UNAVAILABLE"),
        "grpc": ("500", "events, 500", "INTERNAL", "messages, INTERNAL"),
    },
    "nothing": {
        "rest": ("200 as sent", "done", "INTERNAL", "OK"),
        "grpc": ("500", "done", "OK as sent", "OK"),
    },
    "oversized message": {
        "rest": ("200 cut", "events, 500", "RESOURCE_EXHAUSTED", "messages, RESOURCE_EXHAUSTED"),
        "grpc": ("500", "events, 500", "RESOURCE_EXHAUSTED", "messages, RESOURCE_EXHAUSTED"),
    },
    "oversized head": {"rest": _ALL_INTERNAL, "grpc": _ALL_INTERNAL},
}

EXPECTED: dict[str, dict[tuple[Wire, Kind], str]] = {
    name: {
        (wire, kind): outcome for wire, outcomes in wires.items() for kind, outcome in zip(KINDS, outcomes, strict=True)
    }
    for name, wires in _ROWS.items()
}
"""By fault, by the runtime's wire and the kind of client. With TLS it is the same."""
