"""A grpcio client of fmaas on vLLM: at the adapter's gRPC door, and through the proxy at the REST door beside it.

What the REST door does not tell is left out of the comparison: the text of the end token, which the adapter names as
stop sequence, and that a token made no text yet. What it does not do is a list of its own, `NOT_AT_REST`.
"""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict

from runtimes.doors import VLLM
from runtimes.lab import Lab
from runtimes.stubs import make_stubs

pytestmark = pytest.mark.heavy

TEXTS = ["one two three", "the proxy", "Roses are", "naïve", "a b c"]
SCHEMA = """{"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9}},
 "required": ["n"], "additionalProperties": false}"""
STOPS = ["six", "violets"]
PARAMETERS: dict[str, dict[str, Any]] = {
    "a limit": {"stopping": {"max_new_tokens": 20}},
    "stop sequences": {"stopping": {"max_new_tokens": 50, "stop_sequences": STOPS}},
    "stop sequences left out": {
        "stopping": {"max_new_tokens": 50, "stop_sequences": STOPS, "include_stop_sequence": False}
    },
    "a draw": {"method": "SAMPLE", "sampling": {"temperature": 1.5, "seed": 7}, "stopping": {"max_new_tokens": 20}},
    "a draw of few": {
        "method": "SAMPLE",
        "sampling": {"temperature": 1.2, "seed": 42, "top_k": 5, "top_p": 0.9},
        "stopping": {"max_new_tokens": 20},
    },
    "a draw at the own temperature": {
        "method": "SAMPLE",
        "sampling": {"seed": 42},
        "stopping": {"max_new_tokens": 20},
    },
    "sampling beside greedy": {"sampling": {"temperature": 1.5, "seed": 7}, "stopping": {"max_new_tokens": 20}},
    "a least number": {"stopping": {"max_new_tokens": 20, "min_new_tokens": 18}},
    "a penalty": {"decoding": {"repetition_penalty": 1.5}, "stopping": {"max_new_tokens": 20}},
    "the end of the prompt": {"truncate_input_tokens": 3, "stopping": {"max_new_tokens": 10}},
    "a pattern": {"decoding": {"regex": "[a-f]{3}[0-9]"}, "stopping": {"max_new_tokens": 20}},
    "a choice": {"decoding": {"choice": {"choices": ["yes", "no", "maybe"]}}, "stopping": {"max_new_tokens": 20}},
    "a schema": {"decoding": {"json_schema": SCHEMA}, "stopping": {"max_new_tokens": 30}},
    "a grammar": {"decoding": {"grammar": 'root ::= "ab" | "cd"'}, "stopping": {"max_new_tokens": 20}},
    "JSON": {"decoding": {"format": "JSON"}, "stopping": {"max_new_tokens": 20}},
    "the input's text": {"response": {"input_text": True}, "stopping": {"max_new_tokens": 10}},
}
REFUSED: dict[str, dict[str, Any]] = {
    "too long a prompt": {"requests": [{"text": "x y z " * 200}], "params": {"stopping": {"max_new_tokens": 5}}},
    "too high a limit": {"requests": [{"text": "a"}], "params": {"stopping": {"max_new_tokens": 5000}}},
    "top_p": {"requests": [{"text": "a"}], "params": {"method": "SAMPLE", "sampling": {"top_p": 1.5}}},
    "seven stop sequences": {"requests": [{"text": "a"}], "params": {"stopping": {"stop_sequences": [*"abcdefg"]}}},
    "one bad text of two": {"requests": [{"text": "a"}, {"text": "x y z " * 200}]},
}
NOT_AT_REST: dict[str, dict[str, Any]] = {
    "typical_p": {"method": "SAMPLE", "sampling": {"typical_p": 0.5}},
    "length_penalty": {"decoding": {"length_penalty": {"start_index": 1, "decay_factor": 1.5}}},
}


class Fmaas:
    """The generation service at one address, spoken to with stubs made by grpcio-tools; requests as JSON."""

    def __init__(self, messages: Any, service: Any) -> None:
        self._messages = messages
        self._service = service

    def call(self, method: str, message: str, **fields: Any) -> Any:
        """The answer as JSON: a list for a stream."""
        request = ParseDict({"model_id": "tiny", **fields}, getattr(self._messages, message)())
        answer = getattr(self._service, method)(request, timeout=60)
        if method.endswith("Stream"):
            return [MessageToDict(each, preserving_proto_field_name=True) for each in answer]
        return MessageToDict(answer, preserving_proto_field_name=True)

    def generate(self, **fields: Any) -> Any:
        """A batch."""
        return self.call("Generate", "BatchedGenerationRequest", **fields)

    def stream(self, **fields: Any) -> Any:
        """One text, streamed."""
        return self.call("GenerateStream", "SingleGenerationRequest", **fields)


