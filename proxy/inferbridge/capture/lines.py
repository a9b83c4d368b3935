"""What a line of captured payloads says; `capture.schema.json` beside this module says the same as JSON Schema.

All keys are always there. Texts outside of `value` are bounded and escaped; a value is JSON, and so one line.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from inferbridge.gateway.record import Flag

type _Count = Annotated[int, Meta(ge=0)]
type Form = Literal["json", "stream", "text", "base64", "none", "withheld"]
"""What `value` is: a decoded message; a stream, put together; text; bytes; nothing, there was no body; nothing, `note`
says why."""


class CapturedMessage(Struct, forbid_unknown_fields=True):
    """One request or answer."""

    status: _Count | None
    """Of an answer."""
    content_type: str | None
    size: _Count
    """Bytes on the wire, whatever is written of them."""
    truncated: bool
    """Not all of it was kept."""
    form: Form
    value: Any
    note: str | None
    """Why something is missing."""


class CapturedSide(Struct, forbid_unknown_fields=True):
    """What the client asked and was told."""

    request: CapturedMessage
    reply: CapturedMessage


class CapturedCall(Struct, forbid_unknown_fields=True):
    """What a runtime was asked and told."""

    upstream: str
    runtime: str
    api: str
    protocol: Literal["rest", "grpc"]
    grpc_status: _Count | None
    request: CapturedMessage
    reply: CapturedMessage
    error: str | None
    """Why it failed on the way."""


class CapturedLine(Struct, forbid_unknown_fields=True):
    """One call."""

    ts: Annotated[str, Meta(pattern=r"^[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]\.[0-9]{3}Z$")]
    """When it began: RFC 3339, UTC."""
    event: Literal["capture"]
    request_id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,128}$")]
    reason: Literal["sample", "error", "demand"]
    """Why it was captured."""
    api: str | None
    operation: str | None
    model: str | None
    direction: Annotated[str, Meta(pattern=r"^(rest|grpc)-(rest|grpc|none)$")]
    runtime: str | None
    upstream: str | None
    status: _Count | None
    grpc_status: _Count | None
    flags: tuple[Flag, ...]
    losses: str | None
    error: str | None
    duration_ms: Annotated[float, Meta(ge=0.0)]
    client: CapturedSide
    calls: list[CapturedCall]
    """Of runtimes, in the order in which they began."""


def timestamp(seconds: float) -> str:
    """RFC 3339 in milliseconds, of seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def schema() -> dict[str, object]:
    """JSON Schema 2020-12 of a line."""
    (line,), parts = msgspec.json.schema_components((CapturedLine,), ref_template="#/$defs/{name}")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **line, "$defs": parts}
