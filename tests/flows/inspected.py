"""A gateway in memory whose calls a mitmproxy keeps as flows."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from mitmproxy.addons.view import View
from mitmproxy.connection import Client as Connection
from mitmproxy.flow import Flow
from mitmproxy.http import HTTPFlow
from mitmproxy.master import Master
from mitmproxy.options import Options

from gateway.test_service import Client
from gateway.test_translating import Upstream
from inferbridge.bridge.context import Policy, Setting
from inferbridge.bridge.values import Headers
from inferbridge.flows.keeping import FlowKeeper
from inferbridge.gateway.application import RequestHead, RequestSink
from inferbridge.gateway.calls.targets import Target
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.records.recording import Recorder
from inferbridge.gateway.service import GatewayService
from inferbridge.upstream.pool import Pool
from inferbridge_generated import operations
from inferbridge_generated.registry import APIS
from inferbridge_generated.runtimes import PROFILES

PEER = "10.0.0.1:5"
JSON: Headers = (("content-type", "application/json"), ("authorization", "Bearer canary"))
COMPLETION = b'{"model":"tiny","prompt":"a","temperature":0,"stream":true}'
EVENTS: Headers = (("content-type", "text/event-stream"),)


@dataclass
class Heard:
    """An addon that notes which hooks it hears, and how far the answer is then."""

    hooks: list[tuple[str, int]] = field(default_factory=list)

    def _note(self, hook: str, flow: HTTPFlow) -> None:
        self.hooks.append((hook, len(flow.response.raw_content or b"") if flow.response else -1))

    def requestheaders(self, flow: HTTPFlow) -> None:
        self._note("requestheaders", flow)

    async def request(self, flow: HTTPFlow) -> None:
        self._note("request", flow)

    def responseheaders(self, flow: HTTPFlow) -> None:
        self._note("responseheaders", flow)

    def response(self, flow: HTTPFlow) -> None:
        self._note("response", flow)

    def error(self, flow: HTTPFlow) -> None:
        self._note("error", flow)

    @property
    def names(self) -> list[str]:
        """The hooks, in their order."""
        return [name for name, _ in self.hooks]


class Inspected:
    """A gateway in front of one runtime, in a mitmproxy with a view and further addons."""

    def __init__(
        self, *addons: Any, runtime: str = "tgis", protocol: str = "grpc", pool: Pool | None = None, **bounds: int
    ):
        self.master = Master(Options(), with_termlog=False)
        self.view = View()
        self.master.addons.add(self.view, *addons)
        self.keeper = FlowKeeper(
            self.master.addons, self.master.options, addresses={runtime: ("10.0.0.9", 8033)}, **bounds
        )
        self.upstream = Upstream()
        setting = Setting(operations=operations)
        chosen = pool or self.upstream
        targets = [Target(runtime, profile, protocol, chosen, ("*",), setting) for profile in PROFILES[runtime]]
        service = GatewayService(targets, APIS, Policy(), Limits())
        self.application = Recorder(service, [self.keeper], [self.keeper])

    def open(
        self, path: str = "/v1/completions", body: bytes = COMPLETION, headers: Headers = JSON, peer: str = PEER
    ) -> tuple[Client, RequestSink]:
        """A call whose body is complete."""
        client = Client()
        sink = self.application.open(RequestHead("POST", path, "gateway:8080", headers, "1.1", peer=peer), client)
        sink.on_data(body)
        sink.on_end()
        return client, sink

    @property
    def flow(self) -> HTTPFlow:
        """The only one."""
        (flow,) = self.flows
        return flow

    @property
    def flows(self) -> list[HTTPFlow]:
        """Those in the view, in their order."""
        found: list[Flow] = list(self.view)
        return [flow for flow in found if isinstance(flow, HTTPFlow)]


@contextmanager
def inspected(*addons: Any, **options: Any) -> Iterator[Inspected]:
    """A gateway under inspection; mitmproxy's log is let go of at the end."""
    made = Inspected(*addons, **options)
    try:
        yield made
    finally:
        made.master._legacy_log_events.uninstall()


def connection() -> Connection:
    """That of `PEER`."""
    host, _, port = PEER.rpartition(":")
    return Connection(peername=(host, int(port)), sockname=("10.0.0.2", 8080))
