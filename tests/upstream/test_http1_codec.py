"""Reading and writing HTTP/1.1 without sockets."""

import weakref
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferbridge.bridge.values import Buffer, Headers
from inferbridge.upstream.http1_codec import MalformedResponse, ResponseReader, encode_length


class Sink:
    """Remembers one response."""

    def __init__(self) -> None:
        self.heads: list[tuple[int, Headers]] = []
        self.body = b""
        self.pieces = 0

    def on_head(self, status: int, headers: Headers) -> None:
        """Remember."""
        self.heads.append((status, headers))

    def on_data(self, data: Buffer) -> None:
        """Remember."""
        self.body += data
        self.pieces += 1


def _read(pieces: list[bytes], method: str = "GET", eof: bool = False) -> tuple[ResponseReader, Sink]:
    reader, sink = ResponseReader(65_536), Sink()
    reader.expect(method, sink)
    for piece in pieces:
        reader.receive(piece)
    if eof:
        reader.receive_eof()
    return reader, sink


CHUNKED = (
    b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\nX-A: \xe9\r\n\r\n"
    b"4;ext=1\r\nabcd\r\n10\r\n0123456789abcdef\r\n0\r\nX-Trailer: t\r\n\r\n"
)


@given(cuts=st.lists(st.integers(0, len(CHUNKED)), max_size=30))
@settings(max_examples=100, deadline=None)
def test_a_chunked_response_is_read_however_it_is_split(cuts: list[int]) -> None:
    """1xx is skipped, chunks are joined, trailers kept, hop-by-hop fields dropped, wherever TCP cuts."""
    edges = [0, *sorted(cuts), len(CHUNKED)]
    pieces = [CHUNKED[a:b] for a, b in zip(edges, edges[1:], strict=False) if a < b]  # noqa: RUF007
    reader, sink = _read(pieces)
    assert sink.heads == [(200, (("x-a", "é"),))]
    assert sink.body == b"abcd0123456789abcdef"
    assert reader.complete
    assert reader.trailers == (("x-trailer", "t"),)
    assert reader.reusable
    assert not reader.excess