@pytest.fixture(scope="module")
def clients(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fmaas, Fmaas]]:
    """A client at the adapter's own door, and one behind a proxy that has vLLM's REST door alone."""
    messages, stubs = make_stubs("fmaas/generation.proto", tmp_path_factory.mktemp("stubs"))
    own = f"127.0.0.1:{lab.server(VLLM).grpc_port}"
    with grpc.insecure_channel(own) as first, grpc.insecure_channel(lab.proxy(VLLM, "rest").address) as second:
        yield (
            Fmaas(messages, stubs.GenerationServiceStub(first)),
            Fmaas(messages, stubs.GenerationServiceStub(second)),
        )


def plain(message: dict[str, Any]) -> dict[str, Any]:
    """A message without the end token as stop sequence."""
    return {key: value for key, value in message.items() if (key, value) != ("stop_sequence", "</s>")}


def told(messages: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[int, str], dict[str, Any]]:
    """What a stream tells: its first message, the text so far at each count of tokens, and its last message.

    How many tokens a message has is a matter of the engine's pace, and so is not compared.
    """
    first, *rest = messages
    texts, so_far = {}, first.get("text", "")
    for message in rest:
        so_far += message.get("text", "")
        texts[message["generated_token_count"]] = so_far
    last = {key: value for key, value in plain(rest[-1]).items() if key != "text"}
    return first, texts, last


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_batch_is_the_same(clients: tuple[Fmaas, Fmaas], name: str) -> None:
    """Texts, counts, reasons and seeds of five texts are those of the direct call, in order, to the byte."""
    requests = [{"text": text} for text in TEXTS]
    direct, through = (client.generate(requests=requests, params=PARAMETERS[name]) for client in clients)
    assert len(direct["responses"]) == len(TEXTS)
    assert [plain(each) for each in through["responses"]] == [plain(each) for each in direct["responses"]]


@pytest.mark.parametrize("text", ["one two three", "naïve"])
@pytest.mark.parametrize("name", PARAMETERS)
def test_a_stream_is_the_same(clients: tuple[Fmaas, Fmaas], name: str, text: str) -> None:
    """The input's message, the text at each count, and count and reason at the end are those of the adapter itself."""
    direct, through = (told(client.stream(request={"text": text}, params=PARAMETERS[name])) for client in clients)
    if name != "the input's text":  # it stands in the first piece of the REST door
        assert through[0] == direct[0]
    assert through[2] == direct[2]
    assert max(through[1]) == max(direct[1])
    assert all(through[1][count] == direct[1][count] for count in through[1].keys() & direct[1].keys())


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_is_a_refusal(clients: tuple[Fmaas, Fmaas], name: str) -> None:
    """What the adapter refuses is refused at the other door with the same code."""
    for client in clients:
        with pytest.raises(grpc.RpcError) as caught:
            client.generate(**REFUSED[name])
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("name", NOT_AT_REST)
def test_what_vllms_rest_door_cannot_do_is_named(clients: tuple[Fmaas, Fmaas], name: str) -> None:
    """A parameter without a counterpart is refused by name instead of being dropped."""
    with pytest.raises(grpc.RpcError) as caught:
        clients[1].generate(requests=[{"text": "a"}], params=NOT_AT_REST[name])
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details().startswith(f"{name}:")


def test_a_time_limit_is_kept(clients: tuple[Fmaas, Fmaas]) -> None:
    """vLLM's REST door knows no time limit; the stream ends with that reason all the same, as at the adapter."""
    params = {"stopping": {"min_new_tokens": 100, "max_new_tokens": 100, "time_limit_millis": 1}}
    direct, through = (client.stream(request={"text": "one"}, params=params) for client in clients)
    assert through[-1]["stop_reason"] == direct[-1]["stop_reason"] == "TIME_LIMIT"
    assert len(through) < 100


@pytest.mark.parametrize("asked", [{}, {"return_tokens": True}])
def test_tokens_are_the_same(clients: tuple[Fmaas, Fmaas], asked: dict[str, Any]) -> None:
    """Counts and pieces of several texts are those of the direct call."""
    requests = [{"text": text} for text in TEXTS]
    direct, through = (
        client.call("Tokenize", "BatchedTokenizeRequest", requests=requests, **asked) for client in clients
    )
    assert len(direct["responses"]) == len(TEXTS)
    assert through == direct


def test_the_models_length_is_the_same(clients: tuple[Fmaas, Fmaas]) -> None:
    """ModelInfo tells the model's context; the adapter's own limit of new tokens is nothing that REST tells."""
    direct, through = (client.call("ModelInfo", "ModelInfoRequest") for client in clients)
    assert through["max_sequence_length"] == direct["max_sequence_length"] == 256
