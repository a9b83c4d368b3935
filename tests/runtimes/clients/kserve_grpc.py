"""kserve's InferenceGRPCClient."""

import asyncio
import logging
import sys
from typing import Any

import grpc
from jobs import ServerError, answer_async
from kserve import InferenceGRPCClient
from kserve_calls import infer_answer, infer_request


async def main() -> None:
    """Answer the calls on stdin through the server at the address given as argument."""
    logging.disable()  # the client logs every refusal with its traceback
    async with InferenceGRPCClient(sys.argv[1], retries=0) as client:

        async def perform(call: dict[str, Any]) -> Any:
            try:
                if call["call"] == "infer":
                    return infer_answer(await client.infer(infer_request(call)))
                return await _plain(client, call)
            except grpc.RpcError as error:
                raise ServerError(str(error.code()), error.details()) from None

        await answer_async(perform)


async def _plain(client: InferenceGRPCClient, call: dict[str, Any]) -> Any:
    if call["call"] == "server_live":
        return await client.is_server_live()
    if call["call"] == "server_ready":
        return await client.is_server_ready()
    return await client.is_model_ready(call["model"])


asyncio.run(main())
