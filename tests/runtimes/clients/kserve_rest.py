"""kserve's InferenceRESTClient, speaking V2."""

import asyncio
import sys
from typing import Any

import httpx
from jobs import ServerError, answer_async
from kserve import InferenceRESTClient
from kserve.inference_client import RESTConfig
from kserve_calls import infer_answer, infer_request


async def main() -> None:
    """Answer the calls on stdin through the server at the address given as argument."""
    url = f"http://{sys.argv[1]}"
    async with InferenceRESTClient(RESTConfig(protocol="v2", retries=0)) as client:

        async def perform(call: dict[str, Any]) -> Any:
            try:
                if call["call"] == "infer":
                    return infer_answer(await client.infer(url, infer_request(call), model_name=call["model"]))
                return await _plain(client, url, call)
            except httpx.HTTPStatusError as error:
                raise ServerError(str(error.response.status_code), str(error)) from None

        await answer_async(perform)


async def _plain(client: InferenceRESTClient, url: str, call: dict[str, Any]) -> Any:
    if call["call"] == "server_live":
        return await client.is_server_live(url)
    if call["call"] == "server_ready":
        return await client.is_server_ready(url)
    return await client.is_model_ready(url, call["model"])


asyncio.run(main())