@pytest.mark.parametrize(("chunk", "count", "pieces"), [(b"a", 2, 1), (bytes(200), 1000, 1), (bytes(1 << 16), 2, 2)])
def test_small_chunks_that_arrive_together_are_one_piece(chunk: bytes, count: int, pieces: int) -> None:
    """Events of a stream that came in one read are delivered at once; large chunks are not copied for it."""
    framed = b"%x\r\n%b\r\n" % (len(chunk), chunk)
    _, sink = _read([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", framed * count])
    assert (sink.body, sink.pieces) == (chunk * count, pieces)


@pytest.mark.parametrize("status", [b"000", b"002", b"099"])
def test_a_status_below_100_is_no_response(status: bytes) -> None:
    """It is not skipped as informational, for it may have a body, which would come before any head."""
    with pytest.raises(MalformedResponse, match=rf"status {status.decode()}"):
        _read([b"HTTP/1.1 " + status + b" OK\r\nContent-Length: 1\r\n\r\na"])


def test_a_body_of_an_informational_response_is_no_body() -> None:
    """A 1xx that is chunked is refused: nothing reaches the receiver before the head of the answer."""
    sink = Sink()
    reader = ResponseReader(65_536)
    reader.expect("GET", sink)
    with pytest.raises(MalformedResponse, match="informational"):
        reader.receive(b"HTTP/1.1 199 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n")
    assert (sink.heads, sink.body) == ([], b"")


def test_a_body_behind_the_answer_to_a_head_is_too_much() -> None:
    """It reaches nobody, and the connection is not used again: more of it may come as if it were the next answer."""
    reader, sink = _read([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"], "HEAD")
    assert (reader.complete, reader.excess, sink.body) == (True, True, b"")


def test_what_came_before_nonsense_is_delivered() -> None:
    """A broken chunk does not undo those before it in the same read."""
    reader, sink = _read([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"])
    with pytest.raises(MalformedResponse):
        reader.receive(b"2\r\nab\r\nnonsense\r\n")
    assert sink.body == b"ab"


def test_content_length_ends_the_body_and_keeps_the_connection() -> None:
    """A response of known length leaves the reader ready for the next."""
    reader, sink = _read([b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab"])
    assert not reader.complete
    reader.receive(b"c")
    assert reader.complete
    assert reader.reusable
    assert sink.body == b"abc"
    second = Sink()
    reader.expect("GET", second)
    reader.receive(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
    assert second.heads == [(404, (("content-length", "0"),))]
    assert reader.complete


LARGE = b"HTTP/1.1 200 OK\r\ncontent-length: 200000\r\n\r\n" + bytes(number % 251 for number in range(200_000))


@given(cuts=st.lists(st.integers(0, len(LARGE)), max_size=8), excess=st.sampled_from([b"", LARGE]))
@settings(max_examples=100, deadline=None)
def test_a_large_body_is_read_however_it_is_split(cuts: list[int], excess: bytes) -> None:
    """Whether or not the parser sees all of it, the body is what it is, and the next response is read."""
    edges = [0, *sorted(cuts), 2 * len(LARGE)]
    sent = LARGE + excess
    reader, sink = _read([piece for a, b in pairwise(edges) if (piece := sent[a:b])])
    assert (sink.body == LARGE[-200_000:], reader.complete, reader.reusable) == (True, True, True)
    assert reader.excess == bool(excess)
    second = Sink()
    reader.expect("GET", second)
    reader.receive(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    assert (second.body, reader.complete) == (b"ok", True)


def test_a_large_body_is_not_copied() -> None:
    """What is read of it is what is handed on."""
    handed: list[Buffer] = []
    sink = Sink()
    sink.on_data = handed.append  # type: ignore[method-assign]  # a sink that keeps what it gets
    reader = ResponseReader(65_536)
    reader.expect("GET", sink)
    piece = bytes(100_000)
    for data in (LARGE[:1000], piece):
        reader.receive(data)
    assert handed[-1] is piece


@pytest.mark.parametrize("size", [100, 150_000])
def test_a_large_body_that_is_cut_off_is_not_complete(size: int) -> None:
    """The end of the connection does not complete a body that has a length, however much of it was read."""
    reader, sink = _read([LARGE[:1000], LARGE[1000 : 1000 + size]], eof=True)
    assert not reader.complete
    assert sink.body == LARGE[LARGE.index(b"\r\n\r\n") + 4 : 1000 + size]


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_a_body(status: int) -> None:
    """204 and 304 end with their head, whatever content-length says."""
    reader, sink = _read([b"HTTP/1.1 %d X\r\ncontent-length: 5\r\n\r\n" % status])
    assert reader.complete
    assert reader.reusable
    assert sink.heads[0][0] == status


def test_head_responses_have_no_body() -> None:
    """The answer to HEAD ends with its head, and the connection takes the next request."""
    reader, _ = _read([b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"], "HEAD")
    assert reader.complete
    assert reader.reusable
    sink = Sink()
    reader.expect("GET", sink)
    reader.receive(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    assert sink.body == b"ok"


def test_head_without_any_length_keeps_the_connection_unless_told() -> None:
    """HEAD answers need no length; only `connection: close` or HTTP/1.0 end the connection."""
    assert _read([b"HTTP/1.1 200 OK\r\n\r\n"], "HEAD")[0].reusable
    assert not _read([b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"], "HEAD")[0].reusable
    assert not _read([b"HTTP/1.0 200 OK\r\n\r\n"], "HEAD")[0].reusable


def test_who_has_his_response_is_not_held() -> None:
    """A connection may be idle for long after a response, or lost within one; the call and its bodies are free."""
    whole, waiting = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no"
    reader, sink = _read([whole])
    held = weakref.ref(sink)
    del sink
    assert held() is None
    reader, sink = _read([waiting])
    held = weakref.ref(sink)
    del sink
    assert held() is not None
    reader.forget()
    assert held() is None


def test_a_body_until_close() -> None:
    """Without a length the body ends with the connection."""
    start = [b"HTTP/1.1 200 OK\r\n\r\nab", b"c"]
    assert not _read(start)[0].complete
    reader, sink = _read(start, eof=True)
    assert reader.complete
    assert not reader.reusable
    assert sink.body == b"abc"


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ],
)
def test_a_response_cut_off_is_not_complete(start: bytes) -> None:
    """Closing the connection completes nothing that has a length."""
    assert not _read([start] if start else [], eof=True)[0].complete


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
    ],
)
def test_a_server_that_closes_is_believed(head: bytes) -> None:
    """`connection: close` and HTTP/1.0 make the connection unusable."""
    reader, _ = _read([head])
    assert reader.complete
    assert not reader.reusable


@pytest.mark.parametrize("later", [False, True])
def test_bytes_behind_a_response_are_excess(later: bool) -> None:
    """A second response that nobody asked for is noticed, in the same read or in the next."""
    one = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    reader, sink = _read([one, one] if later else [one + one])
    assert reader.excess
    assert len(sink.heads) == 1


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nx a: b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\rb\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n" + b"x: y\r\n" * 20_000 + b"\r\n",
    ],
)
def test_nonsense_is_refused(sent: bytes) -> None:
    """What is not a response, or ambiguous about its length, or has endless headers, raises MalformedResponse."""
    with pytest.raises(MalformedResponse):
        _read([sent])


@pytest.mark.parametrize(
    ("method", "length", "sent"),
    [("GET", 0, b""), ("DELETE", 0, b""), ("POST", 0, b"content-length: 0\r\n"), ("GET", 2, b"content-length: 2\r\n")],
)
def test_content_length_of_requests(method: str, length: int, sent: bytes) -> None:
    """A request without a body says so only where one is expected."""
    assert encode_length(method, length) == sent + b"\r\n"
