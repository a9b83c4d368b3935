"""gRPC messages out of a stream of bytes."""

import gzip
import time
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.framing import PREFIX_BYTES, frame, unframe
from inferbridge.bridge.grpc_messages import MessageReader


@given(messages=st.lists(st.binary(max_size=40), max_size=5), size=st.integers(1, 50))
def test_any_cutting_gives_the_same_messages(messages: list[bytes], size: int) -> None:
    """However the bytes arrive, the messages are the same."""
    body = b"".join(frame([(message,) for message in messages]))
    reader = MessageReader(100)
    found = [message for at in range(0, len(body), size) for message in reader.feed(body[at : at + size])]
    reader.finish()
    assert found == messages


def test_compressed_messages_are_inflated_within_the_limit() -> None:
    """gzip works where the call said so; what inflates to more than the limit is refused."""
    packed = gzip.compress(b"a" * 1000)
    body = b"\1" + len(packed).to_bytes(4) + packed
    assert MessageReader(1000, "gzip").feed(body) == [b"a" * 1000]
    with pytest.raises(BridgeError) as caught:
        MessageReader(999, "gzip").feed(body)
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    with pytest.raises(BridgeError):
        MessageReader(1000).feed(body)


def test_a_large_message_costs_no_more_for_its_many_pieces() -> None:
    """The pieces of a message are joined once: a reader that kept joining them would copy gigabytes here."""
    reader, piece, count = MessageReader(1 << 26), b"x" * 1000, 40_000
    began = time.process_time()
    reader.feed(b"\0" + (count * len(piece)).to_bytes(4))
    found = [message for _ in range(count) for message in reader.feed(piece)]
    assert [len(message) for message in found] == [count * len(piece)]
    assert time.process_time() - began < 5


@pytest.mark.parametrize("body", [b"\0\0\0\3\xe9", b"\2\0\0\0\0"], ids=["too large", "no flag"])
def test_what_is_no_message_is_refused_at_its_head(body: bytes) -> None:
    """A message over the limit is refused before it arrives, an unknown flag at once."""
    with pytest.raises(BridgeError):
        MessageReader(1000).feed(body)


def test_a_cut_message_is_no_end() -> None:
    """The end of the stream within a message is an error."""
    reader = MessageReader(1000)
    assert reader.feed(b"\0\0\0\0\5abc") == []
    with pytest.raises(BridgeError, match="cut off"):
        reader.finish()


@given(messages=st.lists(st.binary(max_size=40), max_size=5), size=st.integers(1, 50), cut=st.integers(0, 200))
def test_a_whole_body_and_its_pieces_are_read_alike(messages: list[bytes], size: int, cut: int) -> None:
    """`unframe` and the reader agree on what is complete, and on what is cut off."""
    body = b"".join(frame([(message,) for message in messages]))[:cut]
    reader = MessageReader(100)
    found = [bytes(message) for at in range(0, len(body), size) for message in reader.feed(body[at : at + size])]
    ends = accumulate((len(message) + PREFIX_BYTES for message in messages), initial=0)
    if len(body) in ends:
        reader.finish()
        assert found == [bytes(chunk) for (chunk,) in unframe(body, "identity", 100)]
        return
    with pytest.raises(BridgeError) as caught:
        unframe(body, "identity", 100)
    assert caught.value.code is Code.INVALID_ARGUMENT
    with pytest.raises(BridgeError):
        reader.finish()
