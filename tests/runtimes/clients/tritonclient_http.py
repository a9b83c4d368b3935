"""tritonclient.http: the blocking REST client."""

import sys
from typing import Any

import tritonclient.http as library
from jobs import answer
from triton_calls import infer_arguments, plain_calls, plain_value, raise_server_error, rest_answer
from tritonclient.utils import InferenceServerException


def main() -> None:
    """Answer the calls on stdin through the server at the address given as argument."""
    client = library.InferenceServerClient(sys.argv[1])

    def perform(call: dict[str, Any]) -> Any:
        try:
            if call["call"] == "infer":
                return rest_answer(client.infer(**infer_arguments(library, call, rest=True)))
            return plain_value(plain_calls(client, call, rest=True))
        except InferenceServerException as error:
            return raise_server_error(error)

    answer(perform)
    client.close()


main()
