"""A translated request as people see it: what either side says of each field."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferbridge.bridge.context import Policy
from inferbridge.inspect.page import PAGE_BYTES, Page
from inferbridge.inspect.translation import Asked, add_translation, header_values, json_body, message_body
from inferbridge.translate import Translator


def lines(client: Asked, runtime: Asked, *losses: str) -> list[str]:
    """The view, with single spaces."""
    page = Page()
    add_translation(page, client, runtime, losses)
    assert len(page.text().encode()) <= PAGE_BYTES
    return [" ".join(line.split()) for line in page.text().splitlines()]


def fmaas(form: Any) -> Any:
    """The body of a translated call to TGIS."""
    return message_body("tgis", "", form["rpc"], base64.b64decode(form["messages_base64"][0]))


def test_a_completion_for_tgis_is_shown_field_by_field() -> None:
    """Renames stand in one line, defaults that are written out and fields that are lost are flagged."""
    body = {"model": "m", "prompt": "Hello", "temperature": 0.5, "min_p": 0.1, "user": "me"}
    form = {"method": "POST", "path": "/v1/completions", "headers": [], "body": json.dumps(body)}
    sent = Translator("openai/rest", "tgis/grpc", Policy(lossy=True)).call(form)
    client = Asked("openai", "completions", "rest", json_body(json.dumps(body).encode()))
    assert lines(client, Asked("tgis", "generate", "grpc", fmaas(sent)), "min_p") == [
        "openai completions over rest -> tgis generate over grpc",
        "the client said | the runtime was sent",
        'prompts prompt = "Hello" | requests[].text = ["Hello"]',
        "max_tokens (not said) | params.stopping.max_new_tokens = 16 + written out",
        'model model = "m" | model_id = "m"',
        "temperature temperature = 0.5 | params.sampling.temperature = 0.5",
        "min_p min_p = 0.1 | (nothing) ! lost",
        "include_stop_sequence (not said) | params.stopping.include_stop_sequence = false + written out",
        'user user = "me" | (nothing) - not sent',
        'method (not said) | params.method = "SAMPLE" + written out',
    ]


def test_units_and_further_names_are_shown() -> None:
    """A value in another unit is converted, and a field may go by a name that is only read."""
    client = Asked("caikit", "text_generation", "rest", {"inputs": "a", "parameters": {"max_time": 1.5}})
    runtime = Asked("tgis", "generate", "grpc", {"params": {"stopping": {"time_limit_millis": 1500}}})
    assert "time_limit parameters.max_time = 1.5 | params.stopping.time_limit_millis = 1500 ~ converted" in lines(
        client, runtime
    )
    chat = Asked("openai", "chat", "rest", {"max_completion_tokens": 5})
    sent = Asked("tgis", "generate", "grpc", {"params": {"stopping": {"max_new_tokens": 5}}})
    assert lines(chat, sent)[2:] == ["max_tokens max_completion_tokens = 5 | params.stopping.max_new_tokens = 5"]


def test_paths_and_metadata_are_places_too() -> None:
    """A model in a path and a model in a header are one field."""
    client = Asked("open-inference", "infer", "rest", {}, {"path": {"model": "m"}})
    runtime = Asked("open-inference", "infer", "grpc/mlserver", {"model_name": "m"})
    assert lines(client, runtime)[2:] == ['model path.model = "m" | model_name = "m"']


def test_credentials_are_not_values() -> None:
    """Headers that may hold a credential are shown without it."""
    headers = (("Authorization", "Bearer canary"), ("x-api-key", "canary"), ("x-own", "canary"), ("mm-model-id", "m"))
    shown = header_values(headers, hidden={"x-own"})
    assert "canary" not in str(shown)
    assert shown["mm-model-id"] == "m"


def test_losses_that_no_spec_names_are_shown() -> None:
    """What a bridge tells of is never missing from the view."""
    nothing = Asked("openai", "chat", "rest", {})
    assert lines(nothing, nothing, "choices[].odd")[2:] == ["choices[].odd (not said) | (nothing) ! lost"]


def test_long_values_are_cut_and_large_bodies_refused() -> None:
    """A line stays a line, and tensors are no lines."""
    client = Asked("openai", "completions", "rest", {"prompt": "x" * 100_000, "stop": ["y"] * 1000})
    assert max(map(len, lines(client, client))) < 500
    with pytest.raises(ValueError, match="too many"):
        json_body(bytes(2_000_000))


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["prompt", "stop", "params", "requests", "text", "inputs", "name"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@given(client=VALUES, runtime=VALUES, loss=st.text())
def test_any_values_have_a_form(client: Any, runtime: Any, loss: str) -> None:
    """Bodies of any shape never raise."""
    lines(Asked("openai", "completions", "rest", client), Asked("tgis", "generate", "grpc", runtime), loss)
    lines(Asked("x", "y", "z", client), Asked("open-inference", "infer", "grpc", runtime))
