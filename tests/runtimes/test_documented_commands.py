"""Every call that OpenShift AI documents for its runtimes, word for word, through the proxy.

Each against the runtime it is documented for, where that one can be had here, and against others that can do the same,
over REST and over gRPC; vLLM's /tokenize and /detokenize against vLLM alone, for no other runtime tells ids. OVMS and
the standalone TGIS cannot be had: Triton and MLServer stand where OVMS would, and the same service of vLLM's where TGIS
would. Host and port are the proxy's, the other placeholders are filled, a token is sent along. `https` is the proxy's
own TLS with a certificate nobody trusts, so curl gets its `-k`, and grpcurl is a stand-in (see grpcurl.py).
"""

import json
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runtimes import grpcurl
from runtimes.lab import Lab
from runtimes.stubs import PROTOS

TOKEN = "-H 'Authorization: Bearer <token>'"
HEAVY = ("vllm-nvidia", "vllm-embeddings")
BOTH = ("rest", "grpc")
GENERATORS = {"caikit-tgis": BOTH, "vllm-nvidia": BOTH}
VECTORS = {"caikit-standalone": BOTH, "vllm-embeddings": ("rest",)}
OWN = {"caikit-standalone": BOTH}
VLLM = {"vllm-nvidia": ("rest",)}
TENSORS = {"triton": BOTH, "mlserver": BOTH}
MODELS = {"caikit-tgis": "parrot", "caikit-standalone": "sparrow", "vllm-nvidia": "tiny", "vllm-embeddings": "tiny"}
RANKERS = {"caikit-standalone": "jackdaw", "vllm-embeddings": "tiny"}
STDIN = '{"name": "add"}'
NLP = "caikit.runtime.Nlp.NlpService"
INFO = "caikit.runtime.info.InfoService"
V2 = "inference.GRPCInferenceService"


@dataclass(frozen=True)
class Command:
    """A command with `<host>`, `<model>` and `<token>` to be filled, and where it must work."""

    name: str
    text: str
    runtimes: dict[str, tuple[str, ...]]
    told: Callable[[Any], Any]  # finds in the answer what must be there


def documented(path: str, body: str = "") -> str:
    """A call of a documented path that is not spelt out, in the manner of those that are."""
    data = f" -d '{body}' -H 'Content-Type: application/json'" if body else ""
    return f"curl -ks https://<host>:443{path}{data} {TOKEN}"


def grpc_call(method: str, body: str, model: str = "") -> str:
    """A call of a documented method that is not spelt out, in the manner of those that are."""
    metadata = f' -H "mm-model-id: {model}"' if model else ""
    return f"grpcurl -d '{body}'{metadata} {TOKEN} -insecure <host>:443 {method}"


def generated(events: list[Any]) -> bool:
    """Whether Caikit's events tell a text and its end."""
    text = "".join(event["generated_text"] for event in events)
    return bool(text) and events[-1]["details"]["finish_reason"] != "NOT_FINISHED"


def summed(reply: Any) -> bool:
    """Whether the model `add` has added."""
    outputs = {each["name"]: each["data"] for each in reply["outputs"]}
    return reply["model_name"] == "add" and outputs["SUM"] == [2.0, 1.5, 3.0]


ADD = """{"model_name": "add", "inputs": [
{"name": "LEFT", "shape": [3], "datatype": "FP32", "contents": {"fp32_contents": [1, 2.5, 3]}},
{"name": "RIGHT", "shape": [3], "datatype": "FP32", "contents": {"fp32_contents": [1, -1, 0]}}]}"""
EMBED = '{"inputs": "one two", "model_id": "<model>"}'
SIMILAR = '{"inputs": {"source_sentence": "a", "sentences": ["a", "b"]}, "model_id": "<ranker>"}'
SIMILAR_ALL = '{"inputs": {"source_sentences": ["a"], "sentences": ["a", "b"]}, "model_id": "<ranker>"}'
RANK = '{"inputs": {"query": "a", "documents": [{"text": "a"}]}, "model_id": "<ranker>"}'
RANK_ALL = '{"inputs": {"queries": ["a"], "documents": [{"text": "a"}]}, "model_id": "<ranker>"}'
TASK = "/api/v1/task"

