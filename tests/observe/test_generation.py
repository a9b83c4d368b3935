"""What spans tell of generated texts, above all why they ended: in every dialect, translated and passed on."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import SpanKind

from gateway.test_service import Client
from gateway.test_translating import EVENTS, GRPC, OK, choice, event
from gateway.test_translating import message as tgis_message
from inferbridge.auth.rules import Authorizer
from inferbridge.auth.settings import Rates, Rule
from inferbridge.bridge.context import Policy, Setting
from inferbridge.bridge.framing import frame
from inferbridge.bridge.values import Chunks, Headers
from inferbridge.gateway.application import RequestHead
from inferbridge.gateway.calls.targets import Target
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.records.recording import Recorder
from inferbridge.gateway.service import GatewayService
from inferbridge.observe.tracing import Tracing
from inferbridge.upstream.api import Receiver, UpstreamRequest
from inferbridge_generated import operations
from inferbridge_generated.caikit import wire as caikit
from inferbridge_generated.registry import APIS
from inferbridge_generated.runtimes import PROFILES
from inferbridge_generated.tgis import wire as tgis

JSON: Headers = (("content-type", "application/json"),)
REASONS = "gen_ai.response.finish_reasons"
LIMITED = Authorizer((Rule(rates=Rates(tokens_per_minute=1000)),))


@pytest.fixture(autouse=True)
def no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs of life need an event loop, which these tests have none of."""
    monkeypatch.setattr("inferbridge.gateway.calls.pulse.Pulse.start", lambda self: None)


@dataclass(frozen=True)
class Answer:
    """What a runtime says to every call."""

    runtime: str
    protocol: str
    headers: Headers
    pieces: Sequence[bytes]


@dataclass
class Pool:
    """A runtime that says one thing."""

    answer: Answer
    sent: list[UpstreamRequest] = field(default_factory=list)

    def send(self, request: UpstreamRequest, receiver: Receiver, timeout: float | None = None) -> "Pool":
        self.sent.append(request)
        receiver.on_head(200, self.answer.headers)
        for piece in self.answer.pieces:
            receiver.on_data(piece)
        receiver.on_end(OK if self.answer.protocol == "grpc" else ())
        return self

    def cancel(self) -> None:
        """It has answered."""

    def throttle(self, paused: bool) -> None:
        """It has answered."""

    async def close(self) -> None:
        """Nothing is open."""


@dataclass
class Call:
    """A client's call that was answered, and what there is of it."""

    pool: Pool
    client: Client
    spans: list[ReadableSpan]

    @property
    def told(self) -> dict[str, Any]:
        """The attributes of the one call of a runtime."""
        (span,) = (span for span in self.spans if span.kind is SpanKind.CLIENT)
        return dict(span.attributes or {})

    @property
    def reasons(self) -> Any:
        """Why texts ended, as far as that is told."""
        return self.told.get(REASONS)


def called(
    answer: Answer,
    path: str,
    body: bytes,
    headers: Headers = JSON,
    sampler: Sampler = ALWAYS_ON,
    rules: Authorizer | None = None,
) -> Call:
    """A traced call of a runtime that gives this answer."""
    pool, client, spans = Pool(answer), Client(), list[ReadableSpan]()
    setting = Setting(operations=operations)
    profiles = PROFILES[answer.runtime]
    targets = [Target("one", profile, answer.protocol, pool, ("*",), setting) for profile in profiles]
    service = GatewayService(targets, APIS, Policy(), Limits(), None, rules or Authorizer())
    tracing = Tracing(TracerProvider(sampler=sampler, shutdown_on_exit=False), "1", spans.append)
    sink = Recorder(service, [tracing]).open(RequestHead("POST", path, "a", headers, "2"), client)
    sink.on_data(body)
    sink.on_end()
    assert client.ended
    assert client.status == 200, client.body
    return Call(pool, client, spans)


def body_of(**values: Any) -> bytes:
    """JSON."""
    return json.dumps(values).encode()


def framed(message: Chunks) -> bytes:
    """A message of gRPC."""
    return b"".join(bytes(part) for part in frame([message]))


