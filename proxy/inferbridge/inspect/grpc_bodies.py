"""gRPC bodies as text: each message with its number, its size and its compression.

A body that is cut off is shown up to there.
"""

from collections.abc import Iterator

from google.protobuf.descriptor import Descriptor

from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.framing import PREFIX_BYTES, inflate
from inferbridge.bridge.values import Buffer
from inferbridge.inspect.grpc_status import add_trailers
from inferbridge.inspect.messages import add_message
from inferbridge.inspect.page import Page, octets, shorten

_COMPRESSED = 1
_TRAILERS = 0x80
"""Flag of the last frame of gRPC-Web, which holds trailers as text."""
_TRAILER_BYTES = 16 * 1024


def add_body(page: Page, body: Buffer, descriptor: Descriptor | None, encoding: str = "identity") -> None:
    """All messages of a body, each after its five-byte prefix; without a descriptor fields go by their numbers."""
    view, at, number = memoryview(body), 0, 0
    while at < len(view) and not page.is_full:
        number += 1
        prefix = view[at : at + PREFIX_BYTES]
        if len(prefix) < PREFIX_BYTES:
            page.add(f"! the body ends within the prefix of message {number}: {octets(prefix)}")
            return
        flag, length = prefix[0], int.from_bytes(prefix[1:], "big")
        at += PREFIX_BYTES
        _add_frame(page, number, (flag, length), view[at : at + length], descriptor, encoding)
        at += length


def _add_frame(
    page: Page, number: int, prefix: tuple[int, int], content: memoryview, descriptor: Descriptor | None, encoding: str
) -> None:
    flag, length = prefix
    name = "" if descriptor is None else f"{descriptor.full_name}, "
    head, cut_off = f"message {number}: {name}", len(content) < length
    if flag == _TRAILERS:
        page.add("trailers in the body:")
        add_trailers(page, _web_trailers(content), 1)
    elif flag == _COMPRESSED and not cut_off:
        _add_compressed(page, head, content, descriptor, encoding)
    else:
        page.add(f"{head}{length} bytes{'' if flag in (0, 1) else f', ! flag {flag} is unknown'}")
        if flag == _COMPRESSED:
            page.add(f"! compressed and cut off: {len(content)} of {length} bytes are there", 1)
            return
        add_message(page, content, descriptor, 1)
        if cut_off:
            page.add(f"! cut off: {len(content)} of {length} bytes are there", 1)


def _add_compressed(page: Page, head: str, content: memoryview, descriptor: Descriptor | None, encoding: str) -> None:
    try:
        message = inflate(content, encoding, page.budget.inflated)
    except BridgeError as error:
        reason = error.message
        if error.code is Code.RESOURCE_EXHAUSTED:
            # the work is done: the next one may not cost as much again
            reason, page.budget.inflated = f"larger than the {page.budget.inflated} bytes that are shown of one page", 0
        page.add(f"{head}{len(content)} bytes of {shorten(encoding, 40)}, ! {reason}")
        return
    page.budget.inflated -= len(message)
    page.add(f"{head}{len(message)} bytes, {len(content)} as {encoding}")
    add_message(page, memoryview(message), descriptor, 1)


def _web_trailers(content: memoryview) -> Iterator[tuple[str, str]]:
    for line in bytes(content[:_TRAILER_BYTES]).decode(errors="replace").splitlines():
        name, _, value = line.partition(":")
        yield name.strip(), value.strip()
