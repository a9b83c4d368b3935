"""Real servers, started once a session when the first test needs them, and clients and proxies in front of them."""

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from runtimes.lab import Lab, environment
from runtimes.programs import Client, run_proxy
from runtimes.routes import Route
from runtimes.servers import log_tail, run_vllm_embeddings

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


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Lab]:
    """Where tests get servers, proxies and clients from."""
    with ExitStack() as stack:
        yield Lab(stack, tmp_path_factory, pytestconfig.stash[LOGS])


@pytest.fixture
def client(lab: Lab, route: Route) -> Client:
    """The client of the route a test is parametrized with."""
    return lab.client(route)


@pytest.fixture(scope="session")
def pooling_vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The address of a vLLM that makes vectors, and the address of the proxy in front of it."""
    with (
        run_vllm_embeddings(environment("vllm"), tmp_path_factory.mktemp("vllm")) as server,
        run_proxy(f"vllm-nvidia={server.rest_url}", tmp_path_factory.mktemp("proxy")) as proxy,
    ):
        yield f"127.0.0.1:{server.rest_port}", proxy.address
