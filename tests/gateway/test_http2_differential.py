"""Our HTTP/2 codec against the h2 library as a server: the same bytes of a client mean the same to both.

The bytes are what an h2 client says, with frames dropped, repeated, moved, changed and put in between. h2 gets them
frame by frame, our codec so and cut anywhere. Both sides answer, reset or ignore the same streams. Compared is, after
every frame: which streams were opened with what, the bodies, which requests ended and which were cancelled, RST_STREAM
and the connection's WINDOW_UPDATE that went out, and whether the connection broke, with which code.

`differences` says where we differ on purpose. A frame that is not complete is not compared: we refuse one that is too
large at its header, where h2 waits for all of it, and h2 one on a stream of the wrong kind.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import h2.stream
import pytest
from hyperframe.frame import (
    AltSvcFrame,
    ContinuationFrame,
    DataFrame,
    ExtensionFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import HealthCheck, currently_in_test_context, event, given, settings
from hypothesis import strategies as st

from inferbridge.bridge.errors import BridgeError
from inferbridge.gateway.application import RequestHead
from inferbridge.gateway.codecs.events import Event, ProtocolRefused, RequestData, RequestEnd, RequestOpened
from inferbridge.gateway.codecs.http1_head import Peer
from inferbridge.gateway.codecs.http2 import Http2Codec
from inferbridge.gateway.codecs.http2_head import RequestHeads
from inferbridge.gateway.limits import Limits
from inferbridge.http2 import frames
from inferbridge.http2.data import FRAME_SIZE
from inferbridge.http2.frames import PREFACE, ErrorCode

LIMITS = replace(Limits(), stream_window=30_000, connection_window=70_000)
ALTSVC = 0xA
ALIVE = -1
"""Instead of the code that a connection broke with."""
CODES = h2.errors.ErrorCodes


# What a client says


@dataclass
class Script:
    """What an h2 client says, as frames, and how both servers behave."""

    frames: list[bytes]
    policy: dict[int, str]
    acknowledges: bool


class Speaker:
    """An h2 client that is asked for one thing after another."""

    def __init__(self) -> None:
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(validate_outbound_headers=False))
        self.h2.initiate_connection()
        self.h2.clear_outbound_data_buffer()
        self.h2.max_outbound_frame_size = FRAME_SIZE
        self.open: list[int] = []

    def ask(self, number: int, end: bool, length: int | None) -> None:
        """A request; `number` makes its head another one."""
        stream = self.h2.get_next_available_stream_id()
        head = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", f"/{number % 3}")]
        more = [("te", "gzip" if number == 7 else "trailers"), ("x-n", str(number))]
        known = [] if length is None else [("content-length", str(length))]
        weight = 3 if number == 5 else None
        self.h2.send_headers(stream, [*head, *more, *known], end_stream=end, priority_weight=weight)
        if not end:
            self.open.append(stream)

    def say(self, number: int, end: bool, size: int | None) -> None:
        """More of a body."""
        if self.open:
            stream = self.open[number % len(self.open)]
            room = max(0, min(size or 0, self.h2.local_flow_control_window(stream) - 20))
            self.h2.send_data(stream, b"d" * room, end_stream=end, pad_length=5 if number == 5 else None)
            self._ended(stream, end)

    def trail(self, number: int, end: bool, size: int | None) -> None:
        """Trailers."""
        if self.open:
            stream = self.open[number % len(self.open)]
            self.h2.send_headers(stream, [(":x" if number == 7 else "x", "y")], end_stream=True)
            self._ended(stream, True)

    def _ended(self, stream: int, end: bool) -> None:
        if end:
            self.open.remove(stream)

    def reset(self, number: int, end: bool, size: int | None) -> None:
        """RST_STREAM."""
        if self.open:
            self.h2.reset_stream(self.open.pop(number % len(self.open)), CODES.CANCEL)

    def other(self, number: int, end: bool, size: int | None) -> None:
        """SETTINGS and PING."""
        self.h2.ping(b"12345678")
        if end:
            self.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: number * 1000})


NUMBERS = st.integers(0, 8)
SIZES = st.one_of(st.none(), st.integers(0, 30), st.sampled_from([500, 1500, 5000, 20_000]))
VERBS = st.sampled_from(["ask", "ask", "say", "say", "trail", "reset", "other"])
STEP = st.tuples(VERBS, NUMBERS, st.booleans(), SIZES)
IDS = st.sampled_from([*([1, 3, 5] * 6), 0, 2, 7, 15])
GET = b"\x83\x86\x84\x41\x01a"
BLOCKS = st.sampled_from([b"", GET, GET, GET, GET, b"\xff\xff\xff", b"\x3f\xe1\x1f", b"\xbe"])
FLAGS = st.lists(st.sampled_from(["END_STREAM", "END_HEADERS", "END_HEADERS"]), max_size=2)
SETTING = st.tuples(st.integers(1, 9), st.sampled_from([0, 1, 2, 100, 16_384, 2**31 - 1, 2**31]))
INCREMENT = st.sampled_from([1, 1000, 2**31 - 65_536, 2**31 - 1])
FOREIGN: st.SearchStrategy[Frame] = st.one_of(
    st.builds(lambda stream, block, flags: HeadersFrame(stream or 1, block, flags=flags), IDS, BLOCKS, FLAGS),
    st.builds(lambda stream, block: ContinuationFrame(stream or 1, block, flags=["END_HEADERS"]), IDS, BLOCKS),
    st.builds(
        lambda stream, size: DataFrame(stream or 1, b"x" * size), IDS, st.sampled_from([0, 1, 1000, 10_000, 33_000])
    ),
    st.builds(lambda stream: RstStreamFrame(stream or 1, error_code=8), IDS),
    st.builds(WindowUpdateFrame, IDS, INCREMENT),
    st.builds(lambda stream, on: PriorityFrame(stream or 1, depends_on=on), IDS, IDS),
    st.builds(lambda values: SettingsFrame(0, dict(values)), st.lists(SETTING, max_size=3)),
    st.builds(lambda code: GoAwayFrame(0, error_code=code), st.sampled_from([0, 0, 2])),
    st.builds(lambda flags: PingFrame(0, b"87654321", flags=flags), st.sampled_from([[], ["ACK"]])),
    st.builds(lambda stream: PushPromiseFrame(stream or 1, 2, b"", flags=["END_HEADERS"]), IDS),
    st.builds(lambda stream: ExtensionFrame(0x77, stream, flag_byte=255, body=b"what"), IDS),
    st.just(AltSvcFrame(0, b"o", b"f")),
)
CHANGE = st.tuples(
    st.sampled_from(["drop", "repeat", "repeat", "move", "type", "flags", "stream", "length", "payload"]),
    st.integers(0, 40),
    st.integers(0, 255),
)
INSERTED = st.tuples(st.integers(0, 40), FOREIGN.map(lambda frame: frame.serialize()))


def changed(said: list[bytes], kind: str, at: int, value: int) -> None:
    """Do something to the frames that a client in good faith does not do."""
    at %= len(said)
    frame = bytearray(said[at])
    if kind == "drop":
        said[at] = b""
    elif kind == "repeat":
        said.insert(value % (len(said) + 1), said[at])
    elif kind == "move":
        said.insert(value % len(said), said.pop(at))
    elif frame:
        place = {"type": 3, "flags": 4, "stream": 8, "length": 2}.get(kind, 9 + value % 40)
        if place < len(frame):
            frame[place] = value % 12 if kind in ("type", "stream") else value
        said[at] = bytes(frame)


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    """All of it."""
    speaker = Speaker()
    said = [PREFACE + frames.settings({})]
    for kind, number, end, size in draw(st.lists(STEP, max_size=12)):
        getattr(speaker, kind)(number, end, size)
        said += split(speaker.h2.data_to_send())
    rest = said[1:] or [b""]
    for change in draw(st.lists(CHANGE, max_size=3)):
        changed(rest, *change)
    for at, foreign in draw(st.lists(INSERTED, max_size=5)):
        rest.insert(at % (len(rest) + 1), foreign)
    said[1:] = rest
    policy = {stream: draw(st.sampled_from(["", "", "answer", "early", "reset"])) for stream in range(1, 30, 2)}
    return Script([said[0], *split(b"".join(said[1:]))], policy, draw(st.booleans()))


def split(data: bytes) -> list[bytes]:
    """Whole frames, as their lengths say, and what is left."""
    found = []
    while len(data) >= 9 and len(data) >= (size := 9 + int.from_bytes(data[:3])):
        found.append(data[:size])
        data = data[size:]
    return [*found, data] if data else found


def is_whole(data: bytes) -> bool:
    """Whether `data` is one frame, or the preface and one."""
    data = data.removeprefix(PREFACE)
    return len(data) >= 9 and len(data) == 9 + int.from_bytes(data[:3])


# What the servers make of it


@dataclass
class Seen:
    """One stream."""

    head: RequestHead | int
    """The status where the head was refused."""
    body: bytes = b""
    refused: bool = False
    ended: bool = False
    cancelled: bool = False


@dataclass
class Outcome:
    """All that is compared."""

    streams: dict[int, Seen] = field(default_factory=dict)
    resets: list[tuple[int, int]] = field(default_factory=list)
    granted: list[int] = field(default_factory=list)
    broken: int = ALIVE
    left: bool = False
    """The client has gone with an error."""

    def read(self, output: bytes) -> None:
        """What a server says."""
        for frame in split(output):
            kind, stream, payload = frame[3], int.from_bytes(frame[5:9]), frame[9:]
            if kind == frames.RST_STREAM:
                self.resets.append((stream, int.from_bytes(payload)))
            elif kind == frames.WINDOW_UPDATE and not stream:
                self.granted.append(int.from_bytes(payload))
            elif kind == frames.GOAWAY:
                self.broken = int.from_bytes(payload[4:8])


class Server:
    """One of the two, and what it does with its streams once a piece of input has been read."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.seen = Outcome()
        self.over: set[int] = set()
        """Streams that were answered or reset."""

    def behave(self) -> None:
        """Answer or reset what is to be answered or reset by now."""
        for stream, seen in self.seen.streams.items():
            policy = self.script.policy.get(stream, "")
            if policy and stream not in self.over and not seen.cancelled and (policy != "answer" or seen.ended):
                self.over.add(stream)
                (self.reset if policy == "reset" else self.answer)(stream)

    def reset(self, stream: int) -> None:
        """RST_STREAM."""
        raise NotImplementedError

    def answer(self, stream: int) -> None:
        """A head that ends the stream, whether the request has ended or not."""
        raise NotImplementedError


