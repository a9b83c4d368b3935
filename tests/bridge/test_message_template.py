"""Messages of a text stream that are encoded around a template."""

from typing import Any

import msgspec
import pytest

from inferbridge.bridge.message_template import MessageTemplate
from inferbridge_generated.operations import GenerateMessage

TEXTS = ["a", "b", 'a "quote" \\ and \n', "text", "", "\u2028\U0001f600", "id", "\ue000"]


def encode(message: GenerateMessage) -> bytes:
    """As a half-bridge does it."""
    return msgspec.json.encode({"id": message.id, "text": message.text, "n": message.completion_tokens})


@pytest.mark.parametrize("counts", [[None] * 8, list(range(8)), [1, 1, 1, 2, 2, 2, 2, 1]])
def test_a_template_changes_no_byte(counts: list[int | None]) -> None:
    """Whatever stays the same and whatever changes, each message is what encoding it in full gives."""
    messages = [GenerateMessage(id="id", text=text, completion_tokens=n) for text, n in zip(TEXTS, counts, strict=True)]
    expected = [encode(message) for message in messages]
    template = MessageTemplate(encode)
    assert [template.encode(message) for message in messages] == expected


def test_messages_that_differ_in_their_text_alone_are_not_encoded_again() -> None:
    """After the second message and the search for its text, the template does the rest."""
    calls = []
    template = MessageTemplate(lambda message: (calls.append(message.text), encode(message))[1])
    for number in range(100):
        template.encode(GenerateMessage(id="id", text=f"{number}"))
    assert len(calls) == 2


@pytest.mark.parametrize(
    "encode",
    [
        lambda message: msgspec.json.encode(message.text.upper()),
        lambda message: msgspec.json.encode([message.text, message.text]),
        lambda message: msgspec.json.encode(message.id),
    ],
    ids=["changed", "twice", "not at all"],
)
def test_an_api_that_does_not_write_the_text_once_as_it_is_gets_no_template(encode: Any) -> None:
    """Such messages are encoded in full."""
    template = MessageTemplate(encode)
    messages = [GenerateMessage(id="a", text=text) for text in ("a", "b", "c", "d")]
    expected = [encode(message) for message in messages]
    assert [template.encode(message) for message in messages] == expected


def test_a_message_need_not_have_a_text() -> None:
    """Streams of tensors go the same way."""

    class Tensor(msgspec.Struct):
        shape: list[int]

    template = MessageTemplate(msgspec.json.encode)
    assert [template.encode(Tensor([number])) for number in range(3)] == [b'{"shape":[%d]}' % n for n in range(3)]
