"""The messages of a gRPC stream, read as its bytes arrive."""

from inferbridge.bridge.errors import BridgeError, Code, invalid
from inferbridge.bridge.framing import PREFIX_BYTES, inflate, too_large
from inferbridge.bridge.values import Buffer


class MessageReader:
    """Takes the five-byte prefix off each message; `limit` in bytes, before and after decompression."""

    def __init__(self, limit: int, encoding: str = "identity") -> None:
        self._limit = limit
        self._encoding = encoding
        self._pieces: list[bytes] = []  # of an unfinished message; joined once, so the cost of a long one is linear
        self._size = 0
        self._wanted = PREFIX_BYTES

    def feed(self, data: Buffer) -> list[Buffer]:
        """The messages that `data` completes; BridgeError for what is too large, or no gRPC."""
        self._pieces.append(data if type(data) is bytes else bytes(data))
        self._size += len(data)
        if self._size < self._wanted:
            return []
        return self._read(b"".join(self._pieces))

    def _read(self, body: bytes) -> list[Buffer]:
        messages: list[Buffer] = []
        at, end = 0, len(body)
        self._wanted = PREFIX_BYTES
        while end - at >= PREFIX_BYTES:
            length = int.from_bytes(body[at + 1 : at + PREFIX_BYTES])
            if length > self._limit:
                raise too_large(length, self._limit)
            stop = at + PREFIX_BYTES + length
            if stop > end:
                self._wanted = stop - at
                break
            messages.append(self._message(body[at], body[at + PREFIX_BYTES : stop]))
            at = stop
        self._pieces, self._size = [body[at:]], end - at
        return messages

    def _message(self, flag: int, message: bytes) -> bytes:
        if not flag:
            return message
        if flag != 1:
            raise invalid("the gRPC compression flag is not 0 or 1")
        return inflate(message, self._encoding, self._limit)

    def finish(self) -> None:
        """BridgeError when the stream ended within a message."""
        if self._size:
            raise BridgeError(Code.INTERNAL, "the last gRPC message is cut off")
