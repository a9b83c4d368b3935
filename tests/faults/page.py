"""docs/faults.md, written from the table that the tests hold the gateway to."""

from collections.abc import Sequence
from pathlib import Path

from faults.cells import sent
from faults.clients import TENSOR_KINDS, TEXT_KINDS, Kind
from faults.faults import FAULTS, LIMIT, MESSAGE_LIMIT, Fault, Wire
from faults.table import EXPECTED

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
_HEAD = f"""# What a client gets when a runtime fails

Written by `make docs` from `tests/faults`, which makes each of these calls through a running gateway: every fault, on
every transport, before every kind of client. Over TLS each cell is the same. Do not edit.

The clients of text are one of OpenAI completions (one answer, and a stream of events) and one of TGIS (`Generate` and
`GenerateStream`); those of tensors are one of V2 over REST and one over gRPC (`ModelInfer`, and `ModelStreamInfer`, in
which both sides stream). The runtimes are a vLLM and a Triton over REST, a TGIS and a Triton over gRPC, so half of the
cells are calls that are translated and half are calls that pass through untouched. *sent* is how often the runtime gets
the request: generation and inference are only sent again where the runtime has said that it did not look at them.

In every cell

* the client gets its answer at once, or at its deadline where the runtime stalls, and never waits on;
* an error has the form of the client's own API, and says what happened and where;
* a stream that has begun ends with the error and without a mark of success (`[DONE]`, `grpc-status: 0`), but where its
  API tells errors in messages (`told`);
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
| `told`; `messages, told` | an `error_message` in the stream, as Triton tells errors of single requests; status OK |
| `200`, `done`, `OK` | a good answer |
| `as sent` | what passes through is handed on as the runtime sent it |

Limits here are {MESSAGE_LIMIT // 1024} KiB for a message and {LIMIT // 1024} KiB for an answer. Errors that a runtime
words itself are no faults: they are translated. In the tables of large requests a fault strikes while the request is
still being sent; that of `ModelStreamInfer` to a gRPC runtime grows meanwhile, and of such a request 64 KiB are kept to
be sent again.
"""
_WIRES: dict[Wire, str] = {"rest": "a REST runtime (HTTP/1.1)", "grpc": "a gRPC runtime (HTTP/2)"}
_COLUMNS: dict[Kind, str] = {
    "completion": "completions",
    "completion events": "completions, stream",
    "Generate": "`Generate`",
    "GenerateStream": "`GenerateStream`",
    "infer": "`infer`",
    "ModelInfer": "`ModelInfer`",
    "ModelStreamInfer": "`ModelStreamInfer`",
}


def _row(fault: Fault, wire: Wire, columns: Sequence[Kind]) -> str:
    outcomes = (f"`{EXPECTED[fault.name][wire, kind]}`" for kind in columns)
    times = sorted({sent(fault, wire, kind) for kind in columns}, reverse=True)
    return f"| **{fault.name}**: {fault.meaning} | {', '.join(map(str, times))} | {' | '.join(outcomes)} |"


def _table(title: str, wire: Wire, columns: Sequence[Kind], *, hasty: bool = False) -> list[str]:
    head = f"| fault | sent | {' | '.join(_COLUMNS[kind] for kind in columns)} |"
    faults = [fault for fault in FAULTS.values() if wire in fault.wires and fault.hasty is hasty]
    rows = [_row(fault, wire, columns) for fault in faults]
    return ["", f"## {title} {_WIRES[wire]}", "", head, "|---" * (2 + len(columns)) + "|", *rows]


def page() -> str:
    """The whole page."""
    tables = [
        table
        for wire in _WIRES
        for table in (
            _table("Text of", wire, TEXT_KINDS),
            _table("Tensors of", wire, TENSOR_KINDS),
            _table("Large requests to", wire, TENSOR_KINDS, hasty=True),
        )
    ]
    return "\n".join([_HEAD.rstrip(), *(line for table in tables for line in table), ""])
