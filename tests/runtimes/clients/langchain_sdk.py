"""The openai package: completions and chats, whole and streamed. The address is host:port; keys are not checked."""

import sys
from typing import Any

from jobs import ServerError, answer
from openai import APIError, APIStatusError, OpenAI

client = OpenAI(base_url=f"http://{sys.argv[1]}/v1", api_key="token", max_retries=0, timeout=60)


def perform(call: dict[str, Any]) -> Any:
    """Do one call with the fields of the API; the result is what the package made of the answer."""
    fields = {"model": "tiny", **call["fields"]}
    try:
        if call["call"] == "models":
            return [model.id for model in client.models.list()]
        create = client.chat.completions.create if call["call"] == "chat" else client.completions.create
        made = create(**fields)
        return [event.model_dump() for event in made] if fields.get("stream") else made.model_dump()
    except APIStatusError as error:
        raise ServerError(str(error.status_code), str(error.body)) from None
    except APIError as error:  # within a stream, where there is no status any more
        raise ServerError("stream", error.message) from None


answer(perform)
