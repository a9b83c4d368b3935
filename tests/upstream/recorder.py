"""A receiver that remembers, for tests of everything that answers to one."""

import asyncio

from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.values import Buffer, Headers


class Recorder:
    """Remembers what a call answered; `finished` is set by the last callback."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Headers = ()
        self.pieces: list[bytes] = []
        self.trailers: Headers | None = None
        self.error: BridgeError | None = None
        self.started = asyncio.Event()
        self.finished = asyncio.Event()
        self.heads = 0

    @property
    def body(self) -> bytes:
        """All data so far."""
        return b"".join(self.pieces)

    def on_head(self, status: int, headers: Headers) -> None:
        """Remember the head."""
        self.heads += 1
        self.status, self.headers = status, headers
        self.started.set()

    def on_data(self, data: Buffer) -> None:
        """Remember a piece."""
        assert not self.finished.is_set()
        self.pieces.append(bytes(data))

    def on_end(self, trailers: Headers) -> None:
        """Remember the end; there must be only one."""
        assert not self.finished.is_set()
        self.trailers = trailers
        self.finished.set()

    def on_failure(self, error: BridgeError) -> None:
        """Remember the failure; there must be only one end."""
        assert not self.finished.is_set()
        self.error = error
        self.finished.set()

    async def done(self, seconds: float = 20.0) -> "Recorder":
        """Wait for the end, whichever it is."""
        await asyncio.wait_for(self.finished.wait(), seconds)
        return self

    async def answer(self, seconds: float = 20.0) -> "Recorder":
        """Wait for the end, which must not be a failure."""
        await self.done(seconds)
        assert self.error is None, self.error
        return self

    async def failure(self, seconds: float = 20.0) -> BridgeError:
        """Wait for the failure."""
        await self.done(seconds)
        assert self.error is not None, (self.status, self.body)
        return self.error


class Broken(Recorder):
    """A receiver with a bug in one of its callbacks."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self._where = where

    def on_head(self, status: int, headers: Headers) -> None:
        """Perhaps fail."""
        super().on_head(status, headers)
        if self._where == "head":
            raise RuntimeError("bug")

    def on_data(self, data: Buffer) -> None:
        """Perhaps fail."""
        super().on_data(data)
        if self._where == "data":
            raise RuntimeError("bug")

    def on_end(self, trailers: Headers) -> None:
        """Perhaps fail."""
        super().on_end(trailers)
        if self._where == "end":
            raise RuntimeError("bug")
