"""The messages of a gRPC stream, read as its bytes arrive."""

from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.framing import PREFIX_BYTES, is_whole, plain, split
from inferbridge.bridge.values import Buffer


class MessageReader:
    """Takes the five-byte prefix off each message; `limit` in bytes, before and after decompression."""

    def __init__(self, limit: int, encoding: str = "identity") -> None:
        self._limit = limit
        self._encoding = encoding
        self._pieces: list[bytes] = []  # of an unfinished frame; joined once, so the cost of a long one is linear
        self._size = 0
        self._needed = PREFIX_BYTES  # bytes of the unfinished frame, as far as it is known

    def feed(self, data: Buffer) -> list[Buffer]:
        """The messages that `data` completes; BridgeError for what is too large, or no gRPC."""
        body = data if type(data) is bytes else bytes(data)
        if not self._pieces:
            if is_whole(body, self._limit):
                return [body[PREFIX_BYTES:]]
        else:
            self._pieces.append(body)
            self._size += len(body)
            if self._size < self._needed:
                return []
            body = b"".join(self._pieces)
        found, at, self._needed = split(body, self._limit)
        self._pieces, self._size = [body[at:]] if at < len(body) else [], len(body) - at
        return [self._message(flag, message) for flag, message in found]

    def _message(self, flag: int, message: bytes) -> Buffer:
        return plain(flag, message, self._encoding, self._limit) if flag else message

    def finish(self) -> None:
        """BridgeError when the stream ended within a message."""
        if self._pieces:
            raise BridgeError(Code.INTERNAL, "the last gRPC message is cut off")
