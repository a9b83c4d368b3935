"""What one answer of a runtime used, in tokens.

A `Tally` tells it in steps, as soon as it is known; their sum never shrinks. A stream says how many tokens there are in
each message, at its end, or (OpenAI's without `stream_options.include_usage`) never: then each of its messages with
text counts as one token, or as those that it lists, and its prompt as none. That is the least there can be. The same
goes for a whole answer without counts, which is worth a complaint.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
"""Where replies and messages of operations say how many there are."""
_CONTENT = ("text", "reasoning", "tool_calls")


class Usage(NamedTuple):
    """Tokens, on top of those that were told before."""

    prompt_tokens: int
    completion_tokens: int


type Used = Callable[[Usage], None]
"""Hears what a call used, as it becomes known."""
type Complain = Callable[[str], None]
"""Hears why not all tokens of an answer are counted."""


class Tally:
    """The tokens of one answer of a runtime."""

    def __init__(self, used: Used, complain: Complain) -> None:
        self._used = used
        self._complain = complain
        self._told = Usage(0, 0)
        self._prompt = 0
        self._generated: dict[int, int] = {}  # by the index of a text

    def reply(self, reply: Any) -> None:
        """All of a whole answer."""
        prompt, completion, both = (total(reply, name) for name in COUNTS)
        if prompt is None and completion is None and both is None:
            self._complain("a whole answer says no numbers of tokens")
            completion = sum(_least(choice) for choice in getattr(reply, "choices", ()))
        if prompt is None:
            prompt = (both or 0) - (completion or 0)
        self._tell(prompt, completion or 0)

    def message(self, message: Any) -> None:
        """The next message of a stream. Counts of texts are cumulative; one of usage alone has the totals."""
        prompt, completion = getattr(message, "prompt_tokens", None), getattr(message, "completion_tokens", None)
        self._prompt = max(self._prompt, prompt or 0)  # the texts of one prompt repeat its count
        if getattr(message, "usage_only", False):
            self._tell(self._prompt, completion or 0)
            return
        index = getattr(message, "index", 0)
        before = self._generated.get(index, 0)
        self._generated[index] = before + _least(message) if completion is None else max(before, completion)
        self._tell(self._prompt, sum(self._generated.values()))

    def _tell(self, prompt: int, completion: int) -> None:
        before = self._told
        self._told = Usage(max(before.prompt_tokens, prompt), max(before.completion_tokens, completion))
        if self._told != before:
            after = self._told
            more = Usage(after.prompt_tokens - before.prompt_tokens, after.completion_tokens - before.completion_tokens)
            self._used(more)


def total(reply: Any, name: str) -> int | None:
    """What the whole says, or all of its texts together; None where neither says it."""
    whole: int | None = getattr(reply, name, None)
    if whole is not None:
        return whole
    said = [getattr(choice, name, None) for choice in getattr(reply, "choices", ())]
    known = [count for count in said if count is not None]
    return sum(known) if known else None


def _least(said: Any) -> int:
    """Tokens that a text has at least."""
    listed = len(getattr(said, "tokens", ()))
    return listed or int(any(getattr(said, name, None) for name in _CONTENT))
