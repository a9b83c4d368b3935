"""tritonclient.grpc: the blocking gRPC client."""

import queue
import sys
from typing import Any

import tritonclient.grpc as library
from jobs import answer
from triton_calls import grpc_answer, infer_arguments, plain_calls, plain_value, raise_server_error
from tritonclient.utils import InferenceServerException

ANSWER_SECONDS = 30.0


def stream(client: library.InferenceServerClient, call: dict[str, Any]) -> list[dict[str, Any]]:
    """Send the requests over one stream, each when the one before it has all its answers; the answers in order."""
    arrived: queue.Queue[tuple[Any, InferenceServerException | None]] = queue.Queue()
    client.start_stream(lambda result, error: arrived.put((result, error)))
    answers = []
    try:
        for request in call["requests"]:
            client.async_stream_infer(**infer_arguments(library, request, rest=False))
            for _ in range(request["answers"]):
                result, error = arrived.get(timeout=ANSWER_SECONDS)
                answers.append({"error": error.message()} if error is not None else grpc_answer(result))
    finally:
        client.stop_stream()
    return answers


def main() -> None:
    """Answer the calls on stdin through the server at the address given as argument."""
    client = library.InferenceServerClient(sys.argv[1])

    def perform(call: dict[str, Any]) -> Any:
        try:
            if call["call"] == "infer":
                return grpc_answer(client.infer(**infer_arguments(library, call, rest=False)))
            if call["call"] == "stream":
                return stream(client, call)
            return plain_value(plain_calls(client, call, rest=False))
        except InferenceServerException as error:
            return raise_server_error(error)

    answer(perform)
    client.close()


main()
