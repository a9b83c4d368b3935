"""What embeddings, similarities and rankings share, and embeddings (vLLM 0.32, caikit 0.27 with caikit-nlp 0.5).

* vLLM's and OpenAI's answers have an id, a time and the total of the tokens. A vector is written in base64 where the
  client asked for that, as OpenAI's own SDK always does.
* vLLM truncates to a number of tokens with the special ones included, caikit to a number besides two of them, whatever
  the tokenizer adds; both take -1 for the model's most. 0 means no truncation to caikit and an error to vLLM, so it is
  not sent there.
"""

import struct
from base64 import b64encode
from copy import copy
from typing import Any

from inferbridge.bridge.context import Context
from inferbridge.bridge.errors import BridgeError, Code, invalid
from inferbridge.bridge.rules.base import Rule
from inferbridge.bridge.structured import all_finite

_ENDS = 2
"""Special tokens that caikit counts on."""
_ENCODINGS = ("", "float", "base64")


class OpenAiPooling(Rule):
    """What the pooling endpoints of the OpenAI API share."""

    prefix = ""
    """Of ids."""

    def sent_request(self, request: Any, context: Context) -> Any:
        """A truncation that is none is left out."""
        request = copy(request)
        request.truncate_tokens = request.truncate_tokens or None
        return request

    def sent_reply(self, reply: Any, request: Any, context: Context) -> None:
        """What the client expects to find in every answer."""
        reply.id = reply.id or f"{self.prefix}-{context.new_id()}"
        reply.model = reply.model or request.model
        reply.total_tokens = reply.prompt_tokens = reply.prompt_tokens or 0


class OpenAiTimed(OpenAiPooling):
    def sent_reply(self, reply: Any, request: Any, context: Context) -> None:
        """The time, and that nothing was generated."""
        super().sent_reply(reply, request, context)
        reply.created = reply.created or int(context.now())
        reply.completion_tokens = 0


class OpenAiEmbeddings(OpenAiTimed):
    """/v1/embeddings"""

    prefix = "embd"

    def received_request(self, request: Any, context: Context) -> None:
        """Only numbers and base64 have a form in JSON."""
        if request.encoding not in _ENCODINGS:
            raise invalid(f"encoding_format: {request.encoding!r} cannot be carried, use float or base64")

    def sent_request(self, request: Any, context: Context) -> Any:
        """Base64 is as exact as the digits of a float32, and several times faster to read."""
        request = super().sent_request(request, context)
        request.encoding = "base64"
        return request

    def received_reply(self, reply: Any, request: Any, context: Context) -> None:
        """A vector for each text, in their order."""
        reply.vectors.sort(key=lambda vector: vector.index)
        _check_vectors(reply, request)

    def sent_reply(self, reply: Any, request: Any, context: Context) -> None:
        """Number the vectors, and write them as the client asked."""
        super().sent_reply(reply, request, context)
        for index, vector in enumerate(reply.vectors):
            vector.index = index
            if request.encoding == "base64":
                vector.values = _base64(vector.values)
            else:
                all_finite(vector.values, "embedding", context)


def _check_vectors(reply: Any, request: Any) -> None:
    found = [vector for vector in reply.vectors if vector.values]
    if len(found) != len(request.texts):
        raise BridgeError(Code.INTERNAL, f"the runtime answered {len(found)} vectors for {len(request.texts)} texts")


def _base64(values: list[float]) -> str:
    try:
        return b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
    except OverflowError:
        raise BridgeError(Code.INTERNAL, "embedding: a value is beyond float32, which base64 holds") from None


class CaikitPooling(Rule):
    """What all of caikit's pooling tasks share."""

    def received_request(self, request: Any, context: Context) -> None:
        """The special tokens belong to the number of tokens."""
        if request.truncate_tokens is not None and request.truncate_tokens > 0:
            request.truncate_tokens += _ENDS

    def sent_request(self, request: Any, context: Context) -> Any:
        """The special tokens come on top of the number of tokens."""
        if request.truncate_tokens is None or request.truncate_tokens <= 0:
            return request
        if request.truncate_tokens <= _ENDS:
            raise invalid(f"truncate_tokens: {context.profile.name} keeps one token besides {_ENDS} special ones")
        request = copy(request)
        request.truncate_tokens -= _ENDS
        return request


class CaikitEmbeddings(CaikitPooling):
    """Caikit's embedding tasks."""

    def received_reply(self, reply: Any, request: Any, context: Context) -> None:
        """A vector for each text: caikit has a model of another task answer all the same, in that task's form."""
        _check_vectors(reply, request)
