"""The access log: one JSON line for each call on stdout, whatever became of the call.

`AccessLine` is what a line says; `access_log.schema.json` beside this module says the same as JSON Schema. All keys are
always there, null where nothing is known or applicable. Texts that others chose are bounded and escaped (`bounded`).

Lines that come in one turn of the event loop are written together at its end.
"""

import logging
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from inferbridge.gateway.record import LONGEST, CallRecord, Flag, bounded

_log = logging.getLogger(__name__)

type _Text = Annotated[str, Meta(min_length=1, max_length=LONGEST)]
type _Count = Annotated[int, Meta(ge=0)]
type _Milliseconds = Annotated[float, Meta(ge=0.0)]
type Write = Callable[[bytes], object]
"""Takes whole lines; OSError when it cannot."""
type Later = Callable[[Callable[[], None]], object]
"""Calls back at the end of this turn."""
_DOTTED = {
    "client_address": "client.address",
    "auth_method": "auth.method",
    "auth_subject": "auth.subject",
    "auth_key_id": "auth.key_id",
}


class AccessLine(Struct, forbid_unknown_fields=True, rename=_DOTTED, gc=False):
    """One call."""

    ts: Annotated[str, Meta(pattern=r"^[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]\.[0-9]{3}Z$")]
    """When it began: RFC 3339, UTC."""
    level: Literal["info", "warning"]
    """A warning for a call with `flags` or an `error`."""
    event: Literal["access"]
    request_id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,128}$")]
    trace_id: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}$")] | None
    span_id: Annotated[str, Meta(pattern=r"^[0-9a-f]{16}$")] | None
    client_address: _Text | None
    protocol: Literal["HTTP/1.0", "HTTP/1.1", "HTTP/2", "gRPC"] | None
    method: _Text | None
    path: _Text | None
    """Of the endpoint in the specs; null where there is none."""
    operation: _Text | None
    api: _Text | None
    direction: Annotated[str, Meta(pattern=r"^(rest|grpc)-(rest|grpc|none)$")]
    runtime: _Text | None
    model: _Text | None
    status: _Count | None
    grpc_status: _Count | None
    upstream: _Text | None
    upstream_protocol: Literal["rest", "grpc"] | None
    upstream_status: _Count | None
    upstream_grpc_status: _Count | None
    bytes_in: _Count
    bytes_out: _Count
    messages_in: _Count
    messages_out: _Count
    tokens_in: _Count | None
    tokens_out: _Count | None
    duration_ms: _Milliseconds
    ttft_ms: _Milliseconds | None
    upstream_ms: _Milliseconds | None
    overhead_ms: _Milliseconds | None
    auth_method: _Text
    auth_subject: _Text
    auth_key_id: _Text | None
    flags: tuple[Flag, ...]
    losses: _Text | None
    error: _Text | None


def line_of(record: CallRecord) -> AccessLine:
    """What the log says of a call that has ended."""
    identity, ttft, upstream, overhead = record.identity, record.ttft, record.upstream_seconds, record.overhead
    return AccessLine(  # in the order of its fields: by name it takes thirty times as long
        _timestamp(record.began_at),
        "warning" if record.flags or record.error else "info",
        "access",
        record.request_id,
        record.trace_id or None,
        record.span_id or None,
        record.peer or None,
        record.protocol or None,  # type: ignore[arg-type]  # the recorder knows no others
        record.method or None,
        record.path or None,
        record.operation or None,
        record.api or None,
        record.direction,
        record.runtime or None,
        record.model or None,
        record.status,
        record.grpc_status,
        record.upstream or None,
        record.upstream_protocol or None,  # type: ignore[arg-type]  # as above
        record.upstream_status,
        record.upstream_grpc_status,
        record.bytes_in,
        record.bytes_out,
        record.messages_in,
        record.messages_out,
        record.tokens_in,
        record.tokens_out,
        int((record.ended - record.began) * 1e6) / 1000,  # `round` takes four times as long
        None if ttft is None else int(ttft * 1e6) / 1000,
        None if upstream is None else int(upstream * 1e6) / 1000,
        None if overhead is None else int(overhead * 1e6) / 1000,
        identity.method,
        _name(identity.subject) if identity.subject else "anonymous",
        _name(identity.key_id) if identity.key_id else None,
        record.flags,
        bounded(record.losses) if record.losses else None,
        record.error or None,
    )


_second: tuple[int, str] = (0, "1970-01-01T00:00:00")
"""The last second that was written out: most calls share it with the one before."""
_MILLISECONDS = [f".{number:03d}Z" for number in range(1000)]
_name = lru_cache(256)(bounded)
"""Of a caller: there are few, and each calls often."""


def _timestamp(seconds: float) -> str:
    global _second
    whole = int(seconds)
    if whole != _second[0]:
        _second = (whole, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)))
    return _second[1] + _MILLISECONDS[int((seconds - whole) * 1000)]


class AccessLog:
    """Writes a line for every call; an `Observer` of calls."""

    def __init__(self, write: Write, later: Later) -> None:
        self._write = write
        self._later = later
        self._encode = msgspec.json.Encoder().encode
        self._lines: list[bytes] = []
        self._lost = 0

    def ended(self, record: CallRecord) -> None:
        """Write a line, at the end of this turn."""
        if not self._lines:
            self._later(self.flush)
        self._lines.append(self._encode(line_of(record)))

    def flush(self) -> None:
        """Write what has come. Where nobody takes it any more, the loss is logged and serving goes on."""
        lines, self._lines = self._lines, []
        if not lines:
            return
        try:
            self._write(b"\n".join((*lines, b"")))
        except (OSError, ValueError) as error:  # ValueError: the file is closed
            self._lost += len(lines)
            _log.error("the access log cannot be written: %s; %d lines are lost so far", error, self._lost)


def schema() -> dict[str, object]:
    """JSON Schema 2020-12 of a line."""
    _, parts = msgspec.json.schema_components((AccessLine,))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **parts["AccessLine"]}
