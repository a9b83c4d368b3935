"""Every field that a call loses is logged and counted once, wherever on its way it is lost."""

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest

from gateway.test_connect_calls import ENVELOPES, GENERATE, GRPC, JSON, STREAM, UNKNOWN, envelope
from gateway.test_service import Client
from gateway.test_translating import Upstream
from inferbridge.bridge.framing import frame
from inferbridge.bridge.values import Buffer, Headers
from inferbridge.config import Flags
from inferbridge.gateway import build
from inferbridge.gateway.application import RequestHead
from inferbridge.gateway.service import GatewayService
from inferbridge_generated.open_inference import wire as v2
from inferbridge_generated.tgis import wire as tgis

INFER_RPC = "/inference.GRPCInferenceService/ModelInfer"
TGIS = "tgis=grpc://127.0.0.1:1"
OK: Headers = (("grpc-status", "0"),)


class Counted:
    """Counters that add up."""

    def __init__(self) -> None:
        self.lost: dict[tuple[str, str, str], int] = {}

    def lost_fields(self, operation: str, api: str, runtime: str, count: int) -> None:
        key = (operation, api, runtime)
        self.lost[key] = self.lost.get(key, 0) + count


@pytest.fixture(autouse=True)
def no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs of life need an event loop, which these tests have none of."""
    monkeypatch.setattr("inferbridge.gateway.calls.pulse.Pulse.start", lambda self: None)


class Gateway:
    """A gateway whose upstreams the test answers, and what it counts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *upstreams: str, lossy: str = "allow") -> None:
        self.pool, self.counted = Upstream(), Counted()
        monkeypatch.setattr(build, "open_pool", lambda *_, **__: self.pool)
        settings = build.settings(None, {}, Flags(upstream=upstreams, lossy=lossy))
        self.service: GatewayService = build.service(settings, self.counted)

    def call(self, path: str, headers: Headers, *pieces: Buffer) -> Client:
        """A call up to the runtime's answer."""
        client = Client()
        version = "2" if headers == GRPC else "1.1"
        sink = self.service.open(RequestHead("POST", path, "a", headers, version), client)
        for piece in pieces:
            sink.on_data(piece)
        sink.on_end()
        return client

    def answer(self, *messages: bytes, number: int = 0) -> None:
        """The runtime answers over gRPC."""
        _, receiver = self.pool.calls[number]
        receiver.on_head(200, GRPC)
        for message in messages:
            receiver.on_data(b"".join(frame([(message,)])))
        receiver.on_end(OK)

    def answer_json(self, body: Mapping[str, object]) -> None:
        """The runtime answers over REST."""
        _, receiver = self.pool.calls[0]
        receiver.on_head(200, JSON)
        receiver.on_data(json.dumps(body).encode())
        receiver.on_end(())


def completion(**more: object) -> bytes:
    """A call of an OpenAI client."""
    return json.dumps({"model": "m", "prompt": "a", **more}).encode()


def generated(text: str, **more: int) -> bytes:
    """One answer of TGIS, with a field that no proto of ours knows."""
    return b"".join(tgis.encode_GenerationResponse(tgis.GenerationResponse(text=text, **more))) + UNKNOWN


