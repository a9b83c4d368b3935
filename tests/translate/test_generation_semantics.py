"""The semantics of text generation between OpenAI (vLLM), TGIS (fmaas) and caikit, line by line: requests.

Defaults are written out, zeros that say nothing are never values, and what cannot be carried is refused by name.
"""

import base64
import json
from typing import Any

import pytest

from inferbridge.translate import translate_call
from inferbridge_generated.tgis import wire as fmaas
from translate.generation import (
    caikit_call,
    openai,
    openai_answer,
    refusal,
    stopping,
    tgis,
    to_caikit,
    to_fmaas,
    to_vllm,
)

# decoding method and sampling


def test_the_default_of_each_api_is_said() -> None:
    """fmaas and caikit are greedy unless told, OpenAI draws at 1.0: whoever says nothing gets what its API does."""
    assert to_vllm(tgis())["temperature"] == 0.0
    assert to_vllm(caikit_call(), "caikit/rest")["temperature"] == 0.0
    assert (to_fmaas(openai()).method, to_caikit(openai())["decoding_method"]) == (1, "SAMPLING")


@pytest.mark.parametrize(
    ("temperature", "expected"), [(None, 1.0), (0.0, 0.0), (0.5, 0.5)], ids=["unset", "zero", "half"]
)
def test_temperature_of_fmaas_sampling(temperature: float | None, expected: float) -> None:
    """Unset is 1.0 and an explicit 0 is greedy; the older dialects have no explicit 0, so theirs is unset."""
    sampling = fmaas.SamplingParameters(temperature=temperature)
    assert to_vllm(tgis(method=1, sampling=sampling))["temperature"] == expected


def test_temperature_zero_of_openai_is_greedy() -> None:
    """A temperature of 0 is the greedy method, without sampling parameters, wherever they would be refused."""
    assert to_fmaas(openai(temperature=0, top_p=0.5, seed=1)).sampling is None
    assert to_caikit(openai(temperature=0, top_p=0.5, seed=1))["decoding_method"] == "GREEDY"
    assert "top_p" not in to_caikit(openai(temperature=0, top_p=0.5, seed=1))


def test_greedy_of_fmaas_ignores_sampling() -> None:
    """Sampling parameters beside GREEDY have no effect on an fmaas server, so they reach no other runtime."""
    body = to_vllm(tgis(sampling=fmaas.SamplingParameters(temperature=2.0, top_k=3, top_p=0.5, seed=5)))
    assert (body["temperature"], body["top_k"], body["top_p"]) == (0.0, 0, 1.0)
    assert "seed" not in body


@pytest.mark.parametrize("extra", [{"temperature": 0.7}, {"top_k": 5}, {"top_p": 0.5}, {"typical_p": 0.5}, {"seed": 0}])
@pytest.mark.parametrize("runtime", ["tgis/grpc", "openai/rest"])
def test_greedy_of_caikit_refuses_sampling(runtime: str, extra: dict[str, Any]) -> None:
    """Caikit answers 400 to sampling parameters beside GREEDY; so does its client's call to another runtime."""
    assert refusal("caikit/rest", runtime, caikit_call(**extra)).startswith(f"{next(iter(extra))}:")


def test_what_a_models_own_configuration_would_decide_is_said() -> None:
    """vLLM's REST door takes defaults from generation_config.json, fmaas' door does not: all of them are written."""
    body = to_vllm(tgis(method=1))
    explicit = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
    assert {name: body[name] for name in explicit} == explicit
    assert body["max_tokens"] is None


@pytest.mark.parametrize("zero", [{"top_p": 0.0}, {"top_k": 0}, {"repetition_penalty": 0.0}, {"typical_p": 0.0}])
def test_zeros_of_caikit_say_nothing(zero: dict[str, Any]) -> None:
    """Caikit's zeros are protobuf's in TGIS, where they are off; vLLM would refuse them as values."""
    body = to_vllm(caikit_call(decoding_method="SAMPLING", **zero), "caikit/rest")
    assert (body["top_p"], body["top_k"], body["repetition_penalty"]) == (1.0, 0, 1.0)


