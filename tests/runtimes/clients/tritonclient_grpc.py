"""tritonclient.grpc: the blocking gRPC client."""

import sys
from typing import Any

import tritonclient.grpc as library
from jobs import answer
from triton_calls import grpc_answer, infer_arguments, plain_calls, plain_value, raise_server_error
from tritonclient.utils import InferenceServerException


def main() -> None:
    """Answer the calls on stdin through the server at the address given as argument."""
    client = library.InferenceServerClient(sys.argv[1])

    def perform(call: dict[str, Any]) -> Any:
        try:
            if call["call"] == "infer":
                return grpc_answer(client.infer(**infer_arguments(library, call, rest=False)))
            return plain_value(plain_calls(client, call, rest=False))
        except InferenceServerException as error:
            return raise_server_error(error)

    answer(perform)
    client.close()


main()
