"""OpenAI's own SDK. It asks for vectors in base64 unless told otherwise, and gives its user numbers."""

import sys
from typing import Any

from jobs import ServerError, answer
from openai import APIStatusError, OpenAI


def main() -> None:
    """Answer the calls on stdin through the server at the address given as argument."""
    client = OpenAI(base_url=f"http://{sys.argv[1]}/v1", api_key="token", max_retries=0)

    def perform(call: dict[str, Any]) -> Any:
        if call.pop("call") != "embed":
            raise ValueError("this client embeds")
        caller = client.with_options(api_key=call.pop("api_key")) if "api_key" in call else client
        try:
            made = caller.embeddings.create(**call)
        except APIStatusError as error:
            raise ServerError(f"{error.status_code} {type(error).__name__}", error.message) from None
        return {
            "vectors": [each.embedding for each in made.data],
            "indices": [each.index for each in made.data],
            "model": made.model,
            "prompt_tokens": made.usage.prompt_tokens,
        }

    answer(perform)


main()
