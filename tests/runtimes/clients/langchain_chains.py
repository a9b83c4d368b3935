"""langchain-openai: OpenAI and ChatOpenAI, invoked and streamed. The address is host:port."""

import sys
from typing import Any

from jobs import answer
from langchain_openai import ChatOpenAI, OpenAI

KINDS = {"complete": OpenAI, "chat": ChatOpenAI}


def perform(call: dict[str, Any]) -> Any:
    """Do one call; the result is the text, or the list of its pieces."""
    fields = {"model": "tiny", "temperature": 0, "max_retries": 0, "timeout": 60, **call["fields"]}
    client = KINDS[call["call"]](base_url=f"http://{sys.argv[1]}/v1", api_key="token", **fields)
    if call["how"] == "stream":
        return [_text(piece) for piece in client.stream(call["input"])]
    return _text(client.invoke(call["input"]))


def _text(said: Any) -> str:
    return said if isinstance(said, str) else str(said.content)


answer(perform)
