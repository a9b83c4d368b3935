"""The frames of an HTTP/2 client: bytes in, calls of a `FrameHandler` out, `ProtocolViolation` for what is no HTTP/2.

What nearly every frame is, is read right here: the nine bytes of its header, DATA, whole HEADERS, WINDOW_UPDATE and
PING. The payloads of all others, padded and prioritised ones among them, are parsed by hyperframe. Each frame is
counted before anything is made of it (`http2_abuse`), and one that is too large is refused at its header.

A frame is handed on when it is whole, with a view of the read as its body; one that a read cuts is put together from
its pieces. DATA that is cut is not: it is handed on as it arrives, from `_BEGUN` bytes of it on. So no frame takes more
memory than a header block may, and a client may send DATA in frames as large as `FRAME_SIZE`.
"""

from collections.abc import Mapping
from typing import Final, Protocol

from hyperframe.exceptions import HyperframeError, InvalidFrameError
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, PriorityFrame, SettingsFrame

from inferbridge.bridge.values import Buffer
from inferbridge.gateway.codecs.http2_abuse import Abuse, Meter
from inferbridge.http2 import frames
from inferbridge.http2.data import FRAME_SIZE, OpenFrame, cut
from inferbridge.http2.frames import ErrorCode, ProtocolViolation

_CONTINUATIONS: Final = 20
"""Frames that one header block may be cut into."""
_STREAM: Final = 0x7FFFFFFF
_SHAPE: Final = frames.END_HEADERS | frames.PADDED | frames.PRIORITISED
"""The flags that say whether a HEADERS frame is nothing but a whole header block."""
_PRIORITY_AND_PADDING: Final = 5 + 1 + 255
"""Bytes that a HEADERS frame may have beside its block."""
_BEGUN: Final = 4096
"""Bytes of a DATA frame that come together at least, unless it is smaller: its first piece says what is to come."""
_STEP: Final = 14
"""A frame of 2**14 bytes, the largest in a client's first, counts as one, and a larger one as so many."""


class FrameHandler(Protocol):
    """Hears of the frames of one connection, in order. What it raises ends the reading."""

    def on_data(self, stream_id: int, data: Buffer, credit: int, ends: bool) -> None:
        """DATA in a whole frame; `credit` is what it takes of the windows."""

    def on_data_begun(self, stream_id: int, size: int, credit: int, ends: bool) -> bool:
        """The same for a frame with `size` bytes of content still to come; whether anybody wants them."""

    def on_data_piece(self, stream_id: int, data: Buffer, credit: int, ends: bool) -> None:
        """Some of the content of that frame, if it is wanted; `ends` with the last of a frame that ends its stream."""

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
        self._open = OpenFrame()
        """DATA that is handed on as it arrives."""
        self._wanted = False
        """Somebody hears of it."""
        self._overhead = 0
        """Bytes of it that were no content and are credited with the next piece."""
        self._pieces: list[bytes] = []
        """Of a header block that is not complete."""
        self._block_stream = 0
        self._block_ends = False
        self.frames = 0
        """Frames that were complete; the pieces of a header block are one, large DATA counts by its size."""

    def release(self) -> None:
        """Nothing is read any more. Reader and handler hold each other: leave nothing to the garbage collector."""
        del self._handler

    @property
    def partial(self) -> bool:
        """A frame, a header block or the preface has begun and is not complete; DATA of which no more than a little."""
        return bool(self._partial or self._pieces or self._preface)

    @property
    def arriving(self) -> int:
        """The stream whose DATA is under way, or 0."""
        return self._open.stream if self._open.open else 0

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
        if self._open.open:
            position = self._go_on(data, position)
        while end - position >= frames.HEADER_BYTES:
            high, low, kind, flags, stream_id = frames.HEADER.unpack_from(data, position)
            length = high << 16 | low
            if length > frames.DEFAULT_FRAME_SIZE:
                self._check_size(kind, length)
            start = position + frames.HEADER_BYTES
            after = start + length
            stream_id &= _STREAM
            if after > end:
                if kind == frames.DATA and end - start >= _BEGUN:
                    position = self._begin(stream_id, flags, data, start, length)
                break
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
        self._handler.on_data(stream_id, cut(data, start, after), size, ends)

    def _begin(self, stream_id: int, flags: int, data: bytes, start: int, length: int) -> int:
        """Hand on what there is of a DATA frame; where that ends."""
        if self._pieces:
            raise _interrupted()
        frame = self._open
        position = frame.begin(data, start, length, flags, stream_id)
        self._meter.data(frame.left, frame.ends)
        self.frames += 1
        self._overhead = length - frame.left - frame.padding
        self._wanted = self._handler.on_data_begun(stream_id, frame.left, length, frame.ends)
        return self._go_on(data, position)

    def _go_on(self, data: bytes, position: int) -> int:
        frame, before = self._open, self._open.left
        stop, after = frame.take(data, position)
        self.frames += (before >> _STEP) - (frame.left >> _STEP)
        if self._wanted:
            credit, self._overhead = self._overhead + after - position, 0
            ends = frame.ends and not frame.open
            self._handler.on_data_piece(frame.stream, cut(data, position, stop), credit, ends)
        return after

    def _check_size(self, kind: int, length: int) -> None:
        """A frame larger than any in a client's first: DATA is not collected, a header block has a bound of its own."""
        if kind in (frames.HEADERS, frames.CONTINUATION) and length <= FRAME_SIZE:
            if length + sum(map(len, self._pieces)) > self._header_bytes + _PRIORITY_AND_PADDING:
                raise Abuse("continuation")
        elif kind != frames.DATA or length > FRAME_SIZE:
            raise ProtocolViolation(ErrorCode.FRAME_SIZE_ERROR, f"frame of {length} bytes")

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
            raise _interrupted()
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
    """Bytes up to the end of a frame that has begun, or up to that of its header; or until DATA can be handed on."""
    if len(partial) < frames.HEADER_BYTES:
        return frames.HEADER_BYTES - len(partial)
    length = int.from_bytes(partial[:3])
    return frames.HEADER_BYTES + (min(length, _BEGUN) if partial[3] == frames.DATA else length) - len(partial)


def _interrupted() -> ProtocolViolation:
    return ProtocolViolation(ErrorCode.PROTOCOL_ERROR, "a header block is interrupted")


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
