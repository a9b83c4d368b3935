"""What a runtime may do wrong: one function for each fault, which gets the answer that it spoils."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from h2.errors import ErrorCodes

from faults.answering import HTML, PREFIX_BYTES, Answering, GrpcAnswering

type Wire = Literal["rest", "grpc"]
type Do = Callable[[Answering], Awaitable[None]]

LIMIT = 32 * 1024
"""Bytes of an answer that the gateway takes in these tests."""
MESSAGE_LIMIT = 16 * 1024
"""Of a message of a stream."""
GARBAGE = b"\xff\xfe\x00\x01\x80garbage\xff" * 4


@dataclass(frozen=True)
class Fault:
    """One fault."""

    name: str
    do: Do
    meaning: str
    """For people, the docstring of the function."""
    wires: tuple[Wire, ...] = ("rest", "grpc")
    at_door: bool = False
    """Of the listener: no request arrives."""
    whole_connection: bool = False
    """Other calls of the same HTTP/2 connection are lost with it."""
    hasty: bool = False
    """It strikes while the request is still being sent."""
    slow: bool = False
    """Nothing but the deadline ends it."""
    once: bool = False
    """The second time the runtime answers well."""
    sent: int = 1
    """How often the runtime gets the request."""
    sent_growing: int | None = None
    """The same, of one that grows, if that differs."""


FAULTS: dict[str, Fault] = {}


def fault(*wires: Wire, sent: int = 1, sent_growing: int | None = None, **traits: bool) -> Callable[[Do], Do]:
    """A fault of these kinds of runtime; of both unless given."""

    def note(do: Do) -> Do:
        name = do.__name__.replace("_", " ")  # type: ignore[attr-defined]  # a function
        FAULTS[name] = Fault(
            name, do, do.__doc__ or "", wires or ("rest", "grpc"), sent=sent, sent_growing=sent_growing, **traits
        )
        return do

    return note


@fault(at_door=True, sent=0)
async def connection_refused(answer: Answering) -> None:
    """Nothing listens on the runtime's port."""


@fault(at_door=True, sent=0)
async def closed_when_accepted(answer: Answering) -> None:
    """The connection is accepted and closed at once, as a port forwarder without a target does."""


@fault(whole_connection=True)
async def closed_before_the_head(answer: Answering) -> None:
    """The runtime takes the request and closes the connection."""
    answer.hang_up()


@fault(whole_connection=True)
async def reset_before_the_head(answer: Answering) -> None:
    """The runtime takes the request and resets the TCP connection, as a killed process does."""
    answer.reset()


@fault(whole_connection=True)
async def reset_after_the_head(answer: Answering) -> None:
    """Head, then a TCP reset."""
    answer.head()
    await asyncio.sleep(0.02)  # a reset overtakes what was not read yet
    answer.reset()


