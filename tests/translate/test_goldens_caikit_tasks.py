"""Caikit's other tasks and its info service, recorded on both doors, each held against the other.

Of caikit 0.27.7 with caikit-nlp 0.5.13. Documented differences: what protobuf has no presence for is null in REST; the
members of a JSON object in protobuf have no order; a vector of Python floats comes back as one of NumPy doubles, for
REST does not tell them apart; integers that no double equals are refused, where caikit rounds them.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from inferbridge.translate import translate_call, translate_reply
from translate.caikit_forms import replies, said

GOLDEN = Path(__file__).parent.parent / "golden" / "tasks"
PAIRS: dict[str, dict[str, Any]] = {
    pair["name"]: pair
    for file in ("caikit", "embeddings")
    for pair in json.loads((GOLDEN / f"{file}.json").read_text())["pairs"]
}
ASKED: dict[str, dict[str, Any]] = {
    pair["name"]: pair for pair in json.loads((GOLDEN / "embeddings.json").read_text())["requests"]
}
"""Calls whose answers (16 kB each) say nothing that those of other recordings do not."""
ROUNDED = {"light/rerank/documents_big_numbers", "standalone/rerank/documents_big_numbers"}
PYTHON_FLOATS = {"light/embedding/vector_pylist"}
all_calls = pytest.mark.parametrize("name", [name for name in {**PAIRS, **ASKED} if name not in ROUNDED])
all_pairs = pytest.mark.parametrize("name", [name for name in PAIRS if name not in ROUNDED])


def test_every_task_has_pairs() -> None:
    """Each task that caikit offers on both doors is held to its recordings."""
    assert {name.split("/")[1] for name in PAIRS} == {
        "embedding",
        "embedding_tasks",
        "sentence_similarity",
        "sentence_similarity_tasks",
        "rerank",
        "rerank_tasks",
        "tokenization",
        "text_classification",
        "token_classification",
        "info",
    }


@all_calls
def test_a_rest_call_is_the_grpc_call(name: str) -> None:
    """The recorded REST request becomes the recorded gRPC message, byte by byte, with the model in its metadata."""
    pair = {**PAIRS, **ASKED}[name]
    made = translate_call("caikit/rest", "caikit/grpc", pair["rest"]["request"])
    recorded = pair["grpc"]["request"]
    assert (made["rpc"], made["messages_base64"]) == (recorded["rpc"], recorded["messages_base64"])
    assert made["metadata"] == recorded["metadata"]


@all_calls
def test_a_grpc_call_is_the_rest_call(name: str) -> None:
    """The recorded gRPC request becomes a call that says what the recorded one says."""
    pair = {**PAIRS, **ASKED}[name]
    made = translate_call("caikit/grpc", "caikit/rest", pair["grpc"]["request"])
    recorded = pair["rest"]["request"]
    assert (made["method"], made["path"]) == (recorded["method"], recorded["path"])
    if recorded["body"]:
        wanted = {key: value for key, value in said(json.loads(recorded["body"])).items() if value != {}}
        assert said(json.loads(made["body"])) == wanted


@all_pairs
def test_a_grpc_answer_is_the_rest_answer(name: str) -> None:
    """The recorded gRPC answer, given to the REST client, is the recorded REST answer."""
    pair = PAIRS[name]
    exchange = {"request": pair["rest"]["request"], "reply": pair["grpc"]["reply"]}
    made = translate_reply("caikit/rest", "caikit/grpc", exchange)
    assert made["status"] == 200
    assert said(json.loads(made["body"])) == said(json.loads(pair["rest"]["reply"]["body"]))


@pytest.mark.parametrize("name", [name for name in PAIRS if name not in ROUNDED | PYTHON_FLOATS])
def test_a_rest_answer_is_the_grpc_answer(name: str) -> None:
    """The recorded REST answer, given to the gRPC client, is the recorded gRPC answer."""
    pair = PAIRS[name]
    exchange = {"request": pair["grpc"]["request"], "reply": pair["rest"]["reply"]}
    made = translate_reply("caikit/grpc", "caikit/rest", exchange)
    rpc = pair["grpc"]["request"]["rpc"]
    assert made["code"] == 0
    assert replies(made, rpc) == replies(pair["grpc"]["reply"], rpc)


@pytest.mark.parametrize("name", sorted(ROUNDED))
def test_integers_that_no_double_equals_are_refused(name: str) -> None:
    """A document whose number google.protobuf.Struct cannot hold is an error that names it."""
    made = translate_call("caikit/rest", "caikit/grpc", PAIRS[name]["rest"]["request"])
    assert made["error"]["status"] == 400
    assert json.loads(made["error"]["body"])["details"].startswith("documents[0].big: 9007199254740993")


@pytest.mark.parametrize("name", sorted(PYTHON_FLOATS))
def test_python_floats_come_back_as_doubles(name: str) -> None:
    """The numbers of a vector cross, in the message that holds doubles."""
    pair = PAIRS[name]
    exchange = {"request": pair["grpc"]["request"], "reply": pair["rest"]["reply"]}
    rpc = pair["grpc"]["request"]["rpc"]
    (made,) = replies(translate_reply("caikit/grpc", "caikit/rest", exchange), rpc)
    (recorded,) = replies(pair["grpc"]["reply"], rpc)
    assert made.result.data_npfloat64sequence.values == recorded.result.data_pyfloatsequence.values  # type: ignore[attr-defined]