@pytest.mark.parametrize("field", ["top_p", "repetition_penalty"])
def test_a_zero_that_vllm_refuses_is_refused(field: str) -> None:
    """An OpenAI client's 0 is an error at vLLM and would be "off" at fmaas, so it is refused by name."""
    assert refusal("openai/rest", "vllm-nvidia/grpc", openai(**{field: 0})).startswith(f"{field}:")


@pytest.mark.parametrize("value", [0, -1])
def test_top_k_off_is_off_everywhere(value: int) -> None:
    """vLLM's 0 and -1 both mean all tokens."""
    assert to_fmaas(openai(top_k=value, seed=1)).sampling.top_k == 0


def test_seeds_have_the_range_of_the_runtime() -> None:
    """fmaas takes any uint64, vLLM's REST door int64 only; 0 is a seed like any other."""
    assert to_fmaas(openai(seed=2**63)).sampling.seed == 2**63
    sampling = fmaas.SamplingParameters(seed=2**63)
    assert refusal("tgis/grpc", "openai/rest", tgis(method=1, sampling=sampling)).startswith("seed:")
    assert to_vllm(tgis(method=1, sampling=fmaas.SamplingParameters(seed=0)))["seed"] == 0


def test_what_vllm_has_no_counterpart_for_is_refused() -> None:
    """Neither typical_p nor the exponential length penalty exist in the OpenAI API; off, typical_p is no loss."""
    typical = tgis(method=1, sampling=fmaas.SamplingParameters(typical_p=0.5))
    assert refusal("tgis/grpc", "openai/rest", typical).startswith("typical_p:")
    penalty = fmaas.DecodingParameters_LengthPenalty(start_index=1, decay_factor=2.0)
    call = tgis(decoding=fmaas.DecodingParameters(length_penalty=penalty))
    assert refusal("tgis/grpc", "openai/rest", call).startswith("length_penalty:")
    call = caikit_call(exponential_decay_length_penalty={"start_index": 1, "decay_factor": 2.0})
    assert refusal("caikit/rest", "openai/rest", call).startswith("length_penalty:")
    assert to_fmaas(call, "caikit/rest").decoding.length_penalty == penalty
    assert "typical_p" not in to_vllm(tgis(method=1, sampling=fmaas.SamplingParameters(typical_p=1.0)))


def test_vllms_length_penalty_is_that_of_beam_search() -> None:
    """It has no effect without beam search, and never becomes the exponential one."""
    params = to_fmaas(openai(length_penalty=1.2))
    assert params.decoding is None or params.decoding.length_penalty is None
    assert refusal("openai/rest", "vllm-nvidia/grpc", openai(use_beam_search=True)).startswith("use_beam_search:")


# limits


@pytest.mark.parametrize(
    ("body", "expected"), [({}, 16), ({"max_tokens": None}, 0), ({"max_tokens": 5}, 5)], ids=["left out", "null", "5"]
)
def test_max_tokens_of_completions(body: dict[str, Any], expected: int) -> None:
    """16 where it is left out; null leaves it to the model, as fmaas' 0 does."""
    assert to_fmaas(openai(**body)).stopping.max_new_tokens == expected


def test_max_tokens_of_the_others() -> None:
    """fmaas' 0 is null and not 16; caikit's is 20 unless said, and 0 says nothing; OpenAI's 0 is refused."""
    assert to_vllm(tgis())["max_tokens"] is None
    assert to_vllm(caikit_call(), "caikit/rest")["max_tokens"] == 20
    assert to_vllm(caikit_call(max_new_tokens=0), "caikit/rest")["max_tokens"] == 20
    assert to_fmaas(caikit_call(), "caikit/rest").stopping.max_new_tokens == 20
    assert refusal("openai/rest", "vllm-nvidia/grpc", openai(max_tokens=0)) == "max_tokens must be at least 1, got 0."


def test_min_tokens() -> None:
    """Carried as they are; 0 is not said."""
    assert to_vllm(tgis(**stopping(min_new_tokens=3)))["min_tokens"] == 3
    assert to_fmaas(openai(min_tokens=3)).stopping.min_new_tokens == 3
    assert "min_tokens" not in to_vllm(tgis())
    assert to_fmaas(caikit_call(min_new_tokens=0), "caikit/rest").stopping.min_new_tokens == 0


