"""Large bodies in one piece of memory."""

from itertools import batched
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferbridge.bridge.framing import frame
from inferbridge.bridge.values import join
from inferbridge.gateway.gathering import LARGE, Gathered, room_behind, room_for


@given(pieces=st.lists(st.binary(max_size=9), max_size=9), length=st.integers(0, 40))
def test_whatever_length_was_said_the_body_is_what_came(pieces: list[bytes], length: int) -> None:
    """A body that is shorter or longer than was said is whole all the same; one that is not longer is one chunk."""
    body = Gathered(length)
    for piece in pieces:
        body.append(piece)
    assert bytes(join(body)) == b"".join(pieces)
    assert len(body) <= 1 or length < len(b"".join(pieces))


@pytest.mark.parametrize(("length", "limit"), [(LARGE - 1, 1 << 30), (LARGE + 1, LARGE)])
def test_small_bodies_and_those_beyond_the_limit_have_no_room(length: int, limit: int) -> None:
    """Neither is worth room of its own: the second will be refused."""
    assert not isinstance(room_for(length, limit), Gathered)


def test_a_length_that_is_only_claimed_takes_no_memory() -> None:
    """Room for a gigabyte of which little comes costs what has come."""
    body = room_for(1 << 30, 1 << 31)
    body.append(b"abc")
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    assert isinstance(body, Gathered)
    assert resident < 1 << 30


def test_the_message_of_a_grpc_call_says_its_length() -> None:
    """The first piece of a large message is enough to find room for all of it."""
    framed = b"".join(frame([(bytes(2 * LARGE),)]))
    pieces = [bytes(piece) for piece in batched(framed, 1 << 16)]
    body = room_behind(pieces[0], 4 * LARGE)
    for piece in pieces:
        body.append(piece)
    assert isinstance(body, Gathered)
    assert [bytes(chunk) for chunk in body] == [framed]
