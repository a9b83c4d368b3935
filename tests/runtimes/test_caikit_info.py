"""What a real caikit runtime says of itself, its models and texts: through the proxy as from the runtime itself."""

import json
import queue
import shlex
from typing import Any

import grpc
import pytest

from inferbridge_generated.caikit import wire as caikit
from inferbridge_generated.open_inference import wire as v2
from inferbridge_generated.tgis import wire as tgis
from runtimes.lab import Lab
from runtimes.test_caikit import curl

pytestmark = [pytest.mark.runtimes, pytest.mark.parametrize("upstream", ["rest", "grpc"])]

RUNTIME = "caikit-tgis"
TASKS = (
    ("tokenization", {"model_id": "splitter", "inputs": "Héllo wörld 漢字."}),
    ("text-classification", {"model_id": "capitals", "inputs": "Hello There"}),
    ("token-classification", {"model_id": "names", "inputs": "Hello there, Bob and Alexandra"}),
    ("token-classification", {"model_id": "names", "inputs": "Hello Bob", "parameters": {"threshold": 0.5}}),
)


def direct(lab: Lab) -> str:
    """Where the runtime itself speaks REST."""
    return f"127.0.0.1:{lab.server(RUNTIME).rest_port}"


def get(host: str, path: str) -> tuple[int, str]:
    """Status and body of a GET."""
    text, _, status = curl(f"curl http://{host}{path}").rpartition("\n")
    return int(status), text


def post(host: str, path: str, body: dict[str, Any]) -> tuple[int, str]:
    """Status and body of a call with JSON, which caikit itself wants to be called so."""
    data = shlex.quote(json.dumps(body))
    text, _, status = curl(f"curl http://{host}{path} -H content-type:application/json -d {data}").rpartition("\n")
    return int(status), text


def said(value: Any) -> Any:
    """JSON without nulls, empty texts and empty lists: its gRPC side has no presence for those."""
    if isinstance(value, dict):
        return {key: said(item) for key, item in value.items() if item not in (None, "", [])}
    return [said(item) for item in value] if isinstance(value, list) else value


def ask(address: str, rpc: str, message: Any, metadata: tuple[tuple[str, str], ...] = ()) -> bytes:
    """The message of a unary gRPC answer."""
    with grpc.insecure_channel(address) as channel:
        answer: bytes = channel.unary_unary(rpc)(b"".join(map(bytes, message)), timeout=30, metadata=metadata)
    return answer


@pytest.fixture
def grpc_addresses(lab: Lab, upstream: str) -> list[str]:
    """The runtime's own gRPC address, then the proxy's."""
    return [f"127.0.0.1:{lab.server(RUNTIME).grpc_port}", lab.proxy(RUNTIME, upstream).address]


@pytest.mark.parametrize("path", ["/info/models?model_ids=splitter&model_ids=names", "/info/version"])
def test_info_is_the_runtimes_own(lab: Lab, upstream: str, path: str) -> None:
    """The documented paths answer through the proxy what the runtime answers."""
    for task, body in TASKS:  # a model is known once it was asked for something
        assert post(direct(lab), f"/api/v1/task/{task}", body)[0] == 200
    own, ours = (get(host, path) for host in (direct(lab), lab.proxy(RUNTIME, upstream).address))
    assert (own[0], ours[0]) == (200, 200)
    assert said(json.loads(own[1])) == said(json.loads(ours[1]))


def test_the_documented_path_of_the_version_works(lab: Lab, upstream: str) -> None:
    """`/info/runtime` is 404 at the runtime itself, and answers through the proxy what `/info/version` does."""
    host = lab.proxy(RUNTIME, upstream).address
    assert get(direct(lab), "/info/runtime")[0] == 404
    status, text = get(host, "/info/runtime")
    assert status == 200
    assert said(json.loads(text)) == said(json.loads(get(direct(lab), "/info/version")[1]))