COMMANDS = (
    Command(
        "caikit stream",
        """curl --json '{"model_id": "<model>", "inputs": "one two"}' """
        "https://<host>:443/api/v1/task/server-streaming-text-generation -H 'Authorization: Bearer <token>'",
        GENERATORS,
        generated,
    ),
    Command(
        "caikit embedding, REST",
        """curl -H 'Content-Type: application/json' -d '{"inputs": "one two", "model_id": "<model>"}' """
        "<host>/api/v1/task/embedding -H 'Authorization: Bearer <token>'",
        VECTORS,
        lambda reply: reply["result"]["data"],
    ),
    Command(
        "caikit embedding, gRPC",
        """grpcurl -d '{"text": "one two"}' -H "mm-model-id: <model>" <host>:443 """
        "caikit.runtime.Nlp.NlpService/EmbeddingTaskPredict -H 'Authorization: Bearer <token>'",
        VECTORS,
        lambda messages: messages[0]["result"],
    ),
    Command(
        "TGIS",
        "grpcurl -proto text-generation-inference/proto/generation.proto "
        """-d '{"requests": [{"text":"one two"}]}' -H 'Authorization: Bearer <token>' -insecure <host>:443 """
        "fmaas.GenerationService/Generate",
        GENERATORS,
        lambda messages: messages[0]["responses"][0]["text"],
    ),
    Command(
        "infer",
        """curl -ks <host>/v2/models/add/infer -d '{ "model_name": "add", "inputs": [\
{ "name": "LEFT", "shape": [3], "datatype": "FP32", "data": [1, 2.5, 3] },\
{ "name": "RIGHT", "shape": [3], "datatype": "FP32", "data": [1, -1, 0] }]}' -H 'Authorization: Bearer <token>'""",
        TENSORS,
        summed,
    ),
    Command(
        "vLLM chat",
        """curl -v https://<host>:443/v1/chat/completions -H "Content-Type: application/json" -d """
        """'{ "messages": [{ "role": "user", "content": "Smile" }] }' -H 'Authorization: Bearer <token>'""",
        GENERATORS,
        lambda reply: reply["choices"][0]["message"]["content"],
    ),
    Command(
        "metadata, gRPC",
        "grpcurl -cacert ./openshift_ca_istio_knative.crt -proto ./grpc_predict_v2.proto -d @ "
        '-H "Authorization: Bearer <token>" <host>:443 inference.GRPCInferenceService/ModelMetadata',
        TENSORS,
        lambda messages: messages[0]["name"] == "add",
    ),
    Command(
        "caikit text generation",
        documented("/api/v1/task/text-generation", '{"model_id": "<model>", "inputs": "one two"}'),
        GENERATORS,
        lambda reply: reply["generated_text"],
    ),
    # documented without a command
    Command(
        "TGIS stream",
        grpc_call("fmaas.GenerationService/GenerateStream", '{"request": {"text": "one"}}'),
        GENERATORS,
        lambda messages: messages[-1]["stopReason"],
    ),
    Command(
        "embedding-tasks",
        documented(f"{TASK}/embedding-tasks", EMBED.replace('"one two"', '["one", "two"]')),
        VECTORS,
        lambda reply: len(reply["results"]["vectors"]) == 2,
    ),
    Command(
        "sentence-similarity",
        documented(f"{TASK}/sentence-similarity", SIMILAR),
        VECTORS,
        lambda reply: len(reply["result"]["scores"]) == 2,
    ),
    Command(
        "sentence-similarity-tasks",
        documented(f"{TASK}/sentence-similarity-tasks", SIMILAR_ALL),
        VECTORS,
        lambda reply: reply["results"],
    ),
    Command("rerank", documented(f"{TASK}/rerank", RANK), VECTORS, lambda reply: reply["result"]["scores"]),
    Command("rerank-tasks", documented(f"{TASK}/rerank-tasks", RANK_ALL), VECTORS, lambda reply: reply["results"]),
    Command(
        "embedding-tasks, gRPC",
        grpc_call(f"{NLP}/EmbeddingTasksPredict", '{"texts": ["one", "two"]}', "<model>"),
        VECTORS,
        lambda messages: len(messages[0]["results"]["vectors"]) == 2,
    ),
    Command(
        "sentence-similarity, gRPC",
        grpc_call(f"{NLP}/SentenceSimilarityTaskPredict", '{"source_sentence": "a", "sentences": ["a"]}', "<ranker>"),
        VECTORS,
        lambda messages: messages[0]["result"]["scores"],
    ),
    Command(
        "sentence-similarity-tasks, gRPC",
        grpc_call(
            f"{NLP}/SentenceSimilarityTasksPredict", '{"source_sentences": ["a"], "sentences": ["a"]}', "<ranker>"
        ),
        OWN,
        lambda messages: messages[0]["results"],
    ),
    Command(
        "rerank, gRPC",
        grpc_call(f"{NLP}/RerankTaskPredict", '{"query": "a", "documents": [{"text": "a"}]}', "<ranker>"),
        VECTORS,
        lambda messages: messages[0]["result"]["scores"],
    ),
    Command(
        "rerank-tasks, gRPC",
        grpc_call(f"{NLP}/RerankTasksPredict", '{"queries": ["a"], "documents": [{"text": "a"}]}', "<ranker>"),
        OWN,
        lambda messages: messages[0]["results"],
    ),
    Command("models", documented("/info/models"), {**OWN, **VLLM}, lambda reply: reply["models"]),
    Command("version", documented("/info/version"), {**OWN, **VLLM}, lambda reply: "runtime_version" in reply),
    Command("runtime", documented("/info/runtime"), {**OWN, **VLLM}, lambda reply: "runtime_version" in reply),
    Command(
        "models, gRPC",
        grpc_call(f"{INFO}/GetModelsInfo", "{}"),
        {**OWN, **VLLM},
        lambda messages: messages[0]["models"],
    ),
    Command(
        "runtime, gRPC",
        grpc_call(f"{INFO}/GetRuntimeInfo", "{}"),
        {**OWN, **VLLM},
        lambda messages: messages[0],
    ),
    Command("vLLM version", documented("/version"), {**VLLM, **OWN}, lambda reply: reply["version"]),
    Command("vLLM models", documented("/v1/models"), {**VLLM, **OWN}, lambda reply: reply["data"]),
    Command(
        "vLLM completions",
        documented("/v1/completions", '{"prompt": "one"}'),
        GENERATORS,
        lambda reply: reply["choices"][0]["text"],
    ),
    Command(
        "vLLM embeddings",
        documented("/v1/embeddings", '{"model": "<model>", "input": "one"}'),
        VECTORS,
        lambda reply: reply["data"][0]["embedding"],
    ),
    Command(
        "vLLM tokenize",
        documented("/tokenize", '{"prompt": "one two"}'),
        VLLM,
        lambda reply: reply["count"],
    ),
    Command("vLLM detokenize", documented("/detokenize", '{"tokens": [5, 6]}'), VLLM, lambda reply: reply["prompt"]),
    Command("server", documented("/v2"), TENSORS, lambda reply: reply["name"]),
    Command("live", documented("/v2/health/live"), TENSORS, lambda reply: True),
    Command("ready", documented("/v2/health/ready"), TENSORS, lambda reply: True),
    Command("model", documented("/v2/models/add"), TENSORS, lambda reply: reply["name"] == "add"),
    Command("model's version", documented("/v2/models/add/versions/1"), TENSORS, lambda reply: reply["name"] == "add"),
    Command("model ready", documented("/v2/models/add/ready"), TENSORS, lambda reply: True),
    Command("version ready", documented("/v2/models/add/versions/1/ready"), TENSORS, lambda reply: True),
    Command(
        "infer, gRPC",
        grpc_call(f"{V2}/ModelInfer", ADD),
        TENSORS,
        lambda messages: messages[0]["outputs"],
    ),
    Command(
        "model ready, gRPC",
        grpc_call(f"{V2}/ModelReady", '{"name": "add"}'),
        TENSORS,
        lambda messages: messages[0]["ready"],
    ),
    Command("server ready, gRPC", grpc_call(f"{V2}/ServerReady", "{}"), TENSORS, lambda messages: messages[0]["ready"]),
    Command("server live, gRPC", grpc_call(f"{V2}/ServerLive", "{}"), TENSORS, lambda messages: messages[0]["live"]),
    Command("server, gRPC", grpc_call(f"{V2}/ServerMetadata", "{}"), TENSORS, lambda messages: messages[0]["name"]),
)


