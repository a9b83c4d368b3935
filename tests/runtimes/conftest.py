"""Real servers, started once a session when the first test needs them, and clients and proxies in front of them."""

import os
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from runtimes.environments import Environment, EnvironmentUnavailable, prepare
from runtimes.programs import Client, Proxy, run_client, run_proxy
from runtimes.routes import Route
from runtimes.servers import Server, log_tail, run_mlserver, run_triton

LOGS = pytest.StashKey[dict[str, Path]]()


def pytest_configure(config: pytest.Config) -> None:
    """Remember the logs of what is running, for the report of a failure."""
    config.stash[LOGS] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the end of every log to the report of a failed test."""
    report = yield
    if report.failed:
        for name, log in item.config.stash.get(LOGS, {}).items():
            report.sections.append((f"end of the {name} log", log_tail(log, 15)))
    return report


def environment(name: str) -> Environment:
    """The environment, or a skip that says why this machine has none; with INFERBRIDGE_REQUIRE_RUNTIMES a failure."""
    try:
        return prepare(name)
    except EnvironmentUnavailable as problem:
        if os.environ.get("INFERBRIDGE_REQUIRE_RUNTIMES"):
            raise
        pytest.skip(str(problem))


RUN_SERVER = {"triton": run_triton, "mlserver": run_mlserver}


class Lab:
    """Servers, proxies and clients by what they connect, each started when first asked for."""

    def __init__(self, stack: ExitStack, folders: pytest.TempPathFactory, logs: dict[str, Path]) -> None:
        self._stack = stack
        self._folders = folders
        self._logs = logs
        self._servers: dict[str, Server] = {}
        self._proxies: dict[tuple[str, str], Proxy] = {}
        self._clients: dict[Route, Client] = {}

    def server(self, runtime: str) -> Server:
        """The running server of a runtime."""
        if runtime not in self._servers:
            start = RUN_SERVER[runtime](environment(runtime), self._folders.mktemp(runtime))
            self._servers[runtime] = self._stack.enter_context(start)
            self._logs[runtime] = self._servers[runtime].log
        return self._servers[runtime]

    def proxy(self, runtime: str, upstream: str) -> Proxy:
        """The proxy that speaks `upstream`, rest or grpc, to the runtime."""
        key = (runtime, upstream)
        if key not in self._proxies:
            server = self.server(runtime)
            url = server.rest_url if upstream == "rest" else server.grpc_url
            folder = self._folders.mktemp(f"proxy-{runtime}-{upstream}")
            self._proxies[key] = self._stack.enter_context(run_proxy(f"{runtime}={url}", folder))
            self._logs[f"proxy {runtime} {upstream}"] = self._proxies[key].log
        return self._proxies[key]

    def client(self, route: Route) -> Client:
        """The client at the far end of a route."""
        if route not in self._clients:
            folder = self._folders.mktemp("client")
            start = run_client(environment(route.environment), route.client, self._address(route), folder)
            self._clients[route] = self._stack.enter_context(start)
        return self._clients[route]

    def _address(self, route: Route) -> str:
        if not route.direct:
            return self.proxy(route.runtime, route.upstream).address
        server = self.server(route.runtime)
        return f"127.0.0.1:{server.rest_port if route.upstream == 'rest' else server.grpc_port}"


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Lab]:
    """Where tests get servers, proxies and clients from."""
    with ExitStack() as stack:
        yield Lab(stack, tmp_path_factory, pytestconfig.stash[LOGS])


@pytest.fixture
def client(lab: Lab, route: Route) -> Client:
    """The client of the route a test is parametrized with."""
    return lab.client(route)
