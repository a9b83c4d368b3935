"""Whatever bodies hold: they are rendered without a fault, and what is hidden is not seen."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.test_capturing import ALL
from gateway.test_service import INFER_RPC
from inferbridge.capture.decoding import Undecodable, Wire, content_of
from inferbridge.capture.lines import CapturedLine
from inferbridge.capture.redaction import Part, Redaction, scrubber
from inferbridge.capture.rendering import Renderer
from inferbridge.capture.settings import CaptureSettings, Fields
from inferbridge.gateway.record import CallRecord
from inferbridge.gateway.transcript import Message, Transcript

SECRET = "s3cr3t text"
KINDS = ("application/json", "text/event-stream", "application/x-ndjson", "application/grpc",
         "application/connect+json", "application/proto", "text/plain", "")  # fmt: skip
NAMES = st.sampled_from(["a", "b_c", "messages", "choices", "delta", "text"])
VALUES: Any = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.just(f"re: {SECRET}"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


def said(body: bytes, kind: str, limit: int) -> Transcript:
    """A call whose messages are all the same."""
    made = Transcript.of("POST", INFER_RPC, (("content-type", kind),), limit=limit)
    made.asked.add(body)
    made.told.head(200, (("content-type", kind), ("content-encoding", "identity")), ())
    made.told.add(body)
    return made


@given(
    st.binary(max_size=60) | st.text(alphabet='data: {}[]"\n,\\u0', max_size=60).map(str.encode),
    st.sampled_from(KINDS),
    st.integers(1, 80),
    st.sampled_from([ALL, CaptureSettings(fields=Fields(hide=("a",))), CaptureSettings(fields=Fields(only=("a",)))]),
)
def test_any_bytes_make_a_line(body: bytes, kind: str, limit: int, settings: CaptureSettings) -> None:
    """Any body of any type, cut anywhere, is a line that its schema allows."""
    record = CallRecord(request_id="1", api="open-inference", began=1.0, ended=2.0)
    line = msgspec.json.encode(Renderer(settings).line(record, said(body, kind, limit), "sample"))
    assert b"\n" not in line
    assert msgspec.json.decode(line, type=CapturedLine).client.request.size == len(body)


@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=3), st.lists(NAMES, min_size=1, max_size=3), VALUES)
def test_what_is_hidden_is_nowhere(value: dict[str, Any], path: list[str], other: Any) -> None:
    """A secret at the place of a rule is seen neither there nor where any message quotes it."""
    at = value
    for name in path[:-1]:
        inner: dict[str, Any] = {}
        at[name] = [inner, 1]
        at = inner
    at[path[-1]] = SECRET
    part, quoting, hidden = Part("openai", [value]), Part("tgis", [other]), list[str]()
    Redaction(Fields(hide=(".".join(path),))).redact(part, [quoting], hidden)
    seen = json.dumps(scrubber(hidden)([part.values, [] if quoting.kept_out else quoting.values]))
    assert SECRET not in seen


def test_what_is_nested_too_deep_is_not_walked() -> None:
    """A body of brackets alone is no reason for a fault: it is undecodable."""
    message = Message(headers=(("content-type", "application/json"),))
    message.add(b"[" * 500 + b"]" * 500)
    with pytest.raises(Undecodable, match="nested deeper"):
        content_of(message, Wire("openai", "", "/v1/completions", is_reply=False))
