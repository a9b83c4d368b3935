"""The answers on one HTTP/2 connection: what the client's windows admit leaves as frames, the rest waits in order.

Nothing is written before the output is taken, so that an answer which is complete by then ends with its last frame.
"""

from collections import deque

from inferbridge.bridge.values import Buffer
from inferbridge.gateway.application import RequestHead
from inferbridge.gateway.codecs import output
from inferbridge.gateway.codecs.http2_abuse import Meter
from inferbridge.gateway.codecs.http2_window import ReceiveWindow
from inferbridge.http2 import frames
from inferbridge.http2.frames import ErrorCode, ProtocolViolation, frame_header
from inferbridge.http2.pending import take


class Stream:
    """One call: a request that is still being received, or an answer, or both."""

    __slots__ = (
        "bodiless", "ending", "expects", "full", "head", "head_block", "id", "missing", "queue", "queued", "receiving",
        "refused", "request_window", "send_window", "status", "trailers",
    )  # fmt: skip

    def __init__(self, stream_id: int, request_window: int, send_window: int) -> None:
        self.id = stream_id
        self.head: RequestHead | None = None
        self.receiving = True
        """More of the request may come."""
        self.request_window = ReceiveWindow(request_window)
        self.missing: int | None = None
        """Bytes of body still to come, where content-length says."""
        self.expects = False
        """The client waits for `100 Continue`."""
        self.refused = False
        """The rest of the request is of no interest."""
        self.bodiless = False
        """The answer has no body, whatever the application sends."""
        self.status = 0
        """0 until the application sends a head."""
        self.head_block = b""
        """Not yet written."""
        self.queue: deque[Buffer] = deque()
        self.queued = 0
        self.send_window = send_window
        self.full = False
        """More is queued than need be."""
        self.ending = False
        self.trailers = b""


class Sender:
    """The frames that go out, and the client's windows and limits for them."""

    def __init__(self, meter: Meter) -> None:
        self.output: list[Buffer] = []
        self._meter = meter
        self._window = frames.DEFAULT_WINDOW
        self._frame_size = frames.DEFAULT_FRAME_SIZE
        self.initial_window = frames.DEFAULT_WINDOW
        """Of a stream that is opened now."""

    # What the client says of itself

    def open_window(self, increment: int) -> None:
        """The connection may send more; ProtocolViolation if that is too much."""
        self._window += increment
        if self._window > frames.MAX_WINDOW:
            raise ProtocolViolation(ErrorCode.FLOW_CONTROL_ERROR, f"WINDOW_UPDATE by {increment}")

    def apply(self, key: int, value: int, streams: dict[int, Stream]) -> None:
        """One of the client's settings; ProtocolViolation for a value that may not be."""
        if key == frames.INITIAL_WINDOW_SIZE:
            self._resize(value, streams)
        elif key == frames.MAX_FRAME_SIZE:
            if not frames.DEFAULT_FRAME_SIZE <= value <= frames.LARGEST_FRAME_SIZE:
                raise ProtocolViolation(ErrorCode.PROTOCOL_ERROR, f"frame size {value}")
            self._frame_size = value
        elif key in (frames.ENABLE_PUSH, frames.ENABLE_CONNECT_PROTOCOL) and value > 1:
            raise ProtocolViolation(ErrorCode.PROTOCOL_ERROR, f"setting {key} is {value}")
        # the size of a table that we do not use, streams that we do not open, and what is unknown are all the same

    def _resize(self, value: int, streams: dict[int, Stream]) -> None:
        change = value - self.initial_window
        if value > frames.MAX_WINDOW or any(
            stream.send_window + change > frames.MAX_WINDOW for stream in streams.values()
        ):
            raise ProtocolViolation(ErrorCode.FLOW_CONTROL_ERROR, f"window of {value} bytes")
        self.initial_window = value
        for stream in streams.values():
            stream.send_window += change

    # What we say

    def flush(self, stream: Stream) -> bool:
        """Send what the windows admit, and the end once nothing waits; whether the answer has left."""
        if stream.head_block:
            ends = stream.ending and not stream.queue and not stream.trailers
            self._send_block(stream.id, stream.head_block, ends)
            stream.head_block = b""
            if ends:
                return True
        if stream.queue and self._send_queue(stream):
            return True
        if not stream.ending or stream.queue:
            return False
        if stream.trailers:
            self._send_block(stream.id, stream.trailers, True)
        else:
            self.output.append(frame_header(0, frames.DATA, frames.END_STREAM, stream.id))
        return True

    def _send_queue(self, stream: Stream) -> bool:
        """Send DATA; whether the last frame ended the stream."""
        queue = stream.queue
        while queue:
            room = min(self._window, stream.send_window, self._frame_size)
            if room <= 0:
                return False
            pieces, size = take(queue, room)
            self._window -= size
            stream.send_window -= size
            stream.queued -= size
            self._meter.sent += 1
            ends = stream.ending and not queue and not stream.trailers
            self.output.append(frame_header(size, frames.DATA, frames.END_STREAM if ends else 0, stream.id))
            self.output += pieces
        return ends

    def _send_block(self, stream_id: int, block: bytes, ends: bool) -> None:
        self.output.append(frames.headers(stream_id, block, ends, self._frame_size))

    def interim(self, stream_id: int, block: bytes) -> None:
        """A head that is not the last one."""
        self._send_block(stream_id, block, False)

    def reset(self, stream_id: int, code: int) -> None:
        """RST_STREAM."""
        self.output.append(frames.rst_stream(stream_id, code))

    def grant(self, stream_id: int, increment: int) -> None:
        """WINDOW_UPDATE, if there is anything to grant."""
        if increment:
            self.output.append(frames.window_update(stream_id, increment))

    def take_output(self) -> Buffer:
        """The frames since the last time, or some of them while there is more in `output`."""
        return output.take(self.output)
