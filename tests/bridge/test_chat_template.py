"""Chats to prompts by a model's own template."""

import json
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inferbridge.bridge.chat_template import ChatTemplate
from inferbridge.bridge.errors import BridgeError
from inferbridge_generated import operations

PLAIN = (
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
HELLO = [{"role": "user", "content": "hi"}]


def test_a_template_is_rendered() -> None:
    """Messages, tokens and the generation prompt come out as the template says."""
    template = ChatTemplate(PLAIN, {"bos_token": "<s>"})
    assert template.render(HELLO, add_generation_prompt=True) == "<s><user>hi</user><assistant>"


def test_text_parts_are_joined() -> None:
    """Content given as text parts is one text."""
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert "a\nb" in ChatTemplate(PLAIN).render([{"role": "user", "content": parts}])


def test_a_tokenizer_configuration_has_all_it_takes(tmp_path: Path) -> None:
    """Template and tokens of a tokenizer_config.json are used."""
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps({"chat_template": PLAIN, "bos_token": {"content": "<s>"}, "eos_token": "</s>"}))
    assert ChatTemplate.load(path).render(HELLO) == "<s><user>hi</user>"


def test_a_template_file_takes_its_tokens_from_beside_it(tmp_path: Path) -> None:
    """A .jinja file of a model's folder is rendered with the tokens of the tokenizer_config.json there."""
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": {"content": "</s>"}}))
    path = tmp_path / "chat_template.jinja"
    path.write_text("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}")
    assert ChatTemplate.load(path).render(HELLO) == "<s>hi</s>"


@pytest.mark.parametrize(
    ("adds", "prompt"), [(None, "<user>hi</user>"), (True, "<user>hi</user>"), (False, "<s><user>hi</user>")]
)
def test_a_prompt_begins_once(tmp_path: Path, adds: bool | None, prompt: str) -> None:
    """A begin token that the template and the runtime's tokenizer would both put first is left to the latter."""
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps({"chat_template": PLAIN, "bos_token": "<s>", "add_bos_token": adds}))
    request = operations.GenerateRequest(model="m", messages=HELLO)
    assert ChatTemplate.load(path).render_request(request) == f"{prompt}<assistant>"


def test_a_tokenizer_configuration_may_have_several_templates(tmp_path: Path) -> None:
    """Of named templates `tool_use` renders chats with tools and `default` the others."""
    path = tmp_path / "tokenizer_config.json"
    named = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]
    path.write_text(json.dumps({"chat_template": named}))
    template = ChatTemplate.load(path)
    assert template.render(HELLO, tools=None) == "plain"
    assert template.render(HELLO, tools=[{"type": "function"}]) == "tools"


@pytest.mark.parametrize(
    "template", [None, 5, [], [{"name": "rag", "template": ""}], [{"name": "default"}], ["default"]], ids=str
)
def test_a_configuration_without_a_template_is_told_when_it_is_loaded(tmp_path: Path, template: object) -> None:
    """What is no template, or none by default, stops the start."""
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps({"chat_template": template}))
    with pytest.raises(ValueError, match="chat"):
        ChatTemplate.load(path)


def asked(**values: Any) -> Any:
    """A chat as a neutral request."""
    plain = {"messages": HELLO, "add_generation_prompt": None, "tools": None, "documents": None}
    return SimpleNamespace(**{**plain, "chat_template_kwargs": None, **values})


def test_a_call_may_set_further_variables() -> None:
    """`chat_template_kwargs` reach the template, before what the request says of its own, as in vLLM."""
    template = ChatTemplate("{{ enable_thinking }} {{ tools }} {{ bos_token }}", {"bos_token": "<s>"})
    variables = {"enable_thinking": False, "tools": "own", "bos_token": "B"}
    assert template.render_request(asked(chat_template_kwargs=variables)) == "False own B"


@pytest.mark.parametrize("variables", [{"messages": []}, {"self": 1}, {"chat_template": "x"}, ["a"], "a"], ids=str)
def test_variables_that_are_none_are_the_clients_error(variables: object) -> None:
    """What would replace the chat itself is refused by name, and so is what is no object."""
    with pytest.raises(BridgeError, match="chat_template_kwargs"):
        ChatTemplate(PLAIN).render_request(asked(chat_template_kwargs=variables))


def test_a_template_knows_the_date() -> None:
    """`strftime_now` is there, as transformers has it."""
    days = {datetime.now().astimezone().strftime("%Y-%m-%d")}
    rendered = ChatTemplate("{{ strftime_now('%Y-%m-%d') }}").render(HELLO)
    assert rendered in days | {datetime.now().astimezone().strftime("%Y-%m-%d")}


@pytest.mark.parametrize(
    "messages",
    ["hi", [1], [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]],
    ids=["no list", "no objects", "an image"],
)
def test_messages_that_cannot_be_a_prompt_are_the_clients_error(messages: object) -> None:
    """What no prompt can carry is refused by name."""
    with pytest.raises(BridgeError, match="messages"):
        ChatTemplate(PLAIN).render(messages)  # type: ignore[arg-type]  # what clients send


@pytest.mark.parametrize(
    "text",
    [
        "{{ raise_exception('roles must alternate') }}",
        "{{ messages[0].__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{% for i in range(999999999) %}x{% endfor %}",
        "{{ nothing.at.all }}",
    ],
)
def test_a_template_can_do_no_harm(text: str) -> None:
    """A template that refuses, fails, changes its input, reaches for Python or never ends is the client's error."""
    with pytest.raises(BridgeError, match="messages"):
        ChatTemplate(text).render(HELLO)


@pytest.mark.parametrize("text", ["{% if %}", "{% continue %}", "{% for m in messages %}{% endfor %}{% break %}"])
def test_a_broken_template_is_told_when_it_is_loaded(text: str) -> None:
    """Syntax errors, also those that only Python finds in what Jinja makes of it, stop the start, no call."""
    with pytest.raises(ValueError, match="the chat template is broken"):
        ChatTemplate(text)
