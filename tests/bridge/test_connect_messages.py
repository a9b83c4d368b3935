"""Connect's envelopes, ends and errors."""

import gzip
import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferbridge.bridge.connect_messages import (
    NAMES,
    Detail,
    EnvelopeReader,
    StreamEnd,
    encode_end,
    error_reply,
    parse_timeout,
    read_end,
    read_error,
)
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.framing import frame

RETRY = Detail("google.rpc.RetryInfo", bytes.fromhex("0a02083c"))


def envelope(flags: int, message: bytes) -> bytes:
    """One message with its flags."""
    return bytes((flags,)) + len(message).to_bytes(4) + message


@given(messages=st.lists(st.binary(max_size=40), max_size=5), places=st.lists(st.integers(0, 300), max_size=8))
def test_any_cutting_gives_the_same_messages(messages: list[bytes], places: list[int]) -> None:
    """However the bytes arrive, messages and end are the same."""
    body = b"".join(frame([(message,) for message in messages])) + encode_end(StreamEnd(None, (), (("a", "1"),)))
    edges = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    reader = EnvelopeReader(100, reply=True)
    found = [message for start, end in pairwise(edges) for message in reader.feed(body[start:end])]
    reader.finish()
    assert found == messages
    assert reader.end == StreamEnd(None, (), (("a", "1"),))


def test_messages_of_a_request_have_no_end() -> None:
    """A request stream ends with its body, and an end in it is refused."""
    reader = EnvelopeReader(100, reply=False)
    assert reader.feed(envelope(0, b"{}")) == [b"{}"]
    reader.finish()
    with pytest.raises(BridgeError, match="flags 0x2"):
        reader.feed(envelope(2, b"{}"))


def test_compressed_envelopes_are_inflated() -> None:
    """Messages and the end may be compressed, each on its own; the limit holds for what comes out."""
    packed = gzip.compress(b"a" * 90)
    reader = EnvelopeReader(100, "gzip", reply=True)
    assert reader.feed(envelope(1, packed) + envelope(3, gzip.compress(b"{}"))) == [b"a" * 90]
    assert reader.end == StreamEnd(None)
    with pytest.raises(BridgeError, match="over the limit"):
        EnvelopeReader(89, "gzip", reply=True).feed(envelope(1, packed))


@pytest.mark.parametrize(
    ("encoding", "body", "reason"),
    [
        ("identity", envelope(4, b"{}"), "flags 0x4"),
        ("identity", envelope(1, b"{}"), "no connect-content-encoding"),
        ("br", envelope(1, b"{}"), "'br' is not supported"),
        ("gzip", envelope(1, b"{}"), "broken"),
        ("identity", envelope(2, b"{}") + envelope(2, b"{}"), "after its end"),
        ("identity", envelope(2, b"{}") + envelope(1, b"{}"), "after its end"),
        ("identity", envelope(2, b"{}") + envelope(0, b"{}"), "after its end"),
        ("identity", envelope(2, b"[]"), "not a JSON object"),
        ("identity", envelope(2, b""), "not a JSON object"),
        ("identity", envelope(0, b"a" * 101), "over the limit"),
    ],
)
def test_what_is_no_connect_is_refused(encoding: str, body: bytes, reason: str) -> None:
    """Unknown flags, wrong compression and anything after the end are errors that say so."""
    with pytest.raises(BridgeError, match=reason):
        EnvelopeReader(100, encoding, reply=True).feed(body)


def test_nothing_follows_the_end() -> None:
    """Bytes that arrive after the end are an error, and so is half of an envelope that came with it."""
    reader = EnvelopeReader(100, reply=True)
    assert reader.feed(envelope(2, b"{}") + b"\0") == []
    with pytest.raises(BridgeError, match="cut off"):
        reader.finish()
    with pytest.raises(BridgeError, match="after its end"):
        reader.feed(b"\0")


def test_an_answer_without_its_end_was_cut() -> None:
    """Whole messages are not enough."""
    reader = EnvelopeReader(100, reply=True)
    reader.feed(envelope(0, b"{}"))
    with pytest.raises(BridgeError, match="broke off") as caught:
        reader.finish()
    assert caught.value.code is Code.UNAVAILABLE


