"""Recorded calls of real Open Inference servers: `golden/v2/<runtime>/<group>.json`, one case a line.

Every case is a call and the reply a real Triton 2.51.0, MLServer 1.7.1 or KServe 0.21.0 gave, in the forms
`inferbridge translate` reads: REST as method, path, headers and body, gRPC as rpc, metadata and messages. The models
served were: `numeric` (A FP32[2,3] and B INT64 in, A2 = 2A and B2 = B out, C BOOL optional; versions 1 and 2),
`echo_all` and `echo_np` (IN_<datatype> in, OUT_<datatype> out), `strings` (TEXT to ECHO), `params` (what it was asked,
as JSON text), `failing` (the error it is given), `batched`, and some that never load. Hosts, dates, lengths and
connection headers are left out.
"""

import base64
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "golden" / "v2"


@dataclass(frozen=True)
class Case:
    """One recorded call and its reply."""

    runtime: str
    group: str
    name: str
    request: dict[str, Any]
    reply: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.runtime}/{self.group}/{self.name}"

    @property
    def protocol(self) -> str:
        """The protocol it was recorded in: "rest" or "grpc"."""
        return "grpc" if "rpc" in self.request else "rest"


def index() -> dict[str, Any]:
    """Versions of the runtimes, and the number of cases in each group."""
    found = json.loads((FOLDER / "index.json").read_text("utf-8"))
    assert isinstance(found, dict)
    return found


def cases(protocol: str) -> list[Case]:
    """All cases of one protocol, in the order of the files."""
    groups = [(runtime, group) for runtime, entry in index().items() for group in entry["groups"]]
    return [case for runtime, group in groups for case in _load(runtime, group) if case.protocol == protocol]


@cache
def _load(runtime: str, group: str) -> list[Case]:
    recorded = json.loads((FOLDER / runtime / f"{group}.json").read_text("utf-8"))
    return [Case(runtime, group, each["name"], each["request"], each["reply"]) for each in recorded]


def body(message: dict[str, Any]) -> bytes:
    """The body of a REST call or reply."""
    if "body_base64" in message:
        return base64.b64decode(message["body_base64"])
    return str(message.get("body", "")).encode()


def header(message: dict[str, Any], name: str) -> str | None:
    """A header of a REST call or reply, whatever its case."""
    return next((value for key, value in message["headers"] if key.lower() == name), None)
