"""Fields of vLLM's requests that no other API has: a value that changes the answer is refused, the default passes."""

import json
from typing import Any

import pytest

from inferbridge.translate import translate_call
from translate.caikit_forms import rest_request

COMPLETION: tuple[str, str, dict[str, Any]] = (
    "/v1/completions", "tgis/grpc", {"model": "m", "prompt": "a", "temperature": 0}
)  # fmt: skip
EMBEDDING: tuple[str, str, dict[str, Any]] = ("/v1/embeddings", "caikit/grpc", {"model": "m", "input": "a"})
SCORE: tuple[str, str, dict[str, Any]] = ("/score", "caikit/rest", {"model": "m", "text_1": "a", "text_2": "b"})
RERANK: tuple[str, str, dict[str, Any]] = ("/rerank", "caikit/grpc", {"model": "m", "query": "a", "documents": ["b"]})
CASES = [
    (COMPLETION, "add_special_tokens", False, True),
    (COMPLETION, "spaces_between_special_tokens", False, True),
    (COMPLETION, "prompt_logprobs", 0, None),
    (COMPLETION, "use_beam_search", True, False),
    (COMPLETION, "priority", -1, 0),
    (EMBEDDING, "use_activation", False, True),
    (EMBEDDING, "add_special_tokens", False, True),
    (EMBEDDING, "embed_dtype", "float16", "float32"),
    (EMBEDDING, "endianness", "big", "native"),
    (EMBEDDING, "truncation_side", "left", "right"),
    (EMBEDDING, "truncate_prompt_tokens", 1, None),
    (SCORE, "use_activation", False, True),
    (RERANK, "activation", False, True),
    (RERANK, "max_tokens_per_doc", 5, 0),
]


@pytest.mark.parametrize(("call", "field", "other", "default"), CASES)
def test_false_and_zero_are_values(call: tuple[str, str, dict[str, Any]], field: str, other: Any, default: Any) -> None:
    """What a client says is refused by name unless it is what the runtime does anyway, be it false, 0 or true."""
    path, runtime, body = call
    asked = rest_request(path, body)
    made = translate_call("openai/rest", runtime, rest_request(path, {**body, field: other}))
    assert made["error"]["status"] == 400
    message = json.loads(made["error"]["body"])["error"]["message"]
    assert message.startswith((f"{field}:", "truncate_tokens:"))
    without = translate_call("openai/rest", runtime, asked)
    assert "error" not in without
    assert translate_call("openai/rest", runtime, rest_request(path, {**body, field: default})) == without
