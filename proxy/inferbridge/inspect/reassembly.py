"""What the pieces of a stream make together: text, reasoning, tool calls, why it finished, and the tokens it took.

Knows the streams of OpenAI's completions and chat, of caikit, of TGIS and of Triton's generate extension by the members
that their messages have. It never judges: what it does not know is left to the list of events.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from inferbridge.inspect.page import Page, quoted, shorten
from inferbridge.secret import HIDDEN

TEXT_LENGTH = 32 * 1024
"""Characters of one text that are kept."""
MAX_PARTS = 64
"""Choices, and tool calls of one choice, that are kept."""
_NAME_LENGTH = 200


@dataclass(slots=True)
class Text:
    """A text that comes in pieces."""

    pieces: list[str] = field(default_factory=list)
    length: int = 0

    def add(self, piece: Any) -> None:
        """The next piece; what is no text is none."""
        if isinstance(piece, str) and piece:
            if self.length < TEXT_LENGTH:
                self.pieces.append(piece[: TEXT_LENGTH - self.length])
            self.length += len(piece)

    def lines(self) -> Iterator[str]:
        """Its lines, as a quotation."""
        text = "".join(self.pieces)
        yield from (f"| {line}" for line in text.split("\n"))
        if self.length > len(text):
            yield f"… (+{self.length - len(text)} characters)"

    def value(self) -> str:
        """The text, and how much of it is missing; pieces that were hidden are hidden once."""
        text = "".join(self.pieces)
        if self.pieces and set(self.pieces) == {HIDDEN}:
            return HIDDEN
        return text if self.length <= len(text) else f"{text}… (+{self.length - len(text)} characters)"


@dataclass(slots=True)
class ToolCall:
    """A function that the model wants called."""

    id: str = ""
    name: str = ""
    arguments: Text = field(default_factory=Text)


@dataclass(slots=True)
class Choice:
    """One of the answers."""

    text: Text = field(default_factory=Text)
    reasoning: Text = field(default_factory=Text)
    tool_calls: dict[int, ToolCall] = field(default_factory=dict)
    finish_reason: str = ""

    def value(self) -> dict[str, Any]:
        """What it says, as plain values."""
        calls = [
            {"index": at, "id": call.id, "name": call.name, "arguments": call.arguments.value()}
            for at, call in sorted(self.tool_calls.items())
        ]
        found = {
            "text": self.text.value(),
            "reasoning": self.reasoning.value(),
            "tool_calls": calls,
            "finish_reason": self.finish_reason,
        }
        return {name: part for name, part in found.items() if part}


class Reassembly:
    """Takes the messages of one stream, parsed, in order."""

    def __init__(self) -> None:
        self._choices: dict[int, Choice] = {}
        self._usage: dict[str, Any] = {}
        self._errors: list[str] = []

    def add(self, message: Any) -> None:
        """The next message; anything that is no object says nothing."""
        if not isinstance(message, dict):
            return
        if isinstance(message.get("usage"), dict):
            self._usage = message["usage"]
        if isinstance(message.get("error"), dict | str):
            self._errors.append(shorten(orjson.dumps(message["error"]).decode()))
        for choice in _items(message.get("choices")):
            self._add_openai(choice)
        if "generated_text" in message or isinstance(message.get("details"), dict):
            self._add_caikit(message)
        if "text_output" in message:
            self._add_text(message["text_output"])
        if isinstance(message.get("generated_token_count", message.get("input_token_count")), int):
            self._add_tgis(message)

    def _add_text(self, text: Any) -> None:
        choice = self._choice(0)
        if choice is not None:
            choice.text.add(text)

    def _choice(self, index: Any) -> Choice | None:
        number = index if type(index) is int else 0
        if number not in self._choices and len(self._choices) >= MAX_PARTS:
            return None
        return self._choices.setdefault(number, Choice())

    def _add_openai(self, piece: dict[str, Any]) -> None:
        choice = self._choice(piece.get("index"))
        if choice is None:
            return
        choice.text.add(piece.get("text"))
        if isinstance(piece.get("finish_reason"), str):
            choice.finish_reason = piece["finish_reason"]
        delta = piece.get("delta")
        if isinstance(delta, dict):
            choice.text.add(delta.get("content"))
            choice.reasoning.add(delta.get("reasoning_content") or delta.get("reasoning"))
            for call in _items(delta.get("tool_calls")):
                _add_call(choice, call)

    def _add_caikit(self, message: dict[str, Any]) -> None:
        self._add_text(message.get("generated_text"))
        details = message.get("details")
        if not isinstance(details, dict):
            return
        choice = self._choice(0)
        reason = details.get("finish_reason")
        if choice is not None and isinstance(reason, str) and reason != "NOT_FINISHED":
            choice.finish_reason = reason
        counts = {name: details[name] for name in ("input_token_count", "generated_tokens") if details.get(name)}
        self._usage = {**self._usage, **counts}

    def _add_tgis(self, message: dict[str, Any]) -> None:
        self._add_text(message.get("text"))
        choice = self._choice(0)
        if choice is not None and isinstance(message.get("stop_reason"), str):
            choice.finish_reason = message["stop_reason"]
        # an older runtime tells the input's tokens in the first message alone, and the text's so far in each
        counts = {name: message[name] for name in ("input_token_count", "generated_token_count") if message.get(name)}
        self._usage = {**self._usage, **counts}

    def value(self) -> dict[str, Any]:
        """All of it as plain values; empty where no message had a form that is known."""
        choices = [{"index": number, **choice.value()} for number, choice in sorted(self._choices.items())]
        found = {"choices": choices, "usage": self._usage, "errors": self._errors[:MAX_PARTS]}
        return {name: part for name, part in found.items() if part}

    def add_to(self, page: Page) -> None:
        """All of it as lines."""
        for number, choice in sorted(self._choices.items()):
            reason = f"finish reason {quoted(choice.finish_reason, _NAME_LENGTH)}" if choice.finish_reason else "open"
            page.add(f"choice {number}: {reason}")
            for what, text in (("reasoning", choice.reasoning), ("text", choice.text)):
                if text.length:
                    page.add(f"{what}:", 1)
                    page.add_all(text.lines(), 2)
            for at, call in sorted(choice.tool_calls.items()):
                page.add(f"tool call {at}: {quoted(call.name, _NAME_LENGTH)}, id {quoted(call.id, _NAME_LENGTH)}", 1)
                page.add_all(call.arguments.lines(), 2)
        if self._usage:
            counts = (
                f"{shorten(str(name), _NAME_LENGTH)} {value}" for name, value in self._usage.items() if _is_count(value)
            )
            page.add(f"usage: {', '.join(counts)}")
        page.add_all(f"! error: {error}" for error in self._errors[:MAX_PARTS])


def _items(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _is_count(value: Any) -> bool:
    return type(value) is int


def _add_call(choice: Choice, piece: dict[str, Any]) -> None:
    index = piece.get("index")
    number = index if type(index) is int else 0
    if number not in choice.tool_calls and len(choice.tool_calls) >= MAX_PARTS:
        return
    call = choice.tool_calls.setdefault(number, ToolCall())
    if isinstance(piece.get("id"), str):
        call.id = piece["id"] or call.id
    function = piece.get("function")
    if isinstance(function, dict):
        if isinstance(function.get("name"), str):
            call.name += function["name"][:_NAME_LENGTH] if len(call.name) < _NAME_LENGTH else ""
        call.arguments.add(function.get("arguments"))
