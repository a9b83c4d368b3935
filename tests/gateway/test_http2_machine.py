"""HTTP/2 clients in any order of frames, cut anywhere: a state machine over the whole of a client connection.

The client is the `h2` library, which raises when we exceed its windows, answer a stream that is over, or send frames
that may not be. Its bytes and ours lie in two pipes, from which any number at a time is taken. The application answers
when the machine says so. At the end both are let run until nothing moves, and all must have come to its end.
"""

from collections.abc import Callable
from dataclasses import replace

import h2.config
import h2.connection
import h2.events
import h2.settings
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import empty_frames
from gateway.watched import Watched, Watching
from inferbridge.gateway.clients.connection import ClientConnection
from inferbridge.gateway.codecs.http2 import Http2Codec
from inferbridge.gateway.limits import Limits

LIMITS = replace(Limits(), streams=6, stream_window=70_000, connection_window=100_000)
SIZES = st.one_of(st.integers(0, 40), st.sampled_from([16_384, 16_385, 65_535, 65_536, 100_000]))
PIECES = st.one_of(st.integers(1, 30), st.just(1 << 20))
PICK = st.integers(0, 1000)


class Asked:
    """One request and its answer, from the side of the client."""

    def __init__(self, stream: int, *, malformed: bool) -> None:
        self.stream = stream
        self.malformed = malformed
        self.sent = b""
        self.sending = True
        self.reset = False
        """By the client."""
        self.status = 0
        self.body = b""
        self.ends = 0
        self.cut = False
        """Reset by the gateway before the answer was complete."""


