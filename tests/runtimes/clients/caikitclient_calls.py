"""The calls of caikit-nlp-client, the same for both of its clients."""

from collections.abc import Callable
from typing import Any

from jobs import ServerError


def perform_with(client: Any) -> Callable[[dict[str, Any]], Any]:
    """The calls of one client."""
    calls = {
        "generate": client.generate_text,
        "stream": lambda *arguments, **fields: list(client.generate_text_stream(*arguments, **fields)),
    }

    def perform(call: dict[str, Any]) -> Any:
        try:
            return calls[call["call"]](call["model"], call["input"], **call.get("fields", {}))
        except RuntimeError as error:  # how the package tells of a refusal: the server's text without its status
            raise ServerError("", str(error)) from None

    return perform