def test_time_limits_have_units() -> None:
    """Milliseconds in fmaas, seconds in caikit; vLLM knows none, so the gateway sees to it and asks for a stream."""
    made = translate_call("tgis/grpc", "caikit/rest", tgis(**stopping(time_limit_millis=1500)))
    assert json.loads(made["body"])["parameters"]["max_time"] == 1.5
    assert to_fmaas(caikit_call(max_time=0.25), "caikit/rest").stopping.time_limit_millis == 250
    assert to_fmaas(caikit_call(max_time=0.0), "caikit/rest").stopping.time_limit_millis == 0
    body = to_vllm(tgis(**stopping(time_limit_millis=1500)))
    assert body["stream"] is True
    assert not any("time" in name for name in body)


def test_truncation() -> None:
    """fmaas' and caikit's 0 keep all; vLLM would take 0 at its word, and refuses it from its own clients."""
    assert "truncate_prompt_tokens" not in to_vllm(tgis(truncate_input_tokens=0))
    assert "truncate_prompt_tokens" not in to_vllm(caikit_call(truncate_input_tokens=0), "caikit/rest")
    assert to_vllm(tgis(truncate_input_tokens=4))["truncate_prompt_tokens"] == 4
    assert to_fmaas(openai(truncate_prompt_tokens=4)).truncate_input_tokens == 4
    assert refusal("openai/rest", "vllm-nvidia/grpc", openai(truncate_prompt_tokens=0)).startswith(
        "truncate_prompt_tokens:"
    )
    assert refusal("openai/rest", "vllm-nvidia/grpc", openai(truncate_prompt_tokens=-1)).startswith("truncate_tokens:")


# stop sequences


def test_stop_sequences_are_texts_or_a_list() -> None:
    """One or several, in order; how many there may be is for the runtime to say."""
    assert to_fmaas(openai(stop="x")).stopping.stop_sequences == ["x"]
    assert to_fmaas(openai(stop=["x", "y"])).stopping.stop_sequences == ["x", "y"]
    seven = [str(number) for number in range(7)]
    assert to_fmaas(openai(stop=seven)).stopping.stop_sequences == seven
    assert to_vllm(tgis(**stopping(stop_sequences=seven)))["stop"] == seven
    assert to_vllm(tgis(**stopping(stop_sequences=[""])))["stop"] == ""


@pytest.mark.parametrize("said", [None, True, False])
def test_whether_the_stop_sequence_stays(said: bool | None) -> None:
    """fmaas and caikit leave it in the text unless told otherwise, OpenAI takes it out: always said between them."""
    inclusive = True if said is None else said
    assert to_vllm(tgis(**stopping(include_stop_sequence=said)))["include_stop_str_in_output"] is inclusive
    parameters = {} if said is None else {"include_stop_sequence": said}
    assert to_vllm(caikit_call(**parameters), "caikit/rest")["include_stop_str_in_output"] is inclusive
    body = {} if said is None else {"include_stop_str_in_output": said}
    assert to_fmaas(openai(**body)).stopping.include_stop_sequence is bool(said)
    assert to_caikit(openai(**body))["include_stop_sequence"] is bool(said)


# prompts, models, adapters, several answers


@pytest.mark.parametrize("runtime", ["tgis/grpc", "caikit/rest", "caikit/grpc"])
@pytest.mark.parametrize("prompt", [[1, 2], [[1, 2], [3]]], ids=["ids", "lists of ids"])
def test_token_ids_are_refused_by_name(runtime: str, prompt: Any) -> None:
    """Runtimes of texts cannot take token ids, which only the model's tokenizer can read."""
    assert "prompt: " in refusal("openai/rest", runtime, openai(prompt=prompt))
    assert "token ids" in refusal("openai/rest", runtime, openai(prompt=prompt))


@pytest.mark.parametrize("prompt", ["", [], None], ids=repr)
def test_an_empty_prompt_of_openai_is_refused(prompt: Any) -> None:
    """As vLLM does it; fmaas would generate from nothing."""
    assert refusal("openai/rest", "vllm-nvidia/grpc", openai(prompt=prompt)).startswith("prompt:")


