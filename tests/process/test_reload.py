"""A running proxy whose configuration changes: new calls go by it, and none that is under way is lost."""

import asyncio
import signal
from pathlib import Path
from time import monotonic

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from process.running import Process, config, grpc_stream, grpc_unary, http_call, proxy, runtime

RELOADED = "inferbridge_config_reloads_total"


async def hammer(running: Process, channel: grpc.aio.Channel, calls: int) -> list[str]:
    """Calls one after the other, over HTTP/1.1 and gRPC in turns; how each ended."""
    ends = []
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    body = '{"model":"m","prompt":"a","max_tokens":3}'
    asked = f"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
    for _ in range(calls // 2):
        writer.write(asked)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        ends.append("ok" if head.startswith(b"HTTP/1.1 200") else head.decode())
        code = await grpc_unary(channel)
        ends.append("ok" if code is grpc.StatusCode.OK else code.name)
    writer.close()
    return ends


async def test_no_call_fails_while_the_settings_change(tmp_path: Path) -> None:
    """1000 calls over kept connections while the upstream is exchanged again and again: all succeed, both get some."""
    async with runtime("lo") as one, runtime("p") as two:
        one.gate.set()
        two.gate.set()
        path = config(tmp_path, one.url)
        async with proxy("-c", str(path)) as running, running.channel() as channel:
            calls = [asyncio.ensure_future(hammer(running, channel, 250)) for _ in range(4)]
            reloads = 0
            while not all(call.done() for call in calls):
                reloads += 1
                config(tmp_path, (two if reloads % 2 else one).url)
                running.send(signal.SIGHUP)
                await running.says("the configuration is reloaded", reloads)
            ends = [end for some in await asyncio.gather(*calls) for end in some]
            assert len(ends) == 1000
            assert set(ends) == {"ok"}
            assert reloads > 1
            assert min(one.calls, two.calls) > 0
            assert await running.metric(f'{RELOADED}{{result="success"}}') >= reloads


async def in_force(running: Process) -> str:
    """The name of the upstream in the settings that are shown."""
    _, page = await running.page("config")
    return str(page["upstreams"][0]["name"])


@pytest.mark.parametrize("how", ["edit", "link"])
async def test_a_change_of_the_file_is_noticed(how: str, tmp_path: Path) -> None:
    """Without a signal a changed file is in force within two seconds, also where a symbolic link is swapped."""
    async with runtime("lo") as one, runtime("p") as two:
        one.gate.set()
        two.gate.set()
        for folder, backend in (("1", one), ("2", two)):
            (tmp_path / folder).mkdir()
            config(tmp_path / folder, backend.url)
        (tmp_path / "..data").symlink_to("1")
        path = tmp_path / "inferbridge.yaml"
        path.symlink_to("..data/inferbridge.yaml")
        async with proxy("-c", str(path)) as running:
            before, began = await in_force(running), monotonic()
            if how == "edit":
                (tmp_path / "1" / "inferbridge.yaml").write_text((tmp_path / "2" / "inferbridge.yaml").read_text())
            else:
                (tmp_path / "..new").symlink_to("2")
                (tmp_path / "..new").replace(tmp_path / "..data")
            await running.says("the configuration is reloaded: new upstreams")
            # a busy machine may be slower; this is the promise's order of magnitude, the pause itself is half a second
            assert monotonic() - began < 10
            assert await in_force(running) != before
            assert (await running.page("readyz"))[1]["upstreams"].keys() == {two.url.rpartition(":")[2]}


async def test_a_broken_file_changes_nothing(tmp_path: Path) -> None:
    """The log says where and why, a counter counts it, settings and readiness stay, and calls are served."""
    async with runtime() as backend:
        backend.gate.set()
        path = config(tmp_path, backend.url)
        async with proxy("-c", str(path)) as running, running.channel() as channel:
            before = await running.page("config"), await running.page("readyz")
            path.write_text(path.read_text() + "limits: {body: 1}\n")
            await running.says(f"what was in force still is: {path}:2:10: limits has no key 'body'")
            assert await running.metric(f'{RELOADED}{{result="failure"}}') == 1
            assert (await running.page("config"), await running.page("readyz")) == before
            assert await grpc_unary(channel) is grpc.StatusCode.OK


async def test_calls_under_way_end_where_they_began(tmp_path: Path) -> None:
    """A stream goes on to its end at the upstream that has been taken away; its connection is closed only then."""
    async with runtime("lo") as one, runtime("p") as two:
        two.gate.set()
        path = config(tmp_path, one.url, "log: {level: debug}")
        async with proxy("-c", str(path)) as running, running.channel() as channel:
            stream = asyncio.ensure_future(grpc_stream(channel))
            events = asyncio.ensure_future(http_call(running.port, stream=True))
            await one.has(2)
            config(tmp_path, two.url, "log: {level: debug}", "drain: {timeout: 100ms}")
            running.send(signal.SIGHUP)
            await running.says("the configuration is reloaded")
            assert await grpc_unary(channel) is grpc.StatusCode.OK
            assert two.calls == 1
            assert not any("calls of the settings before have ended" in line for line in running.lines)
            one.gate.set()
            assert await stream == (2, grpc.StatusCode.OK)
            await running.says("calls of the settings before have ended")
            running.send(signal.SIGTERM)
            assert "[DONE]" in (await events)[1]


async def test_watchers_of_health_hear_of_the_new_upstreams(tmp_path: Path) -> None:
    """A Watch that began before the change tells of the services of the new settings, in the same call."""
    async with runtime() as one:
        path = config(tmp_path, one.url)
        async with proxy("-c", str(path)) as running, running.channel() as channel:
            asked = health_pb2.HealthCheckRequest(service="inference.GRPCInferenceService")
            statuses = aiter(health_pb2_grpc.HealthStub(channel).Watch(asked))
            assert (await anext(statuses)).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            path.write_text("upstreams: ['triton=grpc://127.0.0.1:9']\n")
            running.send(signal.SIGHUP)
            assert (await anext(statuses)).status == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_with_watching_off_only_a_signal_counts(tmp_path: Path) -> None:
    """`reload: {watch: false}` leaves a changed file alone until SIGHUP."""
    async with runtime() as one:
        path = config(tmp_path, one.url, "reload: {watch: false}")
        async with proxy("-c", str(path)) as running:
            config(tmp_path, one.url, "reload: {watch: false}", "lossy: allow")
            assert (await running.page("config"))[1]["lossy"] == "reject"
            running.send(signal.SIGHUP)
            await running.says("the configuration is reloaded: new lossy")
            assert (await running.page("config"))[1]["lossy"] == "allow"
