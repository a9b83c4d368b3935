"""Header blocks of the server: what is remembered of requests, what is not, and that answers say what they should."""

import pytest
from hpack import Decoder, Encoder

from inferbridge.bridge.values import Headers
from inferbridge.gateway.codecs.http2_abuse import Abuse
from inferbridge.gateway.codecs.http2_blocks import CONTINUE, BlockDecoder, head_block
from inferbridge.http2.frames import ErrorCode, ProtocolViolation
from inferbridge.http2.literals import encode_fields

FIELDS = ((b":method", b"POST"), (b":path", b"/x"), (b"a", b"b"))


def indexed(encoder: Encoder, *fields: tuple[bytes, bytes]) -> bytes:
    """A block that leaves its fields in the table."""
    return encoder.encode(list(fields))


def test_a_block_that_comes_again_is_decoded_once() -> None:
    """Once the table holds what a block refers to, equal bytes are the same fields."""
    decoder, encoder = BlockDecoder(10_000), Encoder()
    first = decoder.decode(indexed(encoder, *FIELDS))
    again = indexed(encoder, *FIELDS)
    known = decoder.decode(again)
    assert first == known == FIELDS
    assert decoder.decode(again) is known


def test_equal_bytes_mean_something_else_when_the_table_has_changed() -> None:
    """A new entry moves all others, so nothing that was known before is used."""
    decoder, encoder = BlockDecoder(10_000), Encoder()
    decoder.decode(indexed(encoder, (b"a", b"1")))
    newest = b"\xbe"
    assert decoder.decode(newest) == decoder.decode(newest) == ((b"a", b"1"),)
    decoder.decode(indexed(encoder, (b"a", b"2")))
    assert decoder.decode(newest) == ((b"a", b"2"),)


@pytest.mark.parametrize("update", [b"\x20", b"\x20\x3f\xe1\x1f", b"\x3f\x01"], ids=["nothing", "and back", "32"])
def test_a_table_that_shrinks_is_a_changed_one(update: bytes) -> None:
    """A block that is known refers to nothing after its entry was evicted by a new size of the table."""
    decoder, encoder = BlockDecoder(10_000), Encoder()
    decoder.decode(indexed(encoder, (b"a", b"1")))
    newest = b"\xbe"
    decoder.decode(newest)
    decoder.decode(update + b"\x83")
    with pytest.raises(ProtocolViolation) as violation:
        decoder.decode(newest)
    assert violation.value.code is ErrorCode.COMPRESSION_ERROR


def test_a_table_larger_than_agreed_is_refused() -> None:
    """The client has 4096 bytes of a table, and no setting of its own changes that."""
    with pytest.raises(ProtocolViolation) as violation:
        BlockDecoder(10_000).decode(b"\x3f\xe2\x1f\x83")
    assert violation.value.code is ErrorCode.COMPRESSION_ERROR


def test_a_list_that_is_too_long_is_abuse() -> None:
    """Few bytes that refer to a large entry again and again end where the list is as long as it may be."""
    decoder, encoder = BlockDecoder(10_000), Encoder()
    decoder.decode(indexed(encoder, (b"a", b"x" * 1000)))
    with pytest.raises(Abuse):
        decoder.decode(b"\xbe" * 10)


def test_what_is_remembered_is_little() -> None:
    """Neither many blocks, nor large ones, nor small ones that mean much stay."""
    decoder, encoder = BlockDecoder(100_000), Encoder()
    blocks = [encode_fields([(b"x", b"%d" % number)]) for number in range(100)]
    first = decoder.decode(blocks[0])
    assert decoder.decode(blocks[0]) is first
    for block in blocks:
        decoder.decode(block)
    assert decoder.decode(blocks[0]) is not first
    large = encode_fields([(b"x", b"a" * 5000)])
    assert decoder.decode(large) is not decoder.decode(large)
    decoder.decode(indexed(encoder, (b"a", b"x" * 1000)))
    bomb = b"\xbe" * 10
    assert decoder.decode(bomb) is not decoder.decode(bomb)


@pytest.mark.parametrize("status", [200, 204, 206, 304, 400, 404, 418, 500, 503])
@pytest.mark.parametrize(
    "headers", [(), (("X", "é"),), (("a", "b"), ("x-request-id", "1")), (("connection", "close"),)]
)
def test_answers_decode_to_what_was_said(status: int, headers: Headers) -> None:
    """Any HPACK decoder reads the status and the fields, lower case, without those of the connection."""
    for _ in range(2):
        decoded = Decoder().decode(head_block(status, headers), raw=True)
        kept = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers if name != "connection"]
        assert list(decoded) == [(b":status", b"%d" % status), *kept]


def test_trailers_and_interim() -> None:
    """Trailers have no status, and the head that lets a client go on has nothing else."""
    assert list(Decoder().decode(head_block(0, (("grpc-status", "0"),)), raw=True)) == [(b"grpc-status", b"0")]
    assert head_block(0, ()) == b""
    assert list(Decoder().decode(CONTINUE, raw=True)) == [(b":status", b"100")]


def test_a_secret_in_an_answer_is_never_indexed() -> None:
    """Cookies stay out of the tables of everybody on the way."""
    block = head_block(200, (("set-cookie", "a"), ("cookie", "b")))
    assert b"\x10\x06cookie\x01b" in block


@pytest.mark.parametrize("headers", [(("content-length", "x"),), (("content-length", "1"), ("Content-Length", "1"))])
def test_a_length_that_says_nothing_is_refused_each_time(headers: Headers) -> None:
    """What must not go on a wire is not remembered as good."""
    for _ in range(2):
        with pytest.raises(ValueError, match="content-length"):
            head_block(200, headers)
