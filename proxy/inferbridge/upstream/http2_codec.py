"""A lean HTTP/2 client without I/O: bytes in, callbacks out, and bytes to send left in `output`.

One `Http2Codec` is one connection. A stream is, seen from here,

    open  -- answer's END_STREAM --> gone      on_end; RST_STREAM if the request is still being sent
    open  -- RST_STREAM ----------> gone       on_reset
    open  -- malformed answer ----> gone       RST_STREAM and on_reset
    open  -- `reset` by us -------> gone       RST_STREAM, no callback
    open  -- GOAWAY below its id -> gone       on_unprocessed

and frames for streams that are gone are read for their side effects only (header compression, connection window).
Requests are whole when they are opened (`open`), or grow (`open_growing`, `send`, `finish`); what the peer's windows do
not admit yet waits in `Stream.pending`.

Windows towards us are granted again as soon as data has been delivered, unless the stream is paused; those of streams
begin small, and grow as long as all is taken. DATA is delivered as it arrives, without waiting for its frame; small
frames of one stream that arrive together are one piece. A peer's violation raises `ProtocolViolation`: close then.
"""

from collections import deque
from struct import iter_unpack
from typing import Final, Protocol

from inferbridge.bridge.values import Buffer, Chunks, Headers, size
from inferbridge.http2 import frames
from inferbridge.http2.data import FRAME_SIZE, OpenFrame, cut
from inferbridge.http2.frames import ErrorCode, ProtocolViolation, frame_header
from inferbridge.http2.pending import take
from inferbridge.upstream.header_blocks import BlockDecoder, FieldBlock

STREAM_WINDOW: Final = 256 << 10
"""What a client that takes nothing makes us hold of its answer."""
MAX_STREAM_WINDOW: Final = 2 << 20
CONNECTION_WINDOW: Final = 64 << 20
_CONTROL_FRAME_SIZE: Final = 1 << 14
"""More than any frame but DATA and HEADERS needs; larger unknown ones are not worth buffering."""
_SMALL: Final = 4096
_PLAIN_HEADERS: Final = frames.END_HEADERS | frames.END_STREAM
"""Flags of a whole header block without padding and priority, as nearly all are."""
_ASSUMED_STREAMS: Final = 100


class StreamHandler(Protocol):
    """Hears what happens to one stream; `on_end`, `on_reset` or `on_unprocessed` is the last call."""

    def on_head(self, status: int, headers: Headers) -> None:
        """The head of the answer (1xx are skipped)."""

    def on_data(self, data: Buffer) -> None:
        """A piece of the body."""

    def on_end(self, trailers: Headers) -> None:
        """The answer is complete."""

    def on_reset(self, code: int, reason: str) -> None:
        """The stream is over without a complete answer."""

    def on_unprocessed(self) -> None:
        """The peer is going away and has not looked at this request."""

    def on_drained(self) -> None:
        """Nothing of a growing request waits any more; never the last call."""


class Stream:
    """One call on a connection."""

    __slots__ = (
        "body_left",
        "growing",
        "handler",
        "head_seen",
        "id",
        "paused",
        "pending",
        "receive_window",
        "send_window",
        "window",
    )

    def __init__(self, stream_id: int, handler: StreamHandler, send_window: int) -> None:
        self.id = stream_id
        self.handler = handler
        self.send_window = send_window
        self.receive_window = self.window = STREAM_WINDOW
        self.pending: deque[Buffer] | None = None
        self.growing = False
        """More of the request is to come."""
        self.head_seen = False
        self.paused = False
        """What comes is not granted again."""
        self.body_left: int | None = None
        """What content-length promises and has not arrived."""


