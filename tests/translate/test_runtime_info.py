"""Models, versions and readiness: what a runtime says of itself, to clients of other APIs, on recorded answers."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

import golden_v2
from inferbridge.translate import translate_call, translate_reply
from inferbridge_generated.caikit import wire as caikit_wire
from inferbridge_generated.open_inference import wire as v2_wire
from translate.caikit_forms import rest_reply, rest_request

TASKS = Path(__file__).parent.parent / "golden" / "tasks"
VLLM = {case["name"]: case for case in json.loads((TASKS / "tokens.json").read_text())["vllm"]}
CAIKIT = {pair["name"]: pair for pair in json.loads((TASKS / "caikit.json").read_text())["pairs"]}
V2 = {str(case): case for protocol in ("rest", "grpc") for case in golden_v2.cases(protocol)}
HEALTH_RPC = "/grpc.health.v1.Health/Check"


def get(path: str) -> dict[str, Any]:
    """A REST call without a body."""
    return {"method": "GET", "path": path, "headers": [], "body": ""}


def rpc(method: str, message: bytes = b"") -> dict[str, Any]:
    """A gRPC call of one message."""
    return {"rpc": method, "metadata": [], "messages_base64": [base64.b64encode(message).decode()]}


def brought(client: str, runtime: str, request: dict[str, Any], reply: dict[str, Any]) -> Any:
    """The JSON that a REST client gets of a runtime's answer."""
    made = translate_reply(client, runtime, {"request": request, "reply": reply})
    assert made["status"] == 200
    return json.loads(made["body"])


def test_versions_of_v2() -> None:
    """vLLM's and caikit's calls for a version are answered with that of a V2 server."""
    recorded = V2["triton/rest_server/server_metadata"]
    assert translate_call("openai/rest", "triton/rest", get("/version"))["path"] == "/v2"
    assert brought("openai/rest", "triton/rest", get("/version"), recorded.reply) == {"version": "2.51.0"}
    made = brought("caikit/rest", "triton/rest", get("/info/runtime"), recorded.reply)
    assert made["runtime_version"] == "2.51.0"
    recorded = V2["triton/grpc_server/server_metadata"]
    assert brought("openai/rest", "triton/grpc", get("/version"), recorded.reply) == {"version": "2.51.0"}


def test_metadata_of_runtimes_that_tell_a_version_alone() -> None:
    """A V2 client learns name and version; caikit's is that of its package, for it tells no other."""
    made = brought("open-inference/rest", "vllm-nvidia/rest", get("/v2"), VLLM["version"]["reply"])
    assert made == {"name": "vllm", "version": "0.32.0", "extensions": []}
    pair = CAIKIT["light/info/version"]
    for protocol in ("rest", "grpc"):
        made = brought("open-inference/rest", f"caikit-standalone/{protocol}", get("/v2"), pair[protocol]["reply"])
        assert made == {"name": "caikit", "version": "0.27.7", "extensions": []}
    made = brought("openai/rest", "caikit-standalone/rest", get("/version"), pair["rest"]["reply"])
    assert made == {"version": "0.27.7"}


def test_the_package_of_vllm() -> None:
    """A caikit client finds vLLM's version where it looks for versions of packages, over gRPC too."""
    call = rpc("/caikit.runtime.info.InfoService/GetRuntimeInfo")
    made = translate_reply("caikit/grpc", "vllm-nvidia/rest", {"request": call, "reply": VLLM["version"]["reply"]})
    info = caikit_wire.decode_RuntimeInfoResponse(base64.b64decode(made["messages_base64"][0]), [])
    assert (info.runtime_version, info.python_packages) == ("0.32.0", {"vllm": "0.32.0"})


def test_the_limit_of_a_caikit_model() -> None:
    """`max_model_len` is what the module tells among its metadata, and not said where it tells none."""
    for protocol in ("rest", "grpc"):
        reply = CAIKIT["light/info/models_filtered_two"][protocol]["reply"]
        made = brought("openai/rest", f"caikit-standalone/{protocol}", get("/v1/models"), reply)
        assert [(each["id"], each.get("max_model_len")) for each in made["data"]] == [("minilm", 256), ("flan", None)]


def test_models_of_a_v2_repository() -> None:
    """OpenAI's list has what is ready, each model once; caikit's tells what is loaded."""
    recorded = V2["triton/rest_server/repository_index_ready_true"]
    call = translate_call("openai/rest", "triton/rest", get("/v1/models"))
    assert (call["method"], call["path"]) == ("POST", "/v2/repository/index")
    assert json.loads(call["body"]) == {"ready": True}
    names = {entry["name"] for entry in json.loads(recorded.reply["body"])}
    made = brought("openai/rest", "triton/rest", get("/v1/models"), recorded.reply)
    assert [each["id"] for each in made["data"]] == list(dict.fromkeys(each["id"] for each in made["data"]))
    assert {each["id"] for each in made["data"]} == names
    index = rest_reply([{"name": "a", "version": "1", "state": "READY"}, {"name": "b", "state": "UNAVAILABLE"}])
    made = brought("caikit/rest", "triton/rest", get("/info/models"), index)
    assert [(each["name"], each["loaded"]) for each in made["models"]] == [("a", True), ("b", False)]


