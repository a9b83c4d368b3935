"""A gRPC Open Inference server that answers an inference with its own inputs, for measuring what is in front of it.

It works on wire bytes: the fields of a request keep their numbers in the reply, but for the raw contents (7 becomes 6)
and the requested outputs (6, left out). So typed contents come back typed and raw ones raw, and no float is touched.
Prints the port it listens on.
"""

import asyncio
import sys

import grpc

SERVICE = "/inference.GRPCInferenceService/"
OUTPUTS_TAG, RAW_INPUT_TAG, RAW_OUTPUT_TAG = 0x32, 0x3A, b"\x32"
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def echo(request: bytes) -> bytes:
    """The ModelInferResponse that returns the inputs of a ModelInferRequest."""
    position, kept = 0, []
    while position < len(request):
        start, tag = position, request[position]
        length, position = _varint(request, position + 1)
        end = position + length
        if tag == RAW_INPUT_TAG:
            kept += [RAW_OUTPUT_TAG, request[start + 1 : end]]
        elif tag != OUTPUTS_TAG:
            kept.append(request[start:end])
        position = end
    return b"".join(kept)


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


async def _infer(request: bytes, context: object) -> bytes:
    return echo(request)


async def _true(request: bytes, context: object) -> bytes:
    return b"\x08\x01"


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc publishes no types
    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        method = call.method.removeprefix(SERVICE)
        handler = {"ModelInfer": _infer, "ServerLive": _true, "ServerReady": _true, "ModelReady": _true}.get(method)
        return grpc.unary_unary_rpc_method_handler(handler) if handler else None


async def main() -> None:
    """Serve until killed."""
    server = grpc.aio.server(options=UNLIMITED)
    server.add_generic_rpc_handlers([_Handlers()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
