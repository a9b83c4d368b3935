"""Lists of models over several upstreams, with the recorded answers of each kind of runtime, in memory."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from gateway.test_adapters import gateway
from gateway.test_service import Client
from gateway.test_translating import GRPC, OK, Upstream
from inferbridge.auth.identity import Grant
from inferbridge.auth.settings import Rule
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.framing import frame, unframe
from inferbridge.gateway.application import RequestHead
from inferbridge.gateway.calls.listing import joined
from inferbridge.gateway.calls.targets import Target
from inferbridge.gateway.service import GatewayService
from inferbridge_generated import operations
from inferbridge_generated.caikit import wire as caikit
from inferbridge_generated.open_inference import wire as v2
from inferbridge_generated.runtimes import PROFILES
from inferbridge_generated.tgis import wire as tgis

TASKS = Path(__file__).parent.parent / "golden/tasks"
TOKENS, PAIRS = (json.loads((TASKS / f"{name}.json").read_text()) for name in ("tokens", "caikit"))
VLLM = next(case["reply"]["body"] for case in TOKENS["vllm"] if case["name"] == "models")
CAIKIT = next(pair["rest"]["reply"]["body"] for pair in PAIRS["pairs"] if pair["name"] == "standalone/info/models")
VLLM_NAMES = [card["id"] for card in json.loads(VLLM)["data"]]
CAIKIT_NAMES = [model["name"] for model in json.loads(CAIKIT)["models"]]
ONE, TWO = 'name: one, runtime: vllm-nvidia, url: "http://a:1"', 'name: two, runtime: vllm-amd, url: "http://b:1"'
INFO = 'name: info, runtime: caikit-standalone, url: "http://c:1"'
TGIS = 'name: text, runtime: tgis, url: "grpc://d:1", default_model: flan'
TRITON = 'name: tensors, runtime: triton, url: "grpc://e:1"'
MODELS_INFO, INDEX = "/caikit.runtime.info.InfoService/GetModelsInfo", "/inference.GRPCInferenceService/RepositoryIndex"


def cards(*names: str) -> str:
    """vLLM's list of these models."""
    return json.dumps({"object": "list", "data": [{"id": name, "object": "model", "owned_by": "me"} for name in names]})


def asked(service: GatewayService, path: str = "/v1/models") -> Client:
    """A REST client that asks for the models."""
    client = Client()
    service.open(RequestHead("GET", path, "a", (), "1.1"), client).on_end()
    return client


def answered(pool: Upstream, body: str, status: int = 200) -> None:
    """A REST upstream gives its list."""
    _, receiver = pool.calls[-1]
    receiver.on_head(status, (("content-type", "application/json"),))
    receiver.on_data(body.encode())
    receiver.on_end(())


def said(pool: Upstream, chunks: Any) -> None:
    """A gRPC upstream gives its message."""
    _, receiver = pool.calls[-1]
    receiver.on_head(200, GRPC)
    receiver.on_data(b"".join(map(bytes, frame([chunks]))))
    receiver.on_end(OK)


def names(client: Client) -> list[str]:
    """The models that an OpenAI client sees."""
    return [card["id"] for card in json.loads(client.body)["data"]]


