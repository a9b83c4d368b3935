"""The text of a mocked model: foreseeable, and true to what the client asks for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferbridge.bridge.folding import GenerateFold
from inferbridge.mock import text
from inferbridge_generated import operations
from inferbridge_generated.operations import GenerateRequest

WORDS = st.lists(st.sampled_from(["a", "bee", "see", "dee."]), max_size=6).map(" ".join)
REQUESTS = st.builds(
    GenerateRequest,
    prompts=st.lists(WORDS, min_size=1, max_size=3),
    max_tokens=st.none() | st.integers(1, 8),
    min_tokens=st.none() | st.integers(0, 8),
    stop_sequences=st.lists(st.sampled_from(["e s", "bee", "zz", "."]), max_size=2),
    include_stop_sequence=st.none() | st.booleans(),
    echo=st.none() | st.booleans(),
    n=st.none() | st.integers(1, 2),
    return_tokens=st.none() | st.booleans(),
    return_logprobs=st.none() | st.booleans(),
    return_prompt_tokens=st.none() | st.booleans(),
    truncate_tokens=st.none() | st.integers(1, 3),
    seed=st.none() | st.integers(1, 9),
)


@pytest.mark.parametrize(
    ("request_", "said", "reason", "count"),
    [
        (GenerateRequest(prompts=["to be or"]), "to be or", "eos_token", 4),
        (GenerateRequest(prompts=["to be or"], max_tokens=2), "to be", "max_tokens", 2),
        (GenerateRequest(prompts=["to be or"], min_tokens=5), "to be or to be", "eos_token", 6),
        (GenerateRequest(prompts=["to be or"], max_tokens=2, echo=True), "to be or to be", "max_tokens", 2),
        (GenerateRequest(prompts=["to be or"], stop_sequences=["e"]), "to b", "stop_sequence", 2),
        (
            GenerateRequest(prompts=["to be or"], stop_sequences=["be"], include_stop_sequence=True),
            "to be",
            "stop_sequence",
            2,
        ),
        (GenerateRequest(prompts=["a b c d"], truncate_tokens=2), "c d", "eos_token", 3),
        (GenerateRequest(messages=[{"role": "user", "content": "hi you"}]), "hi you", "eos_token", 3),
        (
            GenerateRequest(messages=[{"role": "user", "content": [{"type": "text", "text": "hi"}]}]),
            "hi",
            "eos_token",
            2,
        ),
        (GenerateRequest(), "nothing", "eos_token", 2),
    ],
)
def test_the_prompt_is_repeated(request_: GenerateRequest, said: str, reason: str, count: int) -> None:
    """Text, reason and count follow from the prompt and the limits."""
    choice = text.reply(request_, operations).choices[0]
    assert (choice.text, choice.finish_reason, choice.completion_tokens) == (said, reason, count)


@given(REQUESTS)
def test_streamed_and_whole_answers_are_the_same(request_: GenerateRequest) -> None:
    """The messages of a stream, folded, are the whole answer."""
    fold = GenerateFold(operations)
    for message in text.messages(request_, operations):
        fold.add(message)
    whole = text.reply(request_, operations)
    assert fold.reply().choices == whole.choices
    assert len(whole.choices) == len(request_.prompts) * (request_.n or 1)


@given(REQUESTS)
def test_limits_hold(request_: GenerateRequest) -> None:
    """No text is longer than asked for, and none goes on after a stop sequence."""
    for choice in text.reply(request_, operations).choices:
        if request_.max_tokens is not None:
            assert choice.completion_tokens <= request_.max_tokens
        if not request_.echo and not request_.include_stop_sequence:
            assert not [sequence for sequence in request_.stop_sequences if sequence in choice.text]
        if request_.return_tokens and not request_.echo:
            assert "".join(token.text for token in choice.tokens) == choice.text
        assert bool(choice.stop_sequence) == (choice.finish_reason == "stop_sequence")
