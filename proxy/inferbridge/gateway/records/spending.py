"""What a runtime's answers say of themselves: tokens, of which the record has the sum, and of traced calls which
answers they are, and why their texts ended."""

from functools import lru_cache
from typing import Any

from inferbridge.bridge.bridge import Bridge
from inferbridge.bridge.registry import Endpoint
from inferbridge.gateway.record import CallRecord, Generation
from inferbridge.gateway.records.usage import COUNTS, total

_GENERATES = "generate"
_GOES_ON = "not_finished"


def counts_tokens(bridge: Bridge) -> bool:
    """Whether answers of the operation have places for numbers of tokens."""
    return _has_counts(bridge.client.endpoint.operation, bridge.setting.operations)


@lru_cache
def _has_counts(operation: str, operations: Any) -> bool:
    name = "".join(part.capitalize() for part in operation.split("_"))
    reply = getattr(operations, f"{name}Reply", None)
    return reply is not None and not set(COUNTS).isdisjoint(reply.__struct_fields__)


def generates(endpoint: Endpoint) -> bool:
    """Whether its answers are texts."""
    return endpoint.operation == _GENERATES


class Said:
    """The tokens of one call as its runtime's messages say them, for a record: what none of them says is not guessed.

    Numbers are only kept, which costs a fraction of what a `Tally` does; the record asks for them when it is complete.
    """

    __slots__ = ("_generated", "_prompts", "_total")

    def __init__(self) -> None:
        self._prompts: dict[int, int] = {}  # by the number of the runtime's answer
        self._generated: dict[int, int] = {}  # by the index of a text
        self._total: int | None = None

    def reply(self, number: int, reply: Any) -> None:
        """A whole answer."""
        prompt, completion, both = (total(reply, name) for name in COUNTS)
        if prompt is None and both is not None:
            prompt = both - (completion or 0)
        if prompt is not None:
            self._prompts[number] = prompt
        if completion is not None:
            self._generated[number] = completion

    def message(self, number: int, message: Any) -> None:
        """A message of a stream, whose counts are cumulative."""
        completion = getattr(message, "completion_tokens", None)
        if completion is not None:
            if message.usage_only:
                self._total = completion
            else:
                self._generated[message.index] = completion
        prompt = getattr(message, "prompt_tokens", None)
        if prompt is not None:
            self._prompts[number] = prompt

    def spent(self) -> tuple[int, int] | None:
        """Tokens of prompts and of texts; None where nobody said any."""
        if not self._prompts and not self._generated and self._total is None:
            return None
        generated = sum(self._generated.values()) if self._total is None else self._total
        return sum(self._prompts.values()), generated


class Answered:
    """What the answers of a call say of themselves, for its trace."""

    __slots__ = ("_generation",)

    def __init__(self, generation: Generation) -> None:
        self._generation = generation

    def reply(self, number: int, reply: Any) -> None:
        """A whole answer."""
        self._name(reply)
        for choice in getattr(reply, "choices", ()):
            self._end(number, choice)

    def message(self, number: int, message: Any) -> None:
        """A message of a stream."""
        if not self._generation.answer_id:
            self._name(message)
        self._end(number, message)

    def _name(self, said: Any) -> None:
        generation = self._generation
        generation.answer_id = generation.answer_id or getattr(said, "id", "")
        generation.model = generation.model or getattr(said, "model", "")

    def _end(self, number: int, text: Any) -> None:
        reason = getattr(text, "finish_reason", None)
        if reason is not None and reason != _GOES_ON:
            self._generation.finished[number, text.index] = reason


class SaidAndAnswered(Said):
    """The tokens of one call, and what else its answers say."""

    __slots__ = ("_answered",)

    def __init__(self, generation: Generation) -> None:
        super().__init__()
        self._answered = Answered(generation)

    def reply(self, number: int, reply: Any) -> None:
        """A whole answer."""
        super().reply(number, reply)
        self._answered.reply(number, reply)

    def message(self, number: int, message: Any) -> None:
        """A message of a stream."""
        super().message(number, message)
        self._answered.message(number, message)


def traced(record: CallRecord | None) -> Generation | None:
    """What a trace tells of a call; None where there will be no spans of it."""
    trace = record.trace if record is not None else None
    return trace.generation if trace is not None and trace.sampled else None


def said(record: CallRecord | None, bridge: Bridge) -> Said | Answered | None:
    """What to tell of the answers over a bridge; None where nobody wants to know, or there is nothing to tell."""
    if record is None or not record.observed or not counts_tokens(bridge):
        return None
    generation = traced(record)
    if record.metered:
        return Answered(generation) if generation is not None else None
    if record.spent is not None and (before := record.spent()) is not None:
        record.use(*before)  # of a call that is made of several, one after the other
    found = Said() if generation is None else SaidAndAnswered(generation)
    record.spent = found.spent
    return found
