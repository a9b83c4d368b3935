"""HTTP/2 frames (RFC 9113 section 4 and 6): numbers, and bytes for those we send."""

from enum import IntEnum
from struct import Struct
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_BYTES: Final = 9

# Plain integers: these are compared for every frame.
DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

ACK: Final = 0x1
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITISED: Final = 0x20

HEADER_TABLE_SIZE: Final = 0x1
ENABLE_PUSH: Final = 0x2
MAX_CONCURRENT_STREAMS: Final = 0x3
INITIAL_WINDOW_SIZE: Final = 0x4
MAX_FRAME_SIZE: Final = 0x5
MAX_HEADER_LIST_SIZE: Final = 0x6
ENABLE_CONNECT_PROTOCOL: Final = 0x8

DEFAULT_WINDOW: Final = 65_535
MAX_WINDOW: Final = 2**31 - 1
DEFAULT_FRAME_SIZE: Final = 16_384
LARGEST_FRAME_SIZE: Final = 2**24 - 1
LAST_STREAM_ID: Final = 2**31 - 1


class ErrorCode(IntEnum):
    """Why a stream or connection ends (section 7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class ProtocolViolation(Exception):
    """The peer broke HTTP/2; the connection cannot go on."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def compression_lost(error: Exception) -> ProtocolViolation:
    """A header block cannot be decoded, so no other can; hpack's `error` also shows the block."""
    reason = str(error).partition(":")[0].partition(" from ")[0]
    return ProtocolViolation(ErrorCode.COMPRESSION_ERROR, f"header block: {reason}")


def error_name(code: int) -> str:
    """The name of an error code, or its number."""
    try:
        return ErrorCode(code).name
    except ValueError:
        return f"error {code:#x}"


HEADER: Final = Struct(">BHBBL")
"""Length (high byte, low bytes), type, flags, stream."""
_header = HEADER.pack
_word = Struct(">L").pack
_setting = Struct(">HL").pack


def frame_header(length: int, kind: int, flags: int, stream_id: int) -> bytes:
    """The nine bytes before a payload of `length` bytes."""
    return _header(length >> 16, length & 0xFFFF, kind, flags, stream_id)


def settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    payload = b"".join(_setting(key, value) for key, value in values.items())
    return frame_header(len(payload), SETTINGS, 0, 0) + payload


SETTINGS_ACK: Final = frame_header(0, SETTINGS, ACK, 0)


def window_update(stream_id: int, increment: int) -> bytes:
    """A WINDOW_UPDATE frame; stream 0 is the connection."""
    return frame_header(4, WINDOW_UPDATE, 0, stream_id) + _word(increment)


def rst_stream(stream_id: int, code: int) -> bytes:
    """A RST_STREAM frame."""
    return frame_header(4, RST_STREAM, 0, stream_id) + _word(code)


def ping() -> bytes:
    """A PING frame."""
    return frame_header(8, PING, 0, 0) + bytes(8)


def ping_ack(payload: bytes) -> bytes:
    """The answer to a PING."""
    return frame_header(8, PING, ACK, 0) + payload


def goaway(code: int, reason: str = "", last_stream: int = 0) -> bytes:
    """A GOAWAY frame; a client has processed no stream of the server's."""
    debug = reason.encode("utf-8", "replace")[:256]
    return frame_header(8 + len(debug), GOAWAY, 0, 0) + _word(last_stream) + _word(code) + debug


def headers(stream_id: int, block: bytes, end_stream: bool, max_frame_size: int) -> bytes:
    """A HEADERS frame, with CONTINUATION frames when `block` is larger than one frame."""
    flags = END_STREAM if end_stream else 0
    if len(block) <= max_frame_size:
        return frame_header(len(block), HEADERS, flags | END_HEADERS, stream_id) + block
    parts = [block[at : at + max_frame_size] for at in range(0, len(block), max_frame_size)]
    out = [frame_header(len(parts[0]), HEADERS, flags, stream_id), parts[0]]
    for part in parts[1:]:
        out += [frame_header(len(part), CONTINUATION, 0, stream_id), part]
    out[-2] = frame_header(len(parts[-1]), CONTINUATION, END_HEADERS, stream_id)
    return b"".join(out)
