"""HTTP/2 seen from the server: many calls at once over one connection, on the h2 library.

A call lives in `_streams` from its HEADERS until both sides have ended it or one has reset it. Its two halves are
independent: `receiving` falls with END_STREAM from the client, `ending` rises with `end` from the application.
Nothing is written before the output is taken, so an answer that is complete by then ends with its last frame. What
the client's windows do not admit yet waits in `queue` and leaves, in order, as WINDOW_UPDATE and SETTINGS open them.

Errors come in three sizes: a malformed or oversized request is answered on its stream; a call beyond the limit is
refused with RST_STREAM, and nobody hears of it; a broken connection cancels its calls and ends in GOAWAY. So does one
whose client sends more than a client in good faith (`http2_abuse`).

A server that stops says so in two steps (RFC 9113 §6.8): GOAWAY with the highest stream there can be, upon which the
client opens no more calls, then, when those that were on their way have come, GOAWAY with the last one served. h2 would
take either for the end of everything, so both are written past it.
"""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import h2.stream

from inferbridge.bridge.errors import BridgeError, invalid
from inferbridge.bridge.values import Buffer, Chunks, Headers, header
from inferbridge.gateway import fields
from inferbridge.gateway.application import RequestHead
from inferbridge.gateway.events import Event, ProtocolRefused, RequestCancelled, RequestData, RequestEnd, RequestOpened
from inferbridge.gateway.http1_head import Peer
from inferbridge.gateway.http2_abuse import Abuse, Kind, Meter, MeteredConnection
from inferbridge.gateway.http2_head import HeadTooLarge, RawFields, RequestHeads
from inferbridge.gateway.limits import Limits
from inferbridge.http2.frames import DATA, GOAWAY, LAST_STREAM_ID, frame_header

_RESET_WINDOW = 200
"""Calls over which premature resets are counted; when more than half of them are, the client is told to calm down."""
_DEFAULT_WINDOW = 65535
_HIGH_WATER = 64 << 10
"""Bytes of an answer that wait for the client's window when its source is told to wait, too."""
_LOW_WATER = 32 << 10
_SETTINGS = h2.settings.SettingCodes
_ERRORS = h2.errors.ErrorCodes


class _Stream:
    """One call."""

    __slots__ = (
        "bodiless",
        "ending",
        "expects",
        "full",
        "head",
        "missing",
        "queue",
        "queued",
        "ready_head",
        "receiving",
        "refused",
        "status",
        "trailers",
    )

    def __init__(self, raw: RawFields, head: RequestHead | None, *, refused: bool = False) -> None:
        self.head = head
        self.missing: int | None = None
        """Bytes of body still to come, where content-length says."""
        self.bodiless = (b":method", b"HEAD") in raw
        """The answer has no body, whatever the application sends."""
        self.expects = (b"expect", b"100-continue") in raw
        self.refused = refused
        """The rest of the request is of no interest."""
        self.receiving = True
        self.status = 0
        """0 until the application sends a head."""
        self.ready_head: list[tuple[bytes, bytes]] | None = None
        """Not yet written."""
        self.queue: deque[Buffer] = deque()
        self.queued = 0
        self.full = False
        """More is queued than need be."""
        self.ending = False
        self.trailers: list[tuple[bytes, bytes]] = []


