"""The HTTP/2 codec against the `h2` library, without sockets."""

import contextlib
import struct
from itertools import pairwise

import pytest
from h2.events import PingAckReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes
from hypothesis import given, settings
from hypothesis import strategies as st

from inferbridge.http2 import frames
from inferbridge.http2.frames import ErrorCode, ProtocolViolation, frame_header
from inferbridge.http2.literals import encode_fields
from inferbridge.upstream.http2_codec import CONNECTION_WINDOW, MAX_STREAM_WINDOW, STREAM_WINDOW, Http2Codec
from upstream.h2_peer import BLOCK, HEAD, TRAILERS, Link, StreamRecorder

ANSWER = [("head", 200, (("content-type", "application/grpc"),)), ("end", (("grpc-status", "0"), ("grpc-message", "")))]


def test_a_request_arrives_as_sent_and_its_answer_comes_back() -> None:
    """Headers and body reach an HTTP/2 server; head, data and trailers of its answer reach the handler."""
    link = Link()
    stream, recorder = link.open([b"hello ", memoryview(b"world")])
    assert dict(link.request_headers(1)) == {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/pkg.Service/Method",
        ":authority": "peer:1",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    assert link.request_body(1) == b"hello world"
    assert any(isinstance(event, StreamEnded) for event in link.events)
    link.answer(stream.id)
    assert recorder.log == ANSWER
    assert recorder.body == b"reply"
    assert not link.codec.streams


def test_trailers_only_is_a_head_and_an_end() -> None:
    """HEADERS with END_STREAM, as gRPC servers answer errors, is delivered as on_head and on_end(())."""
    link = Link()
    stream, recorder = link.open()
    link.peer.send_headers(stream.id, [*HEAD, ("grpc-status", "5")], end_stream=True)
    link.exchange()
    assert recorder.log == [("head", 200, (("content-type", "application/grpc"), ("grpc-status", "5"))), ("end", ())]


def test_informational_answers_are_skipped() -> None:
    """A 103 before the answer is not taken for the answer."""
    link = Link()
    stream, recorder = link.open()
    link.peer.send_headers(stream.id, [(":status", "103"), ("link", "</x>")])
    link.answer(stream.id)
    assert recorder.log == ANSWER


def _conversation() -> bytes:
    """What a server sends in a conversation with every frame there is, for streams 1, 3 and 5."""
    link = Link()
    received = bytearray()
    take = link.codec.receive

    def record(data: bytes) -> None:
        received.extend(data)
        take(data)

    link.codec.receive = record  # type: ignore[method-assign]
    link.peer.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 50})
    for _ in range(3):
        link.open([b"x"])
    link.peer.ping(b"12345678")
    link.peer.send_headers(3, [(":status", "200"), ("content-length", "10000")])
    link.peer.send_data(3, b"a" * 3000, pad_length=7)
    link.answer(1, b"")
    link.peer.send_data(3, b"b" * 7000, pad_length=0, end_stream=True)
    link.peer.reset_stream(5, ErrorCode.REFUSED_STREAM)
    link.peer.close_connection()
    link.exchange()
    return bytes(received)


CONVERSATION = frames.settings({}) + _conversation()


def _replay(pieces: list[bytes]) -> tuple[list[list[tuple[object, ...]]], list[bytes], bytes]:
    codec = Http2Codec(65_536)
    codec.ready = True
    recorders = [StreamRecorder() for _ in range(3)]
    for recorder in recorders:
        codec.open(BLOCK, [b"x"], recorder)
    codec.output.clear()
    for piece in pieces:
        codec.receive(piece)
    return [each.log for each in recorders], [each.body for each in recorders], b"".join(codec.output)


WHOLE = _replay([CONVERSATION])


def test_the_conversation_means_what_it_should() -> None:
    """The conversation used for the splitting test has the results one reads in it."""
    logs, bodies, _ = WHOLE
    assert logs[0] == ANSWER
    assert logs[1] == [("head", 200, (("content-length", "10000"),)), ("end", ())]
    assert logs[2] == [("reset", ErrorCode.REFUSED_STREAM)]
    assert bodies == [b"", b"a" * 3000 + b"b" * 7000, b""]


