"""What the admin port of a supervisor shows: its workers as one proxy."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from inferbridge.observe.adding import Collected, Family, added, lasting
from inferbridge.observe.health import Report
from inferbridge.observe.metrics import METRICS, Metrics, as_openmetrics, as_text
from inferbridge.observe.versions import Versions, versions
from inferbridge.process.channel import Told
from inferbridge.process.supervisor import Supervisor, Worker

ANSWER_SECONDS = 2.0
"""A worker that has not answered by then is not ready; its metrics are those that it last told."""


@dataclass(frozen=True, slots=True)
class ReportOfAll(Report):
    """Whether some worker can take calls."""

    workers: dict[str, int] | None = None
    """How many there should be, and how many serve and are ready."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """What keeps the whole from being ready."""
        found = Report(self.listening, self.upstreams, self.stopping).reasons
        ready = self.workers["ready"] if self.workers is not None else 0
        return found if ready or found else ("no worker is ready",)


class Question:
    """Put to all workers at one time."""

    def __init__(self, number: int, then: Callable[[], None]) -> None:
        self.number = number
        self.answers: list[Told] = []
        self.left = 0
        self._then: Callable[[], None] | None = then

    def done(self) -> None:
        """No more is waited for."""
        then, self._then = self._then, None
        if then is not None:
            then()


class Together:
    """The workers as one: `Reporter` and `Numbers` of the admin port."""

    def __init__(self, supervisor: Supervisor, wanted: int) -> None:
        self.versions: Versions = versions()
        self.own = Metrics(self.versions)
        """What the supervisor itself counts."""
        self.own.workers(0)
        self.listening: tuple[str, ...] = ()
        self._supervisor = supervisor
        self._wanted = wanted
        self._questions: dict[int, Question] = {}
        self._asked = 0
        self._gone: list[Family] = []
        """What workers had counted that are no more."""
        supervisor.on_told, supervisor.on_gone = self._hear, self._lose

    def ask(self, then: Callable[[Report], None]) -> None:
        """Ask all workers, and call `then` with what they say."""
        self._asked += 1
        question = Question(self._asked, lambda: then(self._report(question)))
        self._questions[question.number] = question
        question.left = self._supervisor.tell(question.number)
        if question.left:
            asyncio.get_running_loop().call_later(ANSWER_SECONDS, self._finish, question)
        else:
            self._finish(question)

    def _hear(self, worker: Worker, told: Told) -> None:
        question = self._questions.get(told.number)
        if question is None:
            return
        question.answers.append(told)
        question.left -= 1
        if not question.left:
            self._finish(question)

    def _finish(self, question: Question) -> None:
        self._questions.pop(question.number, None)
        question.done()

    def _report(self, question: Question) -> ReportOfAll:
        names = [name for told in question.answers for name in told.upstreams]
        upstreams = {name: any(told.upstreams.get(name) for told in question.answers) for name in names}
        serving = sum(worker.serving.is_set() for worker in self._supervisor.workers.values())
        ready = sum(told.ready for told in question.answers)
        workers = {"wanted": self._wanted, "serving": serving, "ready": ready}
        return ReportOfAll(self.listening, upstreams, self._supervisor.stopping, workers)

    def _lose(self, worker: Worker) -> None:
        """Keep what it had counted when it was last asked: what came after is lost with it."""
        self.own.restarted()
        if worker.told is not None:
            self._gone = added([self._gone, lasting(worker.told.families)], METRICS)

    def _collected(self) -> Collected:
        running = [worker.told.families for worker in self._supervisor.workers.values() if worker.told is not None]
        return Collected(added([self.own.families(), self._gone, *running], METRICS))

    def upstream_up(self, upstream: str, up: bool) -> None:
        """The workers have said it."""

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return as_text(self._collected())

    def openmetrics(self) -> bytes:
        """As OpenMetrics."""
        return as_openmetrics(self._collected())