def test_an_adapter_is_a_model_of_openai() -> None:
    """fmaas' adapter_id, and its older name, are the name of a LoRA model at vLLM."""
    assert to_vllm(tgis(adapter="tiny-lora"))["model"] == "tiny-lora"
    assert to_vllm(tgis(adapter=""))["model"] == "m"
    assert refusal("tgis/grpc", "caikit/rest", tgis(adapter="tiny-lora")).startswith("adapter:")


@pytest.mark.parametrize("runtime", ["tgis/grpc", "caikit/rest"])
def test_several_answers_are_asked_for_one_by_one(runtime: str) -> None:
    """`n` answers of each prompt, those of one prompt together, where a runtime gives one; a prompt counts once."""
    call = openai(prompt=["a", "b"], n=2, max_tokens=3)
    made = translate_call("openai/rest", runtime, call)
    if runtime == "tgis/grpc":
        batch = fmaas.decode_BatchedGenerationRequest(base64.b64decode(made["messages_base64"][0]), [])
        assert [item.text for item in batch.requests] == ["a", "a", "b", "b"]
    else:
        assert [json.loads(each["body"])["inputs"] for each in made["calls"]] == ["a", "a", "b", "b"]
    each = fmaas.GenerationResponse(text="x", input_token_count=5, generated_token_count=3, stop_reason=1)
    got = openai_answer(call, each, each, each, each)
    assert [choice["index"] for choice in got["choices"]] == [0, 1, 2, 3]
    assert got["usage"] == {"prompt_tokens": 10, "completion_tokens": 12, "total_tokens": 22}


@pytest.mark.parametrize("extra", [{"seed": 1}, {"temperature": 0}, {"n": 0}, {"n": 1000}], ids=str)
def test_several_answers_that_would_be_the_same_are_refused(extra: dict[str, Any]) -> None:
    """With a seed or greedily all answers would be one; none, and more than the API allows, are no number either."""
    assert refusal("openai/rest", "vllm-nvidia/grpc", openai(**{"n": 2, **extra})).startswith("n")


@pytest.mark.parametrize(
    "extra",
    [
        {"presence_penalty": 0.5}, {"frequency_penalty": 0.5}, {"logit_bias": {"1": 1}}, {"min_p": 0.1},
        {"stop_token_ids": [1]}, {"ignore_eos": True}, {"bad_words": ["x"]}, {"allowed_token_ids": [1]},
        {"skip_special_tokens": False}, {"add_special_tokens": False}, {"spaces_between_special_tokens": False},
        {"suffix": "x"}, {"priority": 1}, {"best_of": 2}, {"prompt_logprobs": 0}, {"return_token_ids": True},
    ],
    ids=lambda extra: next(iter(extra)),
)  # fmt: skip
@pytest.mark.parametrize("runtime", ["tgis/grpc", "caikit/rest"])
def test_what_only_vllm_can_say_is_refused_by_name(runtime: str, extra: dict[str, Any]) -> None:
    """A field without a counterpart is refused where it would change the answer."""
    assert refusal("openai/rest", runtime, openai(**extra)).startswith(f"{next(iter(extra))}:")


@pytest.mark.parametrize(
    "extra",
    [
        {"presence_penalty": 0}, {"min_p": 0}, {"ignore_eos": False}, {"skip_special_tokens": True},
        {"add_special_tokens": True}, {"spaces_between_special_tokens": True}, {"priority": 0}, {"best_of": 1},
        {"return_token_ids": False}, {"n": 1}, {"user": "me"}, {"use_beam_search": False}, {"logprobs": None},
        {"response_format": {"type": "text"}}, {"structured_outputs": {"json_object": False}},
    ],
    ids=lambda extra: next(iter(extra)),
)  # fmt: skip
def test_what_has_no_effect_is_no_loss(extra: dict[str, Any]) -> None:
    """A field set to what it does anyway needs no counterpart."""
    assert to_fmaas(openai(**extra)) == to_fmaas(openai())


# guided decoding