class Ours(Server):
    """Our codec."""

    def __init__(self, script: Script) -> None:
        super().__init__(script)
        self.codec = Http2Codec(LIMITS)
        self.codec.take_output()

    def feed(self, data: bytes) -> None:
        """Some bytes."""
        for one in self.codec.receive(data):
            self._take(one)
        self.behave()
        self.seen.read(self.codec.take_output())
        self.seen.left = self.codec._closing and self.seen.broken == ALIVE

    def _take(self, one: Event) -> None:
        streams = self.seen.streams
        if isinstance(one, RequestOpened):
            streams[one.stream] = Seen(one.head)
        elif isinstance(one, ProtocolRefused):
            streams.setdefault(one.stream, Seen(one.error.status or 400)).refused = True
        elif isinstance(one, RequestData):
            streams[one.stream].body += bytes(one.data)
            if self.script.acknowledges:
                self.codec.acknowledge(one.stream, one.credit)
        elif isinstance(one, RequestEnd):
            streams[one.stream].ended = True
        else:
            streams[one.stream].cancelled = True

    def reset(self, stream: int) -> None:
        """RST_STREAM."""
        self.codec.reset(stream)

    def answer(self, stream: int) -> None:
        """A head that ends the stream."""
        self.codec.send_whole(stream, 200, (), ())


