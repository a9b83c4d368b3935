"""connect-python's client, for any method of a descriptor set.

A call is `{"call": "/package.Service/Method", "descriptors": path of the set, "request": JSON of the message,
"json": whether messages travel as JSON, "http": 1 or 2, "get": whether by GET, "metadata": {…}}`. The result is the
JSON of the answer with the names of the proto, or a list of them for a stream; an error's `details` are type names.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

from connectrpc.client import ConnectClient
from connectrpc.errors import ConnectError
from connectrpc.method import IdempotencyLevel, MethodInfo
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message_factory import GetMessageClass
from jobs import ServerError, answer_async
from pyqwest import Client, HTTPTransport, HTTPVersion

VERSIONS = {1: HTTPVersion.HTTP1, 2: HTTPVersion.HTTP2}


def found(descriptors: str, path: str) -> Any:
    """The descriptor of a method."""
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(Path(descriptors).read_bytes()).file:
        pool.Add(file)
    service, name = path[1:].split("/")
    return pool.FindServiceByName(service).FindMethodByName(name)


def plain(message: Any) -> Any:
    """The JSON of a message."""
    return MessageToDict(message, preserving_proto_field_name=True)


async def perform(call: dict[str, Any]) -> Any:
    """One call."""
    method = found(call["descriptors"], call["call"])
    request = ParseDict(call["request"], GetMessageClass(method.input_type)())
    level = IdempotencyLevel.NO_SIDE_EFFECTS if call.get("get") else IdempotencyLevel.UNKNOWN
    classes = (type(request), GetMessageClass(method.output_type))
    info = MethodInfo(
        name=method.name,
        service_name=method.containing_service.full_name,
        input=classes[0],
        output=classes[1],
        idempotency_level=level,
    )
    http = Client(HTTPTransport(http_version=VERSIONS[call["http"]]))
    address = f"http://{sys.argv[1]}"
    async with ConnectClient(address, proto_json=call["json"], timeout_ms=30_000, http_client=http) as client:
        arguments = {"request": request, "method": info, "headers": call.get("metadata")}
        try:
            if method.server_streaming:
                return [plain(each) async for each in client.execute_server_stream(**arguments)]
            return plain(await client.execute_unary(**arguments, use_get=bool(call.get("get"))))
        except ConnectError as error:
            raise ServerError(error.code.value, error.message) from None


asyncio.run(answer_async(perform))
