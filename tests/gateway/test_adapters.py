"""LoRA adapters: models of their own to OpenAI clients, ids beside the model to fmaas clients; as recorded."""

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.test_service import Client
from gateway.test_translating import GRPC, OK, Upstream
from inferbridge.auth.identity import Grant
from inferbridge.auth.settings import AuthSettings, Rule
from inferbridge.bridge.framing import frame, unframe
from inferbridge.bridge.values import join
from inferbridge.config import Flags
from inferbridge.gateway import build
from inferbridge.gateway.application import RequestHead
from inferbridge.gateway.service import GatewayService
from inferbridge_generated.tgis import wire

RECORDED = Path(__file__).parent.parent / "golden/generation"
FMAAS = json.loads((RECORDED / "fmaas.json").read_text())["generate"]
VLLM = json.loads((RECORDED / "vllm.json").read_text())["completions"]
GENERATE, TOKENIZE = "/fmaas.GenerationService/Generate", "/fmaas.GenerationService/Tokenize"
BASE, LORA = "tiny-llama", "tiny-lora"
ADAPTERS = f"default_model: {BASE}, adapters: {{{LORA}: , short: {LORA}}}"


def gateway(
    monkeypatch: pytest.MonkeyPatch, folder: Path, *upstreams: str, rules: tuple[Rule, ...] = ()
) -> tuple[GatewayService, list[Upstream]]:
    """A gateway as a file configures it, and the upstreams in its order."""
    path = folder / "inferbridge.yaml"
    path.write_text("upstreams:\n" + "".join(f"  - {{{upstream}}}\n" for upstream in upstreams))
    pools: list[Upstream] = []

    def opened(*_: Any, **__: Any) -> Upstream:
        pools.append(Upstream())
        return pools[-1]

    monkeypatch.setattr(build, "open_pool", opened)
    settings = replace(build.settings(path, {}, Flags()), auth=AuthSettings(rules=rules))
    return build.service(settings), pools


def called(service: GatewayService, path: str, body: bytes, *, grpc: bool = False) -> Client:
    """A call that has been made."""
    client = Client()
    headers = GRPC if grpc else (("content-type", "application/json"),)
    sink = service.open(RequestHead("POST", path, "a", headers, "1.1"), client)
    sink.on_data(body)
    sink.on_end()
    return client


def completion(service: GatewayService, **fields: Any) -> Client:
    """A call of an OpenAI client."""
    body = {"prompt": "hello world", "max_tokens": 8, "temperature": 0, **fields}
    return called(service, "/v1/completions", json.dumps(body).encode())


def generate(service: GatewayService, **fields: Any) -> Client:
    """A call of an fmaas client."""
    asked = wire.BatchedGenerationRequest(requests=[wire.GenerationRequest(text="hello world")], **fields)
    return called(service, GENERATE, b"".join(frame([wire.encode_BatchedGenerationRequest(asked)])), grpc=True)


def asked_of_fmaas(pool: Upstream) -> wire.BatchedGenerationRequest:
    """What the only call of a pool asks."""
    ((request, _),) = pool.calls
    (message,) = unframe(join(request.chunks), "identity", 1 << 20)
    return wire.decode_BatchedGenerationRequest(join(message), [])


TGIS = f'runtime: vllm-nvidia, url: "grpc://a:1", {ADAPTERS}'
REST = f'runtime: vllm-nvidia, url: "http://a:1", {ADAPTERS}'


