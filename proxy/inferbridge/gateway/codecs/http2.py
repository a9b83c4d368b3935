"""HTTP/2 seen from the server: many calls at once over one connection.

`FrameReader` reads the frames and `Sender` writes them; between them lie the states of the streams (RFC 9113 §5.1).
A stream of the table below is in `_streams` while it is open; of those that are over, only the ones that were reset
lately are remembered, because the client may not know of it yet.

    frame          │ idle          │ open           │ request ended  │ over, by reset │ over, otherwise
    ───────────────┼───────────────┼────────────────┼────────────────┼────────────────┼─────────────────
    HEADERS        │ open¹         │ trailers²      │ reset³         │ RST_STREAM³    │ GOAWAY³
    DATA           │ GOAWAY        │ body           │ reset³         │ RST_STREAM³    │ RST_STREAM³
    END_STREAM     │ ·             │ request ended  │ ·              │ ·              │ ·
    RST_STREAM     │ GOAWAY        │ over           │ over           │ ·              │ ·
    WINDOW_UPDATE  │ GOAWAY        │ answer goes on │ answer goes on │ ·              │ ·
    answer's end   │               │ over⁴          │ over           │                │

    1 whose id is odd and higher than any before, otherwise GOAWAY; over, with REFUSED_STREAM, if there are too many
    2 which must have END_STREAM, otherwise GOAWAY
    3 with STREAM_CLOSED; DATA counts toward the window of the connection all the same
    4 with RST_STREAM (NO_ERROR), which spares the client sending the rest

Errors come in three sizes: a malformed or oversized request is answered on its stream; a call beyond the limit is
refused with RST_STREAM, and nobody hears of it; a broken connection cancels its calls and ends in GOAWAY. So does one
whose client sends more than a client in good faith (`http2_abuse`). Of the read that breaks a connection nothing has
any effect but that.

A server that stops says so in two steps (RFC 9113 §6.8): GOAWAY with the highest stream there can be, upon which the
client opens no more calls, then, when those that were on their way have come, GOAWAY with the last one served.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Final

from inferbridge.bridge.errors import BridgeError, invalid
from inferbridge.bridge.values import Buffer, Chunks, Headers
from inferbridge.gateway.codecs.events import (
    Event,
    ProtocolRefused,
    RequestCancelled,
    RequestData,
    RequestEnd,
    RequestOpened,
)
from inferbridge.gateway.codecs.http1_head import Peer
from inferbridge.gateway.codecs.http2_abuse import Abuse, Kind, Meter
from inferbridge.gateway.codecs.http2_blocks import CONTINUE, BlockDecoder, RawFields, head_block
from inferbridge.gateway.codecs.http2_head import HeadTooLarge, RequestHeads, announced_length
from inferbridge.gateway.codecs.http2_reader import FrameReader
from inferbridge.gateway.codecs.http2_sending import Sender, Stream
from inferbridge.gateway.codecs.http2_window import ReceiveWindow
from inferbridge.gateway.limits import Limits
from inferbridge.http2 import frames
from inferbridge.http2.data import FRAME_SIZE
from inferbridge.http2.frames import ErrorCode, ProtocolViolation

_log = logging.getLogger(__name__)

_RESETS_KEPT: Final = 1000
"""Streams that were reset lately."""
_HIGH_WATER: Final = 64 << 10
"""Bytes of an answer that wait for the client's window when its source is told to wait, too."""
_LOW_WATER: Final = 32 << 10


class ClientLeft(Exception):
    """GOAWAY with an error: the client reads no answers."""


