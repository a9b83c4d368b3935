"""What a client gets for each fault: the one table behind the tests and docs/faults.md; `clients` says how it reads."""

from faults.clients import TENSOR_KINDS, TEXT_KINDS, Kind
from faults.faults import Wire

_ALL_UNAVAILABLE = ("503", "503", "UNAVAILABLE", "UNAVAILABLE")
_ALL_INTERNAL = ("500", "500", "INTERNAL", "INTERNAL")
_ALL_LATE = ("504", "504", "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
_GOOD = ("200", "done", "OK", "OK")
_TENSORS_UNAVAILABLE = ("503", "UNAVAILABLE", "UNAVAILABLE")
_TOLD_UNAVAILABLE = ("503", "UNAVAILABLE", "told")
_TENSORS_INTERNAL = ("500", "INTERNAL", "INTERNAL")
_TOLD_INTERNAL = ("500", "INTERNAL", "told")
_TENSORS_LATE = ("504", "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
_TOLD_LATE = ("504", "DEADLINE_EXCEEDED", "told")
_TENSORS_GOOD = ("200", "OK", "OK")

_TEXT: dict[str, dict[Wire, tuple[str, str, str, str]]] = {
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
    "wrong content type": {"rest": ("200 as sent", "200 as sent", "INTERNAL", "INTERNAL"), "grpc": _ALL_INTERNAL},
    "page of a proxy": {"rest": ("502 as sent", "502 as sent", "UNAVAILABLE", "UNAVAILABLE"), "grpc": _ALL_UNAVAILABLE},
    "truncated message": {
        "rest": ("200 as sent", "as sent", "INTERNAL", "messages, INTERNAL"),
        "grpc": ("500", "events, 500", "OK as sent", "OK as sent"),
    },
    "message shorter than its prefix": {"grpc": ("500", "events, 500", "OK as sent", "OK")},
    "end without success": {
        "rest": ("200", "end without [DONE]", "OK", "messages, UNAVAILABLE"),
        "grpc": ("500", "events, 500", "INTERNAL", "messages, INTERNAL"),
    },
    "nothing": {"rest": ("200 as sent", "done", "INTERNAL", "OK"), "grpc": ("500", "done", "OK as sent", "OK")},
    "oversized message": {
        "rest": ("200 cut", "events, 500", "RESOURCE_EXHAUSTED", "messages, RESOURCE_EXHAUSTED"),
        "grpc": ("500", "events, 500", "RESOURCE_EXHAUSTED", "messages, RESOURCE_EXHAUSTED"),
    },
    "oversized head": {"rest": _ALL_INTERNAL, "grpc": _ALL_INTERNAL},
}

_TENSORS: dict[str, dict[Wire, tuple[str, str, str]]] = {
    "connection refused": {"rest": _TOLD_UNAVAILABLE, "grpc": _TENSORS_UNAVAILABLE},
    "closed when accepted": {"rest": _TOLD_UNAVAILABLE, "grpc": _TENSORS_UNAVAILABLE},
    "closed before the head": {"rest": _TOLD_UNAVAILABLE, "grpc": _TENSORS_UNAVAILABLE},
    "reset before the head": {"rest": _TOLD_UNAVAILABLE, "grpc": _TENSORS_UNAVAILABLE},
    "reset after the head": {"rest": ("200 cut", "UNAVAILABLE", "told"), "grpc": _TENSORS_UNAVAILABLE},
    "cut within a message": {
        "rest": ("200 cut", "UNAVAILABLE", "messages, told"),
        "grpc": ("503", "UNAVAILABLE", "messages, UNAVAILABLE"),
    },
    "garbage instead of an answer": {"rest": _TOLD_INTERNAL, "grpc": _TENSORS_INTERNAL},
    "garbage within an answer": {
        "rest": ("200 cut", "INTERNAL", "messages, told"),
        "grpc": ("500", "INTERNAL", "messages, INTERNAL"),
    },
    "stream reset before the head": {"grpc": _TENSORS_INTERNAL},
    "stream reset within an answer": {"grpc": ("500", "INTERNAL", "messages, INTERNAL")},
    "stream refused": {"grpc": _TENSORS_UNAVAILABLE},
    "stream refused once": {"grpc": _TENSORS_GOOD},
    "stream cancelled": {"grpc": ("400", "CANCELLED", "CANCELLED")},
    "told to calm down": {"grpc": ("429", "RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED")},
    "going away unprocessed": {"grpc": _TENSORS_GOOD},
    "going away in peace": {"grpc": _TENSORS_GOOD},
    "going away with an error": {"grpc": ("503", "UNAVAILABLE", "messages, UNAVAILABLE")},
    "stall before the head": {"rest": _TOLD_LATE, "grpc": _TENSORS_LATE},
    "stall within an answer": {
        "rest": ("200 cut", "DEADLINE_EXCEEDED", "messages, told"),
        "grpc": ("504", "DEADLINE_EXCEEDED", "messages, DEADLINE_EXCEEDED"),
    },
    "drip without end": {
        "rest": ("200 cut", "DEADLINE_EXCEEDED", "messages, told"),
        "grpc": ("504", "DEADLINE_EXCEEDED", "messages, DEADLINE_EXCEEDED"),
    },
    "drip": {"rest": _TENSORS_GOOD, "grpc": _TENSORS_GOOD},
    "wrong content type": {"rest": ("200 as sent", "INTERNAL", "told"), "grpc": _TENSORS_INTERNAL},
    "page of a proxy": {"rest": ("502 as sent", "UNAVAILABLE", "told"), "grpc": _TENSORS_UNAVAILABLE},
    "truncated message": {
        "rest": ("200 as sent", "INTERNAL", "messages, told"),
        "grpc": ("500", "OK as sent", "OK as sent"),
    },
    "message shorter than its prefix": {"grpc": ("500", "OK as sent", "OK")},
    "end without success": {"rest": _TENSORS_GOOD, "grpc": ("500", "INTERNAL", "messages, INTERNAL")},
    "nothing": {"rest": ("200 as sent", "INTERNAL", "OK"), "grpc": ("500", "OK as sent", "OK")},
    "oversized message": {
        "rest": ("200 cut", "RESOURCE_EXHAUSTED", "messages, told"),
        "grpc": ("500", "RESOURCE_EXHAUSTED", "messages, RESOURCE_EXHAUSTED"),
    },
    "oversized head": {"rest": _TOLD_INTERNAL, "grpc": _TENSORS_INTERNAL},
    "closed while it is sent": {"rest": _TOLD_UNAVAILABLE, "grpc": _TENSORS_UNAVAILABLE},
    "reset while it is sent": {"rest": _TOLD_UNAVAILABLE, "grpc": _TENSORS_UNAVAILABLE},
    "stream reset while it is sent": {"grpc": _TENSORS_INTERNAL},
    "going away while it is sent": {"grpc": ("200", "OK", "UNAVAILABLE")},
    "going away in peace while it is sent": {"grpc": _TENSORS_GOOD},
    "refused while it is sent": {
        "rest": ("413", "RESOURCE_EXHAUSTED", "told"),
        "grpc": ("429", "RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED"),
    },
    "stall while it is sent": {"rest": _TOLD_LATE, "grpc": _TENSORS_LATE},
}

EXPECTED: dict[str, dict[tuple[Wire, Kind], str]] = {name: {} for name in (*_TEXT, *_TENSORS)}
"""By fault, by the runtime's wire and the kind of client. With TLS it is the same."""
for _name, _wires in _TEXT.items():
    for _wire, _texts in _wires.items():
        EXPECTED[_name] |= {(_wire, kind): outcome for kind, outcome in zip(TEXT_KINDS, _texts, strict=True)}
for _name, _others in _TENSORS.items():
    for _wire, _tensors in _others.items():
        EXPECTED[_name] |= {(_wire, kind): outcome for kind, outcome in zip(TENSOR_KINDS, _tensors, strict=True)}
