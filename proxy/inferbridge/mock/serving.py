"""Mocked runtimes on sockets: one port for each that the spec names, all in one event loop."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from inferbridge.bridge.context import RuntimeProfile
from inferbridge.bridge.matching import protocols
from inferbridge.gateway.clients import listening as sockets
from inferbridge.mock.exchange import Observer
from inferbridge.mock.runtime import NO_SCENARIO, MockRuntime
from inferbridge.mock.script import Scenario
from inferbridge_generated.registry import APIS
from inferbridge_generated.runtimes import PROFILES

SCHEMES = {"rest": "http", "grpc": "grpc"}


@dataclass(frozen=True, slots=True)
class Doors:
    """Where a mock listens: `rest` and `grpc` replace the ports of the spec, 0 is any free one."""

    host: str = "127.0.0.1"
    rest: int | None = None
    grpc: int | None = None


@asynccontextmanager
async def listening(runtime: MockRuntime, host: str, port: int) -> AsyncIterator[int]:
    """Serve one mock; the value is its port."""
    async with sockets.listening(runtime, runtime.limits, host, port) as bound:
        try:
            yield bound
        finally:
            runtime.close()


@asynccontextmanager
async def mocking(
    name: str, doors: Doors, scenario: Scenario = NO_SCENARIO, observer: Observer = lambda seen: None
) -> AsyncIterator[list[str]]:
    """Serve a runtime by its name; the value is its URLs."""
    async with AsyncExitStack() as stack:
        urls = []
        for protocol, port, profiles in _ports(PROFILES[name], doors):
            runtime = MockRuntime(profiles, protocol, scenario, observer)
            bound = await stack.enter_async_context(listening(runtime, doors.host, port))
            host = f"[{doors.host}]" if ":" in doors.host else doors.host
            urls.append(f"{SCHEMES[protocol]}://{host}:{bound}")
        yield urls


def _ports(profiles: tuple[RuntimeProfile, ...], doors: Doors) -> Iterator[tuple[str, int, list[RuntimeProfile]]]:
    """Protocol, port, and what is spoken there. A spec that names no port at all leaves all to chance."""
    for protocol, told in (("rest", doors.rest), ("grpc", doors.grpc)):
        spoken: dict[int, list[RuntimeProfile]] = {}
        for profile in profiles:
            ports = profile.ports or dict.fromkeys(protocols(APIS[profile.api]), 0)
            if protocol in ports:
                spoken.setdefault(ports[protocol] if told is None else told, []).append(profile)
        yield from ((protocol, port, some) for port, some in spoken.items())