class Http2Codec:
    """`ServerCodec` for HTTP/2."""

    unread = b""

    def __init__(
        self, limits: Limits, peer: Peer | None = None, on_abuse: Callable[[Kind], None] = lambda _: None
    ) -> None:
        """`on_abuse` is told why a client was sent away."""
        self._limits = limits
        self._heads = RequestHeads(limits, peer or Peer())
        self._on_abuse = on_abuse
        self._meter = Meter(limits.streams)
        self._streams: dict[int, _Stream] = {}
        self._closing = False
        self._client_leaves = False
        self._drains = False
        self._leaves = False
        """No call is accepted any more."""
        self._touched: dict[int, None] = {}
        """Streams that may have something to send, in order."""
        self._premature: deque[bool] = deque(maxlen=_RESET_WINDOW)
        self._connection = _connection(limits, self._meter)
        self._pressed: list[tuple[int, bool]] = []
        self._output: list[Buffer] = []
        """What goes out before that which waits in `_connection`."""
        self._handlers: dict[type[h2.events.Event], Callable[[Any, list[Event]], None]] = {
            h2.events.RequestReceived: self._on_request,
            h2.events.DataReceived: self._on_data,
            h2.events.TrailersReceived: self._on_trailers,
            h2.events.StreamEnded: self._on_end,
            h2.events.StreamReset: self._on_reset,
            h2.events.WindowUpdated: self._on_window,
            h2.events.RemoteSettingsChanged: self._on_settings,
            h2.events.ConnectionTerminated: self._on_goaway,
        }

    @property
    def closing(self) -> bool:
        return self._closing or ((self._client_leaves or self._leaves) and not self._streams)

    # Request side

    def receive(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        if not data or self._closing:
            return events
        self._meter.turn()
        try:
            for event in self._connection.receive_data(data):
                handler = self._handlers.get(type(event))
                if handler is not None and not self._closing:
                    handler(event, events)
        except h2.exceptions.ProtocolError as error:
            self._break(events)  # h2 has put its GOAWAY into the output
            self._blame(error)
        except Exception:  # a parser's bug must not cost more than this connection
            with suppress(h2.exceptions.H2Error):
                self._connection.close_connection(_ERRORS.PROTOCOL_ERROR)
            self._break(events)
        return events

    def _blame(self, error: h2.exceptions.ProtocolError) -> None:
        if isinstance(error, Abuse):
            self._on_abuse(error.kind)
        elif isinstance(error, h2.exceptions.DenialOfServiceError):
            self._on_abuse("header_list")

    def _calm(self, kind: Kind, events: list[Event]) -> None:
        """Send a client away that asks for more than it wants to have."""
        self._connection.close_connection(_ERRORS.ENHANCE_YOUR_CALM)
        self._break(events)
        self._on_abuse(kind)

    def _break(self, events: list[Event]) -> None:
        self._closing = True
        events.extend(RequestCancelled(stream_id) for stream_id in self._streams)
        self._streams.clear()
        self._touched.clear()

    def _on_request(self, event: h2.events.RequestReceived, events: list[Event]) -> None:
        stream_id = event.stream_id
        if self._leaves or len(self._streams) >= self._limits.streams:
            self._refuse_stream(stream_id, events)
            return
        try:
            head = self._heads.read(event.headers)
        except BridgeError as error:
            known = error.head if isinstance(error, HeadTooLarge) else None
            self._streams[stream_id] = _Stream(event.headers, known, refused=True)
            events.append(ProtocolRefused(stream_id, error, known))
            return
        stream = self._streams[stream_id] = _Stream(event.headers, head)
        length = header(head.headers, "content-length")
        stream.missing = None if length is None else int(length)  # h2 has refused what is no number, or differs
        events.append(RequestOpened(stream_id, head))

    def _refuse_stream(self, stream_id: int, events: list[Event]) -> None:
        """One call too many; a client may open some before it knows the limit, and not go on with it."""
        try:
            self._meter.spend("streams")
            self._connection.reset_stream(stream_id, _ERRORS.REFUSED_STREAM)
        except Abuse as error:
            self._calm(error.kind, events)
        except h2.exceptions.ProtocolError:
            return  # the client has reset it in the same breath

    def _on_data(self, event: h2.events.DataReceived, events: list[Event]) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None and not stream.refused and event.data:
            if stream.missing is not None:
                stream.missing -= len(event.data)
            events.append(RequestData(event.stream_id, event.data, event.flow_controlled_length))
        elif event.flow_controlled_length:
            self._connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    def _on_end(self, event: h2.events.StreamEnded, events: list[Event]) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            stream.receiving = False
            if stream.refused:
                return
            if stream.missing:  # h2 looks only at DATA frames, not where HEADERS or trailers end the stream
                self._refuse_rest(event.stream_id, stream, "the body is not as long as its content-length", events)
            else:
                events.append(RequestEnd(event.stream_id))

    def _on_trailers(self, event: h2.events.TrailersReceived, events: list[Event]) -> None:
        """Nobody reads them; but what looks like a second head makes the request malformed (RFC 9113 §8.1)."""
        stream = self._streams.get(event.stream_id)
        if stream is not None and not stream.refused and any(name[:1] == b":" for name, _ in event.headers):
            self._refuse_rest(event.stream_id, stream, "pseudo-header in trailers", events)

    def _refuse_rest(self, stream_id: int, stream: _Stream, why: str, events: list[Event]) -> None:
        """What came after an acceptable head spoils the request."""
        if stream.status:  # answered already, at least in part
            self.reset(stream_id)
            events.append(RequestCancelled(stream_id))
        else:
            stream.refused = True
            events.append(ProtocolRefused(stream_id, invalid(why), stream.head))

    def _on_reset(self, event: h2.events.StreamReset, events: list[Event]) -> None:
        if self._streams.pop(event.stream_id, None) is None:
            return
        events.append(RequestCancelled(event.stream_id))
        self._premature.append(True)
        if sum(self._premature) > _RESET_WINDOW // 2:
            self._calm("reset", events)

    def _on_goaway(self, event: h2.events.ConnectionTerminated, events: list[Event]) -> None:
        """The client opens no further calls; those in flight go on if it left in peace."""
        if event.error_code != _ERRORS.NO_ERROR:
            self._break(events)
            return
        self._client_leaves = True
        # h2 takes a GOAWAY for the end of everything; RFC 9113 §6.8 lets open streams finish.
        self._connection.state_machine.state = h2.connection.ConnectionState.SERVER_OPEN

    @property
    def awaits_head(self) -> int | None:
        connection = self._connection
        return connection.frames if connection.blocks.partial or not connection.frames else None

    def give_up(self, error: BridgeError) -> list[Event]:
        events: list[Event] = []
        self._connection.close_connection(_ERRORS.ENHANCE_YOUR_CALM)
        self._break(events)
        return events

    def proceed(self, stream: int) -> None:
        state = self._streams.get(stream)
        if state is not None and state.expects and state.receiving and not state.status:
            state.expects = False
            self._connection.send_headers(stream, [(b":status", b"100")])

    def acknowledge(self, stream: int, credit: int) -> None:
        if credit and not self._closing:
            self._connection.acknowledge_received_data(credit, stream)

    # Answer side

    def send_head(self, stream: int, status: int, headers: Headers) -> None:
        state = self._streams.get(stream)
        if state is None:
            return
        if state.status:
            raise ValueError("the answer has a head already")
        if not 200 <= status <= 999:
            raise ValueError(f"{status} is not a final status")
        ready = fields.outgoing(headers)
        fields.declared_length(ready)
        state.status = status
        state.bodiless = state.bodiless or status in (204, 304)
        state.ready_head = [(b":status", b"%d" % status), *_encoded(ready)]
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
        state.trailers = _encoded(fields.outgoing(trailers))
        state.ending = True
        self._touched[stream] = None

    def send_whole(self, stream: int, status: int, headers: Headers, chunks: Chunks) -> None:
        self.send_head(stream, status, headers)
        for chunk in chunks:
            self.send_data(stream, chunk)
        self.end(stream)

    def reset(self, stream: int) -> None:
        if self._streams.pop(stream, None) is not None:
            self._connection.reset_stream(stream, _ERRORS.INTERNAL_ERROR)

    @property
    def waiting(self) -> int:
        return sum(state.queued for state in self._streams.values())

    def drain(self) -> None:
        if not self._drains and not self._closing:
            self._drains = True
            self._go_away(LAST_STREAM_ID)

    def leave(self) -> None:
        if not self._leaves and not self._closing:
            self._drains = self._leaves = True
            self._go_away(self._connection.highest_inbound_stream_id)

    def _go_away(self, last_stream: int) -> None:
        payload = last_stream.to_bytes(4) + _ERRORS.NO_ERROR.to_bytes(4)
        self._output += (self._connection.data_to_send(), frame_header(len(payload), GOAWAY, 0, 0), payload)

    def queued(self, stream: int) -> int:
        state = self._streams.get(stream)
        return state.queued if state is not None else 0

    def _on_window(self, event: h2.events.WindowUpdated, events: list[Event]) -> None:
        self._touched.update(dict.fromkeys([event.stream_id] if event.stream_id else self._streams))

    def _on_settings(self, event: h2.events.RemoteSettingsChanged, events: list[Event]) -> None:
        self._touched.update(dict.fromkeys(self._streams))

    def _flush(self, stream_id: int, state: _Stream) -> None:
        """Send what the windows admit, and the end once nothing waits."""
        if state.ready_head is not None:
            ends_here = state.ending and not state.queue and not state.trailers
            self._connection.send_headers(stream_id, state.ready_head, end_stream=ends_here)
            state.ready_head = None
            if ends_here:
                self._finished(stream_id, state)
                return
        ended = self._send_queue(stream_id, state)
        if state.ending and not state.queue:
            if state.trailers:
                self._connection.send_headers(stream_id, state.trailers, end_stream=True)
            elif not ended:
                self._connection.end_stream(stream_id)
            self._finished(stream_id, state)
        elif state.full or state.queued > _HIGH_WATER:
            self._press(stream_id, state)

    def _press(self, stream_id: int, state: _Stream) -> None:
        full = state.queued > (_LOW_WATER if state.full else _HIGH_WATER)
        if full != state.full:
            state.full = full
            self._pressed.append((stream_id, full))

    def take_pressed(self) -> list[tuple[int, bool]]:
        pressed, self._pressed = self._pressed, []
        return pressed

    def _send_queue(self, stream_id: int, state: _Stream) -> bool:
        """Send as much of the queue as the windows admit; True if the last frame ended the stream."""
        connection = self._connection
        stream = connection.streams[stream_id]
        while state.queue:
            windows = (connection.outbound_flow_control_window, stream.outbound_flow_control_window)
            room = min(*windows, connection.max_outbound_frame_size)
            if room <= 0:
                break
            data = _taken(state.queue, room)
            state.queued -= len(data)
            if state.ending and not state.queue and not state.trailers:
                connection.send_data(stream_id, memoryview(data), end_stream=True)
                return True
            self._write_data(stream, data)
        return False

    def _write_data(self, stream: h2.stream.H2Stream, data: Buffer) -> None:
        """Send DATA that does not end its stream.

        In h2 no state but the windows changes by it, and its way there costs as much as the translation of a message.
        """
        size = len(data)
        self._connection.outbound_flow_control_window -= size
        stream.outbound_flow_control_window -= size
        self._meter.sent += 1
        self._output += (self._connection.data_to_send(), frame_header(size, DATA, 0, stream.stream_id), data)

    def _finished(self, stream_id: int, state: _Stream) -> None:
        del self._streams[stream_id]
        self._premature.append(False)
        if state.receiving:  # the rest of the request would be thrown away: spare the client sending it
            self._connection.reset_stream(stream_id, _ERRORS.NO_ERROR)

    # Output

    def take_output(self) -> bytes:
        touched, self._touched = self._touched, {}
        for stream_id in touched:
            state = self._streams.get(stream_id)
            if state is not None and state.status:
                self._flush(stream_id, state)
        if not self._output:
            return self._connection.data_to_send()
        output = b"".join((*self._output, self._connection.data_to_send()))
        self._output.clear()
        return output


def _taken(queue: deque[Buffer], room: int) -> Buffer:
    """The next bytes of a queue, `room` at most; small pieces together, for a frame costs more than a copy."""
    first = queue.popleft()
    if len(first) > room:
        queue.appendleft(memoryview(first)[room:])
        return memoryview(first)[:room]
    pieces, size = [first], len(first)
    while queue and size + len(queue[0]) <= room:
        pieces.append(queue.popleft())
        size += len(pieces[-1])
    return b"".join(pieces) if len(pieces) > 1 else first


def _connection(limits: Limits, meter: Meter) -> MeteredConnection:
    """A connection that has sent its settings.

    MAX_CONCURRENT_STREAMS goes in a second SETTINGS frame: h2 holds the client to it only from its ACK on, so a
    client that opens more calls before it has read the limit gets REFUSED_STREAM and not GOAWAY.
    """
    configuration = h2.config.H2Configuration(
        client_side=False,
        validate_inbound_headers=False,
        normalize_inbound_headers=False,
        validate_outbound_headers=False,
        normalize_outbound_headers=False,
    )
    connection = MeteredConnection(configuration, 2 * limits.header_bytes, meter)
    connection.local_settings = h2.settings.Settings(
        client=False,
        initial_values={
            _SETTINGS.INITIAL_WINDOW_SIZE: limits.stream_window,
            _SETTINGS.MAX_HEADER_LIST_SIZE: limits.header_bytes,
        },
    )
    # Twice the limit, in the RFC's count of 32 bytes more a field: what is only a little too large is answered.
    connection.decoder.max_header_list_size = 2 * limits.header_bytes + 32 * limits.header_fields
    connection.initiate_connection()
    connection.update_settings({_SETTINGS.MAX_CONCURRENT_STREAMS: limits.streams})
    if limits.connection_window > _DEFAULT_WINDOW:
        connection.increment_flow_control_window(limits.connection_window - _DEFAULT_WINDOW)
    return connection


def _encoded(pairs: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in pairs]
