"""What a flow tells of its call beside the messages of HTTP, in the form that `inspect.told` describes."""

from typing import Any

from inferbridge.flows import timing
from inferbridge.gateway.record import CallRecord
from inferbridge.gateway.transcript import Leg, Message, Transcript
from inferbridge.inspect import endpoints

MAX_LEGS = 32
"""Calls of runtimes that are told one by one."""


def told(transcript: Transcript, record: CallRecord) -> dict[str, Any]:
    """What `FLOW_KEY` holds, of a call that has ended or is under way."""
    asked, legs = transcript.asked, transcript.legs
    found: dict[str, Any] = {
        "client": endpoints.side(asked.method, asked.target, asked.headers, record.api),
        "runtime": _runtime(legs[0]) if legs else None,
        "losses": [name.strip() for name in record.losses.split(",") if name.strip()],
        "call": _call(record, transcript),
        "timing": timing.of_call(record, transcript.told.times, legs),
        "upstream": [_leg(leg, record.began) for leg in legs[:MAX_LEGS]],
    }
    return {name: value for name, value in found.items() if value is not None}


def labels(record: CallRecord) -> dict[str, str]:
    """Texts to filter by; nothing for what is not known."""
    found = {
        "model": record.model,
        "op": record.operation,
        "api": record.api,
        "runtime": record.runtime,
        "upstream": record.upstream,
        "status": "" if record.status is None else str(record.status),
        "lossy": "true" if record.losses else "false",
        "flags": " ".join(record.flags),
    }
    return {name: text for name, text in found.items() if text}


def _runtime(leg: Leg) -> dict[str, object] | None:
    asked = leg.asked
    return endpoints.side(asked.method, asked.target, asked.headers, leg.runtime.api, leg.runtime.variant)


def _call(record: CallRecord, transcript: Transcript) -> dict[str, Any]:
    numbers = {
        "status": record.status,
        "grpc_status": record.grpc_status,
        "upstream_status": record.upstream_status,
        "upstream_grpc_status": record.upstream_grpc_status,
        "ttft_ms": _milliseconds(record.ttft),
        "duration_ms": _milliseconds(record.duration) if record.ended else None,
        "tokens_in": record.tokens_in,
        "tokens_out": record.tokens_out,
    }
    texts = ("request_id", "trace_id", "model", "operation", "api", "runtime", "upstream", "protocol", "path", "error")
    return {
        **{name: getattr(record, name) for name in texts},
        **numbers,
        "direction": record.direction,
        "flags": list(record.flags),
        "subject": record.identity.subject,
        "method": record.identity.method,
        "bytes_in": transcript.asked.size,
        "bytes_out": transcript.told.size,
        "messages_in": record.messages_in,
        "messages_out": record.messages_out,
        "legs": len(transcript.legs),
        "cut": any(message.is_cut for message in transcript.messages),
    }


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def _leg(leg: Leg, began: float) -> dict[str, Any]:
    runtime = leg.runtime
    return {
        "upstream": runtime.upstream,
        "runtime": runtime.name,
        "api": runtime.api,
        "variant": runtime.variant,
        "protocol": runtime.protocol,
        "method": leg.asked.method,
        "target": leg.asked.target,
        "asked": _message(leg.asked, began),
        "status": leg.told.status,
        "told": _message(leg.told, began),
        "error": leg.error,
    }


def _message(message: Message, began: float) -> dict[str, Any]:
    return {
        "headers": [list(pair) for pair in message.headers],
        "body": message.body,
        "size": message.size,
        "trailers": [list(pair) for pair in message.trailers],
        "began_ms": timing.since(began, message.began),
        "ended_ms": timing.since(began, message.ended),
    }
