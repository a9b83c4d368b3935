"""Measures the paths that a user has, with all that production has on, and writes what was found to a page.

    python tests/perf/table.py [--rounds 5] [--seconds 0.6] [--write docs/performance.md]

The proxy has a key for its caller, a rule with rates, limits, the access log and the admin port with its metrics.
Envoy has nothing but its router, and where it translates its transcoder; it runs where it can do the same. Rounds are
interleaved, as in gateway.py, and the first one warms up. A machine that others use changes speed: figures are given as
measured, and scaled to the machine that the aims were set on by what Envoy cost there and costs here.
"""

import argparse
import contextlib
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1])]

from inferbridge.auth import key_form  # noqa: E402
from inferbridge.auth.key_edit import entry_text  # noqa: E402
from inferbridge.auth.key_file import KeyEntry  # noqa: E402
from inferbridge_generated.open_inference import wire as v2  # noqa: E402
from perf import streams  # noqa: E402
from perf.contestants import Contestant, Way, cpu_seconds, http_request, run_envoy, run_relay, run_upstream  # noqa: E402
from perf.cost import loop_ms  # noqa: E402
from perf.gateway import Load, Series, number_texts  # noqa: E402
from perf.report import Start, page  # noqa: E402
from perf.rows import ROWS, Bulk, Found, Row  # noqa: E402
from runtimes.environments import EnvironmentUnavailable  # noqa: E402
from runtimes.programs import run_proxy  # noqa: E402

CONNECTIONS = 8
STARTS = 5
BULK = 40_000_000
INFER = "/inference.GRPCInferenceService/ModelInfer"
TEMPLATE = {"chat_template": "{{ messages[0]['content'] }}", "bos_token": "", "eos_token": ""}
LIMITS = {"body_size": "64MiB", "message_size": "64MiB"}
RATES = {"requests_per_minute": 100_000_000, "concurrent_calls": 10_000}


@dataclass
class Key:
    """Of the caller."""

    key_id: str
    secret: str

    @property
    def token(self) -> str:
        """As it is sent."""
        return key_form.written(self.key_id, self.secret)

    def configuration(self, folder: Path) -> dict[str, object]:
        """All that is on, with the file of the key written."""
        entry = KeyEntry(self.key_id, key_form.digest_of(self.key_id, self.secret), name="load")
        (folder / "keys.yaml").write_text("keys:\n" + entry_text(entry))
        return {
            "auth": {"authenticators": [{"keys": {"file": "keys.yaml"}}], "rules": [{"rates": RATES}]},
            "limits": LIMITS,
            "access_log": {"enabled": True},
            "admin": {"listen": "127.0.0.1:0"},
        }


@contextmanager
def ours(upstream: str, key: Key, **settings: object) -> Iterator[Contestant]:
    """Our proxy, with all of it on."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "chat_template" in settings:
            (folder / "tokenizer_config.json").write_text(json.dumps(TEMPLATE))
        with run_proxy(upstream, folder, configuration=key.configuration(folder), **settings) as proxy:
            yield Contestant("inferbridge", int(proxy.address.rpartition(":")[2]), proxy.pid)


def envoy(stack: ExitStack, port: int, way: Way) -> Contestant | None:
    """Envoy in front of an upstream, where it can be had."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    try:
        return stack.enter_context(run_envoy(port, folder, way))
    except EnvironmentUnavailable as problem:
        sys.stderr.write(f"without Envoy: {problem}\n")
        return None


def http(path: str, body: bytes, *headers: str) -> bytes:
    """A POST."""
    lines = [f"POST {path} HTTP/1.1", "host: 127.0.0.1", f"content-length: {len(body)}", *headers]
    if not any(line.startswith("content-type") for line in headers):
        lines.append("content-type: application/json")
    return "\r\n".join([*lines, "", ""]).encode() + body