class Http2Machine(RuleBasedStateMachine):
    """Client, gateway and application."""

    def __init__(self) -> None:
        super().__init__()
        self.empty_frames = empty_frames.allowed()
        self.empty_frames.start()
        self.application = Watching()
        self.connection = ClientConnection(self.application, LIMITS, lambda: None, alpn=b"h2")
        self.client = h2.connection.H2Connection(h2.config.H2Configuration(validate_outbound_headers=False))
        self.client.initiate_connection()
        self.to_server = self.to_client = b""
        self.asked: dict[int, Asked] = {}
        self.unread: dict[int, int] = {}
        """Bytes that the client has got and not granted again."""
        self.resizing = False
        """Its settings are not acknowledged; h2 takes any acknowledgement for that of all."""
        self._settle()

    # The client

    @precondition(lambda self: self.client.open_outbound_streams < LIMITS.streams)
    @rule(end=st.booleans(), malformed=st.sampled_from([False, False, False, True]), held=st.booleans())
    def ask(self, end: bool, malformed: bool, held: bool) -> None:
        """A request begins, and its body may be held up; a malformed one is a matter of its stream alone."""
        stream = self.client.get_next_available_stream_id()
        self.application.held |= {f"/{stream}"} if held else set()
        head = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", f"/{stream}")]
        self.client.send_headers(stream, [*head, *([("te", "gzip")] if malformed else [])], end_stream=end)
        self.asked[stream] = Asked(stream, malformed=malformed)
        self.asked[stream].sending = not end

    def _sending(self, pick: int) -> Asked | None:
        return chosen(pick, [asked for asked in self.asked.values() if asked.sending])

    @rule(pick=PICK, size=SIZES, padding=st.sampled_from([None, None, 0, 9]))
    def send(self, pick: int, size: int, padding: int | None) -> None:
        """More of a body, as the window admits."""
        asked = self._sending(pick)
        if asked is not None:
            room = min(self.client.local_flow_control_window(asked.stream), self.client.max_outbound_frame_size) - 10
            data = bytes([asked.stream % 251]) * max(0, min(size, room))
            if data:
                self.client.send_data(asked.stream, data, pad_length=padding)
                asked.sent += data

    @rule(pick=PICK, trailers=st.booleans())
    def complete(self, pick: int, trailers: bool) -> None:
        """A body ends, perhaps with trailers."""
        asked = self._sending(pick)
        if asked is not None:
            asked.sending = False
            if trailers:
                self.client.send_headers(asked.stream, [("x-trailer", "y")], end_stream=True)
            else:
                self.client.end_stream(asked.stream)

    @rule(pick=PICK)
    def reset(self, pick: int) -> None:
        """The client gives a call up, whatever has become of it."""
        asked = chosen(
            pick, [each for each in self.asked.values() if not each.reset and not each.ends and not each.cut]
        )
        if asked is not None:
            asked.sending, asked.reset = False, True
            self.client.reset_stream(asked.stream, 8)

    @rule()
    def ping(self) -> None:
        """A ping among the rest."""
        self.client.ping(b"12345678")

    @precondition(lambda self: not self.resizing)
    @rule(window=st.sampled_from([0, 1, 100, 65_535, 200_000]))
    def resize(self, window: int) -> None:
        """The client changes its windows, which may leave them below zero."""
        self.resizing = True
        self.client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})

    @rule(pick=PICK)
    def grant(self, pick: int) -> None:
        """The client has read what it got of an answer."""
        stream = chosen(pick, [stream for stream, size in self.unread.items() if size])
        if stream is not None:
            self.client.acknowledge_received_data(self.unread.pop(stream), stream)

    # What lies between

    @rule(size=PIECES)
    def receive(self, size: int) -> None:
        """Some bytes reach the gateway."""
        self.to_server += self.client.data_to_send()
        piece, self.to_server = self.to_server[:size], self.to_server[size:]
        self.connection.receive(piece)

    @rule(size=PIECES)
    def deliver(self, size: int) -> None:
        """Some bytes reach the client."""
        self.to_client += self.connection.take_output()
        piece, self.to_client = self.to_client[:size], self.to_client[size:]
        for event in self.client.receive_data(piece):
            self._take(event)

    def _take(self, event: h2.events.Event) -> None:
        asked = self.asked.get(getattr(event, "stream_id", None) or 0)
        self.resizing = self.resizing and not isinstance(event, h2.events.SettingsAcknowledged)
        if isinstance(event, h2.events.ResponseReceived):
            assert not asked.status
            asked.status = int(dict(event.headers)[b":status"])
        elif isinstance(event, h2.events.DataReceived):
            asked.body += event.data
            self.unread[asked.stream] = self.unread.get(asked.stream, 0) + event.flow_controlled_length
        elif isinstance(event, h2.events.StreamEnded):
            asked.ends += 1
        elif isinstance(event, h2.events.StreamReset):
            asked.sending = False
            asked.cut = not asked.ends
        else:
            assert not isinstance(event, h2.events.ConnectionTerminated)

    # The application

    def _unanswered(self, pick: int, wanted: Callable[[Watched], bool] = lambda _: True) -> Watched | None:
        return chosen(pick, [call for call in self.application.calls.values() if not call.over and wanted(call)])

    @rule(pick=PICK)
    def begin(self, pick: int) -> None:
        """An answer begins."""
        call = self._unanswered(pick, lambda call: not call.begun)
        if call is not None:
            call.begin()

    @rule(pick=PICK, size=SIZES)
    def say(self, pick: int, size: int) -> None:
        """An answer goes on."""
        call = self._unanswered(pick, lambda call: call.begun)
        if call is not None:
            call.say(bytes([len(call.answering) % 251]) * size)

    @rule(pick=PICK, trailers=st.sampled_from([(), (("grpc-status", "0"),)]))
    def finish(self, pick: int, trailers: tuple[tuple[str, str], ...]) -> None:
        """An answer ends, also one that has not begun, and before its request has ended."""
        call = self._unanswered(pick)
        if call is not None:
            call.finish(trailers)

    @rule(pick=PICK)
    def abort(self, pick: int) -> None:
        """An answer is cut."""
        call = self._unanswered(pick)
        if call is not None:
            call.abort()

    @rule(pick=PICK, held=st.booleans())
    def hold(self, pick: int, held: bool) -> None:
        """The application wants no more of a body for now, or goes on."""
        call = self._unanswered(pick)
        if call is not None:
            (call.responder.hold if held else call.responder.resume)()

    # What must be

    @invariant()
    def nothing_is_wrong_so_far(self) -> None:
        """No callback came out of turn, no error of ours was told, and the connection lives."""
        assert self.application.faults == []
        assert not self.connection.closing
        for call in self.application.calls.values():
            assert self._of(call).sent.startswith(call.body)
            assert call.answering.startswith(self._of(call).body)

    def _of(self, call: Watched) -> Asked:
        return self.asked[int(call.head.target[1:])]

    def teardown(self) -> None:
        """Let everything run to its end, and look at what became of each call."""
        try:
            self._finish()
        finally:
            self.empty_frames.stop()

    def _finish(self) -> None:
        for asked in list(self.asked.values()):
            if asked.sending:
                self.complete(list(filter(lambda each: each.sending, self.asked.values())).index(asked), False)
        self._settle()
        for call in self.application.calls.values():
            if not call.over:
                call.responder.resume()
                call.finish()
        self.resize(65_535)
        self._settle()
        self.nothing_is_wrong_so_far()
        assert self.connection.calls == 0
        for asked in self.asked.values():
            self._check(asked, self.application.calls.get(f"/{asked.stream}"))
        self._check_window()
        self._serves_another()

    def _settle(self) -> None:
        while True:
            before = self.client.data_to_send()
            self.to_server += before
            self.receive(1 << 30)
            output = self.connection.take_output()
            self.to_client += output
            self.deliver(1 << 30)
            for stream in [stream for stream, size in self.unread.items() if size]:
                self.client.acknowledge_received_data(self.unread.pop(stream), stream)
            if not before and not output:
                return

    def _check(self, asked: Asked, call: Watched | None) -> None:
        """A call ended once, on both sides, and whoever heard all of the other has heard it right."""
        assert asked.ends + asked.cut + asked.reset >= 1
        assert asked.ends <= 1
        if asked.malformed:
            assert call is None
            assert asked.reset or asked.status == 400
            return
        assert call is not None or asked.reset
        if call is not None:
            assert call.over
            assert not call.complete or call.body == asked.sent
            assert not asked.ends or (asked.status, asked.body) == (200, call.answering)
            assert not (call.cancelled and not asked.reset)

    def _check_window(self) -> None:
        """Every byte that has come was granted again, or will be: the connection's window has not shrunk."""
        codec = self.connection.codec
        assert isinstance(codec, Http2Codec)
        assert codec._window.balanced

    def _serves_another(self) -> None:
        self.ask(True, False, False)
        self._settle()
        asked = list(self.asked.values())[-1]
        self.application.calls[f"/{asked.stream}"].finish()
        self._settle()
        assert (asked.status, asked.ends) == (200, 1)


def chosen[T](pick: int, among: list[T]) -> T | None:
    """One of some things; None if there are none."""
    return among[pick % len(among)] if among else None


Http2Machine.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


class TestHttp2(Http2Machine.TestCase):
    """Every call ends once, windows are kept, and one stream's errors are its own, in any order of frames."""
