"""The frames of an HTTP/2 client: bytes in, calls of a `FrameHandler` out, `ProtocolViolation` for what is no HTTP/2.

What nearly every frame is, is read right here: the nine bytes of its header, DATA, whole HEADERS, WINDOW_UPDATE and
PING. The payloads of all others, padded and prioritised ones among them, are parsed by hyperframe. Each frame is
counted before anything is made of it (`http2_abuse`), and one that is too large is refused at its header.

A frame is handed on when it is whole. Only the frame that a read cuts is put together from its pieces; the body in all
others is handed on as a view of the read.
"""

from collections.abc import Mapping
from typing import Final, Protocol

from hyperframe.exceptions import HyperframeError, InvalidFrameError
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, PriorityFrame, SettingsFrame

from inferbridge.bridge.values import Buffer
from inferbridge.gateway.codecs.http2_abuse import Abuse, Meter
from inferbridge.http2 import frames
from inferbridge.http2.frames import ErrorCode, ProtocolViolation

_CONTINUATIONS: Final = 20
"""Frames that one header block may be cut into."""
_STREAM: Final = 0x7FFFFFFF
_SHAPE: Final = frames.END_HEADERS | frames.PADDED | frames.PRIORITISED
"""The flags that say whether a HEADERS frame is nothing but a whole header block."""
_SMALL: Final = 4096
"""Bytes of a body that are copied: a view would keep all that was read with it."""
_SHARE: Final = 16
"""A view is at least such a part of what it keeps."""


class FrameHandler(Protocol):
    """Hears of the frames of one connection, in order. What it raises ends the reading."""

    def on_data(self, stream_id: int, data: Buffer, credit: int, ends: bool) -> None:
        """DATA; `credit` is what it takes of the windows."""

    def on_block(self, stream_id: int, block: bytes, ends: bool) -> None:
        """A whole header block."""

    def on_window(self, stream_id: int, increment: int) -> None:
        """WINDOW_UPDATE; stream 0 is the connection."""

    def on_reset(self, stream_id: int) -> None:
        """RST_STREAM."""

    def on_settings(self, settings: Mapping[int, int]) -> None:
        """SETTINGS that are no acknowledgement."""

    def on_ping(self, payload: bytes) -> None:
        """PING that is no acknowledgement."""

    def on_goaway(self, code: int) -> None:
        """GOAWAY."""


