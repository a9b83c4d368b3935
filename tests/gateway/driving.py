"""Helpers that read a codec's events."""

from collections.abc import Sequence

from inferbridge.gateway.codecs.events import Event, ProtocolRefused, RequestData, RequestOpened


def opened(events: Sequence[Event]) -> RequestOpened:
    """The first event, which must open a call."""
    event = events[0]
    assert isinstance(event, RequestOpened), event
    return event


def refusal(events: Sequence[Event]) -> ProtocolRefused:
    """The only event, which must be a refusal."""
    (event,) = events
    assert isinstance(event, ProtocolRefused), event
    return event


def body_of(events: Sequence[Event]) -> bytes:
    """The body in all data events."""
    return b"".join(bytes(event.data) for event in events if isinstance(event, RequestData))