def test_the_lists_are_one_in_order_of_the_upstreams(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever answers first, the order is the configuration's, and a name comes once."""
    service, (one, two) = gateway(monkeypatch, tmp_path, ONE, TWO)
    client = asked(service)
    answered(two, cards("b", "a", "c"))
    assert client.status == 0
    answered(one, cards("a", "d"))
    assert (client.status, names(client)) == (200, ["a", "d", "b", "c"])
    assert [card["owned_by"] for card in json.loads(client.body)["data"]] == ["me"] * 4


def test_every_api_adds_its_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An OpenAI client sees vLLM's and caikit's (recorded), TGIS' by its configured name, and Triton's ready ones."""
    service, (one, info, text, tensors) = gateway(monkeypatch, tmp_path, ONE, INFO, TGIS, TRITON)
    client = asked(service)
    answered(one, VLLM)
    answered(info, CAIKIT)
    said(text, tgis.encode_ModelInfoResponse(tgis.ModelInfoResponse(max_sequence_length=256)))
    entry = v2.RepositoryIndexResponse_ModelIndex
    index = [entry(name="resnet", version=version, state="READY") for version in ("1", "2")]
    said(tensors, v2.encode_RepositoryIndexResponse(v2.RepositoryIndexResponse(models=index)))
    assert names(client) == [*VLLM_NAMES, *CAIKIT_NAMES, "flan", "resnet"]
    owners = {card["id"]: card["owned_by"] for card in json.loads(client.body)["data"]}
    assert (owners[VLLM_NAMES[0]], owners["flan"], owners["resnet"]) == ("vllm", "tgis", "triton")


@pytest.mark.parametrize("grpc", [False, True])
def test_caikits_clients_get_one_list(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, grpc: bool) -> None:
    """/info/models and its gRPC twin."""
    service, (one, info) = gateway(monkeypatch, tmp_path, ONE, INFO)
    if grpc:
        client = Client()
        sink = service.open(RequestHead("POST", MODELS_INFO, "a", GRPC, "2"), client)
        sink.on_data(b"\0\0\0\0\0")
        sink.on_end()
    else:
        client = asked(service, "/info/models")
    answered(one, VLLM)
    answered(info, CAIKIT)
    if grpc:
        ((message,),) = unframe(client.body, "identity", 1 << 20)
        found = [model.name for model in caikit.decode_ModelInfoResponse(message, []).models]
    else:
        found = [model["name"] for model in json.loads(client.body)["models"]]
    assert found == [*VLLM_NAMES, *CAIKIT_NAMES]


def test_models_asked_for_by_name_may_be_anywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each upstream is asked for all, or it would call the other's models an error; one that nobody has is an error."""
    last = CAIKIT_NAMES[-1]
    service, (one, info) = gateway(monkeypatch, tmp_path, ONE, INFO)
    client = asked(service, f"/info/models?model_ids={last}&model_ids={VLLM_NAMES[0]}")
    assert [pool.calls[0][0].path for pool in (one, info)] == ["/v1/models", "/info/models"]
    answered(one, VLLM)
    answered(info, CAIKIT)
    assert [model["name"] for model in json.loads(client.body)["models"]] == [VLLM_NAMES[0], last]
    client = asked(service, f"/info/models?model_ids={last}&model_ids=nope")
    answered(one, VLLM)
    answered(info, CAIKIT)
    assert (client.status, json.loads(client.body)["details"]) == (404, "Model nope is not loaded")


def test_versions_of_a_model_stay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A V2 repository has an entry for each version; those of an upstream that has the name already are left out."""
    service, pools = gateway(monkeypatch, tmp_path, TRITON, TRITON.replace("tensors", "more"))
    client = Client()
    sink = service.open(RequestHead("POST", INDEX, "a", GRPC, "2"), client)
    sink.on_data(b"\0\0\0\0\0")
    sink.on_end()
    entry = v2.RepositoryIndexResponse_ModelIndex
    for pool, listed in zip(pools, [[("m", "1"), ("m", "2")], [("m", "3"), ("n", "1")]], strict=True):
        index = [entry(name=name, version=version, state="READY") for name, version in listed]
        said(pool, v2.encode_RepositoryIndexResponse(v2.RepositoryIndexResponse(models=index)))
    ((message,),) = unframe(client.body, "identity", 1 << 20)
    found = v2.decode_RepositoryIndexResponse(message, []).models
    assert [(model.name, model.version, model.state) for model in found] == [
        ("m", "1", "READY"),
        ("m", "2", "READY"),
        ("n", "1", "READY"),
    ]


FAILURES = {
    "status": lambda pool: answered(pool, '{"error": {"message": "loading", "code": 503}}', 503),
    "transport": lambda pool: pool.calls[-1][1].on_failure(BridgeError(Code.UNAVAILABLE, "connection refused")),
    "nonsense": lambda pool: answered(pool, "<html>"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_an_upstream_that_fails_is_missing_and_logged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture, failure: str
) -> None:
    """Whatever its failure is, the others' models are listed, and the log names the upstream."""
    service, (one, two) = gateway(monkeypatch, tmp_path, ONE, TWO)
    client = asked(service)
    with caplog.at_level(logging.WARNING):
        FAILURES[failure](one)
    answered(two, cards("b"))
    assert (client.status, names(client)) == (200, ["b"])
    assert "one: its models are missing from a list: " in caplog.text


def test_where_all_fail_the_client_gets_the_first_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In its own form; the first is the first upstream's, whoever fails first."""
    service, (one, two) = gateway(monkeypatch, tmp_path, ONE, TWO)
    client = asked(service)
    two.calls[0][1].on_failure(BridgeError(Code.UNAVAILABLE, "two is down"))
    one.calls[0][1].on_failure(BridgeError(Code.UNAVAILABLE, "one is down"))
    assert (client.status, json.loads(client.body)["error"]["message"]) == (503, "one is down")


def test_a_runtime_that_cannot_be_asked_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A question that one upstream has no place for is still answered by the others."""
    service, (tensors, one) = gateway(monkeypatch, tmp_path, TRITON, ONE)
    client = Client()
    sink = service.open(RequestHead("POST", INDEX, "a", GRPC, "2"), client)
    sink.on_data(b"".join(frame([v2.encode_RepositoryIndexRequest(v2.RepositoryIndexRequest(repository_name="r"))])))
    sink.on_end()
    assert one.calls == []
    assert "one: its models are missing from a list: repository: " in caplog.text
    said(tensors, v2.encode_RepositoryIndexResponse(v2.RepositoryIndexResponse()))
    assert client.get("grpc-status") == "0"


def test_one_upstream_alone_passes_through(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Byte for byte, with everything that vLLM says and nobody else knows."""
    service, (one,) = gateway(monkeypatch, tmp_path, ONE)
    client = asked(service)
    answered(one, VLLM)
    assert client.body.decode() == VLLM


def test_only_what_an_upstream_serves_is_listed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A model that no call could reach there is no model of that upstream."""
    service, (one, two) = gateway(monkeypatch, tmp_path, f"{ONE}, models: [a*]", f"{TWO}, models: [b*]")
    client = asked(service)
    for pool in (one, two):
        answered(pool, cards("a1", "b1", "c1"))
    assert names(client) == ["a1", "b1"]


def test_adapters_are_listed_with_their_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """fmaas tells of no adapters, so those of the configuration stand there, as vLLM lists them."""
    text = 'name: text, runtime: vllm-nvidia, url: "grpc://d:1", default_model: flan, adapters: {sql: x}'
    service, (pool, one) = gateway(monkeypatch, tmp_path, text, ONE)
    client = asked(service)
    said(pool, tgis.encode_ModelInfoResponse(tgis.ModelInfoResponse(max_sequence_length=256)))
    answered(one, cards("b"))
    listed = [(card["id"], card.get("parent")) for card in json.loads(client.body)["data"]]
    assert listed == [("flan", None), ("sql", "flan"), ("b", None)]


def test_a_client_that_leaves_cancels_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody waits for a list that nobody wants; what still comes is not answered."""
    service, (one, two) = gateway(monkeypatch, tmp_path, ONE, TWO)
    client = Client()
    sink = service.open(RequestHead("GET", "/v1/models", "a", (), "1.1"), client)
    sink.on_end()
    answered(one, cards("a"))
    sink.on_cancel()
    answered(two, cards("b"))
    assert (two.cancelled, client.ended) == ([0], False)


def test_a_predicate_hides_models() -> None:
    """`joined` lets nothing through that is not visible, and what is hidden in one upstream hides no other's."""
    target = Target("one", PROFILES["vllm-amd"][0], "rest", Upstream())
    models = [operations.Model(id=name) for name in ("a", "secret", "b")]
    shown = joined([(target, models), (target, models)], lambda name: name != "secret")
    assert [model.id for model in shown] == ["a", "b"]


@pytest.mark.parametrize("upstreams", [(ONE,), (ONE, TWO)])
def test_a_caller_sees_the_models_that_it_may_call(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, upstreams: tuple[str, ...]
) -> None:
    """With one upstream too: what would pass through is read where something may have to be hidden."""
    service, pools = gateway(monkeypatch, tmp_path, *upstreams, rules=(Rule(allow=Grant(models=("a*", "b"))),))
    client = asked(service)
    for pool in pools:
        answered(pool, cards("a1", "secret", "b"))
    assert names(client) == ["a1", "b"]


@pytest.mark.parametrize(("model", "calls"), [("", [1, 0]), ("b1", [0, 1])])
def test_fmaas_tells_of_one_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: str, calls: list[int]
) -> None:
    """ModelInfo is about one model, so one upstream answers it: one that serves what is named, or else the first."""
    service, pools = gateway(monkeypatch, tmp_path, f"{TGIS}, models: [flan]", f"{ONE}, models: [b*]")
    client = Client()
    sink = service.open(RequestHead("POST", "/fmaas.GenerationService/ModelInfo", "a", GRPC, "2"), client)
    sink.on_data(b"".join(frame([tgis.encode_ModelInfoRequest(tgis.ModelInfoRequest(model_id=model))])))
    sink.on_end()
    assert [len(pool.calls) for pool in pools] == calls