class FrameReader:
    """Reads one connection."""

    def __init__(self, handler: FrameHandler, meter: Meter, header_bytes: int) -> None:
        """`header_bytes` bounds a header block that comes in pieces."""
        self._handler = handler
        self._meter = meter
        self._header_bytes = header_bytes
        self._preface = frames.PREFACE
        """What is still to come of it."""
        self._partial = b""
        """The beginning of a frame."""
        self._pieces: list[bytes] = []
        """Of a header block that is not complete."""
        self._block_stream = 0
        self._block_ends = False
        self.frames = 0
        """Frames that were complete; the pieces of a header block are one."""

    def release(self) -> None:
        """Nothing is read any more. Reader and handler hold each other: leave nothing to the garbage collector."""
        del self._handler

    @property
    def partial(self) -> bool:
        """A frame, a header block or the preface has begun and is not complete."""
        return bool(self._partial or self._pieces or self._preface)

    def feed(self, data: bytes) -> None:
        """Read what came."""
        position = self._read_preface(data) if self._preface else 0
        while self._partial and position < len(data):
            after = position + _missing(self._partial)
            frame = self._partial + data[position:after]
            position = min(after, len(data))
            self._partial = frame[self._read(frame, 0) :]
        if position < len(data):
            self._partial = data[self._read(data, position) :]

    def _read_preface(self, data: bytes) -> int:
        size = min(len(data), len(self._preface))
        if data[:size] != self._preface[:size]:
            raise ProtocolViolation(ErrorCode.PROTOCOL_ERROR, "no HTTP/2 preface")
        self._preface = self._preface[size:]
        return size

    def _read(self, data: bytes, position: int) -> int:
        """Handle the whole frames from `position` on; where the first one begins that is not whole."""
        end = len(data)
        while end - position >= frames.HEADER_BYTES:
            high, low, kind, flags, stream_id = frames.HEADER.unpack_from(data, position)
            length = high << 16 | low
            if length > frames.DEFAULT_FRAME_SIZE:
                raise ProtocolViolation(ErrorCode.FRAME_SIZE_ERROR, f"frame of {length} bytes")
            start = position + frames.HEADER_BYTES
            after = start + length
            if after > end:
                break
            stream_id &= _STREAM
            self.frames += 1
            if self._pieces:
                self._continue(kind, flags, stream_id, data[start:after])
            elif kind == frames.DATA and not flags & frames.PADDED:
                self._read_data(stream_id, data, start, after, bool(flags & frames.END_STREAM))
            elif kind == frames.HEADERS and flags & _SHAPE == frames.END_HEADERS:
                self._meter.opened()
                self._handler.on_block(stream_id, data[start:after], bool(flags & frames.END_STREAM))
            elif kind == frames.WINDOW_UPDATE:
                self._read_window_update(stream_id, data[start:after])
            else:
                self._read_other(kind, flags, stream_id, data[position:after])
            position = after
        return position

    def _read_data(self, stream_id: int, data: bytes, start: int, after: int, ends: bool) -> None:
        size = after - start
        self._meter.data(size, ends)
        copied = size <= _SMALL or size * _SHARE < len(data)
        piece = data[start:after] if copied else memoryview(data)[start:after]
        self._handler.on_data(stream_id, piece, size, ends)

    def _read_window_update(self, stream_id: int, payload: bytes) -> None:
        self._meter.frame(frames.WINDOW_UPDATE)
        _expect_length(payload, 4)
        increment = int.from_bytes(payload) & _STREAM
        if not increment:
            raise ProtocolViolation(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
        self._handler.on_window(stream_id, increment)

    def _read_other(self, kind: int, flags: int, stream_id: int, frame: bytes) -> None:
        if kind == frames.PING:
            self._read_ping(flags, stream_id, frame[frames.HEADER_BYTES :])
        elif kind == frames.DATA:
            self._read_padded_data(_parsed(frame))
        elif kind == frames.HEADERS:
            self._read_headers(flags, _parsed(frame))
        elif kind in (frames.CONTINUATION, frames.PUSH_PROMISE):
            raise ProtocolViolation(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of nothing, or a push by a client")
        else:
            self._meter.frame(kind)
            if kind == frames.SETTINGS and flags & frames.ACK and not stream_id:
                _expect_length(frame, frames.HEADER_BYTES)
            elif kind < frames.PUSH_PROMISE or kind == frames.GOAWAY:
                self._hand_on(_parsed(frame))
            # what is unknown is ignored

    def _read_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._meter.frame(frames.PING)
        if stream_id:
            raise ProtocolViolation(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        _expect_length(payload, 8)
        if not flags & frames.ACK:
            self._handler.on_ping(payload)

    def _read_padded_data(self, frame: Frame) -> None:
        assert isinstance(frame, DataFrame)
        ends = "END_STREAM" in frame.flags
        self._meter.data(len(frame.data), ends)
        self._handler.on_data(frame.stream_id, frame.data, frame.flow_controlled_length, ends)

    def _read_headers(self, flags: int, frame: Frame) -> None:
        assert isinstance(frame, HeadersFrame)
        if flags & frames.PRIORITISED:
            _check_priority(frame)
        ends = bool(flags & frames.END_STREAM)
        if flags & frames.END_HEADERS:
            self._meter.opened()
            self._handler.on_block(frame.stream_id, frame.data, ends)
        else:
            self.frames -= 1
            self._block_stream, self._block_ends = frame.stream_id, ends
            self._pieces = [frame.data]
            self._check_pieces()

    def _continue(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind != frames.CONTINUATION or stream_id != self._block_stream:
            raise ProtocolViolation(ErrorCode.PROTOCOL_ERROR, "a header block is interrupted")
        self._pieces.append(payload)
        if flags & frames.END_HEADERS:
            block, self._pieces = b"".join(self._pieces), []
            self._meter.opened()
            self._handler.on_block(stream_id, block, self._block_ends)
        else:
            self.frames -= 1
            self._check_pieces()

    def _check_pieces(self) -> None:
        """Bound a header block while it comes: nobody sees it before it is complete."""
        if len(self._pieces) > _CONTINUATIONS or sum(map(len, self._pieces)) > self._header_bytes:
            raise Abuse("continuation")

    def _hand_on(self, frame: Frame) -> None:
        if isinstance(frame, SettingsFrame):
            self._handler.on_settings(frame.settings)
        elif isinstance(frame, GoAwayFrame):
            self._handler.on_goaway(frame.error_code)
        elif isinstance(frame, PriorityFrame):
            _check_priority(frame)
        else:
            self._handler.on_reset(frame.stream_id)


def _missing(partial: bytes) -> int:
    """Bytes up to the end of a frame that has begun, or up to that of its header."""
    if len(partial) < frames.HEADER_BYTES:
        return frames.HEADER_BYTES - len(partial)
    return frames.HEADER_BYTES + int.from_bytes(partial[:3]) - len(partial)


def _parsed(data: bytes) -> Frame:
    """One whole frame."""
    view = memoryview(data)
    try:
        frame, _ = Frame.parse_frame_header(view[: frames.HEADER_BYTES])
        frame.parse_body(view[frames.HEADER_BYTES :])
    except InvalidFrameError as error:
        raise ProtocolViolation(ErrorCode.FRAME_SIZE_ERROR, str(error)) from error
    except HyperframeError as error:
        raise ProtocolViolation(ErrorCode.PROTOCOL_ERROR, str(error)) from error
    return frame


def _check_priority(frame: HeadersFrame | PriorityFrame) -> None:
    """Priorities are advice that nobody follows here, but a stream that depends on itself is an error."""
    if frame.depends_on == frame.stream_id:
        raise ProtocolViolation(ErrorCode.PROTOCOL_ERROR, f"stream {frame.stream_id} depends on itself")


def _expect_length(payload: bytes, length: int) -> None:
    if len(payload) != length:
        raise ProtocolViolation(ErrorCode.FRAME_SIZE_ERROR, f"{len(payload)} bytes where {length} are due")