@pytest.mark.parametrize("name", [LORA, "short"])
def test_a_model_that_is_an_adapter_is_asked_for_by_its_id(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """fmaas gets the recorded adapter_id beside the base model, and its client the recorded text under its own name."""
    service, (pool,) = gateway(monkeypatch, tmp_path, TGIS)
    client = completion(service, model=name)
    asked = asked_of_fmaas(pool)
    assert (asked.model_id, asked.adapter_id) == (BASE, LORA)
    _, receiver = pool.calls[0]
    receiver.on_head(200, GRPC)
    receiver.on_data(b"".join(frame([(base64.b64decode(FMAAS["adapter_id"]["reply"]["messages_base64"][0]),)])))
    receiver.on_end(OK)
    answer, recorded = json.loads(client.body), json.loads(VLLM["lora_model"]["reply"]["body"])
    assert answer["choices"][0]["text"] == recorded["choices"][0]["text"]
    assert answer["model"] == name


def test_the_served_model_has_no_adapter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The base model by its name, and a call that names none."""
    for fields in ({"model": BASE}, {}):
        service, (pool,) = gateway(monkeypatch, tmp_path, TGIS)
        completion(service, **fields)
        asked = asked_of_fmaas(pool)
        assert (asked.model_id, asked.adapter_id) == (BASE, None)


@pytest.mark.parametrize("upstream", [TGIS, REST])
def test_a_name_that_nothing_has_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, upstream: str) -> None:
    """With adapters it is configured what is served; another name is never the base model's (fmaas ignores names)."""
    service, (pool,) = gateway(monkeypatch, tmp_path, upstream)
    client = completion(service, model="tiny-lorra")
    assert (client.status, pool.calls) == (404, [])
    assert json.loads(client.body)["error"]["message"] == "no upstream serves the model 'tiny-lorra'"


@pytest.mark.parametrize("field", ["adapter_id", "prefix_id"])
def test_an_adapters_id_is_a_model_at_an_openai_runtime(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, field: str
) -> None:
    """The first name that has the id; as the recorded REST call for the same adapter."""
    service, (pool,) = gateway(monkeypatch, tmp_path, REST.replace(f"{LORA}: ,", "sql: loras/sql,"))
    client = generate(service, model_id=BASE, **{field: "loras/sql"})
    assert client.status == 0
    ((request, _),) = pool.calls
    assert json.loads(join(request.chunks))["model"] == "sql"


def test_an_id_that_is_not_configured_names_no_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """At an OpenAI runtime any model's name could be given as an adapter's; with adapters only theirs count."""
    service, (pool,) = gateway(monkeypatch, tmp_path, REST)
    client = generate(service, model_id=BASE, adapter_id="another-model")
    assert (client.get("grpc-status"), pool.calls) == ("5", [])
    assert "another-model" in (client.get("grpc-message") or "")


def test_an_fmaas_client_may_name_the_adapter_as_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its bytes would pass through and the base model would answer, so the id is put in. Other calls pass untouched."""
    service, (pool,) = gateway(monkeypatch, tmp_path, TGIS)
    generate(service, model_id=LORA)
    asked = asked_of_fmaas(pool)
    assert (asked.model_id, asked.adapter_id) == (BASE, LORA)
    service, (pool,) = gateway(monkeypatch, tmp_path, TGIS)
    generate(service, model_id=BASE, adapter_id="unlisted")
    assert asked_of_fmaas(pool).adapter_id == "unlisted"


@pytest.mark.parametrize(("adapter", "code"), [("loras/sql", None), ("other", "7"), (None, None)])
def test_a_caller_may_name_only_the_adapters_it_may_call(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, adapter: str | None, code: str | None
) -> None:
    """An adapter that stands beside an allowed model must be allowed as the model that it is to OpenAI clients."""
    upstream = f'runtime: vllm-nvidia, url: "grpc://a:1", default_model: {BASE}, adapters: {{sql: loras/sql, other: }}'
    rule = Rule(allow=Grant(models=(BASE, "sql")))
    service, (pool,) = gateway(monkeypatch, tmp_path, upstream, rules=(rule,))
    client = generate(service, model_id=BASE, adapter_id=adapter)
    assert (client.get("grpc-status"), len(pool.calls)) == (code, 0 if code else 1)


def test_tokens_are_counted_by_the_adapters_tokenizer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tokenization names adapters in the same way, in both directions."""
    service, (pool,) = gateway(monkeypatch, tmp_path, TGIS)
    called(service, "/api/v1/task/tokenization", json.dumps({"model_id": LORA, "inputs": "hello"}).encode())
    ((request, _),) = pool.calls
    (message,) = unframe(join(request.chunks), "identity", 1 << 20)
    assert wire.decode_BatchedTokenizeRequest(join(message), []).adapter_id == LORA
    service, (pool,) = gateway(monkeypatch, tmp_path, REST)
    asked = wire.BatchedTokenizeRequest(model_id=BASE, requests=[wire.TokenizeRequest(text="hello")], adapter_id=LORA)
    called(service, TOKENIZE, b"".join(frame([wire.encode_BatchedTokenizeRequest(asked)])), grpc=True)
    ((request, _),) = pool.calls
    assert json.loads(join(request.chunks))["model"] == LORA


def test_a_caikit_client_names_an_adapter_as_its_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every API that names models can name an adapter."""
    service, (pool,) = gateway(monkeypatch, tmp_path, TGIS)
    called(service, "/api/v1/task/text-generation", json.dumps({"model_id": LORA, "inputs": "hello"}).encode())
    assert asked_of_fmaas(pool).adapter_id == LORA


def test_a_runtime_without_adapters_is_not_asked_for_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """IBM's TGIS would skip the id and let the base model answer."""
    service, (pool,) = gateway(monkeypatch, tmp_path, TGIS.replace("vllm-nvidia", "tgis"))
    client = completion(service, model=LORA)
    assert (client.status, pool.calls) == (400, [])
    assert LORA in json.loads(client.body)["error"]["message"]


def test_the_upstream_that_has_the_adapter_gets_the_call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An adapter's name decides as a model's does; a call that names none goes where one is meant by default."""
    other = 'name: other, runtime: vllm-nvidia, url: "http://b:1", models: [big]'
    service, pools = gateway(monkeypatch, tmp_path, other, TGIS)
    completion(service, model=LORA)
    completion(service, model="big")
    completion(service)
    assert [len(pool.calls) for pool in pools] == [1, 2]


def test_adapters_have_one_spelling(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A name is no pattern, whatever characters it has."""
    upstream = 'runtime: vllm-nvidia, url: "grpc://a:1", models: [base], adapters: {"s[ql]*": x}'
    service, (pool,) = gateway(monkeypatch, tmp_path, upstream)
    assert completion(service, model="sq").status == 404
    completion(service, model="s[ql]*")
    assert asked_of_fmaas(pool).adapter_id == "x"


@pytest.mark.parametrize("path", ["/v2", "/v2/health/ready"])
def test_a_call_about_no_model_is_answered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str) -> None:
    """Globs of models say nothing about calls that have none: the first upstream answers."""
    upstream = 'runtime: triton, url: "http://a:1", models: ["resnet*"]'
    service, pools = gateway(monkeypatch, tmp_path, f"name: one, {upstream}", f"name: two, {upstream}")
    service.open(RequestHead("GET", path, "a", (), "1.1"), Client()).on_end()
    assert [[request.path for request, _ in pool.calls] for pool in pools] == [[path], []]