@given(cuts=st.lists(st.integers(0, len(CONVERSATION)), max_size=40))
@settings(max_examples=100, deadline=None)
def test_how_bytes_are_split_makes_no_difference(cuts: list[int]) -> None:
    """Handlers hear the same and the peer is sent the same wherever TCP cuts the server's bytes."""
    edges = [0, *sorted(cuts), len(CONVERSATION)]
    assert _replay([CONVERSATION[a:b] for a, b in pairwise(edges)]) == WHOLE


def test_single_bytes_make_no_difference() -> None:
    """The server's bytes may come one at a time."""
    assert _replay([CONVERSATION[i : i + 1] for i in range(len(CONVERSATION))]) == WHOLE


@given(
    lengths=st.lists(st.integers(0, 40_000), min_size=1, max_size=12),
    window=st.integers(1, 70_000),
    frame_size=st.integers(16_384, 40_000),
)
@settings(max_examples=60, deadline=None)
def test_the_peers_windows_are_respected(lengths: list[int], window: int, frame_size: int) -> None:
    """A body of any chunks arrives whole through windows of any size; h2 raises at one byte too many."""
    link = Link({SettingCodes.INITIAL_WINDOW_SIZE: max(window, 200), SettingCodes.MAX_FRAME_SIZE: frame_size})
    chunks = [bytes([i % 251]) * length for i, length in enumerate(lengths)]
    stream, _ = link.open(chunks)
    assert link.request_body(stream.id) == b"".join(chunks)
    assert stream.pending is None


def test_streams_share_the_connection_window_in_turn() -> None:
    """A large body does not keep the window to itself: one opened after it gets its share of what is granted."""
    link = Link({SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20})
    link.acknowledge = False
    first, _ = link.open([b"a" * 500_000])
    second, _ = link.open([b"b" * 500_000])
    assert (len(link.request_body(first.id)), len(link.request_body(second.id))) == (65_535, 0)
    link.peer.increment_flow_control_window(4 * 16_384)
    link.exchange()
    assert len(link.request_body(first.id)) == 65_535 + 2 * 16_384
    assert len(link.request_body(second.id)) == 2 * 16_384


def test_a_smaller_initial_window_takes_effect_on_open_streams() -> None:
    """SETTINGS_INITIAL_WINDOW_SIZE changes the window of streams already open, below zero if need be."""
    link = Link({SettingCodes.INITIAL_WINDOW_SIZE: 1000})
    link.acknowledge = False
    stream, _ = link.open([b"a" * 3000])
    link.peer.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 400})
    link.exchange()
    assert stream.send_window == -600
    link.peer.increment_flow_control_window(700, stream.id)
    link.exchange()
    assert len(link.request_body(stream.id)) == 1100


def test_chunks_are_sent_without_a_copy() -> None:
    """A large chunk stands in `output` itself, or as views of it, not as a copy."""
    codec = Http2Codec(65_536)
    codec.receive(
        frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 30, frames.MAX_FRAME_SIZE: 1 << 22})
        + frames.window_update(0, 1 << 30)
    )
    chunk = bytes(1 << 21)
    codec.open(BLOCK, [b"prefix", chunk], StreamRecorder())
    assert any(piece is chunk for piece in codec.output)
    big = bytes(1 << 23)
    codec.open(BLOCK, [big], StreamRecorder())
    views = [piece for piece in codec.output if isinstance(piece, memoryview)]
    assert [view.obj is big for view in views] == [True, True]