class Theirs(Server):
    """h2, and what our codec adds to it: which heads it refuses, and that a request is as long as it says."""

    def __init__(self, script: Script) -> None:
        super().__init__(script)
        self.heads = RequestHeads(LIMITS, Peer())
        configuration = h2.config.H2Configuration(
            client_side=False, validate_inbound_headers=False, normalize_inbound_headers=False
        )
        self.h2 = h2.connection.H2Connection(configuration)
        codes = h2.settings.SettingCodes
        self.h2.local_settings = h2.settings.Settings(
            client=False,
            initial_values={
                codes.INITIAL_WINDOW_SIZE: LIMITS.stream_window,
                codes.MAX_CONCURRENT_STREAMS: 1000,
                codes.MAX_FRAME_SIZE: FRAME_SIZE,
            },
        )
        self.h2.max_inbound_frame_size = FRAME_SIZE
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(LIMITS.connection_window - 65_535)
        self.h2.clear_outbound_data_buffer()
        self.missing: dict[int, int | None] = {}

    def feed(self, data: bytes) -> None:
        """One frame."""
        try:
            for one in self.h2.receive_data(data):
                self._take(one)
        except h2.exceptions.ProtocolError:
            self._break()
        else:
            self.behave()
        self.seen.read(self.h2.data_to_send())

    def _break(self) -> None:
        for stream, seen in self.seen.streams.items():
            seen.cancelled = seen.cancelled or stream not in self.over

    def _take(self, one: h2.events.Event) -> None:
        if isinstance(one, h2.events.RequestReceived):
            self._open(one.stream_id, tuple(one.headers))
        elif isinstance(one, h2.events.DataReceived):
            self._data(one, self.seen.streams[one.stream_id])
        elif isinstance(one, h2.events.TrailersReceived):
            seen = self.seen.streams[one.stream_id]
            seen.refused = seen.refused or any(name.startswith(b":") for name, _ in one.headers)
        elif isinstance(one, h2.events.StreamEnded):
            seen = self.seen.streams[one.stream_id]
            seen.refused = seen.refused or bool(self.missing.get(one.stream_id))
            seen.ended = not seen.refused
        elif isinstance(one, h2.events.StreamReset):
            self.seen.streams[one.stream_id].cancelled = True
        elif isinstance(one, h2.events.ConnectionTerminated):
            self.h2.state_machine.state = h2.connection.ConnectionState.SERVER_OPEN
            if one.error_code:
                self.seen.left = True
                self._break()

    def _open(self, stream: int, fields: tuple[tuple[bytes, bytes], ...]) -> None:
        try:
            request = self.heads.read(fields)
        except BridgeError as error:
            self.seen.streams[stream] = Seen(error.status or 400, refused=True)
        else:
            self.seen.streams[stream] = Seen(request.head)
            self.missing[stream] = request.length

    def _data(self, one: h2.events.DataReceived, seen: Seen) -> None:
        if not seen.refused:
            seen.body += one.data
        if (missing := self.missing.get(one.stream_id)) is not None:
            self.missing[one.stream_id] = missing - len(one.data)
        # what nobody hears of is granted again at once
        if self.script.acknowledges or seen.refused or not one.data:
            self.h2.acknowledge_received_data(one.flow_controlled_length, one.stream_id)

    def reset(self, stream: int) -> None:
        """RST_STREAM."""
        self.h2.reset_stream(stream, CODES.INTERNAL_ERROR)

    def answer(self, stream: int) -> None:
        """A head that ends the stream."""
        receiving = self.h2.streams[stream].state_machine.state == h2.stream.StreamState.OPEN
        self.h2.send_headers(stream, [(":status", "200")], end_stream=True)
        if receiving:
            self.h2.reset_stream(stream, CODES.NO_ERROR)


