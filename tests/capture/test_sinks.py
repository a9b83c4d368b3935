"""Sinks: files that begin anew, events that wait in a bounded queue, and what becomes of lines that nobody takes."""

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest

from capture.calls import Captured, Counts
from capture.test_capturing import JSON, PATH, streaming
from gateway.serving import TIMEOUT
from gateway.test_recording import failing_with
from gateway.test_service import GRPC, INFER, INFER_RPC, Runtime, infer_reply
from inferbridge.bridge.errors import Code
from inferbridge.bridge.framing import frame
from inferbridge.bridge.values import header
from inferbridge.capture.cloud_events import CloudEvents, events_of
from inferbridge.capture.files import FileLines, StdoutLines
from inferbridge.capture.lines import CapturedLine
from inferbridge.capture.settings import CaptureSettings, CloudEventsSink, Fields, FileSink
from inferbridge_generated.open_inference import wire
from inferbridge_generated.tgis import wire as tgis
from observe.test_tracing import completion
from upstream.h1_server import Answer, Request, h1_server

OKAY, WRONG, BUSY = (Answer(f"HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n".encode()) for status in
                     ("202 Accepted", "400 Bad Request", "503 Busy"))  # fmt: skip
SECONDS = 5.0


async def line_of(runtime: Runtime | None = None, fields: Fields = Fields()) -> CapturedLine:  # noqa: B008 - frozen
    """The line of a V2 call."""
    captured = Captured(CaptureSettings(sample=1.0, fields=fields), runtime or Runtime(infer_reply))
    captured.call(PATH, INFER, (*JSON, ("x-request-id", "call-1")))
    return await captured.line()


def records(path: Path) -> list[str]:
    """Ids of the lines in a file; each must be one."""
    return [msgspec.json.decode(line, type=CapturedLine).request_id for line in path.read_bytes().splitlines()]


def contents(folder: Path) -> list[Path]:
    """The files in a folder."""
    return list(folder.iterdir())


async def test_a_file_begins_anew_when_it_is_full(tmp_path: Path) -> None:
    """No file exceeds its size, as many are kept as were asked for, lines stay whole, and a restart goes on."""
    path, counts, line = tmp_path / "capture.jsonl", Counts(), await line_of()
    room = 2 * len(msgspec.json.encode(line)) + 10
    for name in "abc":
        sink = FileLines(FileSink(path, max_bytes=room, keep=2), counts)
        for number in range(3):
            line.request_id = f"{name}{number}"
            await sink.take(line)
        await sink.close(SECONDS)
    assert [records(tmp_path / f"capture.jsonl{end}") for end in (".2", ".1", "")] == [
        ["b1", "b2"], ["c0", "c1"], ["c2"],
    ]  # fmt: skip
    files = contents(tmp_path)
    assert len(files) == 3
    assert all(file.stat().st_size <= room for file in files)
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)
    assert counts.taken == ["file"] * 9


async def test_only_the_owner_may_read_a_file_that_was_there(tmp_path: Path) -> None:
    """A file that others could read is closed to them, and a link is not followed."""
    path = tmp_path / "capture.jsonl"
    path.write_text("")
    path.chmod(0o644)
    await FileLines(FileSink(path), Counts()).close(SECONDS)
    assert path.stat().st_mode & 0o777 == 0o600
    link = tmp_path / "link.jsonl"
    link.symlink_to(path)
    with pytest.raises(OSError, match="link"):
        FileLines(FileSink(link), Counts())


