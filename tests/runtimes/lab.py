"""Servers, proxies and clients for the tests, each started once a session when the first test needs it."""

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from runtimes.environments import Environment, EnvironmentUnavailable, prepare
from runtimes.programs import Client, Proxy, run_client, run_proxy
from runtimes.routes import Route
from runtimes.servers import (
    Server,
    run_caikit,
    run_caikit_nlp,
    run_kserve,
    run_mlserver,
    run_triton,
    run_vllm,
    run_vllm_embeddings,
)

RUN_SERVER = {
    "triton": run_triton,
    "mlserver": run_mlserver,
    "kserve": run_kserve,
    "caikit-tgis": run_caikit,
    "caikit-standalone": run_caikit,
    "caikit-minilm": run_caikit_nlp,
    "vllm-nvidia": run_vllm,
    "vllm-embeddings": run_vllm_embeddings,
}
# where the runtime's name is not the environment's
ENVIRONMENTS = {
    "caikit-tgis": "caikit",
    "caikit-standalone": "caikit",
    "caikit-minilm": "caikitnlp",
    "vllm-nvidia": "vllm",
    "vllm-embeddings": "vllm",
}
NAMES = {
    "vllm-embeddings": "vllm-nvidia",
    "caikit-minilm": "caikit-standalone",
}  # what the proxy knows a server as, where it has another name here


def environment(name: str) -> Environment:
    """The environment, or a skip that says why this machine has none; with INFERBRIDGE_REQUIRE_RUNTIMES a failure."""
    try:
        return prepare(name)
    except EnvironmentUnavailable as problem:
        if os.environ.get("INFERBRIDGE_REQUIRE_RUNTIMES"):
            raise
        pytest.skip(str(problem))


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
            found = environment(ENVIRONMENTS.get(runtime, runtime))
            start = RUN_SERVER[runtime](found, self._folders.mktemp(runtime))
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
            started = run_proxy(f"{NAMES.get(runtime, runtime)}={url}", folder, **server.settings)
            self._proxies[key] = self._stack.enter_context(started)
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
