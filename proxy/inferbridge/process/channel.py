"""Between a supervisor and one worker: whole messages over a pair of sockets.

A message is four bytes of length and a MessagePack map that says its kind. Both ends are the same program, of one
version; what cannot be read is a fault, and ends the channel.
"""

import asyncio
import socket
from collections.abc import AsyncIterator

import msgspec

from inferbridge.config import Flags, Listener
from inferbridge.observe.adding import Family

_LENGTH_BYTES = 4
_LIMIT = 64 << 20


class Begin(msgspec.Struct, frozen=True, tag=True):
    """To a worker: serve."""

    file: str
    """Name of the configuration; "" for none."""
    text: bytes
    """Its content, which on the disk may be broken by now."""
    flags: Flags
    listen: list[Listener]


class Renew(msgspec.Struct, frozen=True, tag=True):
    """To a worker: the configuration has changed."""

    text: bytes


class Stop(msgspec.Struct, frozen=True, tag=True):
    """To a worker: drain; the second time, end what is in flight now."""

    delay: bool


class Tell(msgspec.Struct, frozen=True, tag=True):
    """To a worker: say how you are."""

    number: int
    """Of the question."""


class Serving(msgspec.Struct, frozen=True, tag=True):
    """Of a worker: clients can connect."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """Of a worker: it cannot serve, and ends."""

    reason: str


class Told(msgspec.Struct, frozen=True, tag=True):
    """Of a worker: how it is."""

    number: int
    ready: bool
    upstreams: dict[str, bool]
    families: list[Family]


type Message = Begin | Renew | Stop | Tell | Serving | Failed | Told
_decode = msgspec.msgpack.Decoder(Message).decode  # type: ignore[arg-type,unused-ignore]  # an alias of a union
_encode = msgspec.msgpack.Encoder().encode


class Channel:
    """One end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, end: socket.socket) -> "Channel":
        """The channel over one of a pair of sockets."""
        return cls(*await asyncio.open_connection(sock=end))

    def send(self, message: Message) -> None:
        """Send a message; to an end that is gone it is lost."""
        if not self._writer.is_closing():
            data = _encode(message)
            self._writer.write(len(data).to_bytes(_LENGTH_BYTES) + data)

    async def messages(self) -> AsyncIterator[Message]:
        """What the other end sends, until it is gone."""
        while True:
            try:
                length = int.from_bytes(await self._reader.readexactly(_LENGTH_BYTES))
                if length > _LIMIT:
                    raise ValueError(f"a message of {length} bytes between our own processes")
                data = await self._reader.readexactly(length)
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            yield _decode(data)

    async def close(self) -> None:
        """Send what is left, and end."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            return
