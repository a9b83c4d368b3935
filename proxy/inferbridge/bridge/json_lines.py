"""Streams of JSON values: one a line (newline-delimited JSON), or the elements of one array.

JSON has no line end inside a value unless it is laid out, so lines can be cut without parsing. Transcoders differ in
what a line holds: Envoy writes the message itself, grpc-gateway `{"result": message}` and at the end maybe
`{"error": status}`. Envoy's default is the array.
"""

import msgspec

from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.framing import too_large
from inferbridge.bridge.values import Buffer

_LF = 10
_SPACE = b" \t\r"


class LineReader:
    """Reads the lines of one stream; each may have `limit` bytes. Empty lines, which keep a connection alive, are none.

    Lines are not checked to be JSON: who decodes them does that.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []  # of an unfinished line; joined once, so the cost of a long one is linear
        self._size = 0

    def feed(self, data: Buffer) -> list[bytes]:
        """The lines that `data` completes, without their ends; BridgeError RESOURCE_EXHAUSTED for one too long."""
        text = data if type(data) is bytes else bytes(data)
        whole = not self._size and text.find(_LF) == len(text) - 1 > 0
        lines = [text[:-1]] if whole else self._split(text)
        return [line for line in map(self._checked, lines) if line]

    def _split(self, text: bytes) -> list[bytes]:
        *lines, rest = text.split(b"\n")
        if lines:
            lines[0] = self._take() + lines[0]
        if rest:
            self._pieces.append(rest)
            self._size += len(rest)
            if self._size > self._limit:
                raise too_large(self._size, self._limit)
        return lines

    def _take(self) -> bytes:
        line = b"".join(self._pieces)
        self._pieces, self._size = [], 0
        return line

    def _checked(self, line: bytes) -> bytes:
        if len(line) > self._limit:
            raise too_large(len(line), self._limit)
        return line.strip(_SPACE)

    def finish(self) -> list[bytes]:
        """The last line, if it has no line end but is whole; BridgeError INTERNAL when the stream was cut within it.

        Only objects, arrays and strings tell that they are whole: of a number, digits may be missing.
        """
        line = self._take().strip(_SPACE)
        if not line:
            return []
        if line[:1] not in b'{["' or not _is_json(line):
            raise BridgeError(Code.INTERNAL, "the last line of the stream is cut off")
        return [line]


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False
    return True


class LineFraming:
    """How the lines of a stream look: the value itself, or an object with it under a key."""

    __slots__ = ("_after", "_before", "_error")

    content_type = "application/x-ndjson"

    def __init__(self, result_key: str = "", error_key: str = "") -> None:
        """grpc-gateway's keys are "result" and "error"; without a key, a value is written as it is."""
        self._before, self._after = _wrapping(result_key)
        self._error = _wrapping(error_key)

    def encode(self, data: bytes) -> bytes:
        """A line; `data` is JSON without line ends."""
        return b"%s%s%s" % (self._before, data, self._after)

    def encode_error(self, data: bytes) -> bytes:
        """A line that tells of an error."""
        return b"%s%s%s" % (self._error[0], data, self._error[1])

    def end(self) -> bytes:
        """Nothing: the last line is the end."""
        return b""

    def keep_alive(self) -> bytes:
        """An empty line, which readers skip."""
        return b"\n"


def _wrapping(key: str) -> tuple[bytes, bytes]:
    return (b"{" + msgspec.json.encode(key) + b":", b"}\n") if key else (b"", b"\n")


class ArrayWriter:
    """Writes the values of one stream as the elements of one JSON array, each as soon as it is there.

    An array cannot tell an error from an element: it is the last one, under `error_key` where there is one. Or the
    caller breaks the stream off before `end`, which leaves text that no parser takes for a whole array.
    """

    content_type = "application/json"

    def __init__(self, error_key: str = "") -> None:
        self._lead = b"["
        self._error = _wrapping(error_key)

    def encode(self, data: bytes) -> bytes:
        """The next element, with what stands between it and the one before."""
        lead, self._lead = self._lead, b","
        return lead + data

    def encode_error(self, data: bytes) -> bytes:
        """An element that tells of an error."""
        before, after = self._error
        return self.encode(b"%s%s%s" % (before, data, after.rstrip(b"\n")))

    def end(self) -> bytes:
        """The end of the array; the whole of it when it has no elements."""
        return b"[]" if self._lead == b"[" else b"]"

    def keep_alive(self) -> bytes:
        """White space, which may stand between any two elements."""
        return b"\n"
