"""The access log: a line for each call, always one line, always what the schema says."""

import asyncio
import json
from pathlib import Path

import msgspec
import pytest

from gateway.serving import TIMEOUT, curl
from gateway.test_guard import GOOD, PATH
from gateway.test_recording import Played
from gateway.test_service import INFER, INFER_RPC, Runtime, infer_reply
from inferbridge.auth.identity import Identity
from inferbridge.bridge.errors import invalid
from inferbridge.config import AccessLog as AccessLogSettings
from inferbridge.config import Listener, Settings, Upstream
from inferbridge.gateway.record import CallRecord, bounded
from inferbridge.observe import access_log
from inferbridge.observe.access_log import AccessLine, AccessLog, line_of, schema
from inferbridge.run import serving
from inferbridge.upstream.address import Address

HOSTILE = "a\r\n\x1b[2J\u202e\u2028\x85\udc80" + "x" * 1_000_000


def read(line: bytes) -> AccessLine:
    """A line that the schema allows; anything else fails."""
    return msgspec.json.decode(line, type=AccessLine)


def test_the_published_schema_is_that_of_the_lines() -> None:
    """The file in the package says what the code writes; when they differ, this prints what it must say."""
    published = json.loads(Path(access_log.__file__).with_name("access_log.schema.json").read_text("utf-8"))
    assert published == schema(), json.dumps(schema(), indent=2)
    assert published["additionalProperties"] is False
    assert set(published["required"]) == set(published["properties"])


def test_a_line_says_what_is_known() -> None:
    """Numbers and names of a translated call stand under the documented keys; what is not known is null."""
    played = Played(Runtime(infer_reply))
    played.call(PATH, INFER, (*GOOD, ("traceparent", f"00-{'a' * 32}-{'b' * 16}-01")))
    record = played.kept.one
    record.began_at = 1_700_000_000.5
    line = json.loads(msgspec.json.encode(line_of(record)))
    assert line["ts"] == "2023-11-14T22:13:20.500Z"
    assert (line["event"], line["level"], line["client.address"]) == ("access", "info", "10.0.0.1:5")
    assert (line["trace_id"], line["span_id"]) == ("a" * 32, "b" * 16)
    assert (line["auth.method"], line["auth.subject"], line["auth.key_id"]) == ("keys", "alice", None)
    assert (line["path"], line["model"], line["status"], line["grpc_status"]) == (
        "/v2/models/{model}/infer", "m", 200, None,
    )  # fmt: skip
    assert line["duration_ms"] >= line["upstream_ms"] >= 0
    assert line.keys() == schema()["properties"].keys()  # type: ignore[attr-defined]  # a dict


def test_whatever_was_sent_a_line_is_one_bounded_line() -> None:
    """Line ends, escapes of terminals, text that reads backwards and a megabyte of it: one line, printable, bounded."""
    written: list[bytes] = []
    log = AccessLog(written.append, lambda flush: None)
    identity = Identity(HOSTILE, method="jwt", key_id=HOSTILE)
    record = CallRecord(request_id="1", method="POST", losses=HOSTILE, identity=identity, peer="a:1", began=1, ended=2)
    record.failed(invalid(HOSTILE))
    record.model = bounded(HOSTILE)
    log.ended(record)
    log.flush()
    (line,) = written
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert line.decode().strip("\n").isprintable()
    assert len(line) < 4000
    read(line)


def test_lines_of_a_turn_are_written_together() -> None:
    """One write at the end of a turn of the event loop, in the order of the calls, and none without a call."""
    written: list[bytes] = []
    turns: list[object] = []
    log = AccessLog(written.append, turns.append)
    log.flush()
    for number in range(3):
        log.ended(CallRecord(request_id=str(number)))
    assert (written, len(turns)) == ([], 1)
    log.flush()
    assert [read(line).request_id for line in written[0].splitlines()] == ["0", "1", "2"]


def test_a_reader_that_is_gone_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Lines that nobody takes are counted in the log of the proxy."""

    def gone(lines: bytes) -> None:
        raise BrokenPipeError("nobody reads")

    log = AccessLog(gone, lambda flush: None)
    for _ in range(2):
        log.ended(CallRecord(request_id="1"))
        log.flush()
    assert caplog.messages[-1].endswith("2 lines are lost so far")


async def test_a_running_proxy_writes_a_line_for_each_call(
    capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found, not found, malformed and with a dead upstream: each call has its line, and stdout has nothing else."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    upstream = Upstream("down", "triton", Address("grpc", "127.0.0.1", 9))
    settings = Settings(
        listen=(Listener("127.0.0.1", 0),), upstreams=(upstream,), access_log=AccessLogSettings(enabled=True)
    )
    async with asyncio.timeout(TIMEOUT), serving(settings) as bound:
        url = f"http://{bound.listen[0]}"
        await curl(f"{url}{PATH}", "--json", INFER.decode())
        await curl(f"{url}/nothing", "-H", "x-request-id: mine")
        await curl(f"{url}/v2/models/..%2f/infer", "--path-as-is")
        await curl("--http2-prior-knowledge", f"{url}{INFER_RPC}", "-H", "content-type: application/grpc", "-d", "x")
        await curl(f"{url}/", "-H", "content-length: x", "-X", "POST")
    lines = [read(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert [(line.status, line.flags) for line in lines[:2]] == [(503, ("UC",)), (404, ("NR",))]
    assert lines[1].request_id == "mine"
    assert len(lines) == 5