SCHEMA = {"type": "object"}
GUIDES: dict[str, tuple[dict[str, Any], str, Any]] = {
    "json_object": ({"structured_outputs": {"json_object": True}}, "format", 1),
    "json": ({"structured_outputs": {"json": SCHEMA}}, "json_schema", '{"type":"object"}'),
    "json as text": ({"structured_outputs": {"json": '{"type":"object"}'}}, "json_schema", '{"type":"object"}'),
    "regex": ({"structured_outputs": {"regex": "a+"}}, "regex", "a+"),
    "grammar": ({"structured_outputs": {"grammar": "root ::= x"}}, "grammar", "root ::= x"),
    "choice": ({"structured_outputs": {"choice": ["a", "b"]}}, "choice", ["a", "b"]),
    "format json_object": ({"response_format": {"type": "json_object"}}, "format", 1),
    "format json_schema": (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}},
        "json_schema", '{"type":"object"}',
    ),
    "guided_json": ({"guided_json": SCHEMA}, "json_schema", '{"type":"object"}'),
    "guided_regex": ({"guided_regex": "a+"}, "regex", "a+"),
    "guided_grammar": ({"guided_grammar": "root ::= x"}, "grammar", "root ::= x"),
    "guided_choice": ({"guided_choice": ["a", "b"]}, "choice", ["a", "b"]),
}  # fmt: skip


@pytest.mark.parametrize("name", GUIDES)
def test_constraints_are_the_same_at_fmaas(name: str) -> None:
    """structured_outputs, response_format and the older guided_* fields are one member of fmaas' `guided`."""
    body, member, expected = GUIDES[name]
    decoding = to_fmaas(openai(**body)).decoding
    found = getattr(decoding, member)
    assert (found.choices if member == "choice" else found) == expected
    members = ("format", "json_schema", "regex", "grammar", "choice")
    assert sum(getattr(decoding, other) is not None for other in members) == 1


@pytest.mark.parametrize("endpoint", ["completions", "chat/completions"])
@pytest.mark.parametrize("name", GUIDES)
def test_caikit_refuses_constraints(name: str, endpoint: str) -> None:
    """Caikit has none: a text that need not fit would be another answer."""
    told = refusal("openai/rest", "caikit/rest", openai(endpoint, **GUIDES[name][0]))
    assert told.startswith("guided_") or (endpoint != "completions" and "chat_template" in told)


@pytest.mark.parametrize(
    ("decoding", "expected"),
    [
        ({"format": 1}, {"json_object": True}), ({"format": 0}, None), ({"regex": "a+"}, {"regex": "a+"}),
        ({"json_schema": '{"type":"object"}'}, {"json": SCHEMA}), ({"grammar": "g"}, {"grammar": "g"}),
    ],
    ids=["JSON", "TEXT", "regex", "json_schema", "grammar"],
)  # fmt: skip
def test_constraints_of_fmaas_are_structured_outputs(decoding: dict[str, Any], expected: Any) -> None:
    """In the form that vLLM 0.11 and later obeys; TEXT, which asks for nothing, is left out."""
    body = to_vllm(tgis(decoding=fmaas.DecodingParameters(**decoding)))
    assert body.get("structured_outputs") == expected
    assert not any(name.startswith("guided") for name in body)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"structured_outputs": {"choice": ["a"]}}, "guided_choice:"),
        ({"structured_outputs": {"regex": "a", "choice": ["a", "b"]}}, "only one kind"),
        ({"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}}, "only one kind"),
        ({"response_format": {"type": "json_schema"}}, "response_format:"),
        ({"response_format": {"type": "structural_tag"}}, "response_format:"),
        ({"response_format": "json"}, "response_format:"),
        ({"structured_outputs": {"structural_tag": "x"}}, "structural_tag:"),
    ],
    ids=str,
)
def test_constraints_that_fmaas_cannot_keep_are_refused(body: dict[str, Any], told: str) -> None:
    """A single choice, which the adapter fails at, several constraints, and kinds that fmaas has not."""
    assert refusal("openai/rest", "vllm-nvidia/grpc", openai(**body)).startswith(told)


def test_a_broken_schema_of_fmaas_is_its_clients_error() -> None:
    """The adapter hides it behind UNKNOWN; on its way to REST it is found before."""
    call = tgis(decoding=fmaas.DecodingParameters(json_schema="{not json"))
    assert "json_schema" in refusal("tgis/grpc", "openai/rest", call)
