"""A runtime that restarts is called again within two seconds, however long it was gone."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path

import pytest

from hostile.proxy import Proxy, proxy, read_to_end
from hostile.recorders import Seen, http1_recorder, http2_recorder

SECONDS = 2.0
FAILURES = 8
"""More than open the circuit breaker of an address."""
COMPLETION = b'{"model":"m","prompt":"a","temperature":0}'
CASES = {
    "REST": (http1_recorder, "triton=http", b"GET /v2/models/m/ready", b""),
    "gRPC": (http2_recorder, "tgis=grpc", b"POST /v1/completions", COMPLETION),
}


def status(run: Proxy, line: bytes, body: bytes) -> int:
    """Of one call, on a connection of its own."""
    fields = b"Host: a\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
    with closing(run.connect()) as client:
        client.sendall(
            line + b" HTTP/1.1\r\n" + (fields if body else fields[: fields.index(b"Content-Type")]) + b"\r\n"
        )
        client.sendall(body)
        return int(read_to_end(client).split(b" ", 2)[1])


@pytest.mark.parametrize(("recorder", "upstream", "line", "body"), CASES.values(), ids=CASES)
def test_a_runtime_is_back_within_two_seconds(
    tmp_path: Path,
    recorder: Callable[..., AbstractContextManager[tuple[Seen, int]]],
    upstream: str,
    line: bytes,
    body: bytes,
) -> None:
    """Calls fail while it is away, often enough that its address is not tried any more; then they succeed again."""
    with ExitStack() as runtime:
        _, port = runtime.enter_context(recorder())
        with proxy(tmp_path, f"{upstream}://127.0.0.1:{port}") as run:
            assert status(run, line, body) == 200
            runtime.close()
            assert [status(run, line, body) for _ in range(FAILURES)] == [503] * FAILURES
            with recorder(port):
                began = time.monotonic()
                while status(run, line, body) != 200:
                    assert time.monotonic() - began < SECONDS
                    time.sleep(0.05)
