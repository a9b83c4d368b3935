"""The layer's playbook: every event that mitmproxy may bring, in every state, and the commands that come of it."""

from collections.abc import Callable

import pytest
from mitmproxy.proxy import commands, events

from gateway.applications import Silent
from gateway.test_layer import GET, Driver
from inferbridge.gateway.application import Responder
from inferbridge.gateway.clients.layer import OutputReady

type Commands = list[str]

LAST = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def new() -> Driver:
    """Nothing has come yet."""
    return Driver(Silent())


def begun() -> Driver:
    """A request has begun."""
    driver = new()
    assert driver.data(GET[:10]) == []
    return driver


def waiting() -> Driver:
    """A request is complete, and unanswered."""
    driver = new()
    assert driver.data(GET) == []
    return driver


def ready() -> Driver:
    """An answer is there, and its turn has not come."""
    driver = waiting()
    answer(driver)
    assert len(driver.injected) == 1
    return driver


def streaming() -> Driver:
    """An answer has begun."""
    driver = waiting()
    responder(driver).head(200, ())
    driver.turn()
    return driver


def closing() -> Driver:
    """The last answer is sent, and our half is shut."""
    driver = new()
    driver.data(LAST)
    answer(driver)
    assert kinds(driver.turn()) == CLOSES
    return driver


def gone() -> Driver:
    """The client has left, with an answer on its way."""
    driver = ready()
    assert kinds(driver.feed(events.ConnectionClosed(driver.context.client))) == CLOSE
    return driver


def responder(driver: Driver) -> Responder:
    """That of the last call."""
    return driver.application.sinks[-1].responder


def answer(driver: Driver) -> None:
    """Answer the last call."""
    responder(driver).whole(200, (), (b"ok",))


def kinds(found: list[commands.Command]) -> Commands:
    """The commands by name; which half is shut is told."""
    shut = (commands.CloseTcpConnection,)
    return [f"{type(each).__name__}{' half' if isinstance(each, shut) and each.half_close else ''}" for each in found]


NOTHING: Commands = []
SEND = ["SendData"]
CLOSE = ["CloseConnection"]
LINGER = ["CloseTcpConnection half", "RequestWakeup"]
CLOSES = [*SEND, *LINGER]

EVENTS: dict[str, Callable[[Driver], events.Event]] = {
    "request": lambda driver: events.DataReceived(driver.context.client, GET),
    "nonsense": lambda driver: events.DataReceived(driver.context.client, b"\0\r\n\r\n"),
    "nothing": lambda driver: events.DataReceived(driver.context.client, b""),
    "turn": lambda driver: OutputReady(),
    "wakeup": lambda driver: events.Wakeup(commands.RequestWakeup(1)),
    "closed": lambda driver: events.ConnectionClosed(driver.context.client),
    "start": lambda driver: events.Start(),
    "other": lambda driver: events.MessageInjected(None, b""),
}

PLAYBOOK: dict[Callable[[], Driver], dict[str, Commands]] = {
    new: {"request": NOTHING, "nonsense": CLOSES, "turn": NOTHING},
    begun: {"request": CLOSES, "nonsense": CLOSES, "turn": NOTHING},
    waiting: {"request": NOTHING, "nonsense": NOTHING, "turn": NOTHING},  # what is pipelined has to wait
    ready: {"request": SEND, "nonsense": CLOSES, "turn": SEND},
    streaming: {"request": NOTHING, "nonsense": NOTHING, "turn": NOTHING},
    closing: {"request": NOTHING, "nonsense": NOTHING, "turn": NOTHING},
    gone: {"request": NOTHING, "nonsense": NOTHING, "turn": NOTHING},
}
"""What differs by state."""
ALWAYS: dict[str, Commands] = {"wakeup": CLOSE, "closed": CLOSE, "start": NOTHING, "other": NOTHING}

CASES = [
    (state, event, found) for state, differing in PLAYBOOK.items() for event, found in (differing | ALWAYS).items()
]


@pytest.mark.parametrize(("state", "event", "expected"), CASES, ids=[f"{case[0].__name__}-{case[1]}" for case in CASES])
def test_every_event_in_every_state(state: Callable[[], Driver], event: str, expected: Commands) -> None:
    """Each event has the commands of the playbook and no others, whatever has happened before."""
    driver = state()
    assert kinds(driver.feed(EVENTS[event](driver))) == expected


@pytest.mark.parametrize("state", PLAYBOOK, ids=lambda state: state.__name__)
def test_after_the_client_has_gone_nothing_is_sent(state: Callable[[], Driver]) -> None:
    """Whatever was on its way when a client left, no later event sends, half-closes or asks to be woken."""
    driver = state()
    driver.feed(events.ConnectionClosed(driver.context.client))
    for event in ("turn", "request", "nothing", "turn"):
        assert driver.feed(EVENTS[event](driver)) == []


@pytest.mark.parametrize("state", PLAYBOOK, ids=lambda state: state.__name__)
def test_a_client_that_has_gone_cancels_its_call_once(state: Callable[[], Driver]) -> None:
    """A call in flight hears that its client is gone; one that is answered does not."""
    driver = state()
    answered = state in (ready, closing, gone)
    for _ in range(2):
        driver.feed(events.ConnectionClosed(driver.context.client))
    assert [sink.cancelled for sink in driver.application.sinks] == [not answered] * len(driver.application.sinks)


def test_a_half_of_the_last_answer_is_not_the_end() -> None:
    """A connection that is to close stays open until its last answer has gone."""
    driver = new()
    driver.data(LAST)
    responder(driver).head(200, ())
    assert kinds(driver.turn()) == SEND
    responder(driver).data(b"x")
    assert kinds(driver.turn()) == SEND
    responder(driver).end()
    assert kinds(driver.turn()) == CLOSES


def test_an_exception_in_the_layer_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes wrong in the layer itself ends the connection, and nothing is passed on."""
    driver = waiting()
    monkeypatch.setattr(driver.layer, "_react", lambda event: 1 / 0)
    assert kinds(driver.data(GET)) == CLOSE