VLLM = "vllm-nvidia"
TOLD = {"id": "1", "object": "text_completion", "created": 1, "model": "m"}
WHOLE = Answer(VLLM, "rest", JSON, [body_of(**TOLD, choices=choice("x", "length"))])
STREAM = Answer(VLLM, "rest", EVENTS, [
    event(choices=choice("x")), event(choices=choice("y", "stop")), b"data: [DONE]\n\n",
])  # fmt: skip
CHAT = Answer(VLLM, "rest", JSON, [
    body_of(**TOLD, choices=[{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}]),
])  # fmt: skip
CHAT_STREAM = Answer(VLLM, "rest", EVENTS, [
    event(choices=[{"index": 0, "delta": {"content": "x"}, "finish_reason": None}]),
    event(choices=[{"index": 0, "delta": {}, "finish_reason": "length"}]), b"data: [DONE]\n\n",
])  # fmt: skip
TGIS = Answer("tgis", "grpc", GRPC, [
    framed(tgis.encode_BatchedGenerationResponse(
        tgis.BatchedGenerationResponse(responses=[tgis.GenerationResponse(text="x", stop_reason=6)]))),
])  # fmt: skip
TGIS_STREAM = Answer("tgis", "grpc", GRPC, [
    tgis_message(text="x", generated_token_count=1), tgis_message(text="y", generated_token_count=2, stop_reason=1),
])  # fmt: skip
CAIKIT = Answer("caikit-tgis", "rest", JSON, [
    body_of(generated_text="x", generated_tokens=1, finish_reason="MAX_TOKENS", producer_id=None, input_token_count=1,
            seed=None),
])  # fmt: skip
CAIKIT_STREAM = Answer("caikit-tgis", "rest", EVENTS, [
    b"data: " + body_of(generated_text=text, tokens=[], details=details) + b"\n\n"
    for text, details in (
        ("x", {"finish_reason": "NOT_FINISHED", "generated_tokens": 1, "seed": None, "input_token_count": 1}),
        ("y", {"finish_reason": "EOS_TOKEN", "generated_tokens": 2, "seed": None, "input_token_count": 1}),
    )
])  # fmt: skip
CAIKIT_GRPC = Answer("caikit-tgis", "grpc", GRPC, [
    framed(caikit.encode_GeneratedTextResult(caikit.GeneratedTextResult(generated_text="x", finish_reason=2))),
])  # fmt: skip
CAIKIT_GRPC_STREAM = Answer("caikit-tgis", "grpc", GRPC, [
    framed(caikit.encode_GeneratedTextStreamResult(caikit.GeneratedTextStreamResult(
        generated_text="x", details=caikit.TokenStreamDetails(finish_reason=reason)))) for reason in (0, 2)
])  # fmt: skip
TRITON = Answer("triton", "rest", JSON, [body_of(model_name="m", text_output="x", finish_reason="stop")])
TRITON_STREAM = Answer("triton", "rest", EVENTS, [
    b"data: " + body_of(model_name="m", text_output="x") + b"\n\n",
    b"data: " + body_of(model_name="m", text_output="y", finish_reason="length") + b"\n\n",
])  # fmt: skip

COMPLETION = ("/v1/completions", body_of(model="m", prompt="a", temperature=0), JSON)
EVENTS_WANTED = ("/v1/completions", body_of(model="m", prompt="a", temperature=0, stream=True), JSON)
GENERATE = (
    "/fmaas.GenerationService/Generate",
    framed(tgis.encode_BatchedGenerationRequest(
        tgis.BatchedGenerationRequest(model_id="m", requests=[tgis.GenerationRequest(text="a")]))),
    GRPC,
)  # fmt: skip
GENERATE_STREAM = (
    "/fmaas.GenerationService/GenerateStream",
    framed(tgis.encode_SingleGenerationRequest(
        tgis.SingleGenerationRequest(model_id="m", request=tgis.GenerationRequest(text="a")))),
    GRPC,
)  # fmt: skip
TASK = ("/api/v1/task/text-generation", body_of(model_id="m", inputs="a"), JSON)
TASK_STREAM = ("/api/v1/task/server-streaming-text-generation", body_of(model_id="m", inputs="a"), JSON)
NLP = "/caikit.runtime.Nlp.NlpService/"
ASKED = framed(caikit.encode_TextGenerationTaskRequest(caikit.TextGenerationTaskRequest(text="a")))
MESSAGES = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
METADATA: Headers = (*GRPC, ("mm-model-id", "m"))

