"""TGIS (fmaas), as the vLLM adapter 0.10 and IBM's server speak it.

* The decoding method is always said: greedy unless SAMPLE. Sampling parameters beside GREEDY have no effect there and
  are dropped, as the servers do it; an explicit temperature of 0 with SAMPLE is greedy.
* Details of tokens need a list of tokens, and a choice needs two texts at least: the servers say so, and so do we where
  another API would not.
* A batch may be empty, and so is its answer then; other APIs refuse that.
* The adapter names the end token's text as the stop sequence of a text that ended by itself; it is none.
* The seed that was drawn with comes back; a runtime that does not tell it used the one that was asked for.
* In a stream the input's count, seed and tokens come in a first message of their own, without a generated count;
  IBM's server gives the tokens in a second one.
"""

from collections.abc import Iterable
from copy import copy
from typing import Any

from inferbridge.bridge.context import Context
from inferbridge.bridge.errors import invalid
from inferbridge.bridge.rules.base import MessageReader, MessageWriter, Rule

SAMPLING = ("temperature", "top_k", "top_p", "typical_p", "seed")
"""What only drawing needs."""


class Tgis(Rule):
    """Rules of the generation service."""

    def received_request(self, request: Any, context: Context) -> None:
        """Greedy ignores sampling."""
        if request.method == "greedy":
            for name in SAMPLING:
                setattr(request, name, None)
        elif request.temperature == 0:
            request.method, request.temperature = "greedy", None
        check_details(request)

    def empty_reply(self, request: Any, context: Context) -> Any | None:
        """An empty batch has an empty answer."""
        return context.operations.GenerateReply() if not (request.prompts or context.stream) else None

    def sent_request(self, request: Any, context: Context) -> Any:
        """Greedy needs no sampling; an adapter's own default is never relied on."""
        if len(request.guided_choice) == 1:
            raise invalid(f"guided_choice: {context.profile.name} takes two choices or more")
        if request.truncate_tokens == -1:
            raise invalid(f"truncate_tokens: {context.profile.name} cannot be told to truncate to what the model takes")
        if request.method != "greedy":
            return request
        request = copy(request)
        for name in SAMPLING:
            setattr(request, name, None)
        return request

    def received_reply(self, reply: Any, request: Any, context: Context) -> None:
        """The end token is no stop sequence."""
        for choice in reply.choices:
            _without_end_token(choice)

    def reader(self, request: Any, context: Context) -> MessageReader:
        """As in a whole reply."""
        return _Reader(bool(request.return_prompt_tokens))

    def sent_reply(self, reply: Any, request: Any, context: Context) -> None:
        """The seed is the request's, and the counts of a single text may be known as totals only."""
        for choice in reply.choices:
            choice.seed = _either(choice.seed, request.seed)
        if len(reply.choices) == 1:
            choice = reply.choices[0]
            choice.prompt_tokens = _either(choice.prompt_tokens, reply.prompt_tokens)
            choice.completion_tokens = _either(choice.completion_tokens, reply.completion_tokens)

    def writer(self, request: Any, context: Context) -> MessageWriter:
        """First the input, then the text."""
        return InputFirst(context, request.seed)


class _Reader(MessageReader):
    """A runtime's messages; `awaits_prompt` if the prompt's tokens were asked for, and are to be part of the first."""

    def __init__(self, awaits_prompt: bool) -> None:
        self._awaits_prompt = awaits_prompt
        self._first: Any = None

    def read(self, message: Any) -> Iterable[Any]:
        """The same message, but for a first one that waits for the prompt's tokens in the second."""
        _without_end_token(message)
        if self._first is not None:
            return self._with_first(message)
        if self._awaits_prompt and not message.prompt_details and message.finish_reason is None:
            self._first = message
            return ()
        self._awaits_prompt = False
        return (message,)

    def _with_first(self, message: Any) -> Iterable[Any]:
        first, self._first, self._awaits_prompt = self._first, None, False
        first.prompt_details, message.prompt_details = message.prompt_details, []
        return (first, message) if _says_something(message) else (first,)

    def finish(self) -> Iterable[Any]:
        """The first message, where it was the only one."""
        return () if self._first is None else (self._first,)


def _without_end_token(said: Any) -> None:
    if said.finish_reason == "eos_token":
        said.stop_sequence = ""


def check_details(request: Any) -> None:
    """What is asked of tokens makes no sense where none are listed."""
    details = request.return_logprobs or request.return_ranks or request.top_n_tokens
    if details and not (request.return_tokens or request.return_prompt_tokens):
        raise invalid("must request input and/or generated tokens to request extra token detail")


def _either(first: int | None, second: int | None) -> int | None:
    return second if first is None else first


class InputFirst(MessageWriter):
    """Takes what is known of the input out of the first message of a stream, into a message of its own."""

    def __init__(self, context: Context, seed: int | None = None) -> None:
        self._message = context.operations.GenerateMessage
        self._seed = seed
        self._begun = False
        self._generated = 0

    def write(self, message: Any) -> Iterable[Any]:
        """The messages for one of the operation's."""
        if message.usage_only:
            return ()
        if self._begun:
            return (self._counted(message),) if _says_something(message) else ()
        self._begun = True
        if message.prompt_tokens is not None and message.completion_tokens is None and message.finish_reason is None:
            return (self._first(message, message.text),)  # it is of the input alone; the text is an echo
        made = [self._first(message)]
        if _says_something(message):
            made.append(self._counted(message))
        return made

    def _first(self, message: Any, text: str = "") -> Any:
        return self._message(
            text=text,
            prompt_tokens=message.prompt_tokens,
            seed=_either(message.seed, self._seed),
            prompt_details=message.prompt_details,
        )

    def _counted(self, message: Any) -> Any:
        """The count is cumulative, and must not go back where the runtime does not tell it."""
        self._generated = message.completion_tokens or self._generated
        return self._message(
            text=message.text,
            completion_tokens=self._generated or None,
            finish_reason=message.finish_reason,
            stop_sequence=message.stop_sequence,
            tokens=message.tokens,
            tool_calls=message.tool_calls,
            reasoning=message.reasoning,
        )


def _says_something(message: Any) -> bool:
    return bool(message.text or message.tokens or message.finish_reason is not None)
