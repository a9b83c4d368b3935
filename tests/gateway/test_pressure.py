"""Answers that come faster than their client takes them: who is told, and when."""

from typing import Any

from gateway.applications import Echo, EchoSink, SilentSink
from gateway.http2_client import Client
from inferbridge.auth.rates import RateLimiter
from inferbridge.auth.settings import Rates
from inferbridge.gateway.application import RequestHead, RequestSink, Responder
from inferbridge.gateway.calls.limiting import LimitedCall
from inferbridge.gateway.calls.translating import Legs
from inferbridge.gateway.clients.connection import ClientConnection
from inferbridge.gateway.codecs.http2 import Http2Codec
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.records.recording import Recorder

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class PressedSink(SilentSink):
    """Notes what it is told."""

    def __init__(self, head: RequestHead, responder: Responder) -> None:
        super().__init__(head, responder)
        self.told: list[bool] = []

    def on_pressure(self, full: bool) -> None:
        self.told.append(full)


class Pressed(Echo):
    """Leaves answering to the test."""

    def sink(self, head: RequestHead, responder: Responder) -> EchoSink:
        return PressedSink(head, responder)


class Wrapped(Pressed):
    """The same behind a limit of rates."""

    def open(self, head: RequestHead, responder: Responder) -> RequestSink:
        lease = RateLimiter().lease(head.identity, Rates(concurrent_calls=5))
        return LimitedCall(lease, responder).open(lambda answer: super(Wrapped, self).open(head, answer))


def told(application: Echo) -> list[bool]:
    """What the only sink was told."""
    (sink,) = application.sinks
    assert isinstance(sink, PressedSink)
    return sink.told


def test_a_socket_that_is_full_stops_every_call_once() -> None:
    """The call hears of it through all who stand between, once for each change, and no more when it is over."""
    application = Wrapped()
    connection = ClientConnection(Recorder(application, []), Limits(), lambda: None)
    connection.receive(GET)
    for full in (True, True, False, True):
        connection.pressure(full)
    assert told(application) == [True, False, True]
    application.sinks[0].responder.whole(200, (), ())
    connection.pressure(False)
    assert told(application) == [True, False, True]


def test_a_call_that_opens_on_a_full_socket_is_told_at_once() -> None:
    """A pipelined request whose turn comes while the socket is full begins with that."""
    application = Pressed()
    connection = ClientConnection(application, Limits(), lambda: None)
    connection.pressure(True)
    connection.receive(GET)
    assert told(application) == [True]


def test_a_sink_that_can_do_nothing_about_it_is_not_asked() -> None:
    """A sink without `on_pressure` serves its call as ever."""
    application = Echo()
    connection = ClientConnection(application, Limits(), lambda: None)
    connection.pressure(True)
    connection.receive(GET)
    assert connection.take_output().startswith(b"HTTP/1.1 200 ")


def test_a_window_that_is_full_presses_its_stream_alone() -> None:
    """More than 64 KiB beyond the client's window press a stream until the client has taken most of it."""
    codec = Http2Codec(Limits())
    client = Client(codec)
    slow, quick = client.send(), client.send()
    client.exchange()
    for stream in (slow, quick):
        codec.send_head(stream, 200, ())
    codec.send_data(slow, bytes(200_000))
    codec.send_data(quick, b"x")
    client.exchange()
    assert codec.take_pressed() == [(slow, True)]
    client.h2.increment_flow_control_window(200_000)
    client.h2.increment_flow_control_window(200_000, slow)
    client.exchange()
    assert codec.take_pressed() == [(slow, False)]
    assert len(client.body(slow)) == 200_000


class _Call:
    """Notes what it is told, with its number."""

    def __init__(self, number: Any, told: list[tuple[int, bool]]) -> None:
        self._number, self._told = number, told

    def cancel(self) -> None:
        """Not of interest."""

    def throttle(self, paused: bool) -> None:
        self._told.append((self._number, paused))


def test_all_calls_of_a_translated_answer_wait() -> None:
    """Those that run are told, one that starts meanwhile too, and all of them when it is over."""
    told: list[tuple[int, bool]] = []
    legs = Legs(lambda leg, _: _Call(leg, told))
    pairs: list[Any] = [(number, f"receiver {number}") for number in range(9)]
    legs.begin(pairs)
    legs.throttle(True)
    assert told == [(number, True) for number in range(8)]
    legs.ended(pairs[0][1])
    assert told[-1] == (8, True)
    told.clear()
    legs.throttle(False)
    assert sorted(told) == [(number, False) for number in range(1, 9)]