def cases() -> Iterator[Any]:
    """Each command with each runtime and each of its doors."""
    for command in COMMANDS:
        for runtime, doors in command.runtimes.items():
            mark = pytest.mark.heavy if runtime in HEAVY else pytest.mark.runtimes
            for door in doors:
                yield pytest.param(command, runtime, door, id=f"{command.name}-{runtime}-{door}", marks=mark)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the documentation tells to have downloaded."""
    shutil.copytree(PROTOS / "fmaas", tmp_path / "text-generation-inference" / "proto")
    shutil.copy(PROTOS / "open_inference" / "oip" / "inference.proto", tmp_path / "grpc_predict_v2.proto")
    return tmp_path


def run_curl(command: str) -> Any:
    """The JSON of a command's answer, or the list of its events; the status must be 200."""
    insecure = ["-k"] if "https:" in command else []
    words = [*shlex.split(command), *insecure, "-s", "--max-time", "60", "--write-out", "\n%{http_code}"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    body, _, status = done.stdout.rpartition("\n")
    assert status == "200", body
    if "data: " in body:
        lines = body.replace("\r", "").split("\n")
        return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    return json.loads(body) if body else None


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize(("command", "runtime", "door"), list(cases()))
def test_a_documented_command_works(lab: Lab, folder: Path, command: Command, runtime: str, door: str) -> None:
    """The command is answered with what its runtime is asked for."""
    proxy = lab.proxy(runtime, door)
    (folder / "openshift_ca_istio_knative.crt").write_text(grpcurl.shown_certificate(proxy.address))
    text = command.text.replace("<host>:443", proxy.address).replace("<host>", proxy.address)
    for place, value in {"<model>": MODELS, "<ranker>": RANKERS}.items():
        text = text.replace(place, value.get(runtime, ""))
    text = text.replace("<token>", "token")
    answer = grpcurl.run(text, folder, STDIN) if text.startswith("grpcurl") else run_curl(text)
    assert command.told(answer), answer