def test_our_windows_are_granted_again() -> None:
    """A server never stalls on a receiver that keeps up: 100 MB pass through a 64 MiB connection window."""
    link = Link()
    stream, recorder = link.open()
    link.peer.send_headers(stream.id, HEAD)
    for _ in range(800):
        link.peer.send_data(stream.id, bytes(STREAM_WINDOW // 2 + 1))
        link.exchange()
        recorder.body = b""
    assert link.peer.local_flow_control_window(stream.id) > 1 << 20


def _messages(*payloads: bytes, stream_id: int = 1) -> bytes:
    return b"".join(frame_header(len(each), frames.DATA, 0, stream_id) + each for each in payloads)


def _answering(streams: int = 1) -> tuple[Link, list[StreamRecorder]]:
    """Streams whose answers have begun."""
    link = Link()
    opened = [link.open() for _ in range(streams)]
    for stream, _ in opened:
        link.peer.send_headers(stream.id, HEAD)
    link.exchange()
    return link, [recorder for _, recorder in opened]


def test_small_frames_that_arrive_together_are_one_piece() -> None:
    """Messages of a stream that came in one read are delivered at once, and the order between streams is kept."""
    link, (first, second) = _answering(streams=2)
    link.codec.receive(_messages(b"a", b"b", b"") + _messages(b"x", stream_id=3) + _messages(b"c", b"d")[:-1])
    assert (first.pieces, second.pieces) == ([b"ab", b"c"], [b"x"])
    link.codec.receive(b"d")
    assert first.body == b"abcd"


def test_small_frames_use_up_the_windows_and_are_granted_again() -> None:
    """What arrives as many small frames counts as what arrives as few large ones does."""
    link, (recorder,) = _answering()
    half = STREAM_WINDOW // 2
    link.codec.receive(_messages(*[bytes(4096)] * (half // 4096)))
    assert not link.codec.output
    link.codec.receive(_messages(b"a"))
    assert b"".join(link.codec.output) == frames.window_update(1, STREAM_WINDOW + half + 1)
    assert len(recorder.body) == half + 1
    link.codec.streams[1].receive_window = 10
    with pytest.raises(ProtocolViolation) as caught:
        link.codec.receive(_messages(b"12345", b"678901"))
    assert caught.value.code is ErrorCode.FLOW_CONTROL_ERROR


def _taken(link: Link) -> int:
    """Bytes that a runtime may send on stream 1 before it has to wait, all of which it sends."""
    sent = 0
    while link.codec.streams[1].receive_window >= 4096:
        before = link.codec.streams[1].receive_window
        link.codec.receive(_messages(bytes(4096)))
        sent += 4096
        if link.codec.streams[1].receive_window > before:
            break
    return sent


def test_the_window_of_a_stream_grows_as_it_is_taken() -> None:
    """It doubles with each grant up to its maximum; after a pause it is small again, and nothing is taken back."""
    link, _ = _answering()
    windows = []
    for _ in range(5):
        _taken(link)
        windows.append(link.codec.streams[1].receive_window)
    assert windows == [2 * STREAM_WINDOW, 4 * STREAM_WINDOW, *[MAX_STREAM_WINDOW] * 3]
    link.codec.pause(link.codec.streams[1], True)
    assert _taken(link) == MAX_STREAM_WINDOW
    link.codec.pause(link.codec.streams[1], False)
    assert link.codec.streams[1].receive_window == 2 * STREAM_WINDOW


def test_a_paused_stream_holds_no_more_than_its_first_window() -> None:
    """What a client that takes nothing makes us hold is what the runtime may send at first."""
    link, (recorder,) = _answering()
    link.codec.pause(link.codec.streams[1], True)
    assert _taken(link) == len(recorder.body) == STREAM_WINDOW


def test_data_of_a_cancelled_stream_is_granted_again() -> None:
    """What arrives for a stream we reset counts for the connection window and is granted again."""
    codec = Http2Codec(65_536)
    codec.receive(frames.settings({}))
    stream = codec.open(BLOCK, [], StreamRecorder())
    codec.reset(stream)
    codec.output.clear()
    piece = frame_header(1 << 20, frames.DATA, 0, stream.id) + bytes(1 << 20)
    for _ in range(33):
        codec.receive(piece)
    assert b"".join(codec.output) == frames.window_update(0, 33 << 20)
    assert CONNECTION_WINDOW >= 33 << 20


def test_data_beyond_our_window_is_a_violation() -> None:
    """A server that ignores our stream window loses the connection."""
    codec = Http2Codec(65_536)
    codec.receive(frames.settings({}))
    codec.open(BLOCK, [], StreamRecorder()).receive_window = 10
    with pytest.raises(ProtocolViolation) as caught:
        codec.receive(frame_header(11, frames.DATA, 0, 1) + bytes(11))
    assert caught.value.code is ErrorCode.FLOW_CONTROL_ERROR


def test_concurrent_streams_are_limited_by_the_peer() -> None:
    """`can_open` follows SETTINGS_MAX_CONCURRENT_STREAMS and the streams that end."""
    link = Link({SettingCodes.MAX_CONCURRENT_STREAMS: 2})
    first, _ = link.open()
    assert link.codec.can_open()
    link.open()
    assert not link.codec.can_open()
    link.answer(first.id)
    assert link.codec.can_open()


def test_nothing_opens_before_the_peers_settings() -> None:
    """A connection whose limits are unknown takes no streams."""
    assert not Http2Codec(65_536).can_open()


def test_goaway_lets_older_streams_finish_and_hands_back_newer_ones() -> None:
    """Streams up to GOAWAY's last id get their answer, later ones are told that they were not looked at."""
    link = Link()
    old, old_recorder = link.open()
    _, new_recorder = link.open()
    link.codec.receive(frame_header(8, frames.GOAWAY, 0, 0) + struct.pack(">LL", 1, 0))
    assert new_recorder.log == [("unprocessed",)]
    assert link.codec.draining
    assert not link.codec.can_open()
    link.answer(old.id)
    assert old_recorder.log == ANSWER


def test_used_up_stream_ids_end_the_connection() -> None:
    """The last stream id is used, and then the connection takes no more."""
    codec = Http2Codec(65_536)
    codec.receive(frames.settings({}))
    codec._next_id = frames.LAST_STREAM_ID
    assert codec.can_open()
    codec.open(BLOCK, [], StreamRecorder())
    assert codec.draining


def test_reset_reaches_the_peer_and_silences_the_stream() -> None:
    """`reset` sends RST_STREAM (CANCEL), and what was on the way is dropped."""
    link = Link()
    stream, recorder = link.open()
    link.codec.reset(stream)
    link.codec.reset(stream)
    link.peer.send_headers(stream.id, HEAD)
    link.peer.send_data(stream.id, b"late")
    link.exchange()
    resets = [event for event in link.events if isinstance(event, StreamReset)]
    assert [(event.stream_id, event.error_code) for event in resets] == [(stream.id, ErrorCode.CANCEL)]
    assert recorder.log == []


def test_an_answer_before_the_request_is_through_stops_the_request() -> None:
    """When the server has answered without reading everything, the rest of the body is not sent."""
    link = Link({SettingCodes.INITIAL_WINDOW_SIZE: 100})
    link.acknowledge = False
    stream, recorder = link.open([b"x" * 1000])
    link.answer(stream.id)
    assert recorder.log == ANSWER
    resets = [event for event in link.events if isinstance(event, StreamReset)]
    assert [event.error_code for event in resets] == [ErrorCode.NO_ERROR]
    assert not link.codec._blocked


def test_long_header_blocks_continue_in_both_directions() -> None:
    """A block larger than a frame is sent and read as HEADERS and CONTINUATION."""
    link = Link()
    fields = [(b"x-long-%d" % i, b"v" * 5000) for i in range(8)]
    recorder = StreamRecorder()
    link.codec.open(BLOCK + encode_fields(fields), [], recorder)
    link.exchange()
    received = dict(link.request_headers(1))
    assert all(received[name.decode()] == value.decode() for name, value in fields)
    block = encode_fields([(b":status", b"200"), *fields])
    link.codec.receive(frames.headers(1, block, True, 1000))
    assert recorder.log == [
        ("head", 200, tuple((name.decode(), value.decode()) for name, value in fields)),
        ("end", ()),
    ]


def test_padding_and_priority_of_headers_are_removed() -> None:
    """HEADERS may carry padding and a priority, which are not part of the block."""
    codec = Http2Codec(65_536)
    codec.receive(frames.settings({}))
    recorder = StreamRecorder()
    codec.open(BLOCK, [], recorder)
    block = encode_fields([(b":status", b"204")])
    payload = b"\x03" + b"\0\0\0\0\x10" + block + bytes(3)
    flags = frames.PADDED | frames.PRIORITISED | frames.END_HEADERS | frames.END_STREAM
    codec.receive(frame_header(len(payload), frames.HEADERS, flags, 1) + payload)
    assert recorder.log == [("head", 204, ()), ("end", ())]


def test_priority_and_unknown_frames_are_ignored() -> None:
    """PRIORITY and frames of unknown type change nothing."""
    link = Link()
    stream, recorder = link.open()
    link.codec.receive(frame_header(5, frames.PRIORITY, 0, stream.id) + bytes(5))
    link.codec.receive(frame_header(3, 0xBE, 0xFF, stream.id) + b"abc")
    link.answer(stream.id)
    assert recorder.log == ANSWER


def test_ping_is_answered() -> None:
    """A PING comes back with its eight bytes; an acknowledgement does not."""
    link = Link()
    link.peer.ping(b"01234567")
    link.exchange()
    assert [event.ping_data for event in link.events if isinstance(event, PingAckReceived)] == [b"01234567"]
    link.codec.receive(frame_header(8, frames.PING, frames.ACK, 0) + bytes(8))
    assert link.codec.output == []


STATUS = encode_fields([(b":status", b"200")])


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame_header(4, frames.PUSH_PROMISE, frames.END_HEADERS, 1) + bytes(4), ErrorCode.PROTOCOL_ERROR),
        (frame_header(0, frames.DATA, 0, 0), ErrorCode.PROTOCOL_ERROR),
        (frame_header(0, frames.DATA, 0, 3), ErrorCode.PROTOCOL_ERROR),
        (frame_header(0, frames.DATA, 0, 2), ErrorCode.PROTOCOL_ERROR),
        (frame_header(0, frames.DATA, frames.PADDED, 1), ErrorCode.PROTOCOL_ERROR),
        (frame_header(2, frames.DATA, frames.PADDED, 1) + b"\x02\0", ErrorCode.PROTOCOL_ERROR),
        (frame_header((1 << 20) + 1, frames.DATA, 0, 1), ErrorCode.FRAME_SIZE_ERROR),
        (frames.headers(3, STATUS, True, 16_384), ErrorCode.PROTOCOL_ERROR),
        (frame_header(1, frames.HEADERS, frames.END_HEADERS, 1) + b"\xff", ErrorCode.COMPRESSION_ERROR),
        (frame_header(1, frames.HEADERS, frames.PADDED, 1) + b"\x05", ErrorCode.PROTOCOL_ERROR),
        (frame_header(1 << 17, frames.HEADERS, 0, 1), ErrorCode.ENHANCE_YOUR_CALM),
        (frame_header(0, frames.CONTINUATION, 0, 1), ErrorCode.PROTOCOL_ERROR),
        (frame_header(0, frames.HEADERS, 0, 1) + frames.ping_ack(bytes(8)), ErrorCode.PROTOCOL_ERROR),
        (frame_header(0, frames.HEADERS, 0, 1) + frame_header(0, frames.DATA, 0, 1), ErrorCode.PROTOCOL_ERROR),
        (
            frame_header(0, frames.HEADERS, 0, 1) + frame_header(0, frames.CONTINUATION, 0, 1) * 3000,
            ErrorCode.ENHANCE_YOUR_CALM,
        ),
        (frame_header(3, frames.RST_STREAM, 0, 1) + bytes(3), ErrorCode.FRAME_SIZE_ERROR),
        (frames.rst_stream(7, 0), ErrorCode.PROTOCOL_ERROR),
        (frame_header(7, frames.PING, 0, 0) + bytes(7), ErrorCode.FRAME_SIZE_ERROR),
        (frame_header(8, frames.PING, 0, 1) + bytes(8), ErrorCode.PROTOCOL_ERROR),
        (frame_header(4, frames.GOAWAY, 0, 0) + bytes(4), ErrorCode.FRAME_SIZE_ERROR),
        (frame_header(5, frames.SETTINGS, 0, 0) + bytes(5), ErrorCode.FRAME_SIZE_ERROR),
        (frame_header(6, frames.SETTINGS, frames.ACK, 0) + bytes(6), ErrorCode.FRAME_SIZE_ERROR),
        (frame_header(0, frames.SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR),
        (frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 31}), ErrorCode.FLOW_CONTROL_ERROR),
        (frames.settings({frames.MAX_FRAME_SIZE: 100}), ErrorCode.PROTOCOL_ERROR),
        (frames.settings({frames.ENABLE_PUSH: 1}), ErrorCode.PROTOCOL_ERROR),
        (frames.window_update(0, 0), ErrorCode.FLOW_CONTROL_ERROR),
        (frames.window_update(0, frames.MAX_WINDOW), ErrorCode.FLOW_CONTROL_ERROR),
        (frame_header(1 << 20, frames.PING, 0, 0), ErrorCode.FRAME_SIZE_ERROR),
    ],
)
def test_violations_end_the_connection(sent: bytes, code: ErrorCode) -> None:
    """Each way to break the protocol raises ProtocolViolation with the error code of RFC 9113."""
    codec = Http2Codec(65_536)
    codec.receive(frames.settings({}))
    codec.open(BLOCK, [], StreamRecorder())
    with pytest.raises(ProtocolViolation) as caught:
        codec.receive(sent)
    assert caught.value.code is code


def test_a_server_that_is_not_http2_is_told_from_one_that_is() -> None:
    """An HTTP/1.1 answer to our preface is a violation that says what may be wrong."""
    with pytest.raises(ProtocolViolation, match="no HTTP/2 server"):
        Http2Codec(65_536).receive(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n")


def _head(*fields: tuple[bytes, bytes], ends: bool = False) -> bytes:
    return frames.headers(1, encode_fields(list(fields)), ends, 16_384)


OK = (b":status", b"200")


@pytest.mark.parametrize(
    "sent",
    [
        frame_header(1, frames.DATA, 0, 1) + b"x",
        frame_header(0, frames.DATA, frames.END_STREAM, 1),
        _head((b"x", b"y")),
        _head((b":status", b"20")),
        _head(OK, OK),
        _head((b"x", b"y"), OK),
        _head((b":status", b"101")),
        _head((b":status", b"100"), ends=True),
        _head(OK, (b"Upper", b"x")),
        _head(OK, (b"x", b"a\r\nb: c")),
        _head(OK, (b"x y", b"")),
        _head(OK, (b"content-length", b"1"), (b"content-length", b"2")),
        _head(OK, (b"content-length", b"-1")),
        _head(OK) + _head((b"x", b"y")),
        _head(OK) + _head(OK, ends=True),
        _head(OK, (b"content-length", b"3")) + frame_header(4, frames.DATA, 0, 1) + b"abcd",
        _head(OK, (b"content-length", b"3")) + frame_header(2, frames.DATA, frames.END_STREAM, 1) + b"ab",
        frames.window_update(1, 0),
        frames.window_update(1, frames.MAX_WINDOW),
    ],
)
def test_malformed_answers_end_their_stream_only(sent: bytes) -> None:
    """An answer that breaks HTTP's rules resets its stream with PROTOCOL_ERROR; the connection goes on."""
    codec = Http2Codec(65_536)
    codec.receive(frames.settings({}))
    recorder, other = StreamRecorder(), StreamRecorder()
    codec.open(BLOCK, [], recorder)
    codec.open(BLOCK, [], other)
    codec.output.clear()
    codec.receive(sent)
    assert recorder.log[-1] == ("reset", ErrorCode.PROTOCOL_ERROR)
    assert b"".join(codec.output) == frames.rst_stream(1, ErrorCode.PROTOCOL_ERROR)
    codec.receive(frames.headers(3, STATUS, True, 16_384))
    assert other.log == [("head", 200, ()), ("end", ())]


_frames = st.builds(
    lambda kind, flags, stream_id, payload: frame_header(len(payload), kind, flags, stream_id) + payload,
    st.integers(0, 11),
    st.sampled_from([0, 1, 4, 5, 8, 9, 0x0D, 0x20, 0x2C, 0xFF]),
    st.sampled_from([0, 1, 2, 3, 5]),
    st.one_of(st.binary(max_size=20), st.just(STATUS), st.just(encode_fields([(b"grpc-status", b"0")]))),
)


@given(sent=st.lists(_frames, max_size=12), tail=st.binary(max_size=30))
@settings(max_examples=200, deadline=None)
def test_no_bytes_crash_the_codec(sent: list[bytes], tail: bytes) -> None:
    """Whatever a server sends, the codec goes on or raises ProtocolViolation; each handler hears at most one end."""
    codec = Http2Codec(65_536)
    codec.receive(frames.settings({}))
    recorders = [StreamRecorder(), StreamRecorder()]
    for recorder in recorders:
        codec.open(BLOCK, [b"x" * 100_000], recorder)
    with contextlib.suppress(ProtocolViolation):
        codec.receive(b"".join(sent) + tail)
    for recorder in recorders:
        ends = [entry for entry in recorder.log if entry[0] != "head"]
        assert len(ends) <= 1
        assert not ends or recorder.log[-1] == ends[0]


def test_trailers_after_a_large_body_come_last() -> None:
    """A body of several frames, cut within frames, is delivered in order before the trailers."""
    link = Link()
    stream, recorder = link.open()
    link.peer.send_headers(stream.id, HEAD)
    body = bytes(range(256)) * (STREAM_WINDOW // 256)
    for start in range(0, len(body), 65_536):
        link.peer.send_data(stream.id, body[start : start + 65_536])
    link.peer.send_headers(stream.id, TRAILERS, end_stream=True)
    sent = link.peer.data_to_send()
    for start in range(0, len(sent), 10_000):
        link.codec.receive(sent[start : start + 10_000])
    assert recorder.body == body
    assert recorder.log == ANSWER


def test_a_growing_request_leaves_piece_by_piece_and_ends_when_it_is_finished() -> None:
    """What is sent arrives at once, the stream stays open until `finish`, and the answer may come between."""
    link = Link()
    recorder = StreamRecorder()
    stream = link.codec.open_growing(BLOCK, recorder)
    for piece in (b"one", b"", b"two"):
        link.codec.send(stream, [piece])
        link.exchange()
    assert link.request_body(stream.id) == b"onetwo"
    link.peer.send_headers(stream.id, HEAD)
    link.peer.send_data(stream.id, b"early")
    link.exchange()
    assert (recorder.body, recorder.drained) == (b"early", 2)
    assert not any(isinstance(event, StreamEnded) for event in link.events)
    link.codec.finish(stream)
    link.exchange()
    assert any(isinstance(event, StreamEnded) for event in link.events)
    link.peer.send_headers(stream.id, TRAILERS, end_stream=True)
    link.exchange()
    assert recorder.log[-1][0] == "end"


@given(lengths=st.lists(st.integers(0, 60_000), max_size=5), window=st.integers(200, 70_000), late=st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_growing_request_respects_the_peers_window(lengths: list[int], window: int, late: bool) -> None:
    """Whatever the window, all arrives in order; the end comes last, also when it is said while pieces wait."""
    link = Link({SettingCodes.INITIAL_WINDOW_SIZE: window})
    recorder = StreamRecorder()
    stream = link.codec.open_growing(BLOCK, recorder)
    pieces = [bytes([number]) * length for number, length in enumerate(lengths)]
    for piece in pieces:
        link.codec.send(stream, [piece])
    if late:
        link.exchange()
        assert stream.pending is None
    link.codec.finish(stream)
    link.exchange()
    assert link.request_body(stream.id) == b"".join(pieces)
    assert isinstance(link.events[-1], StreamEnded)


def test_an_answer_ends_a_growing_request() -> None:
    """The peer is told that no more of the request will come; what is sent later goes nowhere."""
    link = Link()
    recorder = StreamRecorder()
    stream = link.codec.open_growing(BLOCK, recorder)
    link.exchange()
    link.answer(stream.id)
    assert recorder.log[-1][0] == "end"
    assert any(isinstance(event, StreamReset) and event.error_code == ErrorCode.NO_ERROR for event in link.events)
    link.codec.send(stream, [b"late"])
    link.codec.finish(stream)
    assert link.codec.output == []
