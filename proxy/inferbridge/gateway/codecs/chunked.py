"""Decoder for the body and trailers of a chunked HTTP/1.1 request (RFC 9112 §7.1), a machine of four states:

    SIZE ──n > 0──▶ DATA ──n bytes──▶ DATA_END ──CRLF──▶ SIZE
      └───n = 0───▶ TRAILER ──empty line──▶ done

    size line  = 1*HEXDIG *( ";" token [ "=" ( token / quoted-string ) ] ) CRLF
    trailer    = token ":" value CRLF

A size has 16 digits and 256 bytes of extensions at most. Trailers are dropped, but counted against the limit.

Lines end in CRLF and nothing else: tolerance for a bare LF is how two parsers come to disagree about where a
message ends. Data is handed on as views of the input; only an unfinished line is kept.
"""

import re
from enum import Enum, auto

from inferbridge.bridge.errors import BridgeError, Code, invalid
from inferbridge.bridge.values import Buffer

MAX_EXTENSION = 256
_MAX_SIZE_LINE = 16 + MAX_EXTENSION + 2
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e])*"'
_EXTENSION = rb";" + _TOKEN + rb"(?:=(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?"
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:" + _EXTENSION + rb")*")
_TRAILER = re.compile(_TOKEN + rb":[\t\x20-\x7e\x80-\xff]*")


class _State(Enum):
    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILER = auto()


class ChunkedDecoder:
    """Decodes one body. BridgeError (400, or 431 for trailers) ends its use."""

    def __init__(self, trailer_bytes: int) -> None:
        self.complete = False
        self._state = _State.SIZE
        self._remaining = 0
        self._line = b""
        self._trailer_allowance = trailer_bytes

    def feed(self, data: bytes) -> tuple[list[Buffer], bytes]:
        """Pieces of the body in `data`, and the bytes after its end (empty while it is not complete)."""
        pieces: list[Buffer] = []
        view = memoryview(data)
        position = 0
        while position < len(data) and not self.complete:
            if self._state is _State.DATA:
                piece = view[position : position + self._remaining]
                pieces.append(piece)
                self._consume(len(piece))
                position += len(piece)
            else:
                position = self._feed_line(data, position)
        return pieces, data[position:] if position < len(data) else b""

    def _consume(self, size: int) -> None:
        self._remaining -= size
        if not self._remaining:
            self._state = _State.DATA_END

    def _feed_line(self, data: bytes, position: int) -> int:
        """Take bytes up to a line end, act on the line when it is complete, and give the position after it."""
        end = data.find(b"\n", position)
        stop = len(data) if end < 0 else end + 1
        self._line += data[position : min(stop, position + self._allowance() + 1)]
        if len(self._line) > self._allowance():
            raise self._overlong()
        if end >= 0:
            line, self._line = self._line, b""
            if not line.endswith(b"\r\n"):
                raise invalid("bare LF in a chunked body")
            self._take(line[:-2])
        return stop

    def _allowance(self) -> int:
        """Bytes the current line may have, line end included."""
        if self._state is _State.DATA_END:
            return 2
        return _MAX_SIZE_LINE if self._state is _State.SIZE else self._trailer_allowance + 2

    def _overlong(self) -> BridgeError:
        if self._state is _State.TRAILER:
            return BridgeError(Code.RESOURCE_EXHAUSTED, "trailers too large", status=431)
        if self._state is _State.DATA_END:
            return invalid("chunk data longer than its size")
        return invalid(f"chunk size line too long (extensions of at most {MAX_EXTENSION} bytes)")

    def _take(self, line: bytes) -> None:
        if self._state is _State.SIZE:
            self._take_size(line)
        elif self._state is _State.DATA_END:
            if line:
                raise invalid("chunk data longer than its size")
            self._state = _State.SIZE
        elif not line:
            self.complete = True
        else:
            if not _TRAILER.fullmatch(line):
                raise invalid("malformed trailer")
            self._trailer_allowance -= len(line)

    def _take_size(self, line: bytes) -> None:
        match = _SIZE_LINE.fullmatch(line)
        if match is None or len(line) - len(match[1]) > MAX_EXTENSION:
            raise invalid("malformed chunk size")
        self._remaining = int(match[1], 16)
        self._state = _State.DATA if self._remaining else _State.TRAILER
