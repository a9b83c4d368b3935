"""Messages are counted as they pass."""

import pytest

from inferbridge.bridge.framing import frame
from inferbridge.gateway.records.counting import kind_of

PIECES = [
    ("text/event-stream", [b"data: 1\n\n", b"event: a\ndata: 2\n\ndata: 3\n\n"], 3),
    ("application/x-ndjson", [b"1\n", b"2\n3\n"], 3),
    ("application/grpc", [b"".join(frame([(b"a",)])), b"".join(frame([(b"",), (b"bc",)]))], 3),
]


@pytest.mark.parametrize(("content_type", "pieces", "count"), PIECES)
def test_whole_pieces_count_as_all_others_do(content_type: str, pieces: list[bytes], count: int) -> None:
    """Pieces of whole messages have as many of them when that is known as when it has to be found out."""
    kind = kind_of(content_type)
    assert kind is not None
    known, found, views = kind(), kind(), kind()
    assert sum(map(known.whole, pieces)) == sum(map(found.feed, pieces)) == count
    assert sum(views.whole(memoryview(piece)) for piece in pieces) == count
