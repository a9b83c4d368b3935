"""A model's chat template: makes one prompt of a chat's messages.

Templates come from model folders and are code of strangers. They run in Jinja's immutable sandbox, with the few
functions that Hugging Face's transformers gives them, on bounded input and to a bounded output.
"""

import json
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from inferbridge.bridge.errors import BridgeError, invalid

MAX_TEMPLATE = 256 * 1024
MAX_PROMPT = 16 * 1024 * 1024


class ChatTemplate:
    """One template, compiled; ValueError when it cannot be."""

    def __init__(self, text: str, tokens: dict[str, str] | None = None) -> None:
        if len(text) > MAX_TEMPLATE:
            raise ValueError(f"the chat template has more than {MAX_TEMPLATE} characters")
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.globals["raise_exception"] = _refuse
        environment.filters["tojson"] = _to_json
        try:
            self._template = environment.from_string(text)
        except TemplateError as error:
            raise ValueError(f"the chat template is broken: {error}") from None
        self._tokens = tokens or {}

    @classmethod
    def load(cls, path: Path) -> "ChatTemplate":
        """From a .jinja file, or a tokenizer_config.json that has one. OSError, ValueError."""
        text = path.read_text(encoding="utf-8")
        if path.suffix != ".json":
            return cls(text)
        config = json.loads(text)
        template = config.get("chat_template")
        if not isinstance(template, str):
            raise ValueError(f"{path.name} has no chat_template")
        return cls(template, {name: _token(config.get(name)) for name in ("bos_token", "eos_token")})

    def render(self, messages: list[Any], **variables: Any) -> str:
        """The prompt; BridgeError INVALID_ARGUMENT when the template refuses the messages."""
        try:
            pieces = self._template.generate(messages=flattened(messages), **self._tokens, **variables)
            return _joined(pieces)
        except BridgeError:
            raise
        except Exception as error:  # a template may fail in any way that Python code can
            raise invalid(f"messages: the chat template refuses them: {error}") from None

    def render_request(self, request: Any) -> str:
        """The prompt of a chat as a neutral request."""
        asked = request.add_generation_prompt
        return self.render(
            request.messages,
            add_generation_prompt=True if asked is None else asked,
            tools=request.tools,
            documents=request.documents,
            **(request.chat_template_kwargs or {}),
        )


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


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _token(value: Any) -> str:
    return str(value.get("content", "")) if isinstance(value, dict) else str(value or "")