def with_key(request: bytes, key: Key) -> bytes:
    """The same request, by who may."""
    return request.replace(b"\r\n", f"\r\nauthorization: Bearer {key.token}\r\n".encode(), 1)


def message(values: np.ndarray) -> bytes:  # type: ignore[type-arg]  # of float32
    """A ModelInferRequest with raw contents."""
    tensor = v2.ModelInferRequest_InferInputTensor(name="INPUT", datatype="FP32", shape=[len(values)])
    asked = v2.ModelInferRequest(model_name="echo", inputs=[tensor], raw_input_contents=[values.tobytes()])
    return b"".join(map(bytes, v2.encode_ModelInferRequest(asked)))


def binary(size: int) -> bytes:
    """A V2 REST request with a tensor of `size` bytes in the binary extension, whose answer is to have it too."""
    tensor = {"name": "INPUT", "datatype": "FP32", "shape": [size // 4], "parameters": {"binary_data_size": size}}
    head = json.dumps({"id": "1", "inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    kind = "content-type: application/octet-stream"
    length = f"inference-header-content-length: {len(head)}"
    return http("/v2/models/echo/infer", head + bytes(size), kind, length)


def chat(**more: object) -> bytes:
    """A chat completion; the text is what stream_upstream.py takes for the pause between its messages."""
    asked = {"model": "m", "messages": [{"role": "user", "content": "0"}], "temperature": 0, **more}
    return http("/v1/chat/completions", json.dumps(asked).encode())


@dataclass
class Case:
    """One row's proxies, and what is sent to them."""

    row: Row
    load: Load
    request: bytes
    ours: Contestant
    envoy: Contestant | None = None
    envoy_request: bytes = b""
    own: Series = field(default_factory=Series)
    theirs: Series = field(default_factory=Series)

    def round(self, counted: bool) -> None:
        """One measurement of each."""
        self.load.measure(self.ours, self.request, self.own if counted else Series())
        if self.envoy is not None:
            self.load.measure(self.envoy, self.envoy_request or self.request, self.theirs if counted else Series())


def paths(stack: ExitStack, key: Key, seconds: float, echo: int, rest: int) -> list[Case]:
    """Every row that is a rate of small calls, with all that it needs but the upstreams at `echo` and `rest`."""
    _, fmaas = stack.enter_context(streams.upstream())
    to_grpc = stack.enter_context(ours(f"triton=grpc://127.0.0.1:{echo}", key))
    to_rest = stack.enter_context(ours(f"triton=http://127.0.0.1:{rest}", key))
    to_vllm = stack.enter_context(ours(f"vllm-nvidia=http://127.0.0.1:{rest}", key))
    to_tgis = stack.enter_context(ours(f"tgis=grpc://127.0.0.1:{fmaas}", key, chat_template="tokenizer_config.json"))
    transcoder, passing, plain = (
        envoy(stack, port, way)
        for port, way in ((echo, "transcode"), (echo, "grpc"), (rest, "rest"))  # type: ignore[arg-type]  # the words of Way
    )
    h1 = stack.enter_context(contextlib.closing(Load(CONNECTIONS, seconds)))
    h2 = stack.enter_context(contextlib.closing(grpc_load(CONNECTIONS, seconds, key)))
    rows = dict(zip(("16", "1024", "65536", "passthrough", "to_rest", "chat", "stream"), ROWS, strict=True))
    small = message(np.arange(16, dtype="<f4"))
    found = []
    for count in (16, 1024, 65536):
        numbers = number_texts(count)
        request = with_key(http_request("inferbridge", numbers), key)
        found.append(Case(rows[f"{count}"], h1, request, to_grpc, transcoder, http_request("envoy", numbers)))
    return [
        *found,
        Case(rows["passthrough"], h2, small, to_grpc, passing),
        Case(rows["to_rest"], h2, small, to_rest),
        Case(rows["chat"], h1, with_key(chat(), key), to_vllm, plain),
        Case(rows["stream"], h1, with_key(chat(stream=True, max_tokens=32), key), to_tgis),
    ]


def grpc_load(connections: int, seconds: float, key: Key) -> Load:
    """Of inference calls."""
    return Load(connections, seconds, "grpc_load.py", method=INFER, token=key.token)


def measured(options: argparse.Namespace, key: Key) -> tuple[list[Found], list[Bulk], float]:
    """All rows; and milliseconds of the empty loop."""
    with ExitStack() as stack:
        echo, rest = (stack.enter_context(run_upstream(name)) for name in ("echo_upstream.py", "rest_upstream.py"))
        every = paths(stack, key, options.seconds, echo, rest)
        loops = []
        for number in range(options.rounds + 1):
            loops.append(loop_ms())
            for path in every:
                path.round(counted=number > 0)
            sys.stderr.write(f"round {number} of {options.rounds}\n")
        medians = [(path.row, median(path.own), median(path.theirs)) for path in every]
        relays = [stack.enter_context(run_relay(port)) for port in (rest, echo)]
        found = bulk(key, options.rounds, (every[0].ours, every[4].ours), relays)
        return [Found(*each) for each in medians], found, statistics.median(loops)


def median(series: Series) -> float | None:
    """CPU microseconds of a call."""
    return statistics.median(series.cpu) * 1e6 if series.cpu else None


def bulk(key: Key, rounds: int, proxies: Sequence[Contestant], relays: Sequence[Contestant]) -> list[Bulk]:
    """One connection, bodies of 40 MB both ways; a proxy and a relay for REST clients, and the same for gRPC's."""
    cases = {
        "V2 REST to gRPC and back": (Load(1, 0.1), with_key(binary(BULK), key)),
        "gRPC to V2 REST and back": (grpc_load(1, 0.1, key), message(np.zeros(BULK // 4, "<f4"))),
    }
    found = []
    for (name, (load, request)), proxy, relay in zip(cases.items(), proxies, relays, strict=True):
        own, least, copies = Series(), Series(), []
        idle = memory(proxy.pid, "VmRSS")
        Path(f"/proc/{proxy.pid}/clear_refs").write_text("5")
        for _ in range(3 * rounds):
            copies.append(memcpy_seconds())
            load.measure(proxy, request, own)
            load.measure(relay, request, least)
        load.close()
        ways = (statistics.median(each.cpu) / 2 / statistics.median(copies) for each in (own, least))
        found.append(Bulk(name, *ways, held=(memory(proxy.pid, "VmHWM") - idle) / BULK))
    return found


def memcpy_seconds() -> float:
    """CPU seconds of copying such a body once, from and to memory that is there already."""
    source, target = np.ones(BULK, "u1"), np.ones(BULK, "u1")
    started = time.process_time()
    np.copyto(target, source)
    return time.process_time() - started


def memory(pid: int, what: str) -> int:
    """Bytes, as the kernel tells them of a process."""
    found = re.search(rf"^{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def starts(key: Key) -> Start:
    """Seconds from the command to the first answer, and memory then."""
    seconds, resident, cpu = [], [], []
    for _ in range(STARTS):
        began = time.monotonic()
        with ours("triton=grpc://127.0.0.1:9", key) as proxy:
            seconds.append(time.monotonic() - began)
            cpu.append(cpu_seconds(proxy.pid))
            time.sleep(0.5)
            resident.append(memory(proxy.pid, "VmRSS"))
    return Start(statistics.median(seconds), statistics.median(resident), statistics.median(cpu))


def main() -> int:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.6, help="length of a measurement")
    parser.add_argument("--write", type=Path, help="where the page goes")
    options = parser.parse_args()
    key = Key(*key_form.new_key())
    started = starts(key)
    text = page(*measured(options, key), started, options.rounds)
    sys.stdout.write(text)
    if options.write:
        options.write.write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