def dropped(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines of the log that tell of losses."""
    return [record.getMessage() for record in caplog.records if "dropped" in record.getMessage()]


def test_what_a_request_loses(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Each field of a request that the runtime cannot take counts one, in every call again."""
    gateway = Gateway(monkeypatch, TGIS)
    for _ in range(2):
        gateway.call("/v1/completions", JSON, completion(logit_bias={"1": 2.0}, user="me"))
    assert gateway.counted.lost == {("generate", "openai", "tgis"): 2}
    assert dropped(caplog) == ["completions to tgis: dropped logit_bias"] * 2


def test_a_name_that_the_client_chose_is_harmless(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The key of a parameter makes neither a header nor a line of the log, is cut when long, and is no label."""
    gateway = Gateway(monkeypatch, "mlserver=grpc://127.0.0.1:1")
    asked = {"inputs": [], "parameters": {"a\r\nx-evil: é": 1.5, "b" * 1000: 2.5}}
    client = gateway.call("/v2/models/m/infer", JSON, json.dumps(asked).encode())
    gateway.answer(b"".join(v2.encode_ModelInferResponse(v2.ModelInferResponse(model_name="m"))))
    expected = f"parameters[a\\r\\nx-evil: \\xe9], parameters[{'b' * 245}..."
    assert (client.status, client.get("x-inferbridge-lost")) == (200, expected)
    assert dropped(caplog) == [f"infer to mlserver: dropped {expected}"]
    assert gateway.counted.lost == {("infer", "open-inference", "mlserver"): 2}


def test_a_call_that_is_read_for_its_model_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the model decides about the upstream the call is read twice, and loses its fields once."""
    gateway = Gateway(monkeypatch, "mlserver=http://127.0.0.1:1")
    gateway.service.targets = [replace(target, models=("m",)) for target in gateway.service.targets]
    request = v2.ModelInferRequest(model_name="m", inputs=[])
    body = b"".join(v2.encode_ModelInferRequest(request)) + UNKNOWN
    gateway.call(INFER_RPC, GRPC, b"".join(frame([(body,)])))
    assert len(gateway.pool.calls) == 1
    assert gateway.counted.lost == {("infer", "open-inference", "mlserver"): 1}


def test_a_call_that_is_refused_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that names the field is no loss, and neither is a field of a call that fails for another reason."""
    strict = Gateway(monkeypatch, TGIS, lossy="reject")
    assert strict.call("/v1/completions", JSON, completion(logit_bias={"1": 2.0})).status == 400
    lossy = Gateway(monkeypatch, TGIS)
    assert lossy.call("/v1/completions", JSON, completion(logit_bias={"1": 2.0}, temperature="hot")).status == 400
    assert (strict.counted.lost, lossy.counted.lost) == ({}, {})


def test_what_an_answer_loses(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A field of the runtime's answer that the client's API has no place for counts as those of the request."""
    gateway = Gateway(monkeypatch, TGIS)
    client = gateway.call("/v1/completions", JSON, completion())
    batch = tgis.BatchedGenerationResponse(responses=[tgis.GenerationResponse(text="b", stop_reason=2)])
    gateway.answer(b"".join(tgis.encode_BatchedGenerationResponse(batch)) + UNKNOWN)
    assert client.status == 200
    assert gateway.counted.lost == {("generate", "openai", "tgis"): 1}
    assert dropped(caplog) == ["completions to tgis: dropped fmaas.BatchedGenerationResponse field 127"]


def test_what_a_stream_loses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same field in every message of a stream counts once, though the answer's head is long gone."""
    gateway = Gateway(monkeypatch, TGIS)
    client = gateway.call("/v1/completions", JSON, completion(stream=True))
    gateway.answer(generated("a", generated_token_count=1), generated("b", generated_token_count=2, stop_reason=2))
    assert client.body.endswith(b"data: [DONE]\n\n")
    assert gateway.counted.lost == {("generate", "openai", "tgis"): 1}


@pytest.mark.parametrize(
    ("rpc", "headers", "body"),
    [(GENERATE, JSON, b'{"requests":[{"text":"a"}]}'), (STREAM, ENVELOPES, envelope(b'{"request":{"text":"a"}}'))],
)
def test_what_cannot_be_written_as_json(
    rpc: str, headers: Headers, body: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A field without a name in the JSON of a gRPC method counts once, whether one message has it or all."""
    gateway = Gateway(monkeypatch, TGIS)
    client = gateway.call(rpc, headers, body)
    gateway.answer(*[UNKNOWN] * (1 if rpc == GENERATE else 3))
    assert client.status == 200
    assert gateway.counted.lost == {("generate", "tgis", "tgis"): 1}
    assert len(dropped(caplog)) == 1


def test_what_no_message_of_a_rest_api_has(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A member that the schema of a REST answer does not know counts when a gRPC client is answered with it."""
    gateway = Gateway(monkeypatch, "vllm-nvidia=http://127.0.0.1:1")
    gateway.call("/inferbridge.openai.OpenaiService/Models", GRPC, b"\0\0\0\0\0")
    gateway.answer_json({"object": "list", "data": [], "brand_new": 1, "new\ner": 2})
    assert dropped(caplog) == ["models to vllm-nvidia: dropped brand_new, new\\ner"]
    assert gateway.counted.lost == {("model_list", "openai", "vllm-nvidia"): 2}


def test_whoever_may_have_answered_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an answer no longer tells which runtime gave it, the label holds all that the configuration allows."""
    gateway = Gateway(monkeypatch, TGIS, "caikit-tgis=grpc://127.0.0.1:2")
    gateway.call(GENERATE, JSON, b'{"requests":[{"text":"a"}]}')
    gateway.answer(UNKNOWN)
    assert gateway.counted.lost == {("generate", "tgis", "caikit-tgis|tgis"): 1}
