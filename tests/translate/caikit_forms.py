"""What tests of caikit's recordings share: JSON and messages in a form that can be compared."""

import base64
import json
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

import inferbridge_generated

PROTOS = Path(inferbridge_generated.__file__).parent / "caikit/protos.binpb"


def said(value: Any) -> Any:
    """JSON without what is null, empty text or an empty list: protobuf has no presence for those."""
    if isinstance(value, dict):
        return {key: said(item) for key, item in value.items() if item not in (None, [], "")}
    return [said(item) for item in value] if isinstance(value, list) else value


@cache
def pool() -> DescriptorPool:
    """Caikit's messages."""
    made = DescriptorPool()
    for file in FileDescriptorSet.FromString(PROTOS.read_bytes()).file:
        made.Add(file)
    return made


def replies(form: dict[str, Any], rpc: str) -> list[Message]:
    """The messages of a gRPC answer, for comparison: maps have no order."""
    service, method = rpc.strip("/").split("/")
    found = pool().FindServiceByName(service).FindMethodByName(method)
    return [GetMessageClass(found.output_type).FromString(base64.b64decode(t)) for t in form["messages_base64"]]


def rest_request(path: str, body: Any) -> dict[str, Any]:
    """A REST call with a JSON body."""
    headers = [["content-type", "application/json"]]
    return {"method": "POST", "path": path, "headers": headers, "body": json.dumps(body)}


def rest_reply(body: Any) -> dict[str, Any]:
    """A REST answer with a JSON body."""
    return {"status": 200, "headers": [["content-type", "application/json"]], "body": json.dumps(body)}
