"""Named converters of mapping lines: always a pair, from the wire and to it."""

import struct
from base64 import b64decode
from typing import Any

import msgspec

from inferbridge.bridge.errors import BridgeError, invalid


def model_state_from_wire(value: str) -> str:
    """MLServer's gRPC side says `State.READY` where its REST side says `READY`."""
    return value.removeprefix("State.")


def model_state_to_wire(value: str) -> str:
    """The plain name."""
    return value


def optional_text_from_wire(value: str | msgspec.UnsetType | None) -> str:
    """A text that may be absent or null; empty means the same."""
    return "" if isinstance(value, msgspec.UnsetType) else value or ""


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


def prompt_texts_from_wire(value: Any) -> list[str]:
    """Prompts of completions: texts, for token ids mean nothing without the model's vocabulary."""
    try:
        return text_or_list_from_wire(value)
    except BridgeError:
        raise invalid("prompt: this runtime takes texts, a string or a list of strings, and no token ids") from None


def prompt_texts_to_wire(value: list[str]) -> str | list[str] | msgspec.UnsetType:
    """One text as such."""
    return text_or_list_to_wire(value)


def text_if_text_from_wire(value: Any) -> str:
    """vLLM's `stop_reason`: the stop string, or the id of a stop token, which is no text."""
    return value if isinstance(value, str) else ""


def text_if_text_to_wire(value: str) -> str | None:
    """null where there is none."""
    return value or None


def embedding_from_wire(value: Any) -> list[float]:
    """OpenAI's vector: numbers, or the base64 of little-endian float32."""
    if isinstance(value, str):
        try:
            data = b64decode(value, validate=True)
        except ValueError:
            data = b"?"
        if len(data) % 4:
            raise invalid("embedding is no base64 of float32 numbers")
        return list(struct.unpack(f"<{len(data) // 4}f", data))
    kinds = set(map(type, value)) if isinstance(value, list) else {type(value)}
    if not isinstance(value, list) or not kinds <= {float, int}:
        raise invalid("embedding is neither numbers nor base64")
    return value if kinds == {float} else [float(item) for item in value]


def embedding_to_wire(value: list[float]) -> list[float]:
    """The numbers; the API's rule writes base64 where the client asked for it."""
    return value


def encoder_decoder_from_wire(value: int) -> bool:
    """fmaas' `ModelKind`: DECODER_ONLY (0) or ENCODER_DECODER (1)."""
    return value == 1


def encoder_decoder_to_wire(value: bool) -> int:
    """The kind as a number."""
    return int(value)


def serving_from_wire(value: int) -> bool:
    """gRPC's health protocol: SERVING (1) is ready, all else is not."""
    return value == 1


def serving_to_wire(value: bool) -> int:
    """SERVING or NOT_SERVING."""
    return 1 if value else 2


def score_objects_from_wire(value: Any) -> list[float]:
    """vLLM's scores, in the order of their index."""
    try:
        return [float(item["score"]) for item in sorted(value, key=lambda item: item["index"])]
    except (KeyError, TypeError, ValueError):
        raise invalid("data is no list of scores") from None


def score_objects_to_wire(value: list[float]) -> list[dict[str, Any]]:
    """An object for each score."""
    return [{"index": index, "object": "score", "score": score} for index, score in enumerate(value)]


def text_documents_from_wire(value: Any) -> list[Any]:
    """vLLM's documents: texts."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise invalid("documents: only texts can be carried, as a list of strings")
    return [{"text": text} for text in texts]


def text_documents_to_wire(value: list[Any]) -> list[str]:
    """The text of each document, which is all that a ranking depends on."""
    return [document_text(document, f"documents[{place}]") for place, document in enumerate(value)]


def document_text(document: Any, name: str = "document") -> str:
    """The text of one of caikit's documents: `text`, else `_text`, else nothing (caikit-nlp 0.5)."""
    if not isinstance(document, dict):
        raise invalid(f"{name}: it is an object with a member `text` or `_text`")
    text = document.get("text") or document.get("_text") or ""
    if not isinstance(text, str):
        raise invalid(f"{name}: its text is a string")
    return text


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


def negated_from_wire(value: bool | msgspec.UnsetType | None) -> bool | None:
    """What one API calls to leave out, and another to put in."""
    return not value if isinstance(value, bool) else None


def negated_to_wire(value: bool | None) -> bool | msgspec.UnsetType:
    """The opposite; nothing of nothing."""
    return msgspec.UNSET if value is None else not value
