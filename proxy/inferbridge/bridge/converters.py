"""Named converters of mapping lines: always a pair, from the wire and to it."""

from typing import Any

import msgspec

from inferbridge.bridge.errors import invalid


def model_state_from_wire(value: str) -> str:
    """MLServer's gRPC side says `State.READY` where its REST side says `READY`."""
    return value.removeprefix("State.")


def model_state_to_wire(value: str) -> str:
    """The plain name."""
    return value


def optional_text_from_wire(value: str | None) -> str:
    """A text that may be absent; empty means the same."""
    return value or ""


def optional_text_to_wire(value: str) -> str | None:
    """An empty text is absent."""
    return value or None


def text_or_list_from_wire(value: Any) -> list[str]:
    """One text, or a list of texts."""
    if value is None or value is msgspec.UNSET:
        return []
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    raise invalid("only texts can be carried, as one string or a list of strings: token ids need the model's tokenizer")


def text_or_list_to_wire(value: list[str]) -> str | list[str] | msgspec.UnsetType:
    """One text as such, none as nothing."""
    if not value:
        return msgspec.UNSET
    return value[0] if len(value) == 1 else value


def text_if_text_from_wire(value: Any) -> str:
    """vLLM's `stop_reason`: the stop string, or the id of a stop token, which is no text."""
    return value if isinstance(value, str) else ""


def text_if_text_to_wire(value: str) -> str | None:
    """null where there is none."""
    return value or None


def json_text_from_wire(value: str | None) -> Any:
    """JSON as text."""
    if value is None:
        return None
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError as error:
        raise invalid(f"json_schema is not valid JSON: {error}") from None


def json_text_to_wire(value: Any) -> str | None:
    """The text of a JSON value; a text already is one."""
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


def json_format_from_wire(value: int | None) -> bool | None:
    """fmaas' `format`: JSON (1) asks for a JSON object; TEXT is what nothing means too."""
    return value == 1 if value is not None else None


def json_format_to_wire(value: bool | None) -> int | None:
    """TEXT said explicitly makes the vLLM adapter fail, so it is left out."""
    return 1 if value else None