def test_a_repository_index_of_other_runtimes() -> None:
    """A V2 client sees the models of vLLM as ready ones, and of caikit's only the loaded ones if it wants so."""
    index = rest_request("/v2/repository/index", {})
    made = brought("open-inference/rest", "vllm-nvidia/rest", index, VLLM["models"]["reply"])
    assert [(each["name"], each["state"]) for each in made] == [("tiny-llama", "READY"), ("tiny-lora", "READY")]
    models = rest_reply({"models": [{"name": "a", "loaded": True}, {"name": "b", "loaded": False}]})
    made = brought("open-inference/rest", "caikit-standalone/rest", index, models)
    assert [(each["name"], each["state"]) for each in made] == [("a", "READY"), ("b", "UNAVAILABLE")]
    ready = rest_request("/v2/repository/index", {"ready": True})
    made = brought("open-inference/rest", "caikit-standalone/rest", ready, models)
    assert [each["name"] for each in made] == ["a"]


def test_a_repository_that_others_do_not_have_is_refused() -> None:
    """The name of a V2 repository is an error that names it."""
    message = v2_wire.encode_RepositoryIndexRequest(v2_wire.RepositoryIndexRequest(repository_name="models"))
    call = rpc("/inference.GRPCInferenceService/RepositoryIndex", b"".join(map(bytes, message)))
    made = translate_call("open-inference/grpc", "vllm-nvidia/rest", call)
    assert (made["error"]["code"], made["error"]["details"].partition(":")[0]) == (3, "repository")


@pytest.mark.parametrize("runtime", ["caikit-tgis/grpc", "tgis/grpc"])
@pytest.mark.parametrize(
    ("client", "path", "text"),
    [
        ("openai/rest", "/health", ""),
        ("caikit/rest", "/health", "OK"),
        ("open-inference/rest", "/v2/health/ready", '{"ready":true}'),
        ("open-inference/rest", "/v2/health/live", '{"live":true}'),
    ],
)
def test_readiness_over_grpc(client: str, path: str, text: str, runtime: str) -> None:
    """A runtime that speaks gRPC is asked in gRPC's own health protocol; SERVING is ready, all else is 503."""
    call = get(path)
    assert translate_call(client, runtime, call) == rpc(HEALTH_RPC)
    serving = {"code": 0, "messages_base64": [base64.b64encode(b"\x08\x01").decode()]}
    good = translate_reply(client, runtime, {"request": call, "reply": serving})
    assert (good["status"], good["body"]) == (200, text)
    for state in (b"", b"\x08\x02", b"\x08\x03"):
        reply = {"code": 0, "messages_base64": [base64.b64encode(state).decode()]}
        assert translate_reply(client, runtime, {"request": call, "reply": reply})["status"] == 503


@pytest.mark.parametrize(("threshold", "number"), [(0.5, 0.5), (1, 1.0), ("0.5", 0.5), ("1", 1.0), (0, 0.0)])
def test_a_threshold_is_what_caikit_takes_it_for(threshold: Any, number: float) -> None:
    """Caikit's REST side takes whole numbers and texts too; zero is said, and nothing is something else."""
    body = {"model_id": "spans", "inputs": "First One.", "parameters": {"threshold": threshold}}
    made = translate_call("caikit/rest", "caikit/grpc", rest_request("/api/v1/task/token-classification", body))
    asked = caikit_wire.decode_TokenClassificationTaskRequest(base64.b64decode(made["messages_base64"][0]), [])
    assert (asked.text, asked.threshold) == ("First One.", number)
    del body["parameters"]
    made = translate_call("caikit/rest", "caikit/grpc", rest_request("/api/v1/task/token-classification", body))
    asked = caikit_wire.decode_TokenClassificationTaskRequest(base64.b64decode(made["messages_base64"][0]), [])
    assert asked.threshold is None


@pytest.mark.parametrize(
    ("task", "parameters"),
    [
        ("tokenization", {}),
        ("text-classification", {}),
        ("token-classification", {"threshold": "high"}),
        ("token-classification", {"threshold": 0.5, "top": 3}),
    ],
)
def test_what_caikit_refuses_is_refused(task: str, parameters: dict[str, Any]) -> None:
    """Parameters that a task does not have, and such as are no numbers, reach no runtime."""
    body = {"model_id": "m", "inputs": "x", "parameters": parameters}
    made = translate_call("caikit/rest", "caikit/grpc", rest_request(f"/api/v1/task/{task}", body))
    assert made["error"]["status"] in (400, 422)


def test_a_model_that_is_not_loaded() -> None:
    """Caikit's NOT_FOUND for the info of an unknown model is 404 in its own words, and the other way round."""
    text = "Model nope is not loaded"
    reply = {"code": 5, "details": text, "messages_base64": []}
    call = get("/info/models?model_ids=nope")
    made = translate_reply("caikit/rest", "caikit/grpc", {"request": call, "reply": reply})
    assert (made["status"], json.loads(made["body"])["details"]) == (404, text)
    call = translate_call("caikit/rest", "caikit/grpc", call)
    refused = {"status": 404, "headers": [], "body": json.dumps({"details": text, "code": 404, "id": "1"})}
    made = translate_reply("caikit/grpc", "caikit/rest", {"request": call, "reply": refused})
    assert (made["code"], made["details"]) == (5, text)