def test_an_end_with_an_error_goes_both_ways() -> None:
    """Code, message, details and metadata survive, several values of a name among them."""
    metadata = (("x-a", "1"), ("x-a", "2"), ("x-b-bin", "AAE"))
    written = encode_end(StreamEnd(BridgeError(Code.CANCELLED, "gone"), (RETRY,), metadata))
    assert written[:5] == b"\2" + (len(written) - 5).to_bytes(4)
    assert json.loads(written[5:]) == {
        "error": {
            "code": "canceled",
            "message": "gone",
            "details": [{"type": "google.rpc.RetryInfo", "value": "CgIIPA"}],
        },
        "metadata": {"x-a": ["1", "2"], "x-b-bin": ["AAE"]},
    }
    end = read_end(written[5:])
    assert end.error is not None
    assert (end.error.code, end.error.message) == (Code.CANCELLED, "gone")
    assert (end.details, end.metadata) == ((RETRY,), metadata)


@pytest.mark.parametrize("error", ["null", "{}", '{"code": null}', '{"code": "no_such"}', '"x"'])
def test_an_error_that_cannot_be_read_is_still_one(error: str) -> None:
    """No broken error makes a success."""
    end = read_end(f'{{"error": {error}}}'.encode())
    assert end.error is not None
    assert end.error.code is Code.UNKNOWN


@pytest.mark.parametrize("metadata", ["1", '{"a": "1"}', '{"a": [1]}'])
def test_metadata_are_lists_of_strings(metadata: str) -> None:
    """Anything else cannot be headers."""
    with pytest.raises(BridgeError, match="metadata"):
        read_end(f'{{"metadata": {metadata}}}'.encode())


STATUS = {
    "canceled": 499,
    "unknown": 500,
    "invalid_argument": 400,
    "deadline_exceeded": 504,
    "not_found": 404,
    "already_exists": 409,
    "permission_denied": 403,
    "resource_exhausted": 429,
    "failed_precondition": 400,
    "aborted": 409,
    "out_of_range": 400,
    "unimplemented": 501,
    "internal": 500,
    "unavailable": 503,
    "data_loss": 500,
    "unauthenticated": 401,
}


def test_codes_have_the_names_and_statuses_of_the_protocol() -> None:
    """Every code but OK is one of Connect's, written with its status, and read back."""
    assert {NAMES[code]: error_reply(BridgeError(code, "m")).status for code in NAMES} == STATUS
    for code, name in NAMES.items():
        body = json.dumps({"code": name, "message": "m"}).encode()
        error, details = read_error(STATUS[name], body)
        assert (error.code, error.message, error.status, details) == (code, "m", STATUS[name], ())


def test_a_unary_error_is_written() -> None:
    """Body and headers are what Connect's clients read; a status of our own does not replace that of the code."""
    reply = error_reply(BridgeError(Code.RESOURCE_EXHAUSTED, "too large", status=413, retry_after=3), [RETRY])
    assert reply.status == 429
    assert dict(reply.headers) == {"content-type": "application/json", "retry-after": "3"}
    error, details = read_error(reply.status, b"".join(reply.chunks))
    assert (error.code, error.message, details) == (Code.RESOURCE_EXHAUSTED, "too large", (RETRY,))


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, Code.INTERNAL),
        (404, Code.UNIMPLEMENTED),
        (429, Code.UNAVAILABLE),
        (502, Code.UNAVAILABLE),
        (418, Code.UNKNOWN),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"code": 5}', b"[" * 100_000, b'{"code":"\xff"}'])
def test_an_error_without_a_code_goes_by_its_status(status: int, code: Code, body: bytes) -> None:
    """What a proxy on the way answered is told by its status."""
    error, _ = read_error(status, body)
    assert (error.code, error.message) == (code, f"HTTP {status}")


@pytest.mark.parametrize("value", ["CgIIPA", "CgIIPA=="])
def test_details_are_read_with_and_without_padding(value: str) -> None:
    """Both are allowed."""
    detail = {"type": "google.rpc.RetryInfo", "value": value, "debug": {"retryDelay": "60s"}}
    body = json.dumps({"code": "unavailable", "details": [detail]}).encode()
    assert read_error(503, body)[1] == (RETRY,)


@pytest.mark.parametrize(
    "detail",
    [1, {}, {"type": "a"}, {"type": "a", "value": 1}, {"type": "a", "value": "%%"}, {"type": "a", "value": "é"}],
)
def test_a_broken_detail_does_not_hide_the_error(detail: object) -> None:
    """The error is more than its details."""
    error, details = read_error(503, json.dumps({"code": "unavailable", "message": "m", "details": [detail]}).encode())
    assert (error.code, error.message, details) == (Code.UNAVAILABLE, "m", ())


def test_timeouts_are_milliseconds() -> None:
    """Ten digits at most."""
    assert parse_timeout("1500") == 1.5
    for text in ("", "-1", "1.5", "12345678901", "١"):
        with pytest.raises(BridgeError, match="connect-timeout-ms"):
            parse_timeout(text)