# Where they differ


def differences(frame: bytes, ours: int, theirs: int) -> Iterator[str]:
    """The reasons for which a frame may mean something else to us, by the codes that it broke the connections with."""
    kind, flags = frame[3], frame[4]
    if kind == frames.RST_STREAM and (ours, theirs) == (ErrorCode.PROTOCOL_ERROR, ALIVE):
        yield "RST_STREAM of an idle stream ends the connection (RFC 9113 section 6.4); h2 ignores it"
    if kind == frames.HEADERS and (ours, theirs) == (ErrorCode.STREAM_CLOSED, ErrorCode.PROTOCOL_ERROR):
        yield "an id that was skipped is closed (5.1.1), so STREAM_CLOSED; h2 remembers which ids were never used"
    if (ours, theirs) == (ErrorCode.COMPRESSION_ERROR, ErrorCode.PROTOCOL_ERROR):
        yield "a header block that cannot be decoded is a COMPRESSION_ERROR (4.3); to h2 a PROTOCOL_ERROR"
    if kind == frames.CONTINUATION and ours == ErrorCode.PROTOCOL_ERROR:
        yield "CONTINUATION of nothing ends the connection (6.10); h2 may reset its stream, or say STREAM_CLOSED"
    if kind == frames.PUSH_PROMISE and ours == ErrorCode.PROTOCOL_ERROR:
        yield "a push by a client ends the connection (8.4); h2 reads it first, and waits for its CONTINUATION"
    if (ours, theirs) == (ErrorCode.PROTOCOL_ERROR, ErrorCode.FRAME_SIZE_ERROR):
        yield "what interrupts a header block ends the connection (4.3); h2 reads it first"
    if kind == ALTSVC and ours == ALIVE:
        yield "ALTSVC means nothing to a server (RFC 7838 section 4); h2 reads it"
    if kind == frames.SETTINGS and flags & frames.ACK and ours == ErrorCode.FRAME_SIZE_ERROR:
        yield "an acknowledgement that says something is a FRAME_SIZE_ERROR (6.5); to h2 a PROTOCOL_ERROR"
    if kind == frames.SETTINGS and (ours, theirs) == (ALIVE, ErrorCode.FLOW_CONTROL_ERROR):
        yield "SETTINGS do not overflow the windows of streams that are over; h2 still has those"
    if kind == frames.WINDOW_UPDATE and frame[9] >= 0x80:
        yield "the reserved bit of a WINDOW_UPDATE is ignored (6.9); to h2 the increment is too large"
    if kind == frames.HEADERS and flags & frames.PRIORITISED and ours == ErrorCode.PROTOCOL_ERROR:
        yield "HEADERS that make a stream depend on itself end the connection, even where h2 would reset the stream"


