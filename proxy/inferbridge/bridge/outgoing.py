"""A client's request on its way out: what a runtime of another API must be told, and the calls that it becomes."""

from collections.abc import Mapping
from copy import copy
from typing import Any

import msgspec

from inferbridge.bridge.context import Context
from inferbridge.bridge.errors import BridgeError, Code, invalid
from inferbridge.bridge.registry import Endpoint, GrpcHalf, RestHalf

MOST_ANSWERS = 128
"""Answers of one prompt that are asked for one by one; the limit of the OpenAI API."""


def lose_lacking(request: Any, context: Context) -> None:
    """What the runtime's dialect has no place for is a loss: its server would skip the field and answer without it."""
    for field in msgspec.structs.fields(request):
        if field.name not in context.profile.lacks:
            continue
        unsaid = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        if (value := getattr(request, field.name)) is not False and value != unsaid:
            context.lose(field.name, f"{context.profile.name} has no place for it")
            setattr(request, field.name, unsaid)


def name_adapter(request: Any, half: RestHalf | GrpcHalf, context: Context) -> Any:
    """An adapter as the runtime's API names it: by an id beside the model's name, or as a model of its own.

    An id that is not configured is refused: as a model's name it could be that of any model there.
    """
    known = context.setting.adapters
    if not known or not hasattr(request, "adapter"):
        return request
    request = copy(request)
    if "adapter" in half.fields and request.model in known and not request.adapter:
        if "adapter" in context.profile.lacks:
            raise invalid(f"adapter: {context.profile.name} has no adapters, so it has no model {request.model!r}")
        request.adapter = known[request.model]
        request.model = context.setting.default_model or request.model
    elif "adapter" not in half.fields and request.adapter:
        named = adapter_name(request.adapter, known)
        if not named:
            raise BridgeError(Code.NOT_FOUND, f"adapter: {request.adapter!r} is none of this upstream's adapters")
        request.model, request.adapter = named, ""
    return request


def adapter_name(adapter: str, known: Mapping[str, str]) -> str:
    """The first model name that means this adapter; empty for none."""
    return next((name for name, known_as in known.items() if known_as == adapter), "")


def write_defaults_out(request: Any, defaults: Mapping[str, Any], runtime: RestHalf | GrpcHalf) -> None:
    """What the client's API does by default must be said to a runtime whose API does something else."""
    for name, value in defaults.items():
        if getattr(request, name) is None and name in runtime.fields and runtime.defaults.get(name) != value:
            setattr(request, name, value)


def own_time_limit(request: Any, endpoint: Endpoint, half: RestHalf | GrpcHalf) -> float | None:
    """Seconds that we see to ourselves: a runtime without a time limit can be stopped when it streams."""
    limit: float | None = getattr(request, "time_limit", None)
    if limit is None or "time_limit" in half.fields or endpoint.mode == "unary":
        return None
    request.time_limit = None
    return limit


def render_messages(request: Any, half: RestHalf | GrpcHalf, context: Context) -> None:
    """A chat becomes a prompt where the runtime's endpoint takes no messages."""
    if "messages" in half.fields or getattr(request, "messages", None) is None:
        return
    template = context.chat_template
    if template is None:
        raise invalid(
            f"{context.profile.name} takes prompts, not chats: set `chat_template` of this upstream to the model's"
            " chat template (a .jinja file or a tokenizer_config.json)"
        )
    request.prompts, request.messages = [template.render_request(request)], None
    # these were the template's; tools stay set, for a prompt's answer is not searched for calls
    request.add_generation_prompt = request.documents = request.chat_template_kwargs = None


def parts(request: Any, endpoint: Endpoint, half: RestHalf | GrpcHalf) -> list[Any]:
    """The requests that the runtime gets: one, or one for each item of the list that it takes one at a time."""
    request = _repeated(request, half)
    items = getattr(request, endpoint.fan_out) if endpoint.fan_out else ()
    if len(items) < 2:
        return [request]
    made = [copy(request) for _ in items]
    for part, item in zip(made, items, strict=True):
        setattr(part, endpoint.fan_out, [item])
    return made


def _repeated(request: Any, half: RestHalf | GrpcHalf) -> Any:
    """Several answers of a prompt (`n`), where a runtime gives one: the prompt so many times.

    With a seed these would be the same text, while the client's API draws each of them with another; that is left for
    the half-bridge to refuse.
    """
    answers = getattr(request, "n", None) or 1
    if answers == 1 or "n" in half.fields or request.seed is not None:
        return request
    if answers > MOST_ANSWERS:
        raise invalid(f"n: at most {MOST_ANSWERS} can be asked of this runtime, which gives one answer at a time")
    request = copy(request)
    request.prompts = [prompt for prompt in request.prompts for _ in range(answers)]
    request.n = None
    return request