async def test_lines_that_nobody_takes_are_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk that is full and a stdout that is gone: counted, logged without the payload, and nothing is raised."""
    counts, line = Counts(), await line_of()
    await FileLines(FileSink(Path("/dev/full")), counts).take(line)
    stdout = StdoutLines(counts)

    def gone(data: bytes) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(stdout, "_write", gone)
    await stdout.take(line)
    assert counts.dropped == [("file", "sink"), ("stdout", "sink")]
    assert len(caplog.messages) == 2
    assert "inputs" not in caplog.text


async def test_events_have_the_attributes_of_kserve() -> None:
    """Two events in binary mode with the call's id; the bodies are the client's messages."""
    settings = CloudEventsSink("http://a/", service="bert", namespace="ml", source="http://gateway/")
    (asked_head, asked), (told_head, told) = events_of(await line_of(), settings)
    assert (
        dict(asked_head).items()
        >= {
            "ce-id": "call-1",
            "ce-specversion": "1.0",
            "ce-type": "org.kubeflow.serving.inference.request",
            "ce-source": "http://gateway/",
            "ce-inferenceservicename": "bert",
            "ce-namespace": "ml",
            "ce-component": "predictor",
            "ce-endpoint": "default",
            "content-type": "application/json",
        }.items()
    )
    assert header(told_head, "ce-type") == "org.kubeflow.serving.inference.response"
    assert (header(told_head, "ce-id"), header(told_head, "ce-status")) == ("call-1", "200")
    assert json.loads(asked) == json.loads(INFER)
    assert json.loads(told)["outputs"][0]["data"] == [1.0, 2.0]


async def test_events_tell_what_kserve_does_not_log() -> None:
    """gRPC as JSON, streams put together, failures with status and error, hidden fields, all on one header line."""
    grpc = Captured(CaptureSettings(sample=1.0), Runtime(infer_reply))
    grpc.call(INFER_RPC, b"".join(frame([wire.encode_ModelInferRequest(wire.ModelInferRequest(model_name="m"))])), GRPC)
    settings = CloudEventsSink("http://a/")
    (_, asked), (head, _) = events_of(await grpc.line(), settings)
    assert (json.loads(asked), header(head, "ce-grpcstatus")) == ({"model_name": "m"}, "0")
    stream = Captured(CaptureSettings(sample=1.0), Runtime(streaming), "tgis")
    stream.call("/v1/completions", b'{"model": "m", "prompt": "a", "temperature": 0, "stream": true}', JSON)
    (_, told) = list(events_of(await stream.line(), settings))[1]
    assert json.loads(told)["choices"][0]["text"] == "Hello"
    failed = await line_of(Runtime(failing_with(Code.UNAVAILABLE, 'no "way"\n in')))
    (head, _) = list(events_of(failed, settings))[1]
    assert header(head, "ce-status") == "503"
    assert "\n" not in str(header(head, "ce-error"))
    assert "%22way%22" in str(header(head, "ce-error"))
    hidden = await line_of(fields=Fields(hide=("inputs[].data",)))
    assert json.loads(next(iter(events_of(hidden, settings)))[1])["inputs"][0]["data"] == "***"


@pytest.mark.parametrize(("send", "kinds"), [("request", ["request"]), ("response", ["response"])])
async def test_one_kind_of_events_can_be_chosen(send: str, kinds: list[str]) -> None:
    """As KServe's modes of the logger."""
    settings = CloudEventsSink("http://a/", send=send)  # type: ignore[arg-type]  # one of its words
    found = [str(header(head, "ce-type")).rpartition(".")[2] for head, _ in events_of(await line_of(), settings)]
    assert found == kinds


async def test_the_runtime_s_side_is_told_apart() -> None:
    """After the client's events those of each runtime: what it was sent and answered, under an id of their own."""
    captured = Captured(CaptureSettings(sample=1.0), Runtime(completion), "vllm-nvidia", "rest")
    asked = tgis.BatchedGenerationRequest(
        model_id="m", requests=[tgis.GenerationRequest(text="a"), tgis.GenerationRequest(text="b")]
    )
    body = b"".join(frame([tgis.encode_BatchedGenerationRequest(asked)]))
    captured.call("/fmaas.GenerationService/Generate", body, (*GRPC, ("x-request-id", "call-1")))
    line = await captured.line()
    found = list(events_of(line, CloudEventsSink("http://a/", sides="all")))
    seen = [tuple(header(head, f"ce-{name}") for name in ("id", "side", "requestid", "runtime")) for head, _ in found]
    assert seen[::2] == seen[1::2] == [
        ("call-1", "client", "call-1", None),
        ("call-1.1", "runtime", "call-1", "vllm-nvidia"),
        ("call-1.2", "runtime", "call-1", "vllm-nvidia"),
    ]  # fmt: skip
    kinds = [str(header(head, "ce-type")).rpartition(".")[2] for head, _ in found]
    assert kinds == ["request", "response"] * 3
    assert len({(header(head, "ce-id"), header(head, "ce-type")) for head, _ in found}) == 6
    assert json.loads(found[0][1])["requests"] == [{"text": "a"}, {"text": "b"}]
    assert [json.loads(found[at][1])["prompt"] for at in (2, 4)] == ["a", "b"]
    assert json.loads(found[3][1])["choices"][0]["text"] == "x"
    assert (header(found[1][0], "ce-grpcstatus"), header(found[3][0], "ce-status")) == ("0", "200")
    assert header(found[2][0], "ce-upstream") == "vllm-nvidia"


