"""OpenAI's own package and langchain on vLLM: at its REST door, and through the proxy at the fmaas door it also has."""

from typing import Any

import pytest

from runtimes.doors import both, outcome_of
from runtimes.lab import Lab

pytestmark = pytest.mark.heavy

SDK, CHAINS = "langchain_sdk", "langchain_chains"
SERVERS_OWN = ("id", "created", "system_fingerprint")
"""What is another with every answer."""
USAGE = {"stream_options": {"include_usage": True}}
GREEDY: dict[str, Any] = {"temperature": 0}
DRAWN = {"temperature": 1.5, "seed": 7}
COMPLETIONS: dict[str, dict[str, Any]] = {
    "the 16 tokens of a client that sets no limit": {"prompt": "one two three", **GREEDY},
    "an end": {"prompt": "naïve", "max_tokens": 60, **GREEDY},
    "several prompts": {"prompt": ["one two", "the proxy", "naïve"], "max_tokens": 40, **GREEDY},
    "a stop sequence": {"prompt": "one two three", "max_tokens": 40, "stop": ["six"], **GREEDY},
    "a stop sequence kept": {
        "prompt": "one two",
        "max_tokens": 40,
        "stop": "six",
        "extra_body": {"include_stop_str_in_output": True},
        **GREEDY,
    },
    "a draw": {"prompt": "Roses are", "max_tokens": 20, **DRAWN},
    "a draw at OpenAI's own temperature": {"prompt": "Roses are", "max_tokens": 20, "seed": 42},
    "a draw of few": {"prompt": "naïve", "max_tokens": 20, "top_p": 0.9, "extra_body": {"top_k": 5}, **DRAWN},
    "an echo": {"prompt": "one two", "max_tokens": 4, "echo": True, **GREEDY},
    "a penalty": {"prompt": "a b c", "max_tokens": 30, "extra_body": {"repetition_penalty": 1.5}, **GREEDY},
    "the end of a long prompt": {
        "prompt": "one two three four",
        "max_tokens": 9,
        "extra_body": {"truncate_prompt_tokens": 4},
        **GREEDY,
    },
    "a pattern": {
        "prompt": "one",
        "max_tokens": 12,
        "extra_body": {"structured_outputs": {"regex": "[a-f]{3}[0-9]"}},
        **GREEDY,
    },
    "a choice": {
        "prompt": "one",
        "max_tokens": 12,
        "extra_body": {"structured_outputs": {"choice": ["yes", "no", "maybe"]}},
        **GREEDY,
    },
}
SMILE = [{"role": "user", "content": "Smile"}]
CHATS: dict[str, dict[str, Any]] = {
    "a greeting": {"messages": [{"role": "user", "content": "Hello"}], **GREEDY},
    "a system's word": {
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
        "max_tokens": 40,
        **GREEDY,
    },
    "turns": {
        "messages": [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Good day to you, too."},
            *SMILE,
        ],
        "max_tokens": 30,
        **GREEDY,
    },
    "text in parts": {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Smile"}]}],
        "max_tokens": 30,
        **GREEDY,
    },
    "a draw": {"messages": SMILE, "max_tokens": 30, **DRAWN},
    "a stop sequence": {"messages": SMILE, "max_tokens": 30, "stop": "pleasure", **GREEDY},
}
CALLS = [("complete", name) for name in COMPLETIONS] + [("chat", name) for name in CHATS]
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "temperature": ({"prompt": "a", "temperature": -1}, "400"),
    "top_p": ({"prompt": "a", "top_p": 2}, "400"),
    "length": ({"prompt": "x y z " * 200, "max_tokens": 5}, "400"),
}


def plain(answer: Any) -> Any:
    """An answer without what is the server's own, without nulls, and without empty lists."""
    if isinstance(answer, dict):
        kept = {key: plain(value) for key, value in answer.items() if key not in SERVERS_OWN}
        return {key: value for key, value in kept.items() if value is not None and value != []}
    return [plain(item) for item in answer] if isinstance(answer, list) else answer


def fields_of(call: str, name: str) -> dict[str, Any]:
    """The fields of a call of the tables."""
    return (CHATS if call == "chat" else COMPLETIONS)[name]


@pytest.mark.parametrize(("call", "name"), CALLS)
def test_a_whole_answer_is_the_same(lab: Lab, call: str, name: str) -> None:
    """Texts, reasons and usage are those of the direct call, to the byte."""
    direct, through = (outcome_of(client, call, fields=fields_of(call, name)) for client in both(lab, SDK, "rest"))
    assert plain(through) == plain(direct)


@pytest.mark.parametrize(("call", "name"), CALLS)
def test_a_stream_is_the_same(lab: Lab, call: str, name: str) -> None:
    """Roles, texts and reasons of each choice are those of the direct call, and the usage at the end."""
    fields = fields_of(call, name) | {"stream": True, **USAGE}
    direct, through = (outcome_of(client, call, fields=fields) for client in both(lab, SDK, "rest"))
    assert told(through) == told(direct)
    assert plain(through[-1]) == plain(direct[-1])
    assert direct[-1]["usage"]["completion_tokens"]


def told(events: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """What each choice of a stream tells; how much text an event has is a matter of the engine's pace."""
    choices: dict[int, dict[str, Any]] = {}
    for event in events:
        for choice in event["choices"]:
            said = choices.setdefault(choice["index"], {"text": "", "roles": [], "ends": []})
            delta = choice.get("delta") or {"content": choice.get("text")}
            said["text"] += delta["content"] or ""
            said["roles"] += [delta["role"]] if delta.get("role") else []
            said["ends"] += [(choice["finish_reason"], choice["stop_reason"])] if choice["finish_reason"] else []
    return choices


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_keeps_its_status(lab: Lab, name: str, stream: bool) -> None:
    """What vLLM refuses at its REST door it refuses at the other one, with the same status for the package."""
    fields, status = REFUSED[name]
    outcomes = [client.call("complete", fields=fields | {"stream": stream}) for client in both(lab, SDK, "rest")]
    assert [outcome["error"]["status"] for outcome in outcomes] == [status, status]


def test_models_are_listed(lab: Lab) -> None:
    """The fmaas door knows no names of models: the configured one is listed."""
    direct, through = (outcome_of(client, "models", fields={}) for client in both(lab, SDK, "rest"))
    assert through == direct == ["tiny"]


@pytest.mark.parametrize("how", ["invoke", "stream"])
@pytest.mark.parametrize(("call", "said"), [("complete", "one two three"), ("complete", "naïve"), ("chat", "Smile")])
def test_langchain_gets_the_same(lab: Lab, call: str, said: str, how: str) -> None:
    """langchain's completion and chat classes give the same text, whole and piece by piece."""
    direct, through = (
        outcome_of(client, call, how=how, input=said, fields={"max_tokens": 40}) for client in both(lab, CHAINS, "rest")
    )
    assert "".join(through) == "".join(direct)
    assert through