CASES = [
    ("openai, passed on", WHOLE, COMPLETION, "length"),
    ("openai, to tgis", WHOLE, GENERATE, "length"),
    ("openai stream, passed on", STREAM, EVENTS_WANTED, "stop"),
    ("openai stream, to tgis", STREAM, GENERATE_STREAM, "stop"),
    ("openai stream, to caikit", STREAM, TASK_STREAM, "stop"),
    ("chat, passed on", CHAT, ("/v1/chat/completions", body_of(**MESSAGES), JSON), "stop"),
    ("chat stream", CHAT_STREAM, ("/v1/chat/completions", body_of(**MESSAGES, stream=True), JSON), "length"),
    ("tgis, passed on", TGIS, GENERATE, "length"),
    ("tgis, to openai", TGIS, COMPLETION, "length"),
    ("tgis stream, passed on", TGIS_STREAM, GENERATE_STREAM, "length"),
    ("tgis stream, to openai", TGIS_STREAM, EVENTS_WANTED, "length"),
    ("caikit, passed on", CAIKIT, TASK, "length"),
    ("caikit, to openai", CAIKIT, COMPLETION, "length"),
    ("caikit stream, passed on", CAIKIT_STREAM, TASK_STREAM, "stop"),
    ("caikit stream, to openai", CAIKIT_STREAM, EVENTS_WANTED, "stop"),
    ("caikit grpc, passed on", CAIKIT_GRPC, (f"{NLP}TextGenerationTaskPredict", ASKED, METADATA), "stop"),
    ("caikit grpc, to rest", CAIKIT_GRPC, TASK, "stop"),
    ("caikit grpc stream", CAIKIT_GRPC_STREAM,
     (f"{NLP}ServerStreamingTextGenerationTaskPredict", ASKED, METADATA), "stop"),
    ("triton, passed on", TRITON, ("/v2/models/m/generate", body_of(text_input="a"), JSON), "stop"),
    ("triton, to openai", TRITON, COMPLETION, "stop"),
    ("triton stream, passed on", TRITON_STREAM,
     ("/v2/models/m/generate_stream", body_of(text_input="a", stream=True), JSON), "length"),
    ("triton stream, to openai", TRITON_STREAM, EVENTS_WANTED, "length"),
]  # fmt: skip
every_case = pytest.mark.parametrize(("answer", "asked", "reason"), [case[1:] for case in CASES],
                                     ids=[case[0] for case in CASES])  # fmt: skip


@every_case
@pytest.mark.parametrize("rules", [None, LIMITED], ids=["unlimited", "limited"])
def test_the_span_of_a_runtime_says_why_its_text_ended(
    answer: Answer, asked: tuple[str, bytes, Headers], reason: str, rules: Authorizer | None
) -> None:
    """In OpenAI's words whatever the dialect, also where the tokens of the caller are limited."""
    assert called(answer, *asked, rules=rules).reasons == (reason,)


