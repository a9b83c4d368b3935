"""HTTP/1.1 clients that pipeline, chunk and break off, cut anywhere: a state machine over the whole of a connection.

The machine writes requests of all framings into a pipe, lets any number of bytes through, and has the application
answer when it says so. What comes back is read by h11, one answer after the other. The connection ends in one way at
most: with a last request, a broken one, a cut answer, or the client's leave; until then every request is answered, in
order, and afterwards not a byte is sent.
"""

from collections.abc import Callable
from dataclasses import dataclass

import h11
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.watched import Watched, Watching
from inferbridge.gateway.clients.connection import ClientConnection
from inferbridge.gateway.limits import Limits

SIZES = st.one_of(st.integers(0, 40), st.sampled_from([4096, 70_000]))
PIECES = st.one_of(st.integers(1, 30), st.just(1 << 20))
BROKEN = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET /x y HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
]
"""Each is refused before, or instead of, an answer of the application; nothing behind it is a request."""


@dataclass
class Sent:
    """A request in the pipe."""

    target: str
    method: str
    body: bytes


class Http1Machine(RuleBasedStateMachine):
    """Client, gateway and application."""

    def __init__(self) -> None:
        super().__init__()
        self.application = Watching()
        self.connection = ClientConnection(self.application, Limits(), lambda: None)
        self.sent: list[Sent] = []
        self.pipe = b""
        self.output = b""
        self.closed = False
        self.last = False
        """No request may follow."""
        self.broken = False
        self.cut = False
        """The application has cut an answer."""

    # The client

    @precondition(lambda self: not self.last)
    @rule(
        method=st.sampled_from(["GET", "POST", "HEAD"]),
        size=SIZES,
        chunks=st.integers(0, 3),
        close=st.sampled_from([False, False, False, True]),
    )
    def ask(self, method: str, size: int, chunks: int, close: bool) -> None:
        """A request, with a length or in chunks; after one with `close` comes no other."""
        target, body = f"/{len(self.sent)}", bytes([len(self.sent) % 251]) * size
        head = f"{method} {target} HTTP/1.1\r\nHost: a\r\n" + ("Connection: close\r\n" if close else "")
        if chunks:
            cuts = [body[at : at + size // chunks + 1] for at in range(0, size, size // chunks + 1)]
            coded = b"".join(b"%X;a=b\r\n%b\r\n" % (len(piece), piece) for piece in cuts) + b"0\r\nx-t: u\r\n\r\n"
            self.pipe += head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + coded
        else:
            length = f"Content-Length: {size}\r\n" if size or method == "POST" else ""
            self.pipe += head.encode() + length.encode() + b"\r\n" + body
        self.sent.append(Sent(target, method, body))
        self.last = close

    @precondition(lambda self: not self.last)
    @rule(text=st.sampled_from(BROKEN))
    def ask_wrongly(self, text: bytes) -> None:
        """A request that is none, and with it the end of what can be asked; something that looks like one follows."""
        self.pipe += text + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
        self.last = self.broken = True

    # What lies between

    @rule(size=PIECES)
    def receive(self, size: int) -> None:
        """Some bytes reach the gateway, as long as it is there; what is to be sent is sent."""
        piece, self.pipe = self.pipe[:size], self.pipe[size:]
        self.connection.receive(piece)
        self._send()

    def _send(self) -> None:
        output = self.connection.take_output()
        assert not (self.closed and output)
        self.output += output
        self.closed = self.connection.closing

    # The application

    def _answering(self, wanted: Callable[[Watched], bool] = lambda _: True) -> Watched | None:
        return next((call for call in self.application.calls.values() if not call.over and wanted(call)), None)

    @rule()
    def begin(self) -> None:
        """The answer begins."""
        call = self._answering(lambda call: not call.begun)
        if call is not None:
            call.begin()
            self._send()

    @rule(size=SIZES, at_once=st.booleans())
    def say(self, size: int, at_once: bool) -> None:
        """The answer goes on, and leaves now or with what follows."""
        call = self._answering(lambda call: call.begun)
        if call is not None:
            call.say(bytes([len(call.answering) % 251]) * size)
            if at_once:
                self._send()

    @rule()
    def finish(self) -> None:
        """The answer ends, also before its request has; the next request has its turn."""
        call = self._answering()
        if call is not None:
            call.finish()
            self.receive(0)

    @rule(dice=st.integers(0, 5))
    def abort(self, dice: int) -> None:
        """The answer is cut."""
        call = self._answering() if not dice else None
        if call is not None:
            call.abort()
            self.cut = True
            self._send()

    # What must be

    @invariant()
    def nothing_is_wrong_so_far(self) -> None:
        """At most one call is open, what the application has got is what was sent, and no error of ours was told."""
        calls = list(self.application.calls.values())
        assert self.application.faults == []
        assert sum(not call.over for call in calls) <= 1
        assert self.connection.calls <= 1
        assert "/smuggled" not in self.application.calls
        for call, sent in zip(calls, self.sent, strict=False):
            assert (call.head.target, call.head.method) == (sent.target, sent.method)
            assert sent.body.startswith(call.body)
            assert not call.complete or call.body == sent.body

    def teardown(self) -> None:
        """Let everything run to its end, and read what was answered."""
        self.receive(1 << 30)
        while self._answering() is not None:
            self.finish()
        self.nothing_is_wrong_so_far()
        assert self.connection.calls == 0
        assert self.closed or not (self.last or self.cut)
        self._check_answers()
        self.connection.receive(b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n")
        assert ("/late" in self.application.calls) is (not self.closed)
        self._send()

    def _check_answers(self) -> None:
        """Whole answers in order, one of the gateway for a broken request, and a cut one looks cut."""
        rest, answered = self.output, []
        for sent in self.sent:
            answer, rest = _read(sent.method, rest)
            if answer is None:
                break
            answered.append(answer)
        calls = list(self.application.calls.values())[: len(answered)]
        for (status, body), call in zip(answered, calls, strict=False):
            if call.ended and not call.cancelled:
                assert (status, body) == (200, b"" if call.head.method == "HEAD" else call.answering)
        if not self.closed:
            assert (rest, len(answered)) == (b"", len(self.sent))
        elif self.broken and len(answered) == len(self.sent) and rest:
            early = self.application.calls.get("/c")
            answer, rest = _read("GET", rest)
            if early is not None and early.begun:  # answered, at least in part, before its body was known to be broken
                assert answer is None or answer == (200, early.answering)
            else:
                assert answer is not None
                assert answer[0] // 100 == 4
            assert answer is None or not rest


def _read(method: str, data: bytes) -> tuple[tuple[int, bytes] | None, bytes]:
    """The first answer as h11 reads it, None where it is cut off, and what follows."""
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    client.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
    client.send(h11.EndOfMessage())
    if data:
        client.receive_data(data)
    status, body = 0, b""
    while True:
        event = client.next_event()
        if isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return (status, body), client.trailing_data[0]
        elif event in (h11.NEED_DATA, h11.PAUSED):
            return None, data


Http1Machine.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


class TestHttp1(Http1Machine.TestCase):
    """Every request is answered once and in order, however it comes, and nothing is sent after the end."""
