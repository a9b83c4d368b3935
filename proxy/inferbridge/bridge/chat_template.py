"""A model's chat template: makes one prompt of a chat's messages.

Templates come from model folders and are code of strangers. They run in Jinja's immutable sandbox, with the few
functions that Hugging Face's transformers gives them, on bounded input and to a bounded output.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Template, TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from inferbridge.bridge.errors import BridgeError, invalid

MAX_TEMPLATE = 256 * 1024
MAX_PROMPT = 16 * 1024 * 1024
_DEFAULT, _TOOLS = "default", "tool_use"
_RESERVED = frozenset({"self", "messages", "chat_template", "tokenize"})
"""What is no variable of a template but the call's own; vLLM refuses these too."""


class ChatTemplate:
    """The templates of one model, compiled; ValueError when they cannot be.

    `template` is one template, or several by name: `default`, and maybe `tool_use` for chats with tools. `tokens` are
    the texts of `bos_token` and `eos_token`; with `begins` the runtime begins every prompt with the former itself.
    """

    def __init__(
        self, template: str | Mapping[str, str], tokens: dict[str, str] | None = None, *, begins: bool = True
    ) -> None:
        named = {_DEFAULT: template} if isinstance(template, str) else template
        environment = _environment()
        self._templates = {name: _compiled(environment, text) for name, text in named.items()}
        if _DEFAULT not in self._templates:
            raise ValueError(f"of the chat templates {', '.join(named)} none is named {_DEFAULT}")
        self._tokens = tokens or {}
        self._doubled = self._tokens.get("bos_token", "") if begins else ""

    @classmethod
    def load(cls, path: Path) -> "ChatTemplate":
        """From a .jinja file, or a tokenizer_config.json that has one or several. OSError, ValueError.

        The texts of the begin and end tokens are in the tokenizer_config.json, also in the one beside a .jinja file.
        """
        text = path.read_text(encoding="utf-8")
        if path.suffix != ".json":
            beside = path.with_name("tokenizer_config.json")
            return cls._load(text, _configuration(beside.read_text(encoding="utf-8")) if beside.exists() else {})
        config = _configuration(text)
        template = config.get("chat_template")
        if isinstance(template, list):
            template = _by_name(template)
        if not isinstance(template, str | dict):
            raise ValueError(f"{path.name} has no chat_template")
        return cls._load(template, config)

    @classmethod
    def _load(cls, template: str | Mapping[str, str], config: Mapping[str, Any]) -> "ChatTemplate":
        tokens = {name: _token(config.get(name)) for name in ("bos_token", "eos_token")}
        return cls(template, tokens, begins=config.get("add_bos_token") is not False)

    def render(self, messages: list[Any], **variables: Any) -> str:
        """The prompt; BridgeError INVALID_ARGUMENT when the template refuses the messages."""
        template = self._templates[_DEFAULT]
        if variables.get("tools"):
            template = self._templates.get(_TOOLS, template)
        try:
            return _joined(template.generate({**self._tokens, **variables, "messages": flattened(messages)}))
        except BridgeError:
            raise
        except Exception as error:  # a template may fail in any way that Python code can
            raise invalid(f"messages: the chat template refuses them: {error}") from None

    def render_request(self, request: Any) -> str:
        """The prompt of a chat as a neutral request; further variables go before its own, as in vLLM.

        Without a begin token at its start where the runtime puts one before every prompt.
        """
        asked = request.add_generation_prompt
        variables = {
            "add_generation_prompt": True if asked is None else asked,
            "tools": request.tools,
            "documents": request.documents,
        }
        prompt = self.render(request.messages, **{**variables, **_further(request.chat_template_kwargs)})
        return prompt.removeprefix(self._doubled)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _strftime_now
    environment.filters["tojson"] = _to_json
    return environment


def _compiled(environment: ImmutableSandboxedEnvironment, text: str) -> Template:
    if len(text) > MAX_TEMPLATE:
        raise ValueError(f"the chat template has more than {MAX_TEMPLATE} characters")
    try:
        return environment.from_string(text)
    except (TemplateError, SyntaxError, RecursionError) as error:  # Jinja compiles a `continue` outside of loops
        raise ValueError(f"the chat template is broken: {error}") from None


def _configuration(text: str) -> dict[str, Any]:
    """What a tokenizer_config.json says; nothing if it is no object."""
    config = json.loads(text)
    return config if isinstance(config, dict) else {}


def _by_name(templates: list[Any]) -> dict[str, str]:
    try:
        return {str(each["name"]): str(each["template"]) for each in templates}
    except (KeyError, TypeError):
        raise ValueError("each chat_template of a list has a name and a template") from None


def _further(variables: Any) -> dict[str, Any]:
    if variables is None:
        return {}
    if not isinstance(variables, dict):
        raise invalid("chat_template_kwargs must be an object")
    for name in _RESERVED & variables.keys():
        raise invalid(f"chat_template_kwargs: {name} cannot be set here")
    return variables


def _joined(pieces: Any) -> str:
    out, size = [], 0
    for piece in pieces:
        size += len(piece)
        if size > MAX_PROMPT:
            raise invalid(f"messages: the prompt has more than {MAX_PROMPT} characters")
        out.append(piece)
    return "".join(out)


def flattened(messages: list[Any]) -> list[Any]:
    """Messages with their text parts joined, as templates of text models want them."""
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise invalid("messages must be a list of objects")
    return [{**message, "content": _text(message.get("content"))} for message in messages]


def _text(content: Any) -> Any:
    if not isinstance(content, list):
        return content
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text":
            kind = part.get("type") if isinstance(part, dict) else part
            raise invalid(f"messages[].content: a prompt cannot carry a part of type {kind!r}")
    return "\n".join(str(part.get("text", "")) for part in content)


def _refuse(message: str) -> None:
    raise invalid(f"messages: {message}")


def _strftime_now(layout: str) -> str:
    """The local time, as transformers gives it."""
    return datetime.now().astimezone().strftime(layout)


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _token(value: Any) -> str:
    return str(value.get("content", "")) if isinstance(value, dict) else str(value or "")
