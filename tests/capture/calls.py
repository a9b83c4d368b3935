"""Calls whose capture is looked at: real gateways in memory, with runtimes that the test scripts."""

from dataclasses import dataclass, field

from gateway.test_service import Client, Runtime
from inferbridge.bridge.chat_template import ChatTemplate
from inferbridge.bridge.context import Policy, Setting
from inferbridge.bridge.values import Headers
from inferbridge.capture.capturer import Capturer
from inferbridge.capture.lines import CapturedLine
from inferbridge.capture.settings import CaptureSettings
from inferbridge.gateway.application import RequestHead
from inferbridge.gateway.calls.guard import Access, Guard
from inferbridge.gateway.calls.targets import Target
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.records.recording import Recorder
from inferbridge.gateway.service import GatewayService
from inferbridge_generated import operations
from inferbridge_generated.registry import APIS
from inferbridge_generated.runtimes import PROFILES

TEMPLATE = "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}"


@dataclass
class Kept:
    """A sink that keeps lines."""

    lines: list[CapturedLine] = field(default_factory=list)

    async def take(self, line: CapturedLine) -> None:
        self.lines.append(line)

    async def close(self, seconds: float) -> None:
        pass

    @property
    def one(self) -> CapturedLine:
        """The only one."""
        (line,) = self.lines
        return line


@dataclass
class Counts:
    """Keeps counts."""

    taken: list[str] = field(default_factory=list)
    dropped: list[tuple[str, str]] = field(default_factory=list)

    def captured(self, sink: str) -> None:
        self.taken.append(sink)

    def capture_dropped(self, sink: str, reason: str) -> None:
        self.dropped.append((sink, reason))


class Captured:
    """A gateway in front of one scripted runtime, whose calls are captured; `chance` is that of every call.

    Nobody is asked who he is, unless `access` says so.
    """

    def __init__(
        self,
        settings: CaptureSettings,
        runtime: Runtime,
        name: str = "triton",
        protocol: str = "grpc",
        chance: float = 0.0,
        access: Access | None = None,
    ) -> None:
        self.kept, self.counts = Kept(), Counts()
        self.capturer = Capturer(settings, [self.kept], self.counts, lambda: chance)
        setting = Setting(operations=operations, chat_template=ChatTemplate(TEMPLATE))
        targets = [Target(name, profile, protocol, runtime, ("*",), setting) for profile in PROFILES[name]]
        inner = GatewayService(targets, APIS, Policy(), Limits())
        outer = inner if access is None else Guard(inner, access)
        self.recorder = Recorder(outer, [self.capturer], [self.capturer])

    def call(self, path: str, body: bytes, headers: Headers = (), method: str = "POST") -> Client:
        """A whole call."""
        client = Client()
        sink = self.recorder.open(RequestHead(method, path, "a", headers, "1.1", peer="10.0.0.1:5"), client)
        sink.on_data(body)
        sink.on_end()
        return client

    async def line(self) -> CapturedLine:
        """The line of the only call."""
        await self.capturer.drain()
        return self.kept.one

    async def lines(self) -> list[CapturedLine]:
        """Those of all calls."""
        await self.capturer.drain()
        return self.kept.lines