def outcome(ours: Ours, said: Iterator[bytes] | list[bytes]) -> Outcome:
    """What our codec makes of some pieces."""
    for piece in said:
        ours.feed(piece)
    return ours.seen


def block(stream: int, *, end: bool, data: bytes = GET) -> HeadersFrame:
    """A whole header block."""
    return HeadersFrame(stream, data, flags=["END_HEADERS", "END_STREAM"] if end else ["END_HEADERS"])


def body(stream: int, size: int = 1, *, end: bool = False) -> DataFrame:
    """DATA."""
    return DataFrame(stream, b"x" * size, flags=["END_STREAM"] if end else [])


TRAILERS = b"\0\1x\1y"
LATE: dict[str, list[Frame]] = {
    "DATA": [body(1), body(1)],
    "DATA that ends": [body(1, end=True), body(1, end=True)],
    "trailers": [block(1, end=True, data=TRAILERS)] * 2,
    "trailers that do not end": [block(1, end=False, data=TRAILERS)],
    "trailers that are a head": [block(1, end=True)],
    "RST_STREAM": [RstStreamFrame(1, error_code=8)] * 2,
    "WINDOW_UPDATE": [WindowUpdateFrame(1, 1)],
    "WINDOW_UPDATE that is too much": [WindowUpdateFrame(1, 2**31 - 1), body(1)],
    "PRIORITY": [PriorityFrame(1, depends_on=3)],
    "all of a window, and more": [body(1, 30_000), body(1)],
    "all of the connection's window": [body(1, 10_000) for _ in range(7)] + [body(1), body(1)],
    "more than the connection's window": [
        frame for stream in range(3, 80, 2) for frame in (block(stream, end=False), body(stream, 2000))
    ],
}


@pytest.mark.parametrize("acknowledges", [False, True], ids=["held", "consumed"])
@pytest.mark.parametrize("policy", ["", "answer", "early", "reset"])
@pytest.mark.parametrize("end", [False, True], ids=["open", "ended"])
@pytest.mark.parametrize("late", LATE.values(), ids=LATE)
def test_agrees_with_h2_on_what_comes_late(late: list[Frame], end: bool, policy: str, acknowledges: bool) -> None:
    """A frame more for a stream in each of its states: both servers say the same, and the next call is the same."""
    said = [block(1, end=end), *late, block(1001, end=True)]
    greeting = PREFACE + frames.settings({})
    compare(Script([greeting, *(frame.serialize() for frame in said)], {1: policy}, acknowledges))


def told(what: str) -> None:
    """For the statistics of a property."""
    if currently_in_test_context():
        event(what)


def compare(script: Script) -> None:
    """Let both servers have all frames, up to the first of which they make different things on purpose."""
    ours, theirs = Ours(script), Theirs(script)
    for frame in filter(is_whole, script.frames):
        ours.feed(frame)
        theirs.feed(frame)
        if ours.seen != theirs.seen:
            reason = next(differences(frame, ours.seen.broken, theirs.seen.broken), "")
            assert reason, (frame, ours.seen, theirs.seen)
            told(f"differs: {reason}")
            return
        if ours.seen.broken != ALIVE or ours.seen.left:
            told(f"broken: {ours.seen.broken}")
            return
    told("lives")


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(scripts())
def test_agrees_with_h2(script: Script) -> None:
    """Frame by frame, both servers have seen the same streams, said the same, and live or broke alike."""
    compare(script)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(scripts(), st.lists(st.integers(0, 100_000), max_size=12))
def test_cuts_do_not_matter(script: Script, cuts: list[int]) -> None:
    """Bytes that are cut anywhere mean what they mean frame by frame; a broken connection begins nothing more."""
    script = replace(script, policy={}, acknowledges=False)
    whole = b"".join(script.frames)
    places = sorted({0, len(whole), *(cut % (len(whole) + 1) for cut in cuts)})
    by_frame = outcome(Ours(script), script.frames)
    cut = outcome(Ours(script), [whole[start:stop] for start, stop in pairwise(places)])
    assert (cut.broken, cut.left) == (by_frame.broken, by_frame.left)
    if cut.broken == ALIVE:
        assert cut == by_frame
    for stream, seen in cut.streams.items():
        assert by_frame.streams[stream].body.startswith(seen.body)
