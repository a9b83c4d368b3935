"""Streamed and whole answers of one operation, each made from the other, and several whole answers joined to one.

* A unary client of a runtime that only streams gets the stream folded: texts appended, counts and reasons taken from
  the last message that has them.
* A streaming client of a runtime that does not stream gets the whole answer as a stream of one delta a choice.
* A batch that was fanned out gets one answer: the items in the order of the request, the counts added up.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from inferbridge.bridge.errors import BridgeError, Code

_COUNTS = ("prompt_tokens", "completion_tokens")


class Fold(Protocol):
    """Collects the neutral messages of one stream."""

    def add(self, message: Any) -> None:
        """The next message."""

    def reply(self) -> Any:
        """The whole answer, after the last message; BridgeError INTERNAL when the stream was not complete."""


class GenerateFold:
    """Text generation: one choice for each `index` that occurs."""

    def __init__(self, operations: Any) -> None:
        self._operations = operations
        self._choices: dict[int, Any] = {}
        self._texts: dict[int, list[str]] = {}
        self._reply = operations.GenerateReply()

    def add(self, message: Any) -> None:
        """Append the text; keep the last of each value that only the end knows."""
        reply = self._reply
        for name in ("id", "created", "model", "fingerprint"):
            setattr(reply, name, getattr(reply, name) or getattr(message, name))
        if message.usage_only:
            self._usage(message, reply)
            return
        choice = self._choice(message.index)
        self._texts[message.index].append(message.text)
        self._usage(message, choice)
        for name in ("finish_reason", "stop_sequence", "seed"):
            setattr(choice, name, getattr(message, name) or getattr(choice, name))
        choice.tokens += message.tokens
        choice.prompt_details += message.prompt_details
        choice.reasoning += message.reasoning
        if message.tool_calls:
            choice.tool_calls = merged_tool_calls(choice.tool_calls, message.tool_calls)

    def reply(self) -> Any:
        """The choices in order; a stream in which one has not ended was cut off."""
        unfinished = [index for index, choice in self._choices.items() if choice.finish_reason is None]
        if unfinished or not self._choices:
            raise BridgeError(Code.INTERNAL, "the runtime's stream ended before the text was complete")
        for index in sorted(self._choices):
            self._choices[index].text = "".join(self._texts[index])
            self._reply.choices.append(self._choices[index])
        return self._reply

    def _choice(self, index: int) -> Any:
        if index not in self._choices:
            self._choices[index] = self._operations.Choice(index=index, text="")
            self._texts[index] = []
        return self._choices[index]

    def _usage(self, message: Any, target: Any) -> None:
        for name in _COUNTS:
            count = getattr(message, name)
            if count is not None:
                setattr(target, name, count)


def merged_tool_calls(known: Any, pieces: Any) -> list[dict[str, Any]]:
    """OpenAI's streamed tool calls: pieces of one `index` are one call, their arguments are appended."""
    calls: dict[int, dict[str, Any]] = {call["index"]: call for call in known or ()}
    for piece in pieces:
        index = piece.get("index", 0)
        call = calls.setdefault(index, {"index": index, "function": {"name": "", "arguments": ""}})
        function = piece.get("function") or {}
        call.update({key: value for key, value in piece.items() if key not in {"function", "index"}})
        call["function"]["name"] = function.get("name") or call["function"]["name"]
        call["function"]["arguments"] += function.get("arguments") or ""
    return [calls[index] for index in sorted(calls)]


def unfold_generate(reply: Any, operations: Any) -> list[Any]:
    """A whole generated answer as messages: for each choice its prompt's count, then all of its text."""
    messages = []
    for choice in reply.choices:
        first = operations.GenerateMessage(
            id=reply.id,
            created=reply.created,
            model=reply.model,
            index=choice.index,
            text="",
            prompt_tokens=choice.prompt_tokens if len(reply.choices) > 1 else _either(choice, reply, "prompt_tokens"),
            seed=choice.seed,
            prompt_details=choice.prompt_details,
        )
        last = operations.GenerateMessage(
            id=reply.id,
            created=reply.created,
            model=reply.model,
            index=choice.index,
            text=choice.text,
            finish_reason=choice.finish_reason,
            stop_sequence=choice.stop_sequence,
            completion_tokens=_either(choice, reply, "completion_tokens")
            if len(reply.choices) == 1
            else choice.completion_tokens,
            seed=choice.seed,
            tokens=choice.tokens,
            tool_calls=choice.tool_calls,
            reasoning=choice.reasoning,
        )
        messages += [first, last]
    return messages


def _either(choice: Any, reply: Any, name: str) -> int | None:
    count: int | None = getattr(choice, name)
    total: int | None = getattr(reply, name)
    return total if count is None else count


FOLDS: Mapping[str, Callable[[Any], Fold]] = {"generate": GenerateFold}
"""Operations whose streams can be folded; the argument is the module of the operations."""
UNFOLDS: Mapping[str, Callable[[Any, Any], list[Any]]] = {"generate": unfold_generate}


def joined(replies: Sequence[Any]) -> Any:
    """One answer of several, one for each item of a batch: items in order, counts added, the rest as the first says."""
    whole = replies[0]
    if len(replies) == 1:
        return whole
    for name in whole.__struct_fields__:
        value = getattr(whole, name)
        if isinstance(value, list):
            setattr(whole, name, [item for reply in replies for item in getattr(reply, name)])
            _renumber(getattr(whole, name))
        elif name in _COUNTS:
            setattr(whole, name, _sum(getattr(reply, name) for reply in replies))
    return whole


def _renumber(items: list[Any]) -> None:
    for position, item in enumerate(items):
        if hasattr(item, "index"):
            item.index = position


def _sum(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
