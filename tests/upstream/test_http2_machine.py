"""Runtimes that answer HTTP/2 in any order of frames, cut anywhere: a state machine over our codec.

The runtime is the `h2` library, which raises when we exceed its windows or its streams, or send frames that may not
be. Bytes lie in two pipes, from which any number at a time is taken. At the end both are let run until nothing moves,
and every call must have come to its end.
"""

from collections.abc import Callable
from unittest import mock

import h2.config
import h2.connection
import h2.events
from h2.settings import SettingCodes
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import empty_frames
from inferbridge.bridge.values import Buffer, Headers
from inferbridge.upstream import http2_codec
from inferbridge.upstream.http2_codec import Http2Codec, Stream
from upstream.h2_peer import BLOCK, HEAD, TRAILERS

HEADER_BYTES = 65_536
WINDOWS = {"STREAM_WINDOW": 70_000, "MAX_STREAM_WINDOW": 90_000, "CONNECTION_WINDOW": 100_000}
"""Small enough to be used up."""
SIZES = st.one_of(st.integers(0, 40), st.sampled_from([4096, 4097, 16_384, 65_535, 100_000]))
PIECES = st.one_of(st.integers(1, 30), st.just(1 << 20))
PICK = st.integers(0, 1000)


class Called:
    """One call: what was sent, what was answered, and what each side has seen of it."""

    def __init__(self) -> None:
        self.stream: Stream | None = None
        self.sent = b""
        self.growing = False
        self.reset = False
        """By us."""
        self.body = b""
        self.heads = self.ends = 0
        self.end = ""
        self.trailers: Headers = ()
        self.arrived = b""
        """What the runtime has got."""
        self.whole = False
        """It has got all."""
        self.answered = b""
        self.begun = self.over = False
        """The runtime's answer."""
        self.fault = ""
        self.promised = 0

    @property
    def done(self) -> bool:
        """Nothing more may be said of it to its handler."""
        return bool(self.ends) or self.reset

    # Its handler

    def on_head(self, status: int, headers: Headers) -> None:
        assert not self.done
        self.heads += 1

    def on_data(self, data: Buffer) -> None:
        assert not self.done
        assert self.heads == 1
        self.body += bytes(data)

    def on_end(self, trailers: Headers) -> None:
        self.trailers = trailers
        self._ended("end")

    def on_reset(self, code: int, reason: str) -> None:
        self._ended("reset")

    def on_unprocessed(self) -> None:
        self._ended("unprocessed")

    def on_drained(self) -> None:
        assert not self.done

    def _ended(self, how: str) -> None:
        assert not self.done
        self.ends += 1
        self.end = how


