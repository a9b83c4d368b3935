"""Streams of events as people see them: reassembled, and one by one."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferbridge.inspect.events import add_events
from inferbridge.inspect.page import PAGE_BYTES, Page


def lines(body: bytes) -> list[str]:
    """How a stream is shown."""
    page = Page()
    add_events(page, body)
    assert len(page.text().encode()) <= PAGE_BYTES
    return page.text().splitlines()


def stream(*messages: Any, name: str = "", done: bool = True) -> bytes:
    """A stream of JSON messages."""
    head = f"event: {name}\n" if name else ""
    texts = [json.dumps(message) for message in messages] + (["[DONE]"] if done else [])
    return "".join(f"{head}data: {text}\n\n" for text in texts).encode()


def chat(delta: dict[str, Any], reason: str | None = None, index: int = 0) -> dict[str, Any]:
    """One message of a chat."""
    return {"choices": [{"index": index, "delta": delta, "finish_reason": reason}]}


def test_a_chat_is_reassembled() -> None:
    """Text, reasoning, finish reason and usage of a chat stand before its events."""
    body = stream(
        chat({"role": "assistant", "content": ""}),
        chat({"reasoning_content": "hm"}),
        chat({"content": "Hel"}),
        chat({"content": "lo\nyou"}, "stop"),
        {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}},
    )
    found = lines(body)
    assert found[:8] == [
        'choice 0: finish reason "stop"',
        "  reasoning:",
        "    | hm",
        "  text:",
        "    | Hello",
        "    | you",
        "usage: prompt_tokens 5, completion_tokens 3, total_tokens 8",
        "6 events, the last is [DONE]",
    ]
    assert found[8].startswith('  1: {"choices": [{"index": 0, "delta": {"role": "assistant"')
    assert found[-1] == "  6: [DONE]"


def test_tool_calls_are_reassembled() -> None:
    """The name of each function and its arguments come together from their pieces."""
    body = stream(
        chat({"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "weather", "arguments": ""}}]}),
        chat({"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]}),
        chat({"tool_calls": [{"index": 1, "id": "c2", "function": {"name": "time", "arguments": "{}"}}]}),
        chat({"tool_calls": [{"index": 0, "function": {"arguments": '"Paris"}'}}]}, "tool_calls"),
    )
    assert lines(body)[:5] == [
        'choice 0: finish reason "tool_calls"',
        '  tool call 0: "weather", id "c1"',
        '    | {"city":"Paris"}',
        '  tool call 1: "time", id "c2"',
        "    | {}",
    ]


def test_completions_with_several_choices_are_reassembled() -> None:
    """Choices that come mixed are told apart; one that has no finish reason yet is open."""
    body = stream(
        {"choices": [{"index": 0, "text": "a", "finish_reason": None}]},
        {"choices": [{"index": 1, "text": "b", "finish_reason": "length"}]},
        {"choices": [{"index": 0, "text": "c", "finish_reason": None}]},
        done=False,
    )
    assert lines(body)[:7] == [
        "choice 0: open",
        "  text:",
        "    | ac",
        'choice 1: finish reason "length"',
        "  text:",
        "    | b",
        "3 events",
    ]


def test_a_stream_of_caikit_is_reassembled() -> None:
    """Caikit's text, its finish reason and the tokens it counts."""
    body = stream(
        {"generated_text": "It ", "details": {"finish_reason": "NOT_FINISHED", "generated_tokens": 1}},
        {
            "generated_text": "is",
            "details": {"finish_reason": "MAX_TOKENS", "generated_tokens": 2, "input_token_count": 4},
        },
        name="message",
        done=False,
    )
    assert lines(body)[:5] == [
        'choice 0: finish reason "MAX_TOKENS"',
        "  text:",
        "    | It is",
        "usage: generated_tokens 2, input_token_count 4",
        "2 events",
    ]


@pytest.mark.parametrize(
    ("body", "note"),
    [
        (b"data: {}\n\ndata: half", "! the stream ends within an event"),
        (b"data: " + b"x" * 2_000_000, "! an event of the runtime is larger than 1048576 bytes"),
        (b"data: {}\n\n" * 1_000_000, "! the stream is long: 10000000 bytes; only its beginning is shown"),
        (stream({"error": {"message": "no", "code": 500}}), '! error: {"message":"no","code":500}'),
    ],
)
def test_what_is_wrong_is_told(body: bytes, note: str) -> None:
    """Errors in a stream, streams that break off and streams that are too long say so."""
    assert note in lines(body)


def test_events_with_names_say_them() -> None:
    """A name other than the usual one stands before the data, and data that are no JSON are shown as they are."""
    assert lines(b"event: error\ndata: oh\x1b[0m no\n\n") == ["1 events", '  1: "error" oh\\x1b[0m no']


MEMBERS = [
    "choices",
    "delta",
    "index",
    "text",
    "content",
    "tool_calls",
    "function",
    "name",
    "arguments",
    "details",
    "id",
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(MEMBERS), inner, max_size=4),
    max_leaves=8,
)
MESSAGE = st.dictionaries(
    st.sampled_from(["choices", "usage", "error", "details", "generated_text"]), VALUES, max_size=3
)


@given(st.lists(MESSAGE, max_size=4))
def test_any_messages_have_a_form(messages: list[Any]) -> None:
    """Messages of any shape never raise."""
    lines(stream(*messages))


@given(st.binary(max_size=200) | st.text(alphabet='data: {}[]"\n\r', max_size=80).map(str.encode))
def test_any_bytes_have_a_form(body: bytes) -> None:
    """Random bytes never raise."""
    lines(body)
