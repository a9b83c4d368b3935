"""Builds what captures calls from the settings, and runs it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from inferbridge.capture.capturer import CaptureCounters, Capturer, Sink
from inferbridge.capture.cloud_events import CloudEvents
from inferbridge.capture.files import FileLines, StdoutLines
from inferbridge.capture.settings import CaptureSettings, CloudEventsSink, FileSink, SinkSettings


class NoCounters:
    """Keeps no numbers."""

    def captured(self, sink: str) -> None:
        """Not counted."""

    def capture_dropped(self, sink: str, reason: str) -> None:
        """Not counted."""


@asynccontextmanager
async def capturing(settings: CaptureSettings, counters: CaptureCounters | None) -> AsyncIterator[Capturer | None]:
    """What captures calls while it is open; None where nothing is to be captured.

    OSError for a file that cannot be written, ValueError for a collector that cannot be used.
    """
    if not settings.enabled:
        yield None
        return
    counters = counters or NoCounters()
    capturer = Capturer(settings, [_sink(one, counters) for one in settings.sinks], counters)
    capturer.start()
    try:
        yield capturer
    finally:
        await capturer.close()


def _sink(settings: SinkSettings, counters: CaptureCounters) -> Sink:
    match settings:
        case FileSink():
            return FileLines(settings, counters)
        case CloudEventsSink():
            return CloudEvents(settings, counters)
    return StdoutLines(counters)
