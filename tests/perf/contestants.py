"""The proxies that are measured: how each is started, and how the same call is written for it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runtimes.environments import prepare
from runtimes.programs import run_proxy
from runtimes.servers import accepts_connections, free_ports, stop_group

DESCRIPTORS = Path(__file__).parents[1] / "golden" / "descriptors" / "v2_triton.binpb"
MEGABYTE = 1 << 20
START_SECONDS = 20.0
type Way = Literal["transcode", "grpc", "rest"]
"""HTTP/1.1 in and gRPC out, gRPC in and out, HTTP/1.1 in and out."""


@dataclass(frozen=True)
class Contestant:
    """A running proxy."""

    name: str
    port: int
    pid: int


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process and of its children, from the scheduler's own counters."""
    spent = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        spent += int((task / "schedstat").read_text().split()[0])
        for child in (task / "children").read_text().split():
            spent += round(cpu_seconds(int(child)) * 1e9)
    return spent / 1e9


@contextmanager
def run_inferbridge(upstream_port: int, folder: Path, profile: Path | None = None) -> Iterator[Contestant]:
    """Our proxy in front of the upstream; `profile` takes cProfile's statistics."""
    with run_proxy(f"triton=grpc://127.0.0.1:{upstream_port}", folder, profile=profile) as proxy:
        yield Contestant("inferbridge", int(proxy.address.rpartition(":")[2]), proxy.pid)


@contextmanager
def run_envoy(upstream_port: int, folder: Path, way: Way = "transcode") -> Iterator[Contestant]:
    """Envoy in front of the upstream, one worker thread."""
    environment = prepare("envoy")
    (port,) = free_ports(1)
    config = folder / "envoy.json"
    config.write_text(json.dumps(envoy_config(port, upstream_port, way)))
    binary = environment.site_packages / "envoy" / "_bin" / "envoy"
    command: list[str | Path] = [binary, "--config-path", config, "--concurrency", "1", "--log-level", "warning"]
    command += ["--disable-hot-restart"]
    with (folder / "envoy.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        _await_port(port, folder / "envoy.log")
        yield Contestant("envoy", port, process.pid)
    finally:
        stop_group(process)


def _await_port(port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not accepts_connections(port):
        if time.monotonic() > deadline:
            raise RuntimeError(f"no listener on port {port}:\n{log.read_text()}")
        time.sleep(0.05)


@contextmanager
def run_upstream(program: str = "echo_upstream.py") -> Iterator[int]:
    """An upstream, the echoing gRPC server unless said otherwise, in a process of its own; gives its port."""
    with _run(program) as started:
        yield started.port


@contextmanager
def run_relay(upstream_port: int) -> Iterator[Contestant]:
    """What moves bytes and does nothing else, in front of an upstream."""
    with _run("relay.py", str(upstream_port)) as started:
        yield started


@contextmanager
def _run(program: str, *arguments: str) -> Iterator[Contestant]:
    """One of the programs of this folder that print their port."""
    command: list[str | Path] = [sys.executable, Path(__file__).with_name(program), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ, start_new_session=True)
    assert process.stdout is not None
    try:
        yield Contestant(program, int(process.stdout.readline()), process.pid)
    finally:
        process.stdout.close()
        stop_group(process)


def envoy_config(port: int, upstream_port: int, way: Way = "transcode") -> dict[str, object]:
    """Envoy's bootstrap, with the transcoder by method name where it is wanted, and buffers for the largest body."""
    types = "type.googleapis.com/envoy.extensions"
    transcoder = {
        "@type": f"{types}.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        "proto_descriptor": str(DESCRIPTORS),
        "services": ["inference.GRPCInferenceService"],
        "auto_mapping": True,
        "print_options": {"preserve_proto_field_names": True},
    }
    manager = {
        "@type": f"{types}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "front",
        "codec_type": "HTTP2" if way == "grpc" else "HTTP1",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "upstream", "timeout": "60s"}}],
                }
            ]
        },
        "http_filters": [
            *([{"name": "transcoder", "typed_config": transcoder}] if way == "transcode" else []),
            {"name": "router", "typed_config": {"@type": f"{types}.filters.http.router.v3.Router"}},
        ],
    }
    listener = {
        "name": "front",
        "address": _address(port),
        "per_connection_buffer_limit_bytes": 64 * MEGABYTE,
        "filter_chains": [{"filters": [{"name": "manager", "typed_config": manager}]}],
    }
    return {"static_resources": {"listeners": [listener], "clusters": [_envoy_cluster(upstream_port, way)]}}


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _envoy_cluster(port: int, way: Way) -> dict[str, object]:
    options = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http_protocol_options" if way == "rest" else "http2_protocol_options": {}},
    }
    return {
        "name": "upstream",
        "type": "STATIC",
        "connect_timeout": "5s",
        "per_connection_buffer_limit_bytes": 64 * MEGABYTE,
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        "load_assignment": {
            "cluster_name": "upstream",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}],
        },
    }


def http_request(name: str, numbers: list[str] | None) -> bytes:
    """The call in a contestant's JSON: an FP32 tensor given as number texts, or without numbers the liveness check."""
    if name == "envoy":
        service = "/inference.GRPCInferenceService"
        if numbers is None:
            return _http(f"POST {service}/ServerLive", "{}")
        return _http(f"POST {service}/ModelInfer", _envoy_body(numbers))
    if numbers is None:
        return _http("GET /v2/health/live", None)
    return _http("POST /v2/models/echo/infer", _v2_body(numbers))


def _http(start: str, body: str | None) -> bytes:
    head = f"{start} HTTP/1.1\r\nhost: 127.0.0.1\r\n"
    if body is None:
        return f"{head}\r\n".encode()
    return f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()


def _v2_body(numbers: list[str]) -> str:
    tensor = f'{{"name":"INPUT","shape":[{len(numbers)}],"datatype":"FP32","data":[{",".join(numbers)}]}}'
    return f'{{"id":"1","inputs":[{tensor}]}}'


def _envoy_body(numbers: list[str]) -> str:
    """ProtoJSON knows no `data`: the numbers are where the proto has them."""
    contents = f'"contents":{{"fp32_contents":[{",".join(numbers)}]}}'
    tensor = f'{{"name":"INPUT","shape":[{len(numbers)}],"datatype":"FP32",{contents}}}'
    return f'{{"model_name":"echo","id":"1","inputs":[{tensor}]}}'


def reply_numbers(reply: dict[str, object]) -> list[float]:
    """The FP32 values of an inference reply in either JSON."""
    outputs = reply["outputs"]
    assert isinstance(outputs, list)
    numbers = outputs[0]["data"] if "data" in outputs[0] else outputs[0]["contents"]["fp32_contents"]
    assert isinstance(numbers, list)
    return numbers
