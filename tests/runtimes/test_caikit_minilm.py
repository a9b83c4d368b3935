"""Caikit Standalone as it is: caikit-nlp's own embedding module with MiniLM, asked directly and across protocols."""

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from runtimes import grpcurl
from runtimes.lab import Lab

pytestmark = pytest.mark.heavy

DOCUMENTS = [
    {"text": "a cat sleeps", "n": 1},
    {"_text": "stocks fell"},
    {"text": "kittens nap", "meta": {"f": 1.5, "on": True}},
]
TASKS: dict[str, Any] = {
    "embedding": "hello world",
    "embedding-tasks": ["hello", "w\u00f6rld", ""],
    "sentence-similarity": {"source_sentence": "a cat", "sentences": ["a kitten", "the stock market"]},
    "sentence-similarity-tasks": {"source_sentences": ["a cat", "money"], "sentences": ["a kitten", "shares"]},
    "rerank": {"query": "sleeping cats", "documents": DOCUMENTS},
    "rerank-tasks": {"queries": ["sleeping cats", "markets"], "documents": DOCUMENTS},
}
CALLS = {
    "EmbeddingTaskPredict": {"text": "hello world"},
    "EmbeddingTasksPredict": {"texts": ["hello", "world"]},
    "SentenceSimilarityTaskPredict": {"source_sentence": "a cat", "sentences": ["a kitten", "shares"]},
    "RerankTaskPredict": {"query": "sleeping cats", "documents": DOCUMENTS, "top_n": 2},
}


def posted(address: str, path: str, body: Any) -> Any:
    """The JSON that curl gets."""
    command = ["curl", "-s", "--max-time", "60", f"http://{address}{path}", "-H", "Content-Type: application/json"]
    done = subprocess.run([*command, "-d", json.dumps(body)], capture_output=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("upstream", ["rest", "grpc"])
@pytest.mark.parametrize("task", TASKS)
def test_rest_clients_get_the_same_numbers(lab: Lab, task: str, upstream: str) -> None:
    """Vectors, scores and rankings are those of the runtime's own REST door, to the last digit."""
    body = {"inputs": TASKS[task], "model_id": "minilm"}
    direct = lab.server("caikit-minilm").rest_url.removeprefix("http://")
    path = f"/api/v1/task/{task}"
    answer = posted(lab.proxy("caikit-minilm", upstream).address, path, body)
    assert answer == posted(direct, path, body)
    assert "code" not in answer


@pytest.mark.parametrize("method", CALLS)
def test_grpc_clients_get_the_same_numbers(lab: Lab, method: str, tmp_path: Path) -> None:
    """Over gRPC in front of the REST door the message is that of the runtime's own gRPC door."""
    server, proxy = lab.server("caikit-minilm"), lab.proxy("caikit-minilm", "rest")
    call = f"grpcurl -plaintext -d {shlex.quote(json.dumps(CALLS[method]))} -H 'mm-model-id: minilm'"
    direct, through = (
        grpcurl.run(f"{call} {door} caikit.runtime.Nlp.NlpService/{method}", tmp_path)
        for door in (server.grpc_url.removeprefix("grpc://"), proxy.address)
    )
    assert through == direct


def test_openai_clients_get_the_vector(lab: Lab) -> None:
    """The OpenAI form has caikit's 384 numbers."""
    proxy = lab.proxy("caikit-minilm", "grpc").address
    direct = posted(proxy, "/api/v1/task/embedding", {"inputs": "hello world", "model_id": "minilm"})
    made = posted(proxy, "/v1/embeddings", {"input": "hello world", "model": "minilm"})
    assert made["data"][0]["embedding"] == direct["result"]["data"]["values"]
    assert len(made["data"][0]["embedding"]) == 384
