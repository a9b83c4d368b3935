"""Lists of models and versions of runtimes (vLLM 0.32, vllm-tgis-adapter 0.10, caikit 0.27, V2's model repository).

* Caikit answers for the models that it is asked for, and that one is missing is an error. Other APIs list all of them.
* vLLM's list holds models that are ready; V2's repository also holds models that could be, and each of their versions.
* TGIS tells the limits of its only model and not the model's name; nor does it list adapters, which are configured.
* Only V2 tells what the runtime is called, and caikit's version is that of its package.
"""

from copy import copy
from typing import Any

from inferbridge.bridge.context import Context
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.rules.base import Rule

TELLS_OF_ONE = frozenset({"tgis_model_info"})
"""Rules of endpoints that tell of one model, where others list all."""
_READY, _UNAVAILABLE = "READY", "UNAVAILABLE"
"""States of V2's model repository."""


class OpenAiModels(Rule):
    """vLLM's /v1/models."""

    def received_request(self, request: Any, context: Context) -> None:
        """Only what can be called is listed."""
        request.ready = True

    def received_reply(self, reply: Any, request: Any, context: Context) -> None:
        """The whole list is answered, whatever was asked for."""
        reply.models = _asked_for(reply.models, request)
        for model in reply.models:
            model.loaded = True

    def sent_reply(self, reply: Any, request: Any, context: Context) -> None:
        """What a client expects to find of each model; a version has no entry of its own."""
        reply.models = list({model.id: model for model in reversed(reply.models)}.values())[::-1]
        for model in reply.models:
            model.created = model.created or int(context.now())
            model.owner = model.owner or context.profile.name


class CaikitModels(Rule):
    """Caikit's /info/models."""

    def received_reply(self, reply: Any, request: Any, context: Context) -> None:
        """Modules of caikit-nlp tell the longest input among the metadata."""
        for model in reply.models:
            longest = model.metadata.get("max_seq_length") if isinstance(model.metadata, dict) else None
            model.max_length = int(longest) if isinstance(longest, int | float) else None

    def sent_reply(self, reply: Any, request: Any, context: Context) -> None:
        """Every model that was asked for, or an error in caikit's words."""
        demand_all(reply, request)
        for model in reply.models:
            if model.metadata is None and model.max_length is not None:
                model.metadata = {"max_seq_length": model.max_length}


class V2Models(Rule):
    """The index of V2's model repository."""

    def received_reply(self, reply: Any, request: Any, context: Context) -> None:
        """The whole repository is answered, but for what is not ready."""
        reply.models = _asked_for(reply.models, request)
        for model in reply.models:
            model.loaded = model.state == _READY

    def sent_reply(self, reply: Any, request: Any, context: Context) -> None:
        """Of other APIs' models only is known whether they are loaded."""
        if context.profile.api == context.client_api:
            return
        reply.models = [model for model in reply.models if model.loaded or not request.ready]
        for model in reply.models:
            model.state = _READY if model.loaded else _UNAVAILABLE


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
        model = reply.models[0]
        model.id, model.loaded = name, True
        if not request.models:
            reply.models += [
                context.operations.Model(id=adapter, parent=name, loaded=True, max_length=model.max_length)
                for adapter in context.setting.adapters
            ]

    def sent_reply(self, reply: Any, request: Any, context: Context) -> None:
        """The first model; its limits are what the client asks for."""
        if not reply.models:
            raise BridgeError(Code.NOT_FOUND, f"no model {', '.join(request.models)} at {context.profile.name}")
        reply.models = reply.models[:1]
        model = reply.models[0]
        if model.max_length is None:
            raise BridgeError(Code.UNIMPLEMENTED, f"{context.profile.name} does not tell how much {model.id} takes")
        model.max_new_tokens = model.max_length if model.max_new_tokens is None else model.max_new_tokens


class Version(Rule):
    """The version of a runtime whose API does not tell the runtime's name."""

    def __init__(self, name: str) -> None:
        self._name = name
        """Also of its package."""

    def received_reply(self, reply: Any, request: Any, context: Context) -> None:
        """Tell other APIs what they say of a runtime."""
        if context.profile.api == context.client_api:
            return
        packages = reply.packages or {}
        reply.name = self._name
        reply.version = reply.version or packages.get(self._name, "")
        reply.packages = packages or {self._name: reply.version}


def demand_all(reply: Any, request: Any) -> None:
    """Only what was asked for by name, all of it, or an error in caikit's words; without names whatever there is."""
    reply.models = _asked_for(reply.models, request)
    known = {model.id for model in reply.models}
    for name in request.models:
        if name not in known:
            raise BridgeError(Code.NOT_FOUND, f"Model {name} is not loaded")


def _asked_for(models: list[Any], request: Any) -> list[Any]:
    """Of all models those that the client names; it names none to get all."""
    return [model for model in models if model.id in request.models] if request.models else models
