"""Tokenization and models (vLLM 0.32, vllm-tgis-adapter 0.10, caikit 0.27).

* vLLM always answers the ids of the tokens, and no other API knows them: its clients can be served elsewhere only with
  that loss.
* TGIS truncates to the last tokens of the list, special ones included; a runtime that cannot is asked for all.
* TGIS tells the limits of its only model and not the model's name.
"""

from copy import copy
from typing import Any

from inferbridge.bridge.context import Context
from inferbridge.bridge.errors import BridgeError, Code
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

    def sent_reply(self, reply: Any, request: Any, context: Context) -> None:
        """The last tokens only, where the runtime has answered all."""
        last = request.truncate_tokens
        for result in reply.results if last else ():
            result.pieces, result.spans = result.pieces[-last:], result.spans[-last:]
            result.count = min(result.count, last) if result.count is not None else None
        for result in reply.results:
            result.pieces = result.pieces if request.return_pieces else []
            result.spans = result.spans if request.return_spans else []


class OpenAiModels(Rule):
    """vLLM's /v1/models."""

    def received_reply(self, reply: Any, request: Any, context: Context) -> None:
        """The whole list is answered, whatever was asked for."""
        if request.models:
            reply.models = [model for model in reply.models if model.id in request.models]

    def sent_reply(self, reply: Any, request: Any, context: Context) -> None:
        """What a client expects to find of each model."""
        for model in reply.models:
            model.created = model.created or int(context.now())
            model.owner = model.owner or context.profile.name


class TgisModelInfo(Rule):
    """fmaas' ModelInfo."""

    def received_request(self, request: Any, context: Context) -> None:
        """No name means whatever model there is."""
        request.models = [name for name in request.models if name]

    def sent_request(self, request: Any, context: Context) -> Any:
        """TGIS does not look at the name."""
        request = copy(request)
        request.models = [request.models[0] if request.models else ""]
        return request

    def received_reply(self, reply: Any, request: Any, context: Context) -> None:
        """The model has the name that it was asked for by, or that the upstream is configured with."""
        if context.profile.api == context.client_api:
            return
        name = next(iter(request.models), "") or context.setting.default_model
        if not name:
            raise BridgeError(
                Code.UNIMPLEMENTED,
                f"{context.profile.name} does not tell its model's name: set `default_model` of this upstream",
            )
        reply.models[0].id = name

    def sent_reply(self, reply: Any, request: Any, context: Context) -> None:
        """The first model."""
        if not reply.models:
            raise BridgeError(Code.NOT_FOUND, f"no model {', '.join(request.models)} at {context.profile.name}")
        reply.models = reply.models[:1]
        model = reply.models[0]
        model.max_new_tokens = model.max_length if model.max_new_tokens is None else model.max_new_tokens