async def test_only_the_runtime_s_side_can_be_chosen() -> None:
    """With its own status, its own failure, and what was withheld on that side."""
    settings = CloudEventsSink("http://a/", sides="runtime")
    (_, asked), (head, told) = events_of(await line_of(), settings)
    assert json.loads(asked)["raw_input_contents"] == ["AACAPwAAAEA="]
    assert json.loads(told)["raw_output_contents"] == ["AACAPwAAAEA="]
    assert (header(head, "ce-status"), header(head, "ce-grpcstatus")) == ("200", "0")
    failed = await line_of(Runtime(failing_with(Code.UNAVAILABLE, "no way")))
    (_, (head, body)) = events_of(failed, settings)
    assert (header(head, "ce-error"), header(head, "ce-status"), body) == ("no way", None, b"")
    hidden = await line_of(fields=Fields(hide=("inputs[].data",)))
    assert "AACAPwAAAEA=" not in str(next(events_of(hidden, settings)))


async def delivered(answers: Iterable[Answer], calls: int, **more: object) -> tuple[Counts, list[Request], list[float]]:
    """What becomes of the requests' events of some calls at a collector that answers like this."""
    counts, pauses, line = Counts(), list[float](), await line_of()
    said = iter(answers)

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    async with asyncio.timeout(TIMEOUT), h1_server(lambda request: next(said)) as server:
        settings = CloudEventsSink(f"{server.url}/events", send="request", **more)  # type: ignore[arg-type]
        sink = CloudEvents(settings, counts, pause)
        for _ in range(calls):
            await sink.take(line)
        await sink.close(SECONDS)
        return counts, server.requests, pauses


async def test_an_event_that_is_not_taken_is_sent_again() -> None:
    """Twice, later each time; the third success counts once, and nothing is dropped."""
    counts, requests, pauses = await delivered([BUSY, BUSY, OKAY], 1)
    assert (counts.taken, counts.dropped, pauses) == (["cloudevents"], [], [0.5, 2.0])
    assert len(requests) == 3
    assert header(tuple(requests[0].headers), "ce-id") == "call-1"


async def test_a_collector_that_is_down_is_asked_once_for_each_event(caplog: pytest.LogCaptureFixture) -> None:
    """Attempts are bounded, each lost event is counted, the log tells when it begins and ends, not each time."""
    counts, requests, _ = await delivered([BUSY] * 5 + [OKAY], 4)
    assert counts.dropped == [("cloudevents", "sink")] * 3
    assert counts.taken == ["cloudevents"]
    assert len(requests) == 6
    assert [message.split(":")[0] for message in caplog.messages] == [
        "captured calls cannot be sent", "captured calls are sent again",
    ]  # fmt: skip


async def test_an_event_that_is_wrong_is_not_sent_again() -> None:
    """A 400 would be one again."""
    counts, requests, pauses = await delivered([WRONG], 1)
    assert (counts.dropped, len(requests), pauses) == ([("cloudevents", "sink")], 1, [])


async def test_a_full_queue_drops_and_counts() -> None:
    """Who has no room for events loses them, and no call waits."""
    counts, _, _ = await delivered([OKAY, OKAY], 5, queue=2)
    assert counts.dropped == [("cloudevents", "queue")] * 3
    assert counts.taken == ["cloudevents"] * 2


async def test_the_end_does_not_wait_for_a_dead_collector() -> None:
    """A collector that answers nothing: close ends in its time, and what was under way or waiting is counted."""
    counts, line = Counts(), await line_of()
    async with asyncio.timeout(TIMEOUT), h1_server(lambda request: Answer(b"", hold=asyncio.Event())) as server:
        sink = CloudEvents(CloudEventsSink(server.url, send="request"), counts)
        for _ in range(3):
            await sink.take(line)
        await sink.close(0.01)
    assert counts.dropped == [("cloudevents", "shutdown")] * 3
