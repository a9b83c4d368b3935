"""Caikit's text generation (caikit 0.27 with caikit-nlp 0.5).

* Greedy unless said. Caikit refuses sampling parameters beside GREEDY where fmaas ignores them; so does its client's
  call to another runtime.
* Its zeros reach TGIS as protobuf's, which say nothing; they mean no more to another runtime.
* A stream begins with what is known of the input; until its end every message says NOT_FINISHED.
"""

from collections.abc import Iterable
from typing import Any

from inferbridge.bridge.context import Context
from inferbridge.bridge.errors import invalid
from inferbridge.bridge.rules.base import MessageReader, MessageWriter
from inferbridge.bridge.rules.tgis import SAMPLING, InputFirst, Tgis, check_details

_UNSAID = ("max_tokens", "truncate_tokens", "repetition_penalty", "time_limit", *SAMPLING[:-1])
"""What 0 does not say; a seed may be 0."""
_OFF = {"temperature": (None, 1.0), "top_k": (None, 0), "top_p": (None, 1.0), "typical_p": (None, 1.0), "seed": (None,)}


class Caikit(Tgis):
    """Rules of the generation tasks."""

    def received_request(self, request: Any, context: Context) -> None:
        """Greedy unless said, and then without sampling parameters; caikit itself sees to that for its own calls."""
        if context.profile.api == context.client_api:
            return
        if request.method != "sample":
            request.method = "greedy"
            for name in SAMPLING:
                if getattr(request, name) not in _OFF[name]:
                    raise invalid(f"{name}: GREEDY decoding takes no sampling parameters; say decoding_method SAMPLING")
        for name in _UNSAID:
            setattr(request, name, getattr(request, name) or None)
        check_details(request)

    def empty_reply(self, request: Any, context: Context) -> Any | None:
        """There are no batches."""
        return None

    def sent_request(self, request: Any, context: Context) -> Any:
        """Within the API a call stays as it was made."""
        return request if context.profile.api == context.client_api else super().sent_request(request, context)

    def sent_reply(self, reply: Any, request: Any, context: Context) -> None:
        """Every token has a probability; 0 where there is none."""
        super().sent_reply(reply, request, context)
        for choice in reply.choices:
            _fill(choice)

    def reader(self, request: Any, context: Context) -> MessageReader:
        """NOT_FINISHED is no reason."""
        return _Reader()

    def writer(self, request: Any, context: Context) -> MessageWriter:
        """First the input, then the text; within the API as they come."""
        return _AsTheyCome() if context.profile.api == context.client_api else _Writer(context)


class _Reader(MessageReader):
    def read(self, message: Any) -> Iterable[Any]:
        """The message without a reason that is none."""
        if message.finish_reason == "not_finished":
            message.finish_reason = None
        return (message,)


class _AsTheyCome(MessageWriter):
    def write(self, message: Any) -> Iterable[Any]:
        """Every message has a reason."""
        message.finish_reason = message.finish_reason or "not_finished"
        return (message,)


class _Writer(InputFirst):
    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._seed: int | None = None

    def write(self, message: Any) -> Iterable[Any]:
        """Every message has a reason and the seed."""
        self._seed = message.seed or self._seed
        for made in super().write(message):
            made.finish_reason = made.finish_reason or "not_finished"
            made.seed = self._seed
            _fill(made)
            yield made


def _fill(said: Any) -> None:
    for token in (*said.prompt_details, *said.tokens):
        token.logprob = token.logprob or 0.0
