"""tritonclient.grpc.aio: the asynchronous gRPC client."""

import asyncio
import sys
from typing import Any

import tritonclient.grpc.aio as library
from jobs import answer_async
from triton_calls import grpc_answer, infer_arguments, plain_calls, plain_value, raise_server_error
from tritonclient.utils import InferenceServerException


async def main() -> None:
    """Answer the calls on stdin through the server at the address given as argument."""
    client = library.InferenceServerClient(sys.argv[1])

    async def perform(call: dict[str, Any]) -> Any:
        try:
            if call["call"] == "infer":
                return grpc_answer(await client.infer(**infer_arguments(library, call, rest=False)))
            return plain_value(await plain_calls(client, call, rest=False))
        except InferenceServerException as error:
            return raise_server_error(error)

    await answer_async(perform)
    await client.close()


asyncio.run(main())
