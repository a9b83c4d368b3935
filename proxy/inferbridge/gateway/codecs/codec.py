"""The one interface between the bytes of a client connection and its calls.

A codec does no I/O and keeps no body: bytes in, events out; commands in, bytes out. Whatever the client sends,
`receive` does not raise: a broken connection ends in output (an error answer, GOAWAY) and `closing`.
"""

from typing import Protocol

from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.values import Buffer, Chunks, Headers
from inferbridge.gateway.codecs.events import Event


class ServerCodec(Protocol):
    """One client connection, seen from the server. Commands for a stream that is gone are ignored."""

    unread: bytes
    """What the client has sent too early: an answer may free it, so call `receive` again, with b""."""

    @property
    def closing(self) -> bool:
        """True: no further call will be accepted; close the connection once the output is written."""

    def receive(self, data: bytes) -> list[Event]:
        """What `data` completes, behind what is `unread`."""

    @property
    def awaits_head(self) -> int | None:
        """A head, or what comes before the first one, has begun and is not complete: a number that is its alone."""

    @property
    def waiting(self) -> int:
        """Bytes of all answers that wait for the client's flow-control windows."""

    def give_up(self, error: BridgeError) -> list[Event]:
        """The client does not finish what `awaits_head` tells of."""

    def proceed(self, stream: int) -> None:
        """The request is welcome: tell a client that waits for `100 Continue`, unless it was answered already."""

    def acknowledge(self, stream: int, credit: int) -> None:
        """`credit` bytes of the body were consumed and the client may send as many more."""

    def send_head(self, stream: int, status: int, headers: Headers) -> None:
        """Begin the answer. ValueError: a name or value that must not go on a wire, or a head was sent already."""

    def send_data(self, stream: int, data: Buffer) -> None:
        """A piece of the answer's body. ValueError: no head yet, or more than its content-length."""

    def end(self, stream: int, trailers: Headers = ()) -> None:
        """The answer is complete. ValueError: no head yet, fewer bytes than its content-length, or bad trailers."""

    def send_whole(self, stream: int, status: int, headers: Headers, chunks: Chunks) -> None:
        """Head, body and end at once. ValueError: as those."""

    def reset(self, stream: int) -> None:
        """Cut the answer so that the client can tell."""

    def drain(self) -> None:
        """Ask the client to take further calls elsewhere; those that it sends all the same are still served."""

    def leave(self) -> None:
        """Take no further call, and close when those in flight are answered."""

    def queued(self, stream: int) -> int:
        """Bytes of the answer that wait for the client's flow-control window."""

    def take_pressed(self) -> list[tuple[int, bool]]:
        """Streams whose answers have piled up for want of a window since the last time (True), or drained (False)."""

    def take_output(self) -> Buffer:
        """The bytes to send now. While there is `more`, what is large comes by itself, so that nobody copies it."""

    @property
    def more(self) -> bool:
        """The last call of `take_output` has left something."""

    def release(self) -> None:
        """The connection is closed: leave nothing that holds itself to the garbage collector. The last call."""
