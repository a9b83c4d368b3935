"""Triton's generate extension, with the tensor names that the vLLM backend's documentation and source give.

The extension itself is checked on a real Triton, these names and defaults on no real backend: both need a GPU.

* A temperature of 0 is greedy decoding; otherwise tokens are drawn, at 1.0 unless said.
* `generate` gives the prompt back before the text unless `exclude_input_in_output`; `generate_stream` never does.
  Models stream only when `stream` says so, whatever the path.
* How many tokens a model generates when nothing is said is its own affair, so that it is said; a client that says
  nothing means the vLLM backend's 16.
* Parameters are scalars, so that one stop sequence can be said.
* Most models do not tell why a text ended; a text that is complete counts as ended by the model. A stream has no mark
  of success: it ends.
"""

from collections.abc import Iterable
from copy import copy
from typing import Any

from inferbridge.bridge.context import Context
from inferbridge.bridge.rules.base import MessageReader, MessageWriter, Rule

_OFF = ("top_k", "top_p", "repetition_penalty")
"""A zero of these means "off" elsewhere and is an error here."""
_MAX_TOKENS = 16


class TritonGenerate(Rule):
    """/v2/models/{model}/generate"""

    streams = False

    def received_request(self, request: Any, context: Context) -> None:
        """A temperature of 0 means greedy; the prompt comes back unless the client does not want it."""
        if request.temperature == 0:
            request.method, request.temperature = "greedy", None
        else:
            request.method = "sample"
        if request.max_tokens is None:
            request.max_tokens = _MAX_TOKENS
        prompt_back = not self.streams if request.echo is None else request.echo
        request.echo = prompt_back or None

    def sent_request(self, request: Any, context: Context) -> Any:
        """Say explicitly what models decide differently."""
        request = copy(request)
        if request.method == "greedy":
            request.temperature = 0.0
        elif request.temperature is None:
            request.temperature = 1.0
        for name in _OFF:
            if not getattr(request, name):
                setattr(request, name, None)
        if len(request.stop_sequences) > 1:
            context.lose("stop_sequences", f"one can be said, there are {len(request.stop_sequences)}")
            request.stop_sequences = request.stop_sequences[:1]
        request.method, request.stream = None, self.streams
        request.echo = bool(request.echo)
        return request

    def received_reply(self, reply: Any, request: Any, context: Context) -> None:
        """A complete text has ended."""
        for choice in reply.choices:
            choice.finish_reason = choice.finish_reason or "eos_token"

    def sent_reply(self, reply: Any, request: Any, context: Context) -> None:
        """The model's name, and the counts of the only text."""
        reply.id, reply.model = request.request_id, reply.model or request.model
        for choice in reply.choices:
            if choice.prompt_tokens is None:
                choice.prompt_tokens, choice.completion_tokens = reply.prompt_tokens, reply.completion_tokens

    def reader(self, request: Any, context: Context) -> MessageReader:
        """With an end."""
        return _Reader(context)

    def writer(self, request: Any, context: Context) -> MessageWriter:
        """Texts alone."""
        return _Writer(request)


class TritonGenerateStream(TritonGenerate):
    """/v2/models/{model}/generate_stream"""

    streams = True


class _Reader(MessageReader):
    """Adds why the text ended, if no message said it."""

    def __init__(self, context: Context) -> None:
        self._message = context.operations.GenerateMessage
        self._ended = False

    def read(self, message: Any) -> Iterable[Any]:
        """As it is."""
        self._ended = self._ended or message.finish_reason is not None
        return (message,)

    def finish(self) -> Iterable[Any]:
        """The end."""
        return () if self._ended else (self._message(text="", finish_reason="eos_token"),)


class _Writer(MessageWriter):
    """Leaves out what has no text and no end."""

    def __init__(self, request: Any) -> None:
        self._request = request

    def write(self, message: Any) -> Iterable[Any]:
        """The message with the names that every one has."""
        if not message.text and message.finish_reason is None:
            return ()
        message.id, message.model = self._request.request_id, message.model or self._request.model
        return (message,)
