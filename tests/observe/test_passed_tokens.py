"""Tokens of calls that pass through, in the record of a call."""

from collections.abc import Sequence

import pytest

from gateway.test_service import Client
from inferbridge.bridge.context import Policy, Setting
from inferbridge.bridge.values import Headers
from inferbridge.gateway.application import RequestHead
from inferbridge.gateway.calls.targets import Target
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.record import CallRecord
from inferbridge.gateway.records.recording import Recorder
from inferbridge.gateway.service import GatewayService
from inferbridge_generated import operations
from inferbridge_generated.registry import APIS
from inferbridge_generated.runtimes import PROFILES
from inferbridge_generated.tgis import wire as tgis
from observe.test_generation import (
    COMPLETION,
    EVENTS,
    EVENTS_WANTED,
    GENERATE_STREAM,
    GRPC,
    JSON,
    TOLD,
    VLLM,
    Answer,
    Pool,
    body_of,
    choice,
    event,
    framed,
)  # fmt: skip

USAGE = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
WHOLE = Answer(VLLM, "rest", JSON, [body_of(**TOLD, choices=choice("x", "stop"), usage=USAGE)])
STREAM = Answer(VLLM, "rest", EVENTS, [
    event(choices=choice("x", "stop")), event(choices=[], usage=USAGE), b"data: [DONE]\n\n",
])  # fmt: skip
MESSAGES = Answer("tgis", "grpc", GRPC, [
    framed(tgis.encode_GenerationResponse(tgis.GenerationResponse(input_token_count=3))),
    framed(tgis.encode_GenerationResponse(tgis.GenerationResponse(text="x", generated_token_count=5, stop_reason=1))),
])  # fmt: skip
CASES = {
    "completion": (WHOLE, COMPLETION),
    "completion, stream": (STREAM, EVENTS_WANTED),
    "GenerateStream": (MESSAGES, GENERATE_STREAM),
}


class Kept:
    """Keeps the records of calls that have ended."""

    def __init__(self) -> None:
        self.records: list[CallRecord] = []

    def ended(self, record: CallRecord) -> None:
        self.records.append(record)


def record_of(
    answer: Answer, asked: tuple[str, bytes, Headers], *, reads_all: bool
) -> tuple[CallRecord, Sequence[bytes]]:
    """What is known of a call that passes through, and what its client got."""
    setting, client, kept = Setting(operations=operations), Client(), Kept()
    targets = [Target("one", each, answer.protocol, Pool(answer), ("*",), setting) for each in PROFILES[answer.runtime]]
    service = GatewayService(targets, APIS, Policy(), Limits())
    service.metering.reads_all = reads_all
    path, body, headers = asked
    sink = Recorder(service, [kept]).open(RequestHead("POST", path, "a", headers, "2"), client)
    sink.on_data(body)
    sink.on_end()
    return kept.records[0], client.body


@pytest.mark.parametrize(("answer", "asked"), CASES.values(), ids=CASES)
def test_answers_that_pass_through_are_read_where_that_is_wanted(
    answer: Answer, asked: tuple[str, bytes, Headers]
) -> None:
    """The record tells the tokens of every call, of others none; the client gets the same bytes either way."""
    record, body = record_of(answer, asked, reads_all=True)
    assert (record.tokens_in, record.tokens_out) == (3, 5)
    other, plain = record_of(answer, asked, reads_all=False)
    assert (other.tokens_in, other.tokens_out) == (None, None)
    assert body == plain