@fault(whole_connection=True)
async def cut_within_a_message(answer: Answering) -> None:
    """Half of a message, then the connection is closed."""
    answer.begin()
    answer.announce(answer.last, len(answer.last) // 2)
    answer.hang_up()


@fault(whole_connection=True)
async def garbage_instead_of_an_answer(answer: Answering) -> None:
    """Bytes that are not HTTP."""
    answer.raw(GARBAGE)


@fault(whole_connection=True)
async def garbage_within_an_answer(answer: Answering) -> None:
    """Bytes that are no frame, between two messages of a stream or instead of the only one."""
    answer.begin()
    await asyncio.sleep(0.02)  # what was good arrives by itself
    answer.raw(GARBAGE)


@fault("grpc")
async def stream_reset_before_the_head(answer: Answering) -> None:
    """RST_STREAM with INTERNAL_ERROR instead of an answer."""
    _grpc(answer).reset_stream(ErrorCodes.INTERNAL_ERROR)


@fault("grpc")
async def stream_reset_within_an_answer(answer: Answering) -> None:
    """RST_STREAM with INTERNAL_ERROR after the first message, or within the only one."""
    _in_the_middle(answer)
    _grpc(answer).reset_stream(ErrorCodes.INTERNAL_ERROR)


@fault("grpc", sent=3)
async def stream_refused(answer: Answering) -> None:
    """RST_STREAM with REFUSED_STREAM, each time."""
    _grpc(answer).reset_stream(ErrorCodes.REFUSED_STREAM)


@fault("grpc", once=True, sent=2)
async def stream_refused_once(answer: Answering) -> None:
    """RST_STREAM with REFUSED_STREAM, and a good answer when asked again."""
    _grpc(answer).reset_stream(ErrorCodes.REFUSED_STREAM)


@fault("grpc")
async def stream_cancelled(answer: Answering) -> None:
    """RST_STREAM with CANCEL."""
    _grpc(answer).reset_stream(ErrorCodes.CANCEL)


@fault("grpc")
async def told_to_calm_down(answer: Answering) -> None:
    """RST_STREAM with ENHANCE_YOUR_CALM."""
    _grpc(answer).reset_stream(ErrorCodes.ENHANCE_YOUR_CALM)


@fault("grpc", whole_connection=True, once=True, sent=2)
async def going_away_unprocessed(answer: Answering) -> None:
    """GOAWAY that says that the request was not looked at; a new connection gets a good answer."""
    _grpc(answer).go_away(0)
    answer.hang_up()


@fault("grpc")
async def going_away_in_peace(answer: Answering) -> None:
    """GOAWAY, and the calls that there are go on to their ends."""
    _grpc(answer).go_away(2**31 - 1)
    answer.well()


@fault("grpc", whole_connection=True)
async def going_away_with_an_error(answer: Answering) -> None:
    """GOAWAY with INTERNAL_ERROR after the first message, or within the only one, and the connection is closed."""
    _in_the_middle(answer)
    _grpc(answer).go_away(_grpc(answer).stream, ErrorCodes.INTERNAL_ERROR)
    answer.hang_up()


@fault(slow=True)
async def stall_before_the_head(answer: Answering) -> None:
    """The runtime takes the request and says nothing."""
    await answer.over.wait()


@fault(slow=True)
async def stall_within_an_answer(answer: Answering) -> None:
    """Half of a message, and nothing more."""
    _in_the_middle(answer)
    await answer.over.wait()


@fault(slow=True)
async def drip_without_end(answer: Answering) -> None:
    """One byte of a message at a time, for ever."""
    answer.begin()
    message = (
        b"\0\0\0\x10\0" if isinstance(answer, GrpcAnswering) else b'data: {"id":"' if answer.streams else b'{"id":"'
    )
    for octet in message:
        answer.data(bytes((octet,)))
    while not answer.over.is_set():
        answer.data(b"x")
        await asyncio.sleep(0.05)


@fault()
async def drip(answer: Answering) -> None:
    """A good answer, one byte at a time."""
    answer.begin()
    for at in range(len(answer.last)):
        answer.data(answer.last[at : at + 1])
        await asyncio.sleep(0)
    answer.end()


@fault()
async def wrong_content_type(answer: Answering) -> None:
    """200 with an HTML page, as a portal in between gives."""
    answer.head(200, "text/html")
    answer.data(HTML)
    answer.end(good=False)


@fault()
async def page_of_a_proxy(answer: Answering) -> None:
    """502 with an HTML page, as a proxy in between gives."""
    answer.head(502, "text/html")
    answer.data(HTML)
    answer.end(good=False)


@fault()
async def truncated_message(answer: Answering) -> None:
    """Framed well, but only half of the message's content (JSON or protobuf) is there."""
    answer.begin()
    if isinstance(answer, GrpcAnswering):
        content = answer.last[PREFIX_BYTES:-1]
        answer.data(b"\0" + len(content).to_bytes(4) + content)
    elif answer.streams:
        answer.data(answer.last[: len(answer.last) // 2] + b"\n\n")
    else:
        answer.data(answer.last[: len(answer.last) // 2])
    answer.end()


@fault("grpc")
async def message_shorter_than_its_prefix(answer: Answering) -> None:
    """Half of a message, then the end of the stream with status OK."""
    _in_the_middle(answer)
    answer.end()


@fault()
async def end_without_success(answer: Answering) -> None:
    """All messages, but at the end no grpc-status; of a REST stream no [DONE]."""
    answer.begin()
    answer.data(answer.last)
    answer.end(good=False)


@fault()
async def nothing(answer: Answering) -> None:
    """200 and a good end, without a message."""
    answer.head()
    answer.end()


@fault()
async def oversized_message(answer: Answering) -> None:
    """A message over the limits that the gateway has for answers."""
    answer.begin()
    await asyncio.sleep(0.1)  # what was good arrives by itself
    if isinstance(answer, GrpcAnswering):
        answer.data(b"\0" + (LIMIT + 1024).to_bytes(4) + b"\x12\xff\xff\x01" + bytes(LIMIT + 1020))
    else:
        answer.data((b"data: " if answer.streams else b"") + b'{"id":"' + b"x" * (LIMIT + 1024))
    await answer.over.wait()


@fault(whole_connection=True)
async def oversized_head(answer: Answering) -> None:
    """A header field over the limit that the gateway has for heads."""
    answer.head(200, "", *((f"x-{number}", "x" * 4000) for number in range(20)))
    await answer.over.wait()


@fault(hasty=True, whole_connection=True)
async def closed_while_it_is_sent(answer: Answering) -> None:
    """The runtime closes the connection in the middle of the request."""
    answer.hang_up()


@fault(hasty=True, whole_connection=True)
async def reset_while_it_is_sent(answer: Answering) -> None:
    """The runtime resets the TCP connection in the middle of the request."""
    answer.reset()


@fault("grpc", hasty=True)
async def stream_reset_while_it_is_sent(answer: Answering) -> None:
    """RST_STREAM with INTERNAL_ERROR in the middle of the request."""
    _grpc(answer).reset_stream(ErrorCodes.INTERNAL_ERROR)


@fault("grpc", hasty=True, whole_connection=True, once=True, sent=2, sent_growing=1)
async def going_away_while_it_is_sent(answer: Answering) -> None:
    """GOAWAY in the middle of the request that says that nobody looks at it; a new connection gets a good answer."""
    _grpc(answer).go_away(0)
    answer.hang_up()


@fault("grpc", hasty=True)
async def going_away_in_peace_while_it_is_sent(answer: Answering) -> None:
    """GOAWAY in the middle of the request, whose rest is read and which is answered well."""
    _grpc(answer).go_away(2**31 - 1)
    answer.read_on()
    await answer.asked.wait()
    answer.well()


@fault(hasty=True)
async def refused_while_it_is_sent(answer: Answering) -> None:
    """An error of the runtime's own (413, RESOURCE_EXHAUSTED) in the middle of the request, whose rest is not read."""
    answer.refuse()


@fault(hasty=True, slow=True)
async def stall_while_it_is_sent(answer: Answering) -> None:
    """The runtime reads no further in the middle of the request."""
    await answer.over.wait()


def _in_the_middle(answer: Answering) -> None:
    answer.begin()
    answer.data(answer.last[: len(answer.last) // 2])


def _grpc(answer: Answering) -> GrpcAnswering:
    assert isinstance(answer, GrpcAnswering)
    return answer