class Http2Machine(RuleBasedStateMachine):
    """Our codec and a runtime."""

    def __init__(self) -> None:
        super().__init__()
        self.windows = mock.patch.multiple(http2_codec, **WINDOWS)
        self.windows.start()
        self.empty_frames = empty_frames.allowed()
        self.empty_frames.start()
        self.codec = Http2Codec(HEADER_BYTES)
        self.runtime = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, validate_outbound_headers=False)
        )
        self.runtime.initiate_connection()
        self.to_runtime = self.to_codec = b""
        self.calls: dict[int, Called] = {}
        self.unread: dict[int, int] = {}
        self.changing = 0
        """Settings of the runtime that are not acknowledged; h2 takes any acknowledgement for that of all."""
        self._settle()

    # Our side

    @rule(size=SIZES, growing=st.booleans())
    def call(self, size: int, growing: bool) -> None:
        """A call, whole or growing, if the runtime takes one more."""
        if not self.codec.can_open():
            return
        call = Called()
        if growing:
            call.growing = True
            call.stream = self.codec.open_growing(BLOCK, call)
        else:
            call.sent = bytes([len(self.calls)]) * size
            call.stream = self.codec.open(BLOCK, [call.sent[:10], call.sent[10:]], call)
        self.calls[call.stream.id] = call

    def _pick(self, pick: int, wanted: Callable[[Called], bool]) -> Called | None:
        among = [call for call in self.calls.values() if wanted(call)]
        return among[pick % len(among)] if among else None

    @rule(pick=PICK, size=SIZES)
    def send(self, pick: int, size: int) -> None:
        """A growing call goes on."""
        call = self._pick(pick, lambda call: call.growing and not call.done)
        if call is not None and call.stream is not None:
            data = bytes([len(call.sent) % 251]) * size
            call.sent += data
            self.codec.send(call.stream, [data])

    @rule(pick=PICK)
    def finish(self, pick: int) -> None:
        """A growing call is complete."""
        call = self._pick(pick, lambda call: call.growing)
        if call is not None and call.stream is not None:
            call.growing = False
            self.codec.finish(call.stream)

    @rule(pick=PICK)
    def reset(self, pick: int) -> None:
        """We give a call up."""
        call = self._pick(pick, lambda call: not call.done)
        if call is not None and call.stream is not None:
            call.reset = True
            self.codec.reset(call.stream)

    @rule(pick=PICK, paused=st.booleans())
    def pause(self, pick: int, paused: bool) -> None:
        """Whoever takes an answer is slow, or goes on."""
        call = self._pick(pick, lambda call: not call.done)
        if call is not None and call.stream is not None:
            self.codec.pause(call.stream, paused)

    @rule()
    def ping(self) -> None:
        """A sign of life is asked for."""
        self.codec.ping()

    # What lies between

    def _taken(self) -> bytes:
        output = b"".join(map(bytes, self.codec.output))
        self.codec.output.clear()
        return output

    @rule(size=PIECES)
    def arrive(self, size: int) -> None:
        """Some bytes reach the runtime."""
        self.to_runtime += self._taken()
        piece, self.to_runtime = self.to_runtime[:size], self.to_runtime[size:]
        for event in self.runtime.receive_data(piece):
            self._take(event)

    def _take(self, event: h2.events.Event) -> None:
        call = self.calls.get(getattr(event, "stream_id", None) or 0)
        self.changing -= isinstance(event, h2.events.SettingsAcknowledged) and self.changing
        if isinstance(event, h2.events.DataReceived) and call is not None:
            call.arrived += event.data
            self.unread[event.stream_id] = self.unread.get(event.stream_id, 0) + event.flow_controlled_length
        elif isinstance(event, h2.events.StreamEnded) and call is not None:
            call.whole = True
        elif isinstance(event, h2.events.StreamReset) and call is not None:
            call.over = True

    @rule(size=PIECES)
    def receive(self, size: int) -> None:
        """Some bytes reach us."""
        self.to_codec += self.runtime.data_to_send()
        piece, self.to_codec = self.to_codec[:size], self.to_codec[size:]
        self.codec.receive(piece)

    # The runtime

    def _asked(self, pick: int, wanted: Callable[[Called], bool] = lambda _: True) -> tuple[int, Called] | None:
        """A call that the runtime knows and has not answered."""
        known = self.runtime.streams
        among = [(key, call) for key, call in self.calls.items() if key in known and not call.over and wanted(call)]
        return among[pick % len(among)] if among else None

    @rule(pick=PICK, only=st.booleans(), length=st.sampled_from([None, None, None, 3]))
    def begin(self, pick: int, only: bool, length: int | None) -> None:
        """An answer begins, or is no more than a head; what it says of its length may be wrong."""
        found = self._asked(pick, lambda call: not call.begun)
        if found is not None:
            stream, call = found
            call.begun, call.over = True, only
            promised = [] if length is None or only else [("content-length", str(length))]
            call.promised = length or 0 if promised else -1
            self.runtime.send_headers(stream, [*HEAD, *promised], end_stream=only)

    @rule(pick=PICK, size=SIZES, padding=st.sampled_from([None, None, 0, 9]))
    def answer(self, pick: int, size: int, padding: int | None) -> None:
        """An answer goes on, as our windows admit."""
        found = self._asked(pick, lambda call: call.begun)
        if found is not None:
            stream, call = found
            room = min(self.runtime.local_flow_control_window(stream), self.runtime.max_outbound_frame_size) - 10
            data = bytes([len(call.answered) % 251]) * max(0, min(size, room))
            call.answered += data
            self.runtime.send_data(stream, data, pad_length=padding)

    @rule(pick=PICK, trailers=st.booleans())
    def end(self, pick: int, trailers: bool) -> None:
        """An answer ends, perhaps before the request has."""
        found = self._asked(pick, lambda call: call.begun)
        if found is not None:
            stream, call = found
            call.over = True
            if trailers:
                self.runtime.send_headers(stream, TRAILERS, end_stream=True)
            else:
                self.runtime.end_stream(stream)

    @rule(pick=PICK, code=st.sampled_from([7, 8]))
    def refuse(self, pick: int, code: int) -> None:
        """The runtime resets a call."""
        found = self._asked(pick)
        if found is not None:
            found[1].over = True
            found[1].fault = "reset"
            self.runtime.reset_stream(found[0], code)

    @precondition(lambda self: not self.changing)
    @rule(
        key=st.sampled_from([SettingCodes.INITIAL_WINDOW_SIZE, SettingCodes.MAX_CONCURRENT_STREAMS]),
        value=st.sampled_from([0, 1, 100, 65_535, 200_000]),
    )
    def change(self, key: SettingCodes, value: int) -> None:
        """The runtime changes what it takes, also to nothing."""
        self.changing += 1
        self.runtime.update_settings({key: value})

    @rule(pick=PICK)
    def grant(self, pick: int) -> None:
        """The runtime has read what it got."""
        streams = [stream for stream, size in self.unread.items() if size]
        if streams:
            self._grant(streams[pick % len(streams)])

    def _grant(self, stream: int) -> None:
        self.runtime.acknowledge_received_data(self.unread.pop(stream), stream)

    # What must be

    @invariant()
    def nothing_is_wrong_so_far(self) -> None:
        """What each side has is the beginning of what the other sent, and calls are known until they are over."""
        for stream, call in self.calls.items():
            assert call.sent.startswith(call.arrived)
            assert call.answered.startswith(call.body)
            assert (stream in self.codec.streams) is not call.done

    def teardown(self) -> None:
        """Let everything run to its end, and look at what became of each call."""
        try:
            self._finish()
        finally:
            self.windows.stop()
            self.empty_frames.stop()

    def _finish(self) -> None:
        for call in self.calls.values():
            if call.stream is not None:
                self.codec.pause(call.stream, False)
                if call.growing:
                    self.codec.finish(call.stream)
        self._settle()
        self.change(SettingCodes.INITIAL_WINDOW_SIZE, 65_535)
        self._settle()
        while self._asked(0, lambda call: not call.begun):
            self.begin(0, True, None)
        while self._asked(0):
            self.end(0, True)
        self._settle()
        self.nothing_is_wrong_so_far()
        assert not self.codec.streams
        for call in self.calls.values():
            self._check(call)
        assert self.runtime.outbound_flow_control_window == self.codec._receive_window
        assert self.codec._receive_window >= WINDOWS["CONNECTION_WINDOW"] // 2

    def _place(self, call: Called) -> int:
        among = [
            each for key, each in self.calls.items() if key in self.runtime.streams and not each.over and each.begun
        ]
        return among.index(call)

    def _settle(self) -> None:
        moved = True
        while moved:
            self.to_runtime += self._taken()
            self.to_codec += self.runtime.data_to_send()
            moved = bool(self.to_runtime or self.to_codec)
            self.arrive(1 << 30)
            self.receive(1 << 30)
            for stream in [stream for stream, size in self.unread.items() if size]:
                self._grant(stream)

    def _check(self, call: Called) -> None:
        """A call ended once; where it ended well, each side has all of the other."""
        assert call.ends + call.reset == 1
        if call.end == "end":
            assert call.body == call.answered
        if call.end == "reset":
            assert call.fault or call.promised != -1
        if call.whole:
            assert call.arrived == call.sent


Http2Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


class TestHttp2(Http2Machine.TestCase):
    """Every call ends once, windows are kept, and one stream's errors are its own, in any order of frames."""
