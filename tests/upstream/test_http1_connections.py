"""Responses one after the other on one connection, cut anywhere: what a model of them says is what the reader says."""

from dataclasses import dataclass
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from inferbridge.bridge.values import Buffer, Headers
from inferbridge.upstream.http1_codec import MalformedResponse, ResponseReader

METHODS = ("GET", "POST", "HEAD")
FRAMINGS = ("length", "chunked", "close", "none")
BODILESS = (204, 304)


@dataclass(frozen=True)
class Told:
    """A response as a runtime tells it, and what must come of it."""

    method: str
    status: int
    framing: str
    chunks: tuple[bytes, ...]
    informational: bool
    trailers: bool
    closes: bool

    @property
    def bodiless(self) -> bool:
        """It has no body, whatever its head says."""
        return self.method == "HEAD" or self.status in BODILESS

    @property
    def body(self) -> bytes:
        """What must arrive."""
        return b"" if self.bodiless or self.framing == "none" else b"".join(self.chunks)

    @property
    def until_close(self) -> bool:
        """Only the end of the connection ends it."""
        return self.framing == "close" and not self.bodiless

    @property
    def text(self) -> bytes:
        """The bytes."""
        lines = [b"HTTP/1.1 %d Some\r\nX-A: b\r\n" % self.status]
        lines += [b"Connection: close\r\n"] if self.closes else []
        if self.framing == "length" or (self.framing == "none" and not self.bodiless):
            lines.append(b"Content-Length: %d\r\n" % (len(b"".join(self.chunks)) if self.framing == "length" else 0))
        if self.framing == "chunked":
            lines.append(b"Transfer-Encoding: chunked\r\n")
        early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" if self.informational else b""
        return early + b"".join(lines) + b"\r\n" + self._framed()

    def _framed(self) -> bytes:
        if self.bodiless or self.framing == "none":
            return b""
        if self.framing != "chunked":
            return b"".join(self.chunks)
        coded = b"".join(b"%x;e=f\r\n%b\r\n" % (len(chunk), chunk) for chunk in self.chunks if chunk)
        return coded + b"0\r\n" + (b"X-T: u\r\n" if self.trailers else b"") + b"\r\n"


class Sink:
    """One response as it arrives."""

    def __init__(self) -> None:
        self.heads: list[tuple[int, Headers]] = []
        self.body = b""

    def on_head(self, status: int, headers: Headers) -> None:
        self.heads.append((status, headers))

    def on_data(self, data: Buffer) -> None:
        assert self.heads
        self.body += bytes(data)


RESPONSES = st.builds(
    Told,
    method=st.sampled_from(METHODS),
    status=st.sampled_from([200, 200, 404, 204, 304, 503]),
    framing=st.sampled_from(FRAMINGS),
    chunks=st.lists(st.binary(max_size=30), max_size=4).map(tuple),
    informational=st.booleans(),
    trailers=st.booleans(),
    closes=st.sampled_from([False, False, False, True]),
)
CUTS = st.lists(st.integers(0, 400), max_size=12)


def pieces(text: bytes, cuts: list[int]) -> list[bytes]:
    """The text cut at these places."""
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[start:end] for start, end in pairwise(edges) if start < end]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(RESPONSES, CUTS), min_size=1, max_size=5))
def test_each_response_of_a_connection_is_its_own(told: list[tuple[Told, list[int]]]) -> None:
    """Each has one head, its body and its trailers and ends once, whatever was read before it; and the connection is
    kept exactly where the next response can be told from this one."""
    reader = ResponseReader(65_536)
    for response, cuts in told:
        sink = Sink()
        reader.expect(response.method, sink)
        for piece in pieces(response.text, cuts):
            assert not reader.complete
            reader.receive(piece)
        assert reader.complete is not response.until_close
        if response.until_close:
            reader.receive_eof()
        assert reader.complete
        assert not reader.excess
        assert [status for status, _ in sink.heads] == [response.status]
        assert sink.body == response.body
        assert bool(reader.trailers) is (response.framing == "chunked" and response.trailers and not response.bodiless)
        if not reader.reusable:
            return
        assert not response.closes
        assert not response.until_close
        assert response.status < 500


@settings(max_examples=100, deadline=None)
@given(RESPONSES, CUTS, st.integers(0, 400))
def test_a_response_that_breaks_off_is_not_complete(response: Told, cuts: list[int], kept: int) -> None:
    """Wherever a connection ends, the reader knows whether the response was whole, and what came of it is right."""
    text = response.text[: kept % len(response.text)]
    reader, sink = ResponseReader(65_536), Sink()
    reader.expect(response.method, sink)
    for piece in pieces(text, cuts):
        reader.receive(piece)
    reader.receive_eof()
    assert response.body.startswith(sink.body)
    head_ends = response.text.index(b"X-A: b\r\n")
    headless = len(text) < response.text.index(b"\r\n\r\n", head_ends) + 4
    assert reader.complete is (response.until_close and not headless)


@settings(max_examples=100, deadline=None)
@example(Told("HEAD", 200, "chunked", (), False, False, False), b"A")
@example(Told("HEAD", 200, "chunked", (), False, False, False), b"A\r\n")
@given(RESPONSES, st.binary(min_size=1, max_size=40).filter(lambda noise: noise[:1] != b"0"))  # no empty chunked body
def test_what_nobody_asked_for_is_never_taken_for_an_answer(response: Told, noise: bytes) -> None:
    """Bytes behind a complete response, in the same read or the next, reach nobody, and the connection is given up."""
    if response.until_close:
        return
    for reads in ([response.text + noise], [response.text, noise]):
        reader, sink = ResponseReader(65_536), Sink()
        reader.expect(response.method, sink)
        try:
            for piece in reads:
                reader.receive(piece)
        except MalformedResponse:
            continue
        assert sink.body == response.body
        assert len(sink.heads) == 1
        assert reader.excess or not noise.strip(b"\r\n") or not reader.reusable
