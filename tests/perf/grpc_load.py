"""A load of identical unary gRPC calls on connections of their own, one call in flight on each.

Speaks with whoever started it as load.py does; `request` is the message, `method` says what is called, with `token`.
"""

import asyncio
import base64
import json
import sys
import time
from typing import Any

import grpc

OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
]


async def call(asked: dict[str, Any], deadline: float) -> tuple[int, int]:
    """Call again and again until the time is over; the number of calls, and bytes of answers."""
    request, calls, octets = base64.b64decode(asked["request"]), 0, 0
    metadata = (("authorization", f"Bearer {asked['token']}"),)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{asked['port']}", OPTIONS) as channel:
        ask = channel.unary_unary(asked["method"])
        while time.monotonic() < deadline or not calls:
            octets += len(await ask(request, metadata=metadata))
            calls += 1
    return calls, octets


async def run(asked: dict[str, Any]) -> dict[str, Any]:
    """One measurement."""
    started = time.monotonic()
    calling = (call(asked, started + asked["seconds"]) for _ in range(asked["connections"]))
    try:
        done = await asyncio.gather(*calling)
    except grpc.aio.AioRpcError as problem:
        return {"problem": repr(problem)}
    calls, octets = map(sum, zip(*done, strict=True))
    return {"requests": calls, "seconds": time.monotonic() - started, "reply_bytes": octets}


def main() -> None:
    """Run the measurements asked for on stdin."""
    for line in sys.stdin:
        sys.stdout.write(json.dumps(asyncio.run(run(json.loads(line)))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