class Http2Codec:
    """The client's end of one connection."""

    def __init__(self, header_bytes: int) -> None:
        self.output: list[Buffer] = [
            frames.PREFACE,
            frames.settings(
                {
                    frames.HEADER_TABLE_SIZE: 0,
                    frames.ENABLE_PUSH: 0,
                    frames.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
                    frames.MAX_FRAME_SIZE: FRAME_SIZE,
                    frames.MAX_HEADER_LIST_SIZE: header_bytes,
                }
            ),
            frames.window_update(0, CONNECTION_WINDOW - frames.DEFAULT_WINDOW),
        ]
        self.streams: dict[int, Stream] = {}
        self.ready = False
        """The peer has sent its SETTINGS."""
        self.draining = False
        """No more streams can be opened: GOAWAY received, or stream ids used up."""
        self.goaway_reason = ""
        self.answered = False
        """Some stream has had the head of an answer."""
        self._header_bytes = header_bytes
        self._decoder = BlockDecoder(header_bytes)
        self._next_id = 1
        self._max_streams = _ASSUMED_STREAMS
        self._max_frame_size = frames.DEFAULT_FRAME_SIZE
        self._initial_send_window = frames.DEFAULT_WINDOW
        self._send_window = frames.DEFAULT_WINDOW
        self._receive_window = CONNECTION_WINDOW
        self._blocked: dict[int, Stream] = {}
        self._partial = b""
        self._open_frame = OpenFrame()
        self._block: list[bytes] | None = None
        self._block_bytes = 0
        self._block_stream = 0
        self._block_ends = False

    # -- sending ---------------------------------------------------------------------------------------------------

    def can_open(self) -> bool:
        """One more stream is allowed now."""
        return self.ready and not self.draining and len(self.streams) < self._max_streams

    def open(self, block: bytes, chunks: Chunks, handler: StreamHandler) -> Stream:
        """Send a request: `block` is its header block, `chunks` its body (not to be changed until it has left)."""
        stream = self._new_stream(handler)
        stream_id = stream.id
        total = size(chunks)
        self.output.append(frames.headers(stream_id, block, not total, self._max_frame_size))
        if not total:
            return stream
        if total <= self._send_window and total <= stream.send_window and total <= self._max_frame_size:
            self._send_window -= total
            stream.send_window -= total
            self.output.append(frame_header(total, frames.DATA, frames.END_STREAM, stream_id))
            self.output += chunks
        else:
            stream.pending = deque(chunk for chunk in chunks if len(chunk))
            self._blocked[stream_id] = stream
            self._send_blocked()
        return stream

    def _new_stream(self, handler: StreamHandler) -> Stream:
        stream_id = self._next_id
        self._next_id = stream_id + 2
        if self._next_id > frames.LAST_STREAM_ID:
            self.draining = True
        stream = self.streams[stream_id] = Stream(stream_id, handler, self._initial_send_window)
        return stream

    def open_growing(self, block: bytes, handler: StreamHandler) -> Stream:
        """Begin a request whose body is still to come."""
        stream = self._new_stream(handler)
        stream.growing = True
        self.output.append(frames.headers(stream.id, block, False, self._max_frame_size))
        return stream

    def send(self, stream: Stream, chunks: Chunks) -> None:
        """More of a growing request (not to be changed until it has left)."""
        pieces = [chunk for chunk in chunks if len(chunk)]
        if not pieces or stream.id not in self.streams:
            return
        stream.pending = stream.pending or deque()
        stream.pending.extend(pieces)
        self._blocked[stream.id] = stream
        self._send_blocked()

    def finish(self, stream: Stream) -> None:
        """A growing request is complete."""
        stream.growing = False
        if stream.pending is None and stream.id in self.streams:
            self.output.append(frame_header(0, frames.DATA, frames.END_STREAM, stream.id))

    def reset(self, stream: Stream, code: int = ErrorCode.CANCEL) -> None:
        """End a stream that is not over; its handler hears nothing more."""
        if self._forget(stream):
            self.output.append(frames.rst_stream(stream.id, code))

    def ping(self) -> None:
        """Ask for a sign of life."""
        self.output.append(frames.ping())

    def pause(self, stream: Stream, paused: bool) -> None:
        """Let the peer send no more than its window holds, or go on."""
        stream.paused = paused
        stream.window = STREAM_WINDOW
        self._grant(stream)

    def close(self, code: int = ErrorCode.NO_ERROR, reason: str = "") -> None:
        """Say goodbye."""
        self.output.append(frames.goaway(code, reason))

    def _forget(self, stream: Stream) -> bool:
        if self.streams.pop(stream.id, None) is None:
            return False
        self._blocked.pop(stream.id, None)
        return True

    def _send_blocked(self) -> None:
        """One frame from each stream in turn, for as long as windows last."""
        progress = True
        while progress and self._send_window > 0 and self._blocked:
            progress = False
            for stream in list(self._blocked.values()):
                if self._send_window > 0 and stream.send_window > 0:
                    self._send_frame(stream)
                    progress = True

    def _send_frame(self, stream: Stream) -> None:
        pending = stream.pending
        assert pending
        room = min(self._send_window, stream.send_window, self._max_frame_size)
        pieces, taken = take(pending, room)
        self._send_window -= taken
        stream.send_window -= taken
        if not pending:
            stream.pending = None
            del self._blocked[stream.id]
        ends = not pending and not stream.growing
        self.output.append(frame_header(taken, frames.DATA, frames.END_STREAM if ends else 0, stream.id))
        self.output += pieces
        if not pending and stream.growing:
            stream.handler.on_drained()

    # -- receiving -------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take what arrived; handlers are called from here. ProtocolViolation ends the connection."""
        if self._partial:
            data = self._partial + data
        position, end = 0, len(data)
        if self._open_frame.open:
            position = self._continue_data(data, 0)
        while end - position >= frames.HEADER_BYTES:
            high, low, kind, flags, stream_id = frames.HEADER.unpack_from(data, position)
            length = high << 16 | low
            stream_id &= 0x7FFFFFFF
            if kind == frames.DATA:
                after = position + frames.HEADER_BYTES + length
                stream = self.streams.get(stream_id) if not flags and 0 < length <= _SMALL and after <= end else None
                if stream is not None and self._is_plain(stream):
                    position = self._receive_run(data, position, after, stream)
                    continue
                if flags & frames.PADDED and length and end - position == frames.HEADER_BYTES:
                    break  # the pad length is needed to begin
                position = self._begin_data(data, position + frames.HEADER_BYTES, length, flags, stream_id)
                continue
            self._check_size(kind, length)
            after = position + frames.HEADER_BYTES + length
            if after > end:
                break
            payload = data[position + frames.HEADER_BYTES : after]
            position = after
            if kind == frames.HEADERS and flags | frames.END_STREAM == _PLAIN_HEADERS and self._block is None:
                self._receive_block(stream_id, self._decoder.decode(payload), bool(flags & frames.END_STREAM))
            else:
                self._receive_frame(kind, flags, stream_id, payload)
        self._partial = data[position:]

    def _check_size(self, kind: int, length: int) -> None:
        if not self.ready and kind != frames.SETTINGS:
            raise ProtocolViolation(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS (no HTTP/2 server?)")
        if kind in (frames.HEADERS, frames.CONTINUATION):
            if length > self._header_bytes + 256 + 5:
                raise ProtocolViolation(ErrorCode.ENHANCE_YOUR_CALM, "header block exceeds the limit")
        elif length > _CONTROL_FRAME_SIZE:
            raise ProtocolViolation(ErrorCode.FRAME_SIZE_ERROR, f"frame of {length} bytes")

    def _receive_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block is not None and (kind != frames.CONTINUATION or stream_id != self._block_stream):
            raise ProtocolViolation(ErrorCode.PROTOCOL_ERROR, "a header block is interrupted")
        if kind == frames.HEADERS:
            self._receive_headers(flags, stream_id, payload)
        elif kind == frames.WINDOW_UPDATE:
            self._receive_window_update(stream_id, payload)
        elif kind == frames.PING:
            self._receive_ping(flags, stream_id, payload)
        elif kind == frames.RST_STREAM:
            self._receive_reset(stream_id, payload)
        elif kind == frames.SETTINGS:
            self._receive_settings(flags, stream_id, payload)
        elif kind == frames.GOAWAY:
            self._receive_goaway(stream_id, payload)
        elif kind == frames.CONTINUATION:
            self._receive_continuation(flags, payload)
        elif kind == frames.PUSH_PROMISE:
            raise ProtocolViolation(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE, which we switched off")
        # PRIORITY is advice to servers, and unknown frames are to be ignored

    def _known(self, stream_id: int) -> Stream | None:
        """The open stream, or None if it is gone; a stream we never opened is a violation."""
        stream = self.streams.get(stream_id)
        if stream is None and (not stream_id & 1 or stream_id >= self._next_id):
            raise ProtocolViolation(ErrorCode.PROTOCOL_ERROR, f"frame for stream {stream_id}, which is not open")
        return stream

    # DATA, delivered piece by piece

    def _is_plain(self, stream: Stream) -> bool:
        """A piece of its body needs no checks but that of the windows."""
        return stream.head_seen and stream.body_left is None and self._block is None

    def _receive_run(self, data: bytes, position: int, after: int, stream: Stream) -> int:
        """Deliver the whole, small, plain DATA frame up to `after` and those like it behind it; the position behind."""
        kind = data[position + 3 : position + frames.HEADER_BYTES]  # type, flags and stream
        piece = data[position + frames.HEADER_BYTES : after]
        if data.startswith(kind, after + 3):
            piece, after = _joined(data, kind, piece, after)
        self._take_window(stream, len(piece))
        stream.handler.on_data(piece)
        self._grant(stream)
        return after

    def _take_window(self, stream: Stream | None, length: int) -> None:
        self._receive_window -= length
        if stream is not None:
            stream.receive_window -= length
        if self._receive_window < 0 or (stream is not None and stream.receive_window < 0):
            raise ProtocolViolation(ErrorCode.FLOW_CONTROL_ERROR, "more DATA than granted")

    def _grant(self, stream: Stream | None) -> None:
        """Grant again what was used up, once it is half of a window; that of a stream grows as it is taken."""
        if self._receive_window < CONNECTION_WINDOW // 2:
            self.output.append(frames.window_update(0, CONNECTION_WINDOW - self._receive_window))
            self._receive_window = CONNECTION_WINDOW
        if stream is None or stream.paused:
            return
        if stream.receive_window < stream.window // 2 and stream.id in self.streams:
            stream.window = min(2 * stream.window, MAX_STREAM_WINDOW)
            self.output.append(frames.window_update(stream.id, stream.window - stream.receive_window))
            stream.receive_window = stream.window

    def _begin_data(self, data: bytes, position: int, length: int, flags: int, stream_id: int) -> int:
        if self._block is not None or not self.ready:
            raise ProtocolViolation(ErrorCode.PROTOCOL_ERROR, "DATA where it may not be")
        if length > FRAME_SIZE:
            raise ProtocolViolation(ErrorCode.FRAME_SIZE_ERROR, f"frame of {length} bytes")
        self._take_window(self._known(stream_id), length)
        return self._continue_data(data, self._open_frame.begin(data, position, length, flags, stream_id))

    def _continue_data(self, data: bytes, position: int) -> int:
        """Deliver what there is of the current DATA frame; the position behind it."""
        frame = self._open_frame
        stream = self.streams.get(frame.stream)
        stop, after = frame.take(data, position)
        if stop > position and stream is not None:
            self._deliver(stream, cut(data, position, stop))
        if not frame.open:
            self._end_data()
        return after

    def _deliver(self, stream: Stream, piece: Buffer) -> None:
        if not stream.head_seen:
            self._stream_error(stream, "DATA before the head of the answer")
            return
        if stream.body_left is not None:
            stream.body_left -= len(piece)
            if stream.body_left < 0:
                self._stream_error(stream, "more DATA than content-length")
                return
        stream.handler.on_data(piece)

    def _end_data(self) -> None:
        """A DATA frame is through: grant again what it used up, and end the stream if it was the last."""
        stream = self.streams.get(self._open_frame.stream)
        ends = stream is not None and self._open_frame.ends
        self._grant(None if ends else stream)
        if stream is not None and ends:
            self._end(stream, ())

    def _end(self, stream: Stream, trailers: Headers) -> None:
        if not stream.head_seen:
            self._stream_error(stream, "the answer has no head")
            return
        if stream.body_left:
            self._stream_error(stream, "less DATA than content-length")
            return
        if stream.pending is not None or stream.growing:
            # the runtime has answered without reading all of the request, and nobody will read the rest
            self.reset(stream, ErrorCode.NO_ERROR)
        else:
            del self.streams[stream.id]
        stream.handler.on_end(trailers)

    def _stream_error(self, stream: Stream, reason: str) -> None:
        self.reset(stream, ErrorCode.PROTOCOL_ERROR)
        stream.handler.on_reset(ErrorCode.PROTOCOL_ERROR, reason)

    # HEADERS and CONTINUATION

    def _receive_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if flags & (frames.PADDED | frames.PRIORITISED):
            payload = _strip(flags, payload)
        if flags & frames.END_HEADERS:
            self._receive_block(stream_id, self._decoder.decode(payload), bool(flags & frames.END_STREAM))
            return
        self._known(stream_id)
        self._block = [payload]
        self._block_bytes = len(payload)
        self._block_stream = stream_id
        self._block_ends = bool(flags & frames.END_STREAM)

    def _receive_continuation(self, flags: int, payload: bytes) -> None:
        if self._block is None:
            raise ProtocolViolation(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of nothing")
        self._block.append(payload)
        # every frame counts as some bytes, so that a flood of empty ones ends too
        self._block_bytes += len(payload) + 32
        if self._block_bytes > self._header_bytes:
            raise ProtocolViolation(ErrorCode.ENHANCE_YOUR_CALM, "header block exceeds the limit")
        if flags & frames.END_HEADERS:
            block = b"".join(self._block)
            self._block = None
            self._receive_block(self._block_stream, self._decoder.decode(block), self._block_ends)

    def _receive_block(self, stream_id: int, block: FieldBlock, ends: bool) -> None:
        stream = self._known(stream_id)
        if stream is None:
            return
        if block.fault:
            self._stream_error(stream, block.fault)
        elif stream.head_seen:
            if block.status is not None or not ends:
                self._stream_error(stream, "header fields within the body")
            else:
                self._end(stream, block.headers)
        else:
            self._receive_head(stream, block, ends)

    def _receive_head(self, stream: Stream, block: FieldBlock, ends: bool) -> None:
        if block.status is None:
            self._stream_error(stream, "the answer has no :status")
        elif block.status < 200:
            if ends or block.status == 101:
                self._stream_error(stream, f"status {block.status} as an answer")
        else:
            stream.head_seen = self.answered = True
            stream.handler.on_head(block.status, block.headers)
            if not ends:
                stream.body_left = block.content_length
            elif stream.id in self.streams:
                self._end(stream, ())

    # the other frames

    def _receive_window_update(self, stream_id: int, payload: bytes) -> None:
        _expect_length(payload, 4)
        increment = int.from_bytes(payload) & 0x7FFFFFFF
        if not stream_id:
            self._send_window += increment
            if not increment or self._send_window > frames.MAX_WINDOW:
                raise ProtocolViolation(ErrorCode.FLOW_CONTROL_ERROR, f"WINDOW_UPDATE by {increment}")
        else:
            stream = self._known(stream_id)
            if stream is None:
                return
            stream.send_window += increment
            if not increment or stream.send_window > frames.MAX_WINDOW:
                self._stream_error(stream, f"WINDOW_UPDATE by {increment}")
        if self._blocked:
            self._send_blocked()

    def _receive_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        _expect_length(payload, 8)
        _expect_connection(stream_id)
        if not flags & frames.ACK:
            self.output.append(frames.ping_ack(payload))

    def _receive_reset(self, stream_id: int, payload: bytes) -> None:
        _expect_length(payload, 4)
        stream = self._known(stream_id)
        if stream is not None:
            self._forget(stream)
            code = int.from_bytes(payload)
            stream.handler.on_reset(code, f"RST_STREAM {frames.error_name(code)}")

    def _receive_goaway(self, stream_id: int, payload: bytes) -> None:
        _expect_connection(stream_id)
        if len(payload) < 8:
            raise ProtocolViolation(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY too short")
        last = int.from_bytes(payload[:4]) & 0x7FFFFFFF
        debug = payload[8:].decode("utf-8", "replace")[:200]
        self.goaway_reason = f"GOAWAY {frames.error_name(int.from_bytes(payload[4:8]))} {debug}".rstrip()
        self.draining = True
        for stream in [stream for stream in self.streams.values() if stream.id > last]:
            if self._forget(stream):
                stream.handler.on_unprocessed()

    def _receive_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        _expect_connection(stream_id)
        if flags & frames.ACK:
            _expect_length(payload, 0)
            return
        if len(payload) % 6:
            raise ProtocolViolation(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS of odd length")
        for key, value in iter_unpack(">HL", payload):
            self._apply_setting(key, value)
        self.ready = True
        self.output.append(frames.SETTINGS_ACK)
        self._send_blocked()

    def _apply_setting(self, key: int, value: int) -> None:
        if key == frames.MAX_CONCURRENT_STREAMS:
            self._max_streams = value
        elif key == frames.INITIAL_WINDOW_SIZE:
            if value > frames.MAX_WINDOW:
                raise ProtocolViolation(ErrorCode.FLOW_CONTROL_ERROR, f"window of {value} bytes")
            for stream in self.streams.values():
                stream.send_window += value - self._initial_send_window
            self._initial_send_window = value
        elif key == frames.MAX_FRAME_SIZE:
            if not frames.DEFAULT_FRAME_SIZE <= value <= frames.LARGEST_FRAME_SIZE:
                raise ProtocolViolation(ErrorCode.PROTOCOL_ERROR, f"frame size {value}")
            self._max_frame_size = value
        elif key == frames.ENABLE_PUSH and value:
            raise ProtocolViolation(ErrorCode.PROTOCOL_ERROR, "a server must not enable push")


def _joined(data: bytes, kind: bytes, piece: bytes, after: int) -> tuple[bytes, int]:
    """`piece` with the small whole frames of the same `kind` that follow it, and where the last of them ends."""
    pieces = [piece]
    while data.startswith(kind, after + 3):
        start = after + frames.HEADER_BYTES
        length = int.from_bytes(data[after : after + 3])
        if length > _SMALL or start + length > len(data):
            break
        after = start + length
        pieces.append(data[start:after])
    return b"".join(pieces), after


def _strip(flags: int, payload: bytes) -> bytes:
    """The header block of a HEADERS frame without padding and priority."""
    start, end = 0, len(payload)
    if flags & frames.PADDED:
        start = 1
        end -= payload[0] if payload else 1
    if flags & frames.PRIORITISED:
        start += 5
    if start > end:
        raise ProtocolViolation(ErrorCode.PROTOCOL_ERROR, "padding exceeds its frame")
    return payload[start:end]


def _expect_length(payload: bytes, length: int) -> None:
    if len(payload) != length:
        raise ProtocolViolation(ErrorCode.FRAME_SIZE_ERROR, f"{len(payload)} bytes where {length} are due")


def _expect_connection(stream_id: int) -> None:
    if stream_id:
        raise ProtocolViolation(ErrorCode.PROTOCOL_ERROR, "a frame of the connection on a stream")
