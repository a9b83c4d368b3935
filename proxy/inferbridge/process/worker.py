"""A worker: a process that serves shared listeners for a supervisor, and does what that says over a channel.

It ends when it is stopped, or when its supervisor is gone. Run with the number of the channel's file
descriptor and the name of an event loop.
"""

import asyncio
import logging
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

from inferbridge import event_loop
from inferbridge.config import SettingsError
from inferbridge.observe.health import Report
from inferbridge.process.channel import Begin, Channel, Failed, Renew, Serving, Stop, Tell, Told
from inferbridge.process.proxy import Proxy, prepare, proxying
from inferbridge.process.source import Source

CUT_SHORT = 143
"""Exit code when calls were ended because a second signal came; what shells say of SIGTERM."""
_log = logging.getLogger(__name__)


class Worker:
    """What a supervisor may ask."""

    def __init__(self, channel: Channel, begin: Begin, source: Source, proxy: Proxy) -> None:
        self._channel = channel
        self._source = source
        self._listen = begin.listen
        self.proxy = proxy

    async def serve(self) -> None:
        """Serve until it is stopped."""
        await self.proxy.serve(self._listen, self._serving, shared=True)

    def _serving(self, addresses: object) -> None:
        self.proxy.health.listening = ("",)  # where is the supervisor's to say
        self._channel.send(Serving())

    async def obey(self) -> None:
        """Do what the supervisor says; when it is gone, stop."""
        async for message in self._channel.messages():
            match message:
                case Stop():
                    self.proxy.stopper.ask(delay=message.delay)
                case Tell():
                    self._tell(message.number)
                case Renew():
                    self._renew(message.text)
        self.proxy.stopper.ask(delay=False)

    def _tell(self, number: int) -> None:
        metrics = self.proxy.metrics

        def told(report: Report) -> None:
            families = metrics.families() if metrics is not None else []
            self._channel.send(Told(number, not report.reasons, report.upstreams, families))

        self.proxy.health.ask(told)

    def _renew(self, text: bytes) -> None:
        """The supervisor has tried it, so that it fails here is rare: then this worker goes on as before."""
        try:
            self.proxy.apply(self._source.parsed(text))
        except (SettingsError, ValueError, OSError) as error:
            _log.error("a worker goes on with the settings before: %s", error)


async def work(end: socket.socket) -> int:
    """Serve for the supervisor at the other end; the exit code."""
    channel = await Channel.over(end)
    begin = await anext(channel.messages(), None)
    if not isinstance(begin, Begin):
        return 0  # the supervisor was gone first
    try:
        source = Source(Path(begin.file) if begin.file else None, begin.flags)
        settings = source.parsed(begin.text if begin.file else None)
        prepare(settings)
        async with proxying(settings) as proxy:
            await _obedient(Worker(channel, begin, source, proxy))
        return CUT_SHORT if proxy.stopper.cut_short else 0
    except (SettingsError, ValueError, OSError) as error:
        channel.send(Failed(str(error)))
        return 1
    finally:
        await channel.close()


async def _obedient(worker: Worker) -> None:
    obeying = asyncio.create_task(worker.obey())
    try:
        await worker.serve()
    finally:
        obeying.cancel()
        with suppress(asyncio.CancelledError):
            await obeying


def main() -> None:
    """The program."""
    for number in (signal.SIGINT, signal.SIGHUP):  # a terminal sends them to all: the supervisor decides
        signal.signal(number, signal.SIG_IGN)
    channel, loop = sys.argv[1:]
    sys.exit(event_loop.run(work(socket.socket(fileno=int(channel))), "uvloop" if loop == "uvloop" else "asyncio"))
