"""The OpenAI API as vLLM 0.10 and later speaks it: completions and chat.

* A temperature of 0 is greedy decoding; otherwise tokens are drawn, at 1.0 unless said. vLLM takes more defaults from
  the model's `generation_config.json`, so a request from another API says temperature, top_p, top_k and
  repetition_penalty explicitly. Zeros that mean "off" elsewhere are errors here and are not sent.
* `finish_reason` "stop" covers the end token and a stop sequence; vLLM's `stop_reason` tells them apart. "length" is
  the client's own limit only when as many tokens were generated.
* Usage is counted over all choices. In a stream it comes last and only when asked for; vLLM gives it with every
  message on request (`continuous_usage_stats`), which APIs that count as they go need.
"""

from collections.abc import Iterable
from copy import copy
from typing import Any

from inferbridge.bridge.context import Context
from inferbridge.bridge.errors import invalid
from inferbridge.bridge.rules.base import MessageReader, MessageWriter, Rule

_MAX_SEED = (1 << 63) - 1
_OFF = {"top_p": 1.0, "repetition_penalty": 1.0, "top_k": 0}
"""What vLLM takes for "no effect"; said explicitly, the model's own defaults do not apply."""


class OpenAi(Rule):
    """What completions and chat share."""

    prefix = ""
    """Of ids."""

    def received_request(self, request: Any, context: Context) -> None:
        """A temperature of 0 means greedy."""
        if request.temperature == 0:
            request.method, request.temperature = "greedy", None
        else:
            request.method = "sample"

    def sent_request(self, request: Any, context: Context) -> Any:
        """Say explicitly what the model's configuration would decide otherwise."""
        request = copy(request)
        if request.seed is not None and request.seed > _MAX_SEED:
            raise invalid(f"seed: {context.profile.name} takes seeds up to 2^63-1")
        if request.method == "greedy":
            request.temperature = 0.0
        elif request.temperature is None:
            request.temperature = 1.0
        for name, value in _OFF.items():
            if not getattr(request, name):
                setattr(request, name, value)
        request.method = None
        if context.stream:
            request.usage_in_stream = request.usage_in_messages = True
        return request

    def received_reply(self, reply: Any, request: Any, context: Context) -> None:
        """Reasons, and the counts of a single choice."""
        for choice in reply.choices:
            if len(reply.choices) == 1:
                choice.prompt_tokens, choice.completion_tokens = reply.prompt_tokens, reply.completion_tokens
            choice.finish_reason = _reason(choice, choice.completion_tokens, request)

    def sent_reply(self, reply: Any, request: Any, context: Context) -> None:
        """Totals, and what the client expects to find in every answer."""
        reply.id = reply.id or f"{self.prefix}-{context.new_id()}"
        reply.created = reply.created or int(context.now())
        reply.model = reply.model or request.model
        for name in ("prompt_tokens", "completion_tokens"):
            if getattr(reply, name) is None:
                setattr(reply, name, sum(getattr(choice, name) or 0 for choice in reply.choices))
        reply.total_tokens = reply.prompt_tokens + reply.completion_tokens
        for position, choice in enumerate(reply.choices):
            choice.index = position

    def reader(self, request: Any, context: Context) -> MessageReader:
        """Puts reasons right, and leaves roles out."""
        return _Reader(request)

    def writer(self, request: Any, context: Context) -> MessageWriter:
        """Ids, roles and usage."""
        return _Writer(self.prefix, request, context, chat=False)


class OpenAiCompletions(OpenAi):
    """/v1/completions"""

    prefix = "cmpl"


class OpenAiChat(OpenAi):
    """/v1/chat/completions"""

    prefix = "chatcmpl"

    def writer(self, request: Any, context: Context) -> MessageWriter:
        """With a first message that gives the role."""
        return _Writer(self.prefix, request, context, chat=True)


def _reason(said: Any, generated: int | None, request: Any) -> str | None:
    """The neutral reason of a choice or message."""
    if said.finish_reason == "eos_token" and said.stop_sequence:
        return "stop_sequence"
    if (
        said.finish_reason == "max_tokens"
        and request.max_tokens is not None
        and generated not in (None, request.max_tokens)
    ):
        return "token_limit"
    reason: str | None = said.finish_reason
    return reason


class _Reader(MessageReader):
    """vLLM's chunks to the operation's messages."""

    def __init__(self, request: Any) -> None:
        self._request = request
        self._counted = False

    def read(self, message: Any) -> Iterable[Any]:
        """The first message that has a count of the prompt gives it, later ones do not repeat it."""
        if message.prompt_tokens is not None and not message.usage_only:
            if self._counted:
                message.prompt_tokens = None
            self._counted = True
        message.finish_reason = _reason(message, message.completion_tokens, self._request)
        return (message,)


class _Writer(MessageWriter):
    """The operation's messages to chunks."""

    def __init__(self, prefix: str, request: Any, context: Context, *, chat: bool) -> None:
        self._message = context.operations.GenerateMessage
        self._id = f"{prefix}-{context.new_id()}"
        self._created = int(context.now())
        self._model = request.model
        self._usage = bool(request.usage_in_stream)
        self._usage_in_messages = bool(request.usage_in_messages)
        self._chat = chat
        self._begun: set[int] = set()
        self._prompt: dict[int, int] = {}
        self._completion: dict[int, int] = {}

    def write(self, message: Any) -> Iterable[Any]:
        """The chunks for one message; those with nothing to say are left out."""
        self._count(message)
        if message.usage_only:
            return ()
        made = []
        if self._chat and message.index not in self._begun:
            made.append(self._chunk(index=message.index, text="", role="assistant", **self._so_far(message.index)))
        self._begun.add(message.index)
        if (
            message.text
            or message.finish_reason is not None
            or message.tool_calls
            or message.reasoning
            or message.tokens
        ):
            message.id, message.created, message.model = self._id, self._created, message.model or self._model
            for name, count in self._so_far(message.index).items():
                setattr(message, name, count)
            made.append(message)
        return made

    def _chunk(self, **values: Any) -> Any:
        return self._message(id=self._id, created=self._created, model=self._model, **values)

    def _so_far(self, index: int) -> dict[str, int | None]:
        """The counts that a message of this choice has: none, unless the client wants them in every message."""
        if not self._usage_in_messages:
            return dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"))
        prompt, completion = self._prompt.get(index, 0), self._completion.get(index, 0)
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    def _count(self, message: Any) -> None:
        if message.prompt_tokens is not None:
            self._prompt[message.index] = message.prompt_tokens
        if message.completion_tokens is not None:
            self._completion[message.index] = message.completion_tokens

    def finish(self) -> Iterable[Any]:
        """Usage, when asked for."""
        if not self._usage:
            return ()
        prompt, completion = sum(self._prompt.values()), sum(self._completion.values())
        counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        return (self._chunk(text="", usage_only=True, **counts),)
