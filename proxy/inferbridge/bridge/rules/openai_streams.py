"""Streams of the OpenAI API: vLLM's chunks to the operation's messages, and those to chunks for clients.

In a stream usage comes last and only when asked for; vLLM gives it with every chunk on request
(`continuous_usage_stats`), which APIs that count as they go need. With `echo` the first chunk holds the prompt.
"""

from collections.abc import Iterable
from typing import Any

from inferbridge.bridge.context import Context
from inferbridge.bridge.rules import logprobs
from inferbridge.bridge.rules.base import MessageReader, MessageWriter

_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")


def finish_reason(said: Any, generated: int | None, request: Any) -> str | None:
    """The neutral reason of a choice or message."""
    reason: str | None = said.finish_reason
    if reason == "eos_token" and said.stop_sequence:
        return "stop_sequence"
    if reason == "max_tokens" and (request.max_tokens is None or generated not in (None, request.max_tokens)):
        return "token_limit"
    return reason


def split_prompt(said: Any, prompt_tokens: int | None, request: Any, context: Context) -> str:
    """Read the tokens of a choice or message; what is the prompt's goes where the client asked for it, or away.

    The first of them, if tokens of the prompt were asked for, begins with the prompt's text and tokens. Gives the part
    of the text that is the prompt's.
    """
    tokens: list[Any] = []
    if said.logprobs is not None:
        tokens = logprobs.read_columns(said.logprobs, request.top_n_tokens or 0, context.operations)
        said.logprobs = None
    echoed = request.echo or request.return_prompt_tokens
    count = (prompt_tokens or 0) if echoed else 0
    prompt = request.prompts[0] if echoed and request.prompts and said.text.startswith(request.prompts[0]) else ""
    if not request.echo:
        said.text = said.text[len(prompt) :]
    said.prompt_details = tokens[:count] if request.return_prompt_tokens else []
    said.tokens = tokens[count:] if request.return_tokens else []
    if request.return_ranks:
        _rank(said.prompt_details, getattr(said, "prompt_logprobs", None))
    if not request.return_logprobs:
        logprobs.without_logprobs([*said.prompt_details, *said.tokens])
    return prompt if request.echo else ""


def _rank(tokens: list[Any], listed: Any) -> None:
    """Ranks of a prompt's tokens: the first entry of each place is the token itself."""
    for token, place in zip(tokens, listed or (), strict=False):
        if isinstance(place, dict) and place:
            token.rank = next(iter(place.values())).get("rank")


class ChunkReader(MessageReader):
    """vLLM's chunks to the operation's messages."""

    def __init__(self, request: Any, context: Context) -> None:
        self._request = request
        self._context = context
        self._begun: set[int] = set()

    def read(self, message: Any) -> Iterable[Any]:
        """The first message that has a count of the prompt gives it, later ones do not repeat it."""
        if message.usage_only:
            return (message,)
        message.finish_reason = finish_reason(message, message.completion_tokens, self._request)
        if message.index in self._begun:
            message.prompt_tokens = None
            if message.logprobs is not None:
                self._read_tokens(message)
            return (message,)
        self._begun.add(message.index)
        return self._first(message)

    def _first(self, message: Any) -> Iterable[Any]:
        prompt = split_prompt(message, message.prompt_tokens, self._request, self._context)
        if not prompt and not message.prompt_details:
            return (message,)
        start = self._context.operations.GenerateMessage(
            index=message.index, text=prompt, prompt_tokens=message.prompt_tokens, prompt_details=message.prompt_details
        )
        message.text, message.prompt_tokens, message.prompt_details = message.text[len(prompt) :], None, []
        return (start, message)

    def _read_tokens(self, message: Any) -> None:
        request = self._request
        listed, message.logprobs = message.logprobs, None
        if request.return_tokens:
            message.tokens = logprobs.read_columns(listed, request.top_n_tokens or 0, self._context.operations)
        if not request.return_logprobs:
            logprobs.without_logprobs(message.tokens)


class ChunkWriter(MessageWriter):
    """The operation's messages to chunks."""

    def __init__(self, prefix: str, request: Any, context: Context, *, chat: bool) -> None:
        self._message = context.operations.GenerateMessage
        self._id = f"{prefix}-{context.new_id()}"
        self._created = int(context.now())
        self._request = request
        self._usage = bool(request.usage_in_stream)
        self._each = self._usage and bool(request.usage_in_messages)
        self._chat = chat
        self._begun: set[int] = set()
        self._written: dict[int, int] = {}  # characters of each text
        self._prompt: dict[int, int] = {}
        self._completion: dict[int, int] = {}

    def write(self, message: Any) -> Iterable[Any]:
        """The chunks for one message; those with nothing to say are left out."""
        if self._usage:
            self._count(message)
        if message.usage_only:
            return ()
        made = []
        if self._chat and message.index not in self._begun:
            made.append(self._chunk(index=message.index, text="", role="assistant", **self._counts(message.index)))
            self._begun.add(message.index)
        if self._request.return_tokens:
            self._list_tokens(message)
        if (
            message.text
            or message.finish_reason is not None
            or message.tool_calls
            or message.reasoning
            or message.logprobs is not None
        ):
            self._complete(message)
            made.append(message)
        return made

    def _complete(self, message: Any) -> None:
        """What clients find in every chunk, and nothing else."""
        message.id, message.created = self._id, self._created
        if message.finish_reason != "stop_sequence":
            message.stop_sequence = ""  # fmaas names the text of the end token here
        if not message.model:
            message.model = self._request.model
        message.prompt_tokens = message.completion_tokens = message.total_tokens = None
        if self._each:
            for name, count in self._counts(message.index).items():
                setattr(message, name, count)
        if message.tokens or message.prompt_details:
            message.tokens, message.prompt_details = [], []

    def _list_tokens(self, message: Any) -> None:
        request = self._request
        prompt = message.prompt_details if request.echo else []
        offset = self._written.get(message.index, 0)
        if prompt or message.tokens:
            alternatives = request.top_n_tokens or 0
            if self._chat:
                message.logprobs = logprobs.content(message.tokens, alternatives)
            else:
                message.logprobs = logprobs.columns(prompt, message.tokens, offset, alternatives)
        self._written[message.index] = offset + len(message.text)

    def _chunk(self, **values: Any) -> Any:
        return self._message(id=self._id, created=self._created, model=self._request.model, **values)

    def _count(self, message: Any) -> None:
        if message.prompt_tokens is not None:
            self._prompt[message.index] = message.prompt_tokens
        if message.completion_tokens is not None:
            self._completion[message.index] = message.completion_tokens

    def _counts(self, index: int) -> dict[str, int]:
        """Usage in every chunk, when asked for: of the chunk's own answer."""
        return self._sums(self._prompt.get(index, 0), self._completion.get(index, 0)) if self._each else {}

    def _sums(self, prompt: int, completion: int) -> dict[str, int]:
        return dict(zip(_COUNTS, (prompt, completion, prompt + completion), strict=True))

    def finish(self) -> Iterable[Any]:
        """Usage, when asked for; a prompt counts once for all of its answers."""
        if not self._usage:
            return ()
        answers = self._request.n or 1
        prompt = sum(count for index, count in self._prompt.items() if index % answers == 0)
        return (self._chunk(text="", usage_only=True, **self._sums(prompt, sum(self._completion.values()))),)
