"""A supervisor: workers that share its listeners, one admin port for all of them, and the life of the whole.

    signals, file ──▶ Supervisor ──channel──▶ worker 1 ┐
    admin port    ◀──     │      ──channel──▶ worker 2 ├── SO_REUSEPORT ── clients
                          └────── …                    ┘

It serves no call itself. A worker that ends unasked is started anew, after a pause that doubles while it does so again
and again; its calls are lost, those of the others go on. A worker that cannot even begin ends the start of the whole.
"""

import asyncio
import logging
import os
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Callable, Sequence

from inferbridge import event_loop
from inferbridge.config import Listener, Settings
from inferbridge.process.channel import Begin, Channel, Failed, Renew, Serving, Stop, Tell, Told
from inferbridge.process.source import Source

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 10.0
_STEADY_SECONDS = 30.0
"""A worker that has lived so long has not died of its start."""
_STOP_SECONDS = 15.0
"""Beyond all that a worker may take to stop; then it hangs."""
_PROGRAM = "from inferbridge.process.worker import main; main()"
_log = logging.getLogger(__name__)


class Worker:
    """One worker process, seen from the supervisor."""

    def __init__(
        self, number: int, process: Process, channel: Channel, heard: Callable[["Worker", Told], None]
    ) -> None:
        self.number = number
        self.process = process
        self.channel = channel
        self._heard = heard
        self.serving = asyncio.Event()
        self.reason = ""
        """Why it could not begin."""
        self.told: Told | None = None
        """How it was when it was last asked."""

    async def listen(self) -> int:
        """Hear what it says until it is gone; its exit code."""
        async for message in self.channel.messages():
            match message:
                case Serving():
                    self.serving.set()
                case Failed():
                    self.reason = message.reason
                case Told():
                    self.told = message
                    self._heard(self, message)
        await self.channel.close()
        return await self.process.wait()


class Supervisor:
    """Keeps the workers of some settings running."""

    def __init__(self, settings: Settings, source: Source, listen: Sequence[Listener]) -> None:
        self.settings = settings
        self._source = source
        self._text = source.text
        self._listen = list(listen)
        self.workers: dict[int, Worker] = {}
        """Those that run, by their place."""
        self._started = 0
        """Places whose first worker serves, or could not."""
        self._ready = asyncio.Event()
        self._failure = ""
        self._asked = 0
        self.on_gone: Callable[[Worker], None] = lambda worker: None
        """Hears of a worker that has ended unasked."""
        self.on_told: Callable[[Worker, Told], None] = lambda worker, told: None
        """Hears of what workers say of themselves."""

    @property
    def stopping(self) -> bool:
        """It was asked to stop."""
        return self._asked > 0

    @property
    def cut_short(self) -> bool:
        """It was asked to stop more than once."""
        return self._asked > 1

    async def run(self, ready: Callable[[], None]) -> None:
        """Run the workers until it is stopped; `ready` is called when all serve. OSError if one cannot begin."""
        places = [asyncio.create_task(self._keep(number)) for number in range(1, self.settings.workers + 1)]
        try:
            await self._ready.wait()
            if self._failure:
                raise OSError(self._failure)
            if not self.stopping:
                ready()
            await asyncio.gather(*places)
        finally:
            for place in places:
                place.cancel()
            await asyncio.gather(*places, return_exceptions=True)
            for worker in self.workers.values():
                if worker.process.returncode is None:
                    worker.process.kill()
                    await worker.process.wait()

    def stop(self, *, delay: bool) -> None:
        """Have all workers drain; the second time, have them end what is in flight."""
        self._asked += 1
        self._ready.set()
        for worker in self.workers.values():
            worker.channel.send(Stop(delay))
        seconds = self.settings.drain_delay + self.settings.drain.timeout + _STOP_SECONDS
        asyncio.get_running_loop().call_later(_STOP_SECONDS if self.cut_short else seconds, self._kill)

    def _kill(self) -> None:
        for worker in self.workers.values():
            if worker.process.returncode is None:
                _log.error("worker %d (process %d) does not stop, it is killed", worker.number, worker.process.pid)
                worker.process.kill()

    def renew(self) -> None:
        """The configuration is what `source` has last read."""
        self._text = self._source.text
        for worker in self.workers.values():
            worker.channel.send(Renew(self._text or b""))

    def tell(self, number: int) -> int:
        """Ask all workers that serve how they are; the number of those asked."""
        asked = [worker for worker in self.workers.values() if worker.serving.is_set()]
        for worker in asked:
            worker.channel.send(Tell(number))
        return len(asked)

    async def _keep(self, number: int) -> None:
        """Keep one place filled."""
        pause, loop = _FIRST_PAUSE, asyncio.get_running_loop()
        while not self.stopping:
            began = loop.time()
            code = await self._run_one(number)
            if self.stopping or self._failure:
                return
            if loop.time() - began > _STEADY_SECONDS:
                pause = _FIRST_PAUSE
            _log.error("worker %d has ended with %s; another is started in %g s", number, _ending(code), pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _run_one(self, number: int) -> int:
        """Run one worker to its end."""
        worker = self.workers[number] = await self._start(number)
        first = asyncio.create_task(self._first(worker)) if not self._ready.is_set() else None
        try:
            if self.stopping:
                worker.channel.send(Stop(delay=False))
            code = await worker.listen()
        finally:
            if first is not None:
                first.cancel()
        if not self._ready.is_set() and not worker.serving.is_set():
            self._failure = worker.reason or f"a worker has ended with {_ending(code)} before it served"
            self._ready.set()
        del self.workers[number]
        if not self.stopping:
            self.on_gone(worker)
        return code

    async def _first(self, worker: Worker) -> None:
        await worker.serving.wait()
        self._started += 1
        if self._started == self.settings.workers:
            self._ready.set()

    async def _start(self, number: int) -> Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            command = (sys.executable, "-P", "-c", _PROGRAM, str(theirs.fileno()), event_loop.running())
            process = await asyncio.create_subprocess_exec(*command, pass_fds=[theirs.fileno()], env=environment)
        worker = Worker(number, process, await Channel.over(ours), self.on_told)
        file = str(self._source.file) if self._source.file is not None else ""
        worker.channel.send(Begin(file, self._text or b"", self._source.flags, self._listen))
        return worker


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