def test_the_info_service_is_the_runtimes_own(lab: Lab, upstream: str, grpc_addresses: list[str]) -> None:
    """GetModelsInfo and GetRuntimeInfo answer through the proxy what the runtime answers."""
    assert post(direct(lab), "/api/v1/task/tokenization", TASKS[0][1])[0] == 200
    request = caikit.encode_ModelInfoRequest(caikit.ModelInfoRequest(model_ids=["splitter"]))
    rpc = "/caikit.runtime.info.InfoService/GetModelsInfo"
    own, ours = (caikit.decode_ModelInfoResponse(ask(address, rpc, request), []) for address in grpc_addresses)
    assert own == ours
    (model,) = ours.models
    assert (model.name, model.loaded, model.module_metadata["name"]) == ("splitter", True, "Splitter")
    rpc = "/caikit.runtime.info.InfoService/GetRuntimeInfo"
    own, ours = (caikit.decode_RuntimeInfoResponse(ask(address, rpc, ()), []) for address in grpc_addresses)
    assert own == ours
    assert ours.python_packages["caikit"].startswith("0.27.")


@pytest.mark.parametrize(("task", "body"), TASKS)
def test_tasks_over_rest_are_the_runtimes_own(lab: Lab, upstream: str, task: str, body: dict[str, Any]) -> None:
    """Tokens and classes come through the proxy as the runtime gives them, over either of its doors."""
    own, ours = (
        post(host, f"/api/v1/task/{task}", body) for host in (direct(lab), lab.proxy(RUNTIME, upstream).address)
    )
    assert (own[0], ours[0]) == (200, 200)
    assert json.loads(own[1])["results"]
    assert said(json.loads(own[1])) == said(json.loads(ours[1]))


def test_tasks_over_grpc_are_the_runtimes_own(upstream: str, grpc_addresses: list[str]) -> None:
    """The same for gRPC clients, with a threshold."""
    service = "/caikit.runtime.Nlp.NlpService"
    asked = caikit.TokenClassificationTaskRequest(text="Hello there, Bob and Alexandra", threshold=0.4)
    request = caikit.encode_TokenClassificationTaskRequest(asked)
    rpc, model = f"{service}/TokenClassificationTaskPredict", (("mm-model-id", "names"),)
    own, ours = (caikit.decode_TokenClassificationResults(ask(at, rpc, request, model), []) for at in grpc_addresses)
    assert own == ours
    assert [each.word for each in ours.results] == ["Hello", "Alexandra"]
    counted = caikit.encode_TokenizationTaskRequest(caikit.TokenizationTaskRequest(text="COUNT these words"))
    rpc, model = f"{service}/TokenizationTaskPredict", (("mm-model-id", "splitter"),)
    first, second = (caikit.decode_TokenizationResults(ask(at, rpc, counted, model), []) for at in grpc_addresses)
    assert first == second
    assert (second.token_count, second.results) == (5, [])


def test_a_model_that_is_not_loaded(lab: Lab, upstream: str) -> None:
    """The runtime's own 404 and words for the info of an unknown model."""
    answers = [
        get(host, "/info/models?model_ids=nobody") for host in (direct(lab), lab.proxy(RUNTIME, upstream).address)
    ]
    assert [status for status, _ in answers] == [404, 404]
    assert len({json.loads(text)["details"] for _, text in answers}) == 1


def test_an_openai_client_finds_models_version_and_health(lab: Lab, upstream: str) -> None:
    """`/v1/models`, `/version` and `/health` in front of caikit, with the limit that a module tells."""
    assert post(direct(lab), "/api/v1/task/tokenization", TASKS[0][1])[0] == 200
    host = lab.proxy(RUNTIME, upstream).address
    listed = json.loads(get(host, "/v1/models")[1])
    own = json.loads(get(direct(lab), "/info/models")[1])["models"]
    assert [each["id"] for each in listed["data"]] == [each["name"] for each in own]
    assert {each["id"]: each.get("max_model_len") for each in listed["data"]}["splitter"] == 128
    assert json.loads(get(host, "/version")[1])["version"].startswith("0.27.")
    assert get(host, "/health") == get(direct(lab), "/health") == (200, "OK")


