"""What a supervisor says of its workers, with workers in memory."""

from dataclasses import dataclass, field

import pytest

from inferbridge.config import Flags, Settings
from inferbridge.observe.health import Report
from inferbridge.process.channel import Message, Tell, Told
from inferbridge.process.source import Source
from inferbridge.process.supervisor import Supervisor, Worker
from inferbridge.process.together import Together
from timers import noted


@dataclass
class Wire:
    """The channel to a worker, which keeps what it is sent."""

    sent: list[Message] = field(default_factory=list)

    def send(self, message: Message) -> None:
        """Keep a message."""
        self.sent.append(message)


class Team:
    """A supervisor with two workers that serve and one that does not yet."""

    def __init__(self) -> None:
        self.supervisor = Supervisor(Settings(workers=3), Source(None, Flags()), ())
        self.together = Together(self.supervisor, 3)
        self.together.listening = ("127.0.0.1:8080",)
        self.wires = [Wire() for _ in range(3)]
        for number, wire in enumerate(self.wires):
            worker = Worker(number, None, wire, self.supervisor.on_told)  # type: ignore[arg-type]  # no process
            self.supervisor.workers[number] = worker
        for number in (0, 1):
            self.supervisor.workers[number].serving.set()
        self.reports: list[Report] = []

    def ask(self) -> int:
        """Ask; the number of the question."""
        self.together.ask(self.reports.append)
        (*_, tell) = self.wires[0].sent
        assert isinstance(tell, Tell)
        return tell.number

    def answer(self, worker: int, number: int, *, ready: bool = True, **upstreams: bool) -> None:
        """What a worker says."""
        told = Told(number, ready, upstreams, [])
        self.supervisor.workers[worker].told = told
        self.supervisor.on_told(self.supervisor.workers[worker], told)


async def test_one_worker_that_is_ready_is_enough() -> None:
    """The report waits for all that serve, and is ready if one of them is; an upstream is up where one finds it up."""
    team = Team()
    number = team.ask()
    team.answer(0, number, ready=False, one=False, two=True)
    assert team.reports == []
    team.answer(1, number, ready=True, one=True, two=True)
    (report,) = team.reports
    assert (report.reasons, report.upstreams) == ((), {"one": True, "two": True})
    assert team.wires[2].sent == []


async def test_without_a_worker_nothing_is_ready() -> None:
    """With none that serves the answer comes at once and says so."""
    team = Team()
    team.supervisor.workers.clear()
    team.together.ask(team.reports.append)
    (report,) = team.reports
    assert report.reasons


async def test_no_worker_is_ready() -> None:
    """Upstreams may be up and still no worker ready: that is a reason of its own."""
    team = Team()
    number = team.ask()
    for worker in (0, 1):
        team.answer(worker, number, ready=False, one=True)
    assert team.reports[0].reasons == ("no worker is ready",)


async def test_a_worker_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """When time is over the report is that of those who have answered; a late answer is no trouble."""
    timers, team = noted(monkeypatch), Team()
    number = team.ask()
    team.answer(0, number, one=True)
    timers.fire()
    assert [report.reasons for report in team.reports] == [()]
    team.answer(1, number, ready=False)
    assert len(team.reports) == 1
