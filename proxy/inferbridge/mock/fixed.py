"""Answers that a scenario gives as JSON, put on the wire as they are: no half-bridge has a say in them."""

from collections.abc import Iterator
from typing import Any

import msgspec

from inferbridge.bridge.bridge import End
from inferbridge.bridge.framing import frame
from inferbridge.bridge.registry import GrpcHalf
from inferbridge.bridge.rest import ok_reply
from inferbridge.bridge.values import GrpcReply, HttpReply
from inferbridge.protos import methods


def whole(end: End, variant: str, answer: Any) -> HttpReply | GrpcReply:
    """The answer as a reply of the endpoint; raises `BridgeError` for what its proto has no place for."""
    text = msgspec.json.encode(answer)
    if isinstance(end.half, GrpcHalf):
        return GrpcReply(messages=((methods(end.api.name, variant).reply_from_json(end.half.rpc, text),),))
    return ok_reply((text,))


def streamed(end: End, variant: str, answer: Any) -> Iterator[bytes]:
    """The answer, a list of messages or a single one, as framed messages of the endpoint."""
    for message in answer if isinstance(answer, list) else (answer,):
        text = msgspec.json.encode(message)
        if isinstance(end.half, GrpcHalf):
            wire = methods(end.api.name, variant).reply_from_json(end.half.rpc, text)
            yield b"".join(frame(((wire,),)))
        else:
            assert end.half.framing is not None
            yield end.half.framing.encode(text)
