"""docs/faults.md, written from the table that the tests hold the gateway to."""

from pathlib import Path

from faults.clients import KINDS
from faults.faults import FAULTS, LIMIT, MESSAGE_LIMIT, Fault, Wire
from faults.table import EXPECTED

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
_HEAD = f"""# What a client gets when a runtime fails

Written by `make docs` from `tests/faults`, which makes each of these calls through a running gateway: every fault, on
every transport, before every kind of client. Over TLS each cell is the same. Do not edit.

The clients are one of OpenAI completions (one answer, and a stream of events) and one of TGIS (`Generate` and
`GenerateStream`). The runtimes are a vLLM over REST and a TGIS over gRPC, so half of the cells are calls that are
translated and half are calls that pass through untouched. *sent* is how often the runtime gets the request: generation
is only sent again where the runtime has said that it did not look at it.

In every cell

* the client gets its answer at once, or at its deadline where the runtime stalls, and never waits on;
* an error has the form of the client's own API, and says what happened and where;
* a stream that has begun ends with the error and without a mark of success (`[DONE]`, `grpc-status: 0`);
* the runtime's stream is reset, or its connection closed, if it still goes on;
* another call that is under way ends well, also on the same HTTP/2 connection where that survives;
* the next call to the healed runtime is answered.

| in the tables | means |
|---|---|
| `503` | an error answer with this status; of a stream nothing was sent |
| `events, 503`; `no event, 503` | 200, the events so far, then an error event with this code |
| `200 cut`, `events, cut` | what passes through has begun and has no place for an error: the body has no end |
| `UNAVAILABLE` | this status, and no message |
| `messages, UNAVAILABLE` | the messages so far, then this status |
| `200`, `done`, `OK` | a good answer |
| `as sent` | what passes through is handed on as the runtime sent it |

Limits here are {MESSAGE_LIMIT // 1024} KiB for a message and {LIMIT // 1024} KiB for an answer. Errors that a runtime
words itself are no faults: they are translated.
"""
_TITLES: dict[Wire, str] = {"rest": "A REST runtime (HTTP/1.1)", "grpc": "A gRPC runtime (HTTP/2)"}
_COLUMNS = {
    "completion": "completions",
    "completion events": "completions, stream",
    "Generate": "`Generate`",
    "GenerateStream": "`GenerateStream`",
}


def _row(fault: Fault, wire: Wire) -> str:
    outcomes = (f"`{EXPECTED[fault.name][wire, kind]}`" for kind in KINDS)
    return f"| **{fault.name}**: {fault.meaning} | {fault.sent} | {' | '.join(outcomes)} |"


def _table(wire: Wire) -> list[str]:
    head = f"| fault | sent | {' | '.join(_COLUMNS[kind] for kind in KINDS)} |"
    rows = [_row(fault, wire) for fault in FAULTS.values() if wire in fault.wires]
    return ["", f"## {_TITLES[wire]}", "", head, "|---|---|---|---|---|---|", *rows]


def page() -> str:
    """The whole page."""
    return "\n".join([_HEAD.rstrip(), *_table("rest"), *_table("grpc"), ""])
