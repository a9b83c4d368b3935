"""HPACK without memory, against the `hpack` library."""

from hpack import Decoder, Encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from inferbridge.http2.literals import encode_fields
from inferbridge.upstream.header_blocks import BlockDecoder

_names = st.sampled_from(["content-type", "grpc-status", "x-a", "server", "date", "x-some-longer-name"])
_values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=300)
_fields = st.lists(st.tuples(_names, _values), max_size=6)


@given(fields=_fields)
@settings(max_examples=100, deadline=None)
def test_our_blocks_decode_to_what_was_encoded(fields: list[tuple[str, str]]) -> None:
    """Any HPACK decoder reads our literals, and its dynamic table stays empty."""
    block = encode_fields([(name.encode(), value.encode()) for name, value in fields])
    decoder = Decoder(max_header_list_size=1 << 20)
    assert [(str(name), str(value)) for name, value in decoder.decode(block)] == fields
    assert not decoder.header_table.dynamic_entries


@given(blocks=st.lists(_fields, min_size=1, max_size=8), shrink_at=st.integers(0, 8))
@settings(max_examples=100, deadline=None)
def test_blocks_decode_before_and_after_the_table_shrinks(blocks: list[list[tuple[str, str]]], shrink_at: int) -> None:
    """Blocks that use the dynamic table and blocks found in the cache give the fields that were sent."""
    encoder = Encoder()
    decoder = BlockDecoder(1 << 20)
    for index, fields in enumerate([*blocks, *blocks]):
        if index == shrink_at:
            encoder.header_table_size = 0
        decoded = decoder.decode(encoder.encode([(":status", "200"), *fields]))
        assert decoded.status == 200
        assert decoded.headers == tuple(fields)


def test_a_block_is_decoded_once() -> None:
    """After the table has shrunk, equal bytes give the very same fields without decoding again."""
    encoder = Encoder()
    decoder = BlockDecoder(1 << 20)
    before = [decoder.decode(encoder.encode([("x-a", "1")])) for _ in range(3)]
    assert before[0] is not before[2]
    encoder.header_table_size = 0
    decoder.decode(encoder.encode([("x-a", "1")]))
    after = [decoder.decode(encoder.encode([("x-a", "1")])) for _ in range(2)]
    assert after[0] is after[1]


def test_secrets_are_never_indexed() -> None:
    """Credentials are sent as never-indexed literals, so that no intermediary keeps them in a table."""
    assert encode_fields([(b"authorization", b"Bearer t")])[0] == 0x10
    assert encode_fields([(b"x-a", b"1")])[0] == 0x00


def test_connection_fields_are_left_out() -> None:
    """Fields that concern one connection do not reach the receiver."""
    block = encode_fields([(b":status", b"200"), (b"connection", b"close"), (b"x-a", b"1")])
    assert BlockDecoder(1 << 20).decode(block).headers == (("x-a", "1"),)
