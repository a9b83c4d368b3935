"""Streams of server-sent events as text: what they make together, then the events one by one."""

from typing import Any

import orjson

from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.event_stream import Event, EventReader
from inferbridge.bridge.values import Buffer
from inferbridge.inspect.page import Page, quoted, shorten
from inferbridge.inspect.reassembly import Reassembly

READ_BYTES = 4 * 1024 * 1024
"""Bytes of a stream that are read; about 16 000 tokens in OpenAI's form."""
MAX_EVENTS = 20_000
EVENT_BYTES = 1024 * 1024
_DONE = b"[DONE]"
_SHOWN = 300
"""Characters of each event."""


def add_events(page: Page, body: Buffer) -> None:
    """A whole stream, or what there is of it."""
    events, troubles = read_events(body)
    together = Reassembly()
    for event in events:
        together.add(_parsed(event.data))
    together.add_to(page)
    is_done = any(event.data == _DONE for event in events[-2:])
    page.add(f"{len(events)} events{', the last is [DONE]' if is_done else ''}")
    page.add_all(f"! {trouble}" for trouble in troubles)
    page.add_all((f"{number}: {_line(event)}" for number, event in enumerate(events, 1)), 1)


def read_events(body: Buffer) -> tuple[list[Event], list[str]]:
    """The events, and why they are not all of the stream."""
    reader, troubles = EventReader(EVENT_BYTES), []
    events: list[Event] = []
    try:
        for at in range(0, min(len(body), READ_BYTES), EVENT_BYTES // 16):
            events += reader.feed(bytes(body[at : min(at + EVENT_BYTES // 16, READ_BYTES)]))
            if len(events) > MAX_EVENTS:
                break
    except BridgeError as error:
        troubles.append(error.message)
    if len(body) > READ_BYTES or len(events) > MAX_EVENTS:
        troubles.append(f"the stream is long: {len(body)} bytes; only its beginning is shown")
    elif not reader.finish():
        troubles.append("the stream ends within an event")
    return events[:MAX_EVENTS], troubles


def _parsed(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except ValueError:
        return None


def _line(event: Event) -> str:
    name = "" if event.name == "message" else f"{quoted(event.name, 100)} "
    return name + shorten(event.data[: 4 * _SHOWN + 4].decode(errors="replace"), _SHOWN)