@every_case
def test_a_call_that_is_not_sampled_is_not_looked_into(
    answer: Answer, asked: tuple[str, bytes, Headers], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing notes endings, and of what passes through no copy is read."""
    for name in ("spending.Answered.__init__", "metering.Metering.beside"):
        monkeypatch.setattr(f"inferbridge.gateway.records.{name}", None)
    assert called(answer, *asked, sampler=ALWAYS_OFF).spans == []


@every_case
def test_a_traced_call_answers_as_any_other(answer: Answer, asked: tuple[str, bytes, Headers], reason: str) -> None:
    """What the runtime is sent but for the trace's own header, and what the client gets, are the same bytes."""
    traced, plain = (called(answer, *asked, sampler=sampler) for sampler in (ALWAYS_ON, ALWAYS_OFF))
    sent, other = (
        [(pair, b"".join(map(bytes, request.chunks))) for request in call.pool.sent for pair in request.headers]
        for call in (traced, plain)
    )
    assert sent == other
    if asked not in (COMPLETION, EVENTS_WANTED):  # whose answers have an id and a time of their own when translated
        assert traced.client.body == plain.client.body


def test_each_text_has_its_reason_in_the_order_of_the_texts() -> None:
    """Several choices whose ends come in any order; one that never ends has none."""
    choices = [{"index": index, "text": "x", "finish_reason": reason} for index, reason in ((1, "stop"), (0, "length"))]
    asked = ("/v1/completions", body_of(model="m", prompt="a", n=3, stream=True), JSON)
    pieces = [event(choices=[one]) for one in (*choices, {"index": 2, "text": "x", "finish_reason": None})]
    assert called(Answer(VLLM, "rest", EVENTS, pieces), *asked).reasons == ("length", "stop")


def test_a_runtime_that_says_none_has_none() -> None:
    """An answer without a reason is no answer with an empty one."""
    call = called(Answer(VLLM, "rest", JSON, [body_of(**TOLD, choices=choice("x"))]), *COMPLETION)
    assert call.reasons is None


def test_a_copy_that_cannot_be_read_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """A compressed answer passes through as it is; its span lacks the reason, and nobody is told that it does."""
    pieces = [b"\x1f\x8b\x08 no JSON"]
    call = called(Answer(VLLM, "rest", (*JSON, ("content-encoding", "gzip")), pieces), *COMPLETION)
    assert (call.client.body, call.reasons) == (pieces[0], None)
    assert caplog.messages == []


NUMBERS = {"max_tokens": 7, "temperature": 0.5, "top_p": 0.9, "seed": 3, "presence_penalty": 0.25, "n": 2}


def test_spans_tell_how_texts_are_to_be_made() -> None:
    """The numbers that the client gave, whether the call is translated or passed on, and none that it did not give."""
    expected = {f"gen_ai.request.{name}": number for name, number in NUMBERS.items() if name != "n"}
    expected["gen_ai.request.choice.count"] = 2
    passed = called(WHOLE, "/v1/completions", body_of(model="m", prompt="secret", stop=["secret"], **NUMBERS)).told
    assert {name: value for name, value in passed.items() if name.startswith("gen_ai.request.")} == {
        **expected, "gen_ai.request.model": "m",
    }  # fmt: skip
    del expected["gen_ai.request.choice.count"]
    wanted = {name: number for name, number in NUMBERS.items() if name not in ("n", "presence_penalty")}
    crossed = called(TGIS, "/v1/completions", body_of(model="m", prompt="secret", stop=["secret"], **wanted)).told
    assert crossed["gen_ai.request.max_tokens"] == 7
    assert crossed["gen_ai.request.seed"] == 3
    assert "gen_ai.request.presence_penalty" not in crossed
    assert "secret" not in str((passed, crossed))


@pytest.mark.parametrize("asked", [COMPLETION, GENERATE])
def test_spans_tell_which_answer_it_is_and_what_it_used(asked: tuple[str, bytes, Headers]) -> None:
    """The runtime's id and model, and tokens, of an answer that passes through too."""
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    body = body_of(**{**TOLD, "id": "cmpl-7", "model": "m-2026"}, choices=choice("x", "stop"), usage=usage)
    found = called(Answer(VLLM, "rest", JSON, [body]), *asked).told
    assert (found["gen_ai.response.id"], found["gen_ai.response.model"]) == ("cmpl-7", "m-2026")
    assert (found["gen_ai.usage.input_tokens"], found["gen_ai.usage.output_tokens"]) == (3, 5)


def test_a_stream_that_passes_through_tells_what_it_used() -> None:
    """Its messages name the answer, and the last one says the tokens."""
    last = event(id="cmpl-7", choices=[], usage={"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8})
    pieces = [event(id="cmpl-7", model="m", choices=choice("x", "stop")), last, b"data: [DONE]\n\n"]
    found = called(Answer(VLLM, "rest", EVENTS, pieces), *EVENTS_WANTED).told
    assert (found["gen_ai.response.id"], found["gen_ai.usage.output_tokens"]) == ("cmpl-7", 5)


def test_what_a_runtime_calls_itself_is_bounded() -> None:
    """Texts of a runtime are cut and escaped, as everywhere."""
    body = body_of(**{**TOLD, "id": "x" * 10_000, "model": "a\n\u202eb"}, choices=choice("x", "stop"))
    found = called(Answer(VLLM, "rest", JSON, [body]), *COMPLETION).told
    assert len(found["gen_ai.response.id"]) == 256
    assert "\n" not in found["gen_ai.response.model"]
    assert "\u202e" not in found["gen_ai.response.model"]
