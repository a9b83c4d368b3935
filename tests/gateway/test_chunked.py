"""The chunked decoder against llhttp, which reads the same grammar."""

from itertools import pairwise

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferbridge.bridge.errors import BridgeError
from inferbridge.gateway.codecs.chunked import ChunkedDecoder

PRELUDE = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


class Oracle:
    """llhttp's view of one chunked body."""

    def __init__(self) -> None:
        self.body = b""
        self.complete = False

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True


def by_llhttp(data: bytes) -> bytes | None:
    """The body, or None if llhttp refuses it or wants more."""
    oracle = Oracle()
    parser = httptools.HttpRequestParser(oracle)
    try:
        parser.feed_data(PRELUDE + data)
    except httptools.HttpParserError:
        if not oracle.complete:
            return None
    return oracle.body if oracle.complete else None


def by_decoder(data: bytes) -> bytes | None:
    decoder = ChunkedDecoder(1000)
    try:
        pieces, _rest = decoder.feed(data)
    except BridgeError:
        return None
    return b"".join(pieces) if decoder.complete else None


chunk = st.builds(
    lambda data, extension: b"%x%s\r\n%s\r\n" % (len(data), extension, data),
    st.binary(min_size=1, max_size=40),
    st.sampled_from([b"", b";a", b";a=b", b';a="b \\" c";d']),
)
body = st.builds(
    lambda chunks, end: b"".join(chunks) + end,
    st.lists(chunk, max_size=6),
    st.sampled_from([b"0\r\n\r\n", b"000\r\n\r\n", b"0;x\r\nt: u\r\n\r\n", b"0\r\na:\r\nb: c\r\n\r\n"]),
)


@settings(max_examples=150, deadline=None)
@given(body)
def test_agrees_with_llhttp(data: bytes) -> None:
    """A well-formed body is decoded to what llhttp decodes it to."""
    assert by_decoder(data) == by_llhttp(data)
    assert by_decoder(data) is not None


@settings(max_examples=200, deadline=None)
@given(
    body,
    st.integers(0, 400),
    st.sampled_from([b"", b"\r", b"\n", b"\0", b" ", b";", b"x", b"0", b"\r\n", b"\x80"]),
    st.integers(0, 2),
)
def test_accepts_no_more_than_llhttp(data: bytes, place: int, inserted: bytes, removed: int) -> None:
    """A damaged body that is still accepted has the body llhttp sees."""
    place %= len(data)
    damaged = data[:place] + inserted + data[place + removed :]
    decoded = by_decoder(damaged)
    assert decoded is None or decoded == by_llhttp(damaged)


@settings(max_examples=100, deadline=None)
@given(body, st.binary(max_size=20), st.lists(st.integers(0, 400), max_size=8))
def test_any_split(data: bytes, after: bytes, cuts: list[int]) -> None:
    """However the body is cut, it decodes to the same bytes and what follows it is untouched."""
    whole = data + after
    places = [0, *sorted(cut % (len(whole) + 1) for cut in cuts), len(whole)]
    decoder = ChunkedDecoder(1000)
    found, rest = b"", b""
    for start, stop in pairwise(places):
        if decoder.complete:
            rest += whole[start:stop]
        else:
            pieces, rest = decoder.feed(whole[start:stop])
            found += b"".join(pieces)
    assert found == by_decoder(data)
    assert rest == after


def test_endless_trailers() -> None:
    """Trailers count against the limit together, with the status for headers."""
    decoder = ChunkedDecoder(20)
    with pytest.raises(BridgeError) as refused:
        decoder.feed(b"0\r\n" + b"a: b\r\n" * 10)
    assert refused.value.status == 431
