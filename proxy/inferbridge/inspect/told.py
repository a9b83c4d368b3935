"""What the gateway tells of a call in `flow.metadata["inferbridge"]`, and how to read it.

Plain values, which are kept when the flow is saved:

    client     api, endpoint, way and specials of the client's request (see `translation.Asked`); its body is the flow's
    runtime    the same of the first request to a runtime; its body is that of `upstream[0]`
    losses     names of fields that were dropped
    call       texts and numbers: ids, model, operation, statuses, flags, error, who called, sizes, tokens
    timing     milliseconds from the client's head to each step, and the gaps between the pieces of the answer
    upstream   every call of a runtime: whom, what was sent (`asked`) and answered (`told`), bodies as bytes

`client` and `runtime` are missing where no endpoint is known, and where no runtime was asked. Beside it `LABELS` stand
in `flow.metadata`: texts that mitmproxy's filter finds (`~meta "model: tiny"`).

Bodies are read when somebody looks, and not before: as plain values they would take ten times the memory.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from mitmproxy.http import HTTPFlow

from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.framing import split
from inferbridge.bridge.rest import HEADER_LENGTH
from inferbridge.bridge.values import Headers, header, media_type
from inferbridge.inspect.tensor_places import json_length
from inferbridge.inspect.translation import READ_BYTES, Asked, json_body, message_body
from inferbridge.protos import methods

FLOW_KEY = "inferbridge"
LABELS = ("model", "op", "api", "runtime", "upstream", "status", "lossy", "flags")


def asked(flow: HTTPFlow, told: Mapping[str, Any], side: str) -> tuple[Asked, str]:
    """The request of the `client` or the first one to a `runtime`, and why its body is not read. It must be told of."""
    known = dict(told[side])
    if "body" in known:
        return msgspec.convert(known, Asked), ""
    target, headers, body = _client(flow) if side == "client" else _first(told)
    try:
        known["body"], trouble = _read(known, target.partition("?")[0], headers, body), ""
    except (BridgeError, ValueError) as error:
        known["body"], trouble = None, f"the {side}'s body cannot be read: {getattr(error, 'message', error)}"
    return msgspec.convert(known, Asked), trouble


def _client(flow: HTTPFlow) -> tuple[str, Headers, bytes]:
    request = flow.request
    headers = tuple((name.lower(), value) for name, value in request.headers.items(multi=True))
    return request.path, headers, request.get_content(strict=False) or b""


def _first(told: Mapping[str, Any]) -> tuple[str, Headers, bytes]:
    leg = told["upstream"][0]
    return leg["target"], tuple((name, value) for name, value in leg["asked"]["headers"]), leg["asked"]["body"]


def _read(known: Mapping[str, Any], path: str, headers: Headers, body: bytes) -> Any:
    kind = media_type(headers)
    protocol, _, variant = str(known["way"]).partition("/")
    if protocol != "grpc":
        return json_body(_json_part(headers, body))
    if kind == "application/json":  # a method of gRPC, called with JSON
        found = methods(known["api"], variant)
        body = found.request_from_json(path, body)
    elif kind.startswith("application/grpc"):
        messages, *_ = split(body, READ_BYTES)
        if not messages or messages[0][0]:
            raise ValueError("its first message is not whole, or compressed")
        body = messages[0][1]
    return message_body(known["api"], variant, path, body)


def _json_part(headers: Headers, body: bytes) -> bytes:
    """The JSON that stands before the bytes of tensors, if any do."""
    return body[: json_length(header(headers, HEADER_LENGTH))]
