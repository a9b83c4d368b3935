"""Caikit's clients on vLLM, which knows nothing of Caikit: through the proxy at either of its doors."""

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from runtimes.doors import VLLM, outcome_of
from runtimes.lab import Lab
from runtimes.programs import Client
from runtimes.routes import Route

pytestmark = [pytest.mark.heavy, pytest.mark.parametrize("upstream", ["rest", "grpc"])]

CLIENTS = ("caikitclient_grpc", "caikitclient_http", "caikit_grpc", "caikit_http")
NO_STREAMS = ("caikitclient_http", "caikit_http")
"""These two cannot read the streams of Caikit's own server either: they take no line that begins with `event:`."""
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "caikit's own limit": ("one two three", {}),
    "an end": ("naïve", {"max_new_tokens": 60}),
    "a stop sequence": ("one two three", {"max_new_tokens": 40, "stop_sequences": ["six"]}),
    "a draw": (
        "Roses are",
        {"decoding_method": "SAMPLING", "temperature": 1.5, "seed": 7, "max_new_tokens": 20},
    ),
    "the input's text": ("the proxy", {"preserve_input_text": True, "max_new_tokens": 30}),
}
NO_LISTS = "caikitclient_grpc"
"""This one cannot set a field that is a list."""
OWN_CLIENT = "langchain_sdk"


def calls_of(programs: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The calls that the clients can make."""
    for program in sorted(programs):
        for name, (_, fields) in CALLS.items():
            if program != NO_LISTS or "stop_sequences" not in fields:
                yield program, name


def expected(lab: Lab, text: str, fields: dict[str, Any]) -> str:
    """What vLLM itself says at its REST door, asked in its own words by its own client."""
    drawn = fields.get("decoding_method") == "SAMPLING"
    asked: dict[str, Any] = {
        "prompt": text,
        "max_tokens": fields.get("max_new_tokens", 20),
        "temperature": fields["temperature"] if drawn else 0,
        "echo": fields.get("preserve_input_text", False),
    }
    asked |= {"seed": fields["seed"]} if drawn else {}
    if "stop_sequences" in fields:  # Caikit leaves them in
        asked |= {"stop": fields["stop_sequences"], "extra_body": {"include_stop_str_in_output": True}}
    own = lab.client(Route(OWN_CLIENT, VLLM, "rest", direct=True))
    return str(outcome_of(own, "complete", fields=asked)["choices"][0]["text"])


def caikit(lab: Lab, program: str, upstream: str) -> Client:
    """A client of Caikit's behind the proxy."""
    return lab.client(Route(program, VLLM, upstream))


@pytest.mark.parametrize(("program", "name"), list(calls_of(CLIENTS)))
def test_a_whole_text_is_vllms(lab: Lab, upstream: str, program: str, name: str) -> None:
    """Each of Caikit's four clients gets the text that vLLM gives its own client, to the byte."""
    text, fields = CALLS[name]
    made = outcome_of(caikit(lab, program, upstream), "generate", model="tiny", input=text, fields=fields)
    made = made["generated_text"] if isinstance(made, dict) else made
    assert made == expected(lab, text, fields)


@pytest.mark.parametrize(("program", "name"), list(calls_of(set(CLIENTS) - set(NO_STREAMS))))
def test_a_streamed_text_is_vllms(lab: Lab, upstream: str, program: str, name: str) -> None:
    """The pieces of a stream are the text that vLLM gives its own client, to the byte."""
    text, fields = CALLS[name]
    pieces = outcome_of(caikit(lab, program, upstream), "stream", model="tiny", input=text, fields=fields)
    assert len(pieces) > 2
    joined = "".join(piece["generated_text"] if isinstance(piece, dict) else piece for piece in pieces)
    assert joined == expected(lab, text, fields)


@pytest.mark.parametrize("program", CLIENTS)
def test_a_refusal_reaches_the_client(lab: Lab, upstream: str, program: str) -> None:
    """A prompt that is too long is an error that says so."""
    outcome = caikit(lab, program, upstream).call("generate", model="tiny", input="x y z " * 200)
    said = str(outcome.get("error", outcome.get("refused")))
    assert "256" in said, outcome