class Http2Codec:
    """`ServerCodec` for HTTP/2, and `FrameHandler` of its own reader."""

    unread = b""

    def __init__(
        self, limits: Limits, peer: Peer | None = None, on_abuse: Callable[[Kind], None] = lambda _: None
    ) -> None:
        """`on_abuse` is told why a client was sent away."""
        self._limits = limits
        self._peer = peer or Peer()
        self._heads = RequestHeads(limits, self._peer)
        self._on_abuse = on_abuse
        self._meter = Meter(limits.streams)
        self._reader = FrameReader(self, self._meter, 2 * limits.header_bytes)
        # Twice the limit, in the RFC's count of 32 bytes more a field: what is only a little too large is answered.
        self._blocks = BlockDecoder(2 * limits.header_bytes + 32 * limits.header_fields)
        self._window = ReceiveWindow(max(limits.connection_window, frames.DEFAULT_WINDOW))
        self._sender = Sender(self._meter)
        self._sender.output.append(_greeting(limits))
        self._streams: dict[int, Stream] = {}
        self._highest = 0
        """The last stream that the client has opened."""
        self._resets: dict[int, None] = {}
        """Streams that were reset lately, by either side."""
        self._events: list[Event] = []
        """Of the current read."""
        self._touched: dict[int, None] = {}
        """Streams that may have something to send, in order."""
        self._pressed: list[tuple[int, bool]] = []
        self._closing = False
        self._client_leaves = False
        self._drains = False
        self._leaves = False
        """No call is accepted any more."""

    @property
    def closing(self) -> bool:
        return self._closing or ((self._client_leaves or self._leaves) and not self._streams)

    # Request side

    def receive(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        if not data or self._closing:
            return events
        self._events = events
        self._meter.turn()
        before = self._highest
        try:
            self._reader.feed(data)
        except ClientLeft:
            self._break()
        except ProtocolViolation as violation:
            self._break_off(violation.code, before)
            if isinstance(violation, Abuse):
                self._on_abuse(violation.kind)
        except Exception:  # a bug must not cost more than this connection
            _log.exception("HTTP/2 connection from %s closed after an internal error", self._peer.address)
            self._break_off(ErrorCode.INTERNAL_ERROR, before)
        self._events = []
        return events

    def _break_off(self, code: ErrorCode, before: int) -> None:
        """Undo what this read began, cancel all that was there before it, and say goodbye."""
        self._streams = {key: stream for key, stream in self._streams.items() if key <= before}
        self._events[:] = [
            event for event in self._events if isinstance(event, RequestCancelled) and event.stream <= before
        ]
        self._sender.output.append(frames.goaway(code, last_stream=self._highest))
        self._break()

    def _break(self) -> None:
        self._closing = True
        self._events.extend(RequestCancelled(stream_id) for stream_id in self._streams)
        self._streams.clear()
        self._touched.clear()

    def on_block(self, stream_id: int, block: bytes, ends: bool) -> None:
        fields = self._blocks.decode(block)  # always, for it may change what the next ones mean
        if stream_id > self._highest and stream_id & 1:
            self._highest = stream_id
            self._open(stream_id, fields, ends)
        elif (stream := self._streams.get(stream_id)) is not None:
            self._receive_trailers(stream, fields, ends)
        else:
            self._check_not_idle(stream_id)
            if stream_id not in self._resets:
                raise ProtocolViolation(ErrorCode.STREAM_CLOSED, f"HEADERS for stream {stream_id}, which is over")
            self._meter.spend("streams")  # one is trailers that were on their way, many cost what new streams do
            self._sender.reset(stream_id, ErrorCode.STREAM_CLOSED)

    def _check_not_idle(self, stream_id: int) -> None:
        if stream_id > self._highest or not stream_id & 1:
            raise ProtocolViolation(ErrorCode.PROTOCOL_ERROR, f"frame for stream {stream_id}, which is idle")

    def _open(self, stream_id: int, fields: RawFields, ends: bool) -> None:
        if self._leaves or len(self._streams) >= self._limits.streams:
            # a client may open some before it knows the limit, and not go on with it
            self._meter.spend("streams")
            self._reset(stream_id, ErrorCode.REFUSED_STREAM)
            return
        stream = Stream(stream_id, self._limits.stream_window, self._sender.initial_window)
        try:
            request = self._heads.read(fields)
        except BridgeError as error:
            stream.head = error.head if isinstance(error, HeadTooLarge) else None
            stream.refused, stream.missing = True, announced_length(fields)
            stream.bodiless = (b":method", b"HEAD") in fields
            self._events.append(ProtocolRefused(stream_id, error, stream.head))
        else:
            stream.head, stream.missing, stream.expects = request.head, request.length, request.expects_continue
            stream.bodiless = request.head.method == "HEAD"
            self._events.append(RequestOpened(stream_id, request.head))
        self._streams[stream_id] = stream
        if ends:
            self._receive_end(stream)

    def on_data(self, stream_id: int, data: Buffer, credit: int, ends: bool) -> None:
        stream = self._admit(stream_id, len(data), credit, ends)
        if stream is not None:
            self._take(stream, data, credit, ends)

    def on_data_begun(self, stream_id: int, size: int, credit: int, ends: bool) -> bool:
        stream = self._admit(stream_id, size, credit, ends)
        if stream is None:
            return False
        if stream.refused:
            self._take(stream, b"", credit, ends)
        return not stream.refused

    def on_data_piece(self, stream_id: int, data: Buffer, credit: int, ends: bool) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:  # it has been reset since the frame began
            self._acknowledge(None, credit)
        else:
            self._take(stream, data, credit, ends)

    def _take(self, stream: Stream, data: Buffer, credit: int, ends: bool) -> None:
        """Hand on content, or grant again at once what nobody will read."""
        if len(data) and not stream.refused:
            self._events.append(RequestData(stream.id, data, credit))
        elif credit:
            self._acknowledge(stream, credit)
        if ends:
            self._receive_end(stream)

    def _admit(self, stream_id: int, size: int, credit: int, ends: bool) -> Stream | None:
        """The stream that takes a DATA frame; None: the frame is good for nothing but the connection's window."""
        self._window.take(credit)
        stream = self._streams.get(stream_id)
        if stream is None:
            self._check_not_idle(stream_id)
            self._acknowledge(None, credit)
            self._sender.reset(stream_id, ErrorCode.STREAM_CLOSED)
            return None
        if not stream.receiving:
            self._acknowledge(None, credit)
            self._spoil(stream_id, ErrorCode.STREAM_CLOSED)
            return None
        stream.request_window.take(credit)
        if stream.missing is not None:
            stream.missing -= size
            if stream.missing < 0 or (ends and stream.missing):
                raise ProtocolViolation(ErrorCode.PROTOCOL_ERROR, "the body is not as long as its content-length")
        return stream

    def _receive_end(self, stream: Stream) -> None:
        stream.receiving = False
        if stream.refused:
            return
        if stream.missing:  # DATA was looked at, not HEADERS or trailers that end the stream
            self._refuse_rest(stream, "the body is not as long as its content-length")
        else:
            self._events.append(RequestEnd(stream.id))

    def _receive_trailers(self, stream: Stream, fields: RawFields, ends: bool) -> None:
        """Nobody reads them; but what looks like a second head makes the request malformed (RFC 9113 §8.1)."""
        if not stream.receiving:
            self._spoil(stream.id, ErrorCode.STREAM_CLOSED)
            return
        if not ends:
            raise ProtocolViolation(ErrorCode.PROTOCOL_ERROR, "trailers do not end the stream")
        announced_length(fields)
        if not stream.refused and any(name[:1] == b":" for name, _ in fields):
            self._refuse_rest(stream, "pseudo-header in trailers")
        if stream.id in self._streams:
            self._receive_end(stream)

    def _refuse_rest(self, stream: Stream, why: str) -> None:
        """What came after an acceptable head spoils the request."""
        if stream.status:  # answered already, at least in part
            self.reset(stream.id)
            self._events.append(RequestCancelled(stream.id))
        else:
            stream.refused = True
            self._events.append(ProtocolRefused(stream.id, invalid(why), stream.head))

    def on_reset(self, stream_id: int) -> None:
        self._check_not_idle(stream_id)
        if stream_id in self._streams:
            self._cancel(stream_id)

    def _spoil(self, stream_id: int, code: ErrorCode) -> None:
        """The client made an error that costs it the stream; made on purpose, it is as good as a reset."""
        self._meter.spend("reset")
        self._sender.reset(stream_id, code)
        self._cancel(stream_id)

    def _cancel(self, stream_id: int) -> None:
        del self._streams[stream_id]
        self._remember_reset(stream_id)
        self._events.append(RequestCancelled(stream_id))

    def _reset(self, stream_id: int, code: ErrorCode) -> None:
        self._sender.reset(stream_id, code)
        self._remember_reset(stream_id)

    def _remember_reset(self, stream_id: int) -> None:
        self._resets[stream_id] = None
        if len(self._resets) > _RESETS_KEPT:
            del self._resets[next(iter(self._resets))]

    def on_window(self, stream_id: int, increment: int) -> None:
        if not stream_id:
            self._sender.open_window(increment)
            self._touch_waiting()
            return
        stream = self._streams.get(stream_id)
        if stream is None:
            self._check_not_idle(stream_id)
            return
        stream.send_window += increment
        if stream.send_window > frames.MAX_WINDOW:
            self._spoil(stream_id, ErrorCode.FLOW_CONTROL_ERROR)
        elif stream.queue:
            self._touched[stream_id] = None

    def _touch_waiting(self) -> None:
        self._touched.update({stream.id: None for stream in self._streams.values() if stream.queue})

    def on_settings(self, settings: Mapping[int, int]) -> None:
        for key, value in settings.items():
            self._sender.apply(key, value, self._streams)
        self._sender.output.append(frames.SETTINGS_ACK)
        self._touch_waiting()

    def on_ping(self, payload: bytes) -> None:
        self._sender.output.append(frames.ping_ack(payload))

    def on_goaway(self, code: int) -> None:
        """The client opens no further calls; those in flight go on if it left in peace (RFC 9113 §6.8)."""
        if code:
            raise ClientLeft
        self._client_leaves = True

    @property
    def awaits_head(self) -> int | None:
        reader = self._reader
        if reader.partial or not reader.frames:
            return reader.frames
        arriving = reader.arriving  # DATA for a call is that call's affair; for nobody, it comes as fast as a head
        return reader.frames if arriving and arriving not in self._streams else None

    def give_up(self, error: BridgeError) -> list[Event]:
        events: list[Event] = []
        self._events = events
        self._break_off(ErrorCode.ENHANCE_YOUR_CALM, self._highest)
        return events

    def proceed(self, stream: int) -> None:
        state = self._streams.get(stream)
        if state is not None and state.expects and state.receiving and not state.status:
            state.expects = False
            self._sender.interim(stream, CONTINUE)

    def acknowledge(self, stream: int, credit: int) -> None:
        if credit and not self._closing:
            self._acknowledge(self._streams.get(stream), credit)

    def _acknowledge(self, stream: Stream | None, credit: int) -> None:
        self._sender.grant(0, self._window.give(credit))
        if stream is not None and stream.receiving:
            self._sender.grant(stream.id, stream.request_window.give(credit))

    # Answer side

    def send_head(self, stream: int, status: int, headers: Headers) -> None:
        state = self._streams.get(stream)
        if state is None:
            return
        if state.status:
            raise ValueError("the answer has a head already")
        if not 200 <= status <= 999:
            raise ValueError(f"{status} is not a final status")
        state.head_block = head_block(status, headers)
        state.status = status
        state.bodiless = state.bodiless or status in (204, 304)
        self._touched[stream] = None

    def send_data(self, stream: int, data: Buffer) -> None:
        state = self._streams.get(stream)
        if state is None:
            return
        if not state.status:
            raise ValueError("body before head")
        if state.ending:
            raise ValueError("body after the end")
        if not state.bodiless and len(data):
            state.queue.append(data)
            state.queued += len(data)
            self._touched[stream] = None

    def end(self, stream: int, trailers: Headers = ()) -> None:
        state = self._streams.get(stream)
        if state is None or state.ending:
            return
        if not state.status:
            raise ValueError("end before head")
        state.trailers = head_block(0, trailers)
        state.ending = True
        self._touched[stream] = None

    def send_whole(self, stream: int, status: int, headers: Headers, chunks: Chunks) -> None:
        self.send_head(stream, status, headers)
        for chunk in chunks:
            self.send_data(stream, chunk)
        self.end(stream)

    def reset(self, stream: int) -> None:
        if self._streams.pop(stream, None) is not None:
            self._reset(stream, ErrorCode.INTERNAL_ERROR)

    @property
    def waiting(self) -> int:
        return sum(state.queued for state in self._streams.values())

    def drain(self) -> None:
        if not self._drains and not self._closing:
            self._drains = True
            self._go_away(frames.LAST_STREAM_ID)

    def leave(self) -> None:
        if not self._leaves and not self._closing:
            self._drains = self._leaves = True
            self._go_away(self._highest)

    def _go_away(self, last_stream: int) -> None:
        self._sender.output.append(frames.goaway(ErrorCode.NO_ERROR, last_stream=last_stream))

    def queued(self, stream: int) -> int:
        state = self._streams.get(stream)
        return state.queued if state is not None else 0

    def take_pressed(self) -> list[tuple[int, bool]]:
        pressed, self._pressed = self._pressed, []
        return pressed

    def release(self) -> None:
        self._closing = True
        self._reader.release()

    # Output

    @property
    def more(self) -> bool:
        return bool(self._sender.output)

    def take_output(self) -> Buffer:
        touched, self._touched = self._touched, {}
        for stream_id in touched:
            stream = self._streams.get(stream_id)
            if stream is not None and stream.status:
                self._flush(stream)
        return self._sender.take_output()

    def _flush(self, stream: Stream) -> None:
        if self._sender.flush(stream):
            del self._streams[stream.id]
            if stream.receiving:  # the rest of the request would be thrown away: spare the client sending it
                self._reset(stream.id, ErrorCode.NO_ERROR)
        elif stream.full or stream.queued > _HIGH_WATER:
            self._press(stream)

    def _press(self, stream: Stream) -> None:
        full = stream.queued > (_LOW_WATER if stream.full else _HIGH_WATER)
        if full != stream.full:
            stream.full = full
            self._pressed.append((stream.id, full))


def _greeting(limits: Limits) -> bytes:
    """SETTINGS, and the rest of the window."""
    settings = frames.settings(
        {
            frames.MAX_CONCURRENT_STREAMS: limits.streams,
            frames.INITIAL_WINDOW_SIZE: limits.stream_window,
            frames.MAX_FRAME_SIZE: FRAME_SIZE,
            frames.MAX_HEADER_LIST_SIZE: limits.header_bytes,
        }
    )
    more = limits.connection_window - frames.DEFAULT_WINDOW
    return settings + frames.window_update(0, more) if more > 0 else settings
