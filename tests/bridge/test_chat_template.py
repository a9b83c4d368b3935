"""Chats to prompts by a model's own template."""

import json
from pathlib import Path

import pytest

from inferbridge.bridge.chat_template import ChatTemplate
from inferbridge.bridge.errors import BridgeError

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


def test_a_broken_template_is_told_when_it_is_loaded() -> None:
    """Syntax errors stop the start, not the first call."""
    with pytest.raises(ValueError, match="broken"):
        ChatTemplate("{% for %}")
