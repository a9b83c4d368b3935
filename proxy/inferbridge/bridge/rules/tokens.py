"""Tokenization (vLLM 0.32, vllm-tgis-adapter 0.10, caikit 0.27).

* vLLM always answers the ids of the tokens, and no other API knows them: its clients can be served elsewhere only with
  that loss.
* TGIS truncates to the last tokens of the list, special ones included; a runtime that cannot is asked for all.
* Caikit answers without being asked where its tokens stand, special ones left out, unless the module only counts
  them, as those that generate text do.
"""

from copy import copy
from typing import Any

from inferbridge.bridge.context import Context
from inferbridge.bridge.rules.base import Rule


class OpenAiTokenize(Rule):
    """vLLM's /tokenize."""

    def received_request(self, request: Any, context: Context) -> None:
        """The answer will have no ids."""
        if context.profile.api != context.client_api:
            context.lose("tokens", f"{context.profile.name} tells how many tokens there are, and not their ids")

    def sent_request(self, request: Any, context: Context) -> Any:
        """All tokens are asked for; `TgisTokenize` takes the last ones."""
        request = copy(request)
        request.truncate_tokens = None
        return request


class TgisTokenize(Rule):
    """fmaas' Tokenize."""

    def empty_reply(self, request: Any, context: Context) -> Any | None:
        """An empty batch has an empty answer, as in fmaas' Generate."""
        return context.operations.TokenizeReply() if not request.prompts else None

    def sent_reply(self, reply: Any, request: Any, context: Context) -> None:
        """The last tokens only, where the runtime has answered all."""
        last = request.truncate_tokens
        for result in reply.results if last else ():
            result.pieces, result.spans = result.pieces[-last:], result.spans[-last:]
            result.count = min(result.count, last) if result.count is not None else None
        for result in reply.results:
            result.pieces = result.pieces if request.return_pieces else []
            result.spans = result.spans if request.return_spans else []
            if request.return_spans and result.count and not result.spans:
                context.lose("return_offsets", f"{context.profile.name} does not tell where this model's tokens stand")


class CaikitTokenize(Rule):
    """Caikit's tokenization task."""

    def sent_request(self, request: Any, context: Context) -> Any:
        """There is no switch for what is always answered."""
        request = copy(request)
        request.return_spans = None
        return request

    def received_reply(self, reply: Any, request: Any, context: Context) -> None:
        """A splitter of sentences gives its parts and does not count them."""
        for result in reply.results if context.profile.api != context.client_api else ():
            result.count = len(result.spans) if result.count is None else result.count