def test_a_v2_client_finds_it_ready(lab: Lab, upstream: str) -> None:
    """V2's health, metadata and repository index, over REST and gRPC, in front of caikit."""
    host = lab.proxy(RUNTIME, upstream).address
    assert [get(host, f"/v2/health/{path}")[0] for path in ("ready", "live")] == [200, 200]
    assert json.loads(get(host, "/v2")[1])["name"] == "caikit"
    rpc = "/inference.GRPCInferenceService/ServerReady"
    assert v2.decode_ServerReadyResponse(ask(host, rpc, ()), []).ready
    index = json.loads(post(host, "/v2/repository/index", {"ready": True})[1])
    assert {each["state"] for each in index} <= {"READY"}


def test_a_tgis_client_counts_tokens(lab: Lab, upstream: str) -> None:
    """A batch of texts is counted by caikit one by one, with the places of the words."""
    requests = [tgis.TokenizeRequest(text=text) for text in ("one two", "three")]
    asked = tgis.BatchedTokenizeRequest(model_id="splitter", requests=requests, return_offsets=True)
    rpc, message = "/fmaas.GenerationService/Tokenize", tgis.encode_BatchedTokenizeRequest(asked)
    answer = tgis.decode_BatchedTokenizeResponse(ask(lab.proxy(RUNTIME, upstream).address, rpc, message), [])
    assert [each.token_count for each in answer.responses] == [4, 3]
    assert [[(at.start, at.end) for at in each.offsets] for each in answer.responses] == [[(0, 3), (4, 7)], [(0, 5)]]


def test_a_text_is_classified_while_it_arrives(upstream: str, grpc_addresses: list[str]) -> None:
    """Both sides stream: each piece of the text is answered before the next is sent, as by the runtime itself."""
    if upstream == "rest":
        pytest.skip("caikit has no REST route for it")
    rpc = "/caikit.runtime.Nlp.NlpService/BidiStreamingTokenClassificationTaskPredict"
    told = []
    for address in grpc_addresses:
        pieces: queue.Queue[bytes | None] = queue.Queue()
        with grpc.insecure_channel(address) as channel:
            answers = channel.stream_stream(rpc)(
                iter(pieces.get, None), timeout=30, metadata=(("mm-model-id", "names"),)
            )
            told.append([_classified(pieces, answers, text) for text in ("Hello Bob", " and Alexandra")])
            pieces.put(None)
            assert next(answers, None) is None
    assert told[0] == told[1]
    assert [[each.word for each in result.results] for result in told[1]] == [["Hello", "Bob"], ["Alexandra"]]
    assert [(result.start_index, result.processed_index) for result in told[1]] == [(0, 9), (9, 23)]


def _classified(pieces: "queue.Queue[bytes | None]", answers: Any, text: str) -> Any:
    """What is answered to a piece of text."""
    asked = caikit.BidiStreamingTokenClassificationTaskRequest(text_stream=text, threshold=0.2)
    pieces.put(b"".join(map(bytes, caikit.encode_BidiStreamingTokenClassificationTaskRequest(asked))))
    return caikit.decode_TokenClassificationStreamResult(next(answers), [])


def test_grpc_health_is_the_runtimes(upstream: str, lab: Lab) -> None:
    """The services that caikit serves are SERVING, its own and those of other APIs; unknown ones are NOT_FOUND."""
    host, rpc = lab.proxy(RUNTIME, upstream).address, "/grpc.health.v1.Health/Check"
    for service in ("caikit.runtime.Nlp.NlpService", "caikit.runtime.info.InfoService", "fmaas.GenerationService"):
        request = caikit.encode_HealthCheckRequest(caikit.HealthCheckRequest(service=service))
        assert caikit.decode_HealthCheckResponse(ask(host, rpc, request), []).status == 1
    unknown = caikit.encode_HealthCheckRequest(caikit.HealthCheckRequest(service="no.Such"))
    with pytest.raises(grpc.RpcError) as error:
        ask(host, rpc, unknown)
    assert error.value.code() is grpc.StatusCode.NOT_FOUND
