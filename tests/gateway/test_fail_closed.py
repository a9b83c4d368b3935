"""Nothing is ever forwarded: whatever raises, at every stage, the place mitmproxy would forward to stays unvisited."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from mitmproxy import ctx
from mitmproxy.addons.next_layer import NextLayer
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.addons.tlsconfig import TlsConfig
from mitmproxy.master import Master
from mitmproxy.options import Options

import inferbridge.addon
from gateway.applications import Boom, Echo, Failing
from gateway.http2_client import Client
from gateway.serving import TIMEOUT, Canary, curl, serving, talk
from inferbridge.addon import GatewayAddon
from inferbridge.gateway.clients.layer import GatewayLayer
from inferbridge.gateway.codecs.http1 import Http1Codec
from inferbridge.gateway.codecs.http2 import Http2Codec
from inferbridge.gateway.limits import Limits

SECRET = b"must-not-be-forwarded"


@pytest.fixture
async def canary(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Canary]:
    """Listens where the gateway's mitmproxy believes its target to be."""
    async with Canary().listening() as listening:
        monkeypatch.setattr(inferbridge.addon, "NOWHERE", listening.url)
        yield listening


def post(target: str) -> bytes:
    return b"POST %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (
        target.encode(),
        len(SECRET),
        SECRET,
    )


async def test_the_canary_sings(confdir: Path, canary: Canary) -> None:
    """Plain mitmproxy with the same target does visit the canary, so its silence below means something."""
    options = Options()
    master = Master(options)
    master.addons.add(Proxyserver(), TlsConfig(), NextLayer())
    options.update(mode=[f"reverse:{canary.url}@127.0.0.1:0"], confdir=str(confdir))
    ready = asyncio.Event()

    class Ready:
        def running(self) -> None:
            ready.set()

    master.addons.add(Ready())
    task = asyncio.create_task(master.run())
    await ready.wait()
    proxyserver: Any = ctx.master.addons.get("proxyserver")
    await talk(proxyserver.listen_addrs()[0][1], post("/"))
    await inferbridge.addon.close(proxyserver)
    master.shutdown()
    await task
    assert canary.connections > 0


@pytest.mark.parametrize("refuse_fails", [False, True])
@pytest.mark.parametrize("stage", ["open", "on_data", "on_end", "bad_header"])
async def test_http1_stages(
    stage: str, refuse_fails: bool, confdir: Path, canary: Canary, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the application raises the HTTP/1.1 client gets a 500, and the log one traceback for each failure."""
    async with serving(Failing(refuse=refuse_fails), confdir) as port:
        caplog.clear()
        answer = await talk(port, post("/" + stage))
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"internal error" in answer
    assert b"Boom" not in answer
    assert canary.connections == 0
    tracebacks = [record for record in caplog.records if record.exc_info and record.message.startswith("call failed")]
    assert len(tracebacks) == 1 + refuse_fails


async def test_http1_after_the_head(confdir: Path, canary: Canary) -> None:
    """An exception in the middle of an answer cuts it so that the client can tell."""
    async with serving(Failing(), confdir) as port:
        answer = await talk(port, post("/after_head"))
    assert b"\r\n0\r\n" not in answer
    assert canary.connections == 0


@pytest.mark.parametrize("refuse_fails", [False, True])
async def test_http2_stages(refuse_fails: bool, confdir: Path, canary: Canary) -> None:
    """Failing calls end with 500 or RST_STREAM, and the other calls of the connection go on."""
    client = Client(Http2Codec(Limits()))
    stages = ["/open", "/on_data", "/on_end", "/bad_header", "/after_head", "/fine"]
    streams = {stage: _post(client, stage) for stage in stages}
    async with serving(Failing(refuse=refuse_fails), confdir) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(TIMEOUT):
            await _exchange(client, reader, writer, lambda: all(_over(client, stream) for stream in streams.values()))
            late = _post(client, "/fine")
            await _exchange(client, reader, writer, lambda: _over(client, late))
        writer.close()
    statuses = client.statuses()
    assert [statuses.get(streams[stage]) for stage in stages[:4]] == ["500"] * 4
    assert client.reset_code(streams["/after_head"]) is not None
    assert client.body(streams["/fine"]) == client.body(late) == SECRET
    assert canary.connections == 0


def _post(client: Client, path: str) -> int:
    stream: int = client.h2.get_next_available_stream_id()
    head = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", path)]
    client.h2.send_headers(stream, head)
    client.h2.send_data(stream, SECRET, end_stream=True)
    return stream


def _over(client: Client, stream: int) -> bool:
    return client.ended(stream) or client.reset_code(stream) is not None


async def _exchange(
    client: Client, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, done: Callable[[], bool]
) -> None:
    writer.write(client.h2.data_to_send())
    while not done():
        client.seen.extend(client.h2.receive_data(await reader.read(65536)))
        writer.write(client.h2.data_to_send())


def boom(*_: object, **__: object) -> NoReturn:
    """Stands in for our own code at the stages that have no application in them."""
    raise Boom("ours")


STAGES: dict[str, tuple[type, str]] = {
    "choosing the layer": (GatewayAddon, "_layer"),
    "making the layer": (GatewayLayer, "__init__"),
    "handling an event": (GatewayLayer, "_react"),
    "making the connection": (GatewayLayer, "_connect"),
    "parsing HTTP/1.1": (Http1Codec, "receive"),
    "writing HTTP/1.1": (Http1Codec, "take_output"),
    "sending a head": (Http1Codec, "send_head"),
    "parsing HTTP/2": (Http2Codec, "receive"),
    "writing HTTP/2": (Http2Codec, "take_output"),
}


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("stage", STAGES)
async def test_our_own_stages(
    stage: str, tls: bool, confdir: Path, canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception in the gateway's own code ends the connection: no answer made up, nothing forwarded."""
    monkeypatch.setattr(*STAGES[stage], boom)
    protocol = "--http2" if "HTTP/2" in stage else "--http1.1"
    if not tls and protocol == "--http2":
        protocol = "--http2-prior-knowledge"
    async with serving(Echo(), confdir) as port:
        url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/x"
        with pytest.raises(AssertionError, match="curl"):
            await curl("-k", protocol, "-d", SECRET.decode(), url)
    assert canary.connections == 0


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x00\x05hello",
        b"\x16\x03\x01\x02",
        b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n",
        b"GET http://127.0.0.1:1/ HTTP/1.1\r\nHost: 127.0.0.1:2\r\n\r\n",
        b"\x05\x01\x00",
        b"SSH-2.0-x\r\n",
        b"\0" * 100,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
    ],
)
async def test_strange_bytes(data: bytes, confdir: Path, canary: Canary) -> None:
    """Bytes of any other protocol are answered or dropped here."""
    async with serving(Echo(), confdir) as port:
        _reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data)
        writer.write_eof()
        async with asyncio.timeout(TIMEOUT):
            await _reader.read()
        writer.close()
    assert canary.connections == 0


async def test_without_application(confdir: Path, canary: Canary) -> None:
    """Until the gateway is configured every connection is closed."""
    async with serving(None, confdir) as port:  # type: ignore[arg-type]
        assert await talk(port, post("/")) == b""
    assert canary.connections == 0


SCRIPT = """
import sys
sys.path[:0] = {path!r}
from inferbridge.addon import GatewayAddon
from gateway.applications import Failing

class Addon(GatewayAddon):
    def running(self):
        from mitmproxy import ctx
        print("port", ctx.master.addons.get("proxyserver").listen_addrs()[0][1], flush=True)

addons = [Addon({application})]
"""


@pytest.mark.parametrize(("application", "expected"), [("Failing()", b"HTTP/1.1 500 "), ("None", b"")])
async def test_mitmdump(application: str, expected: bytes, confdir: Path, canary: Canary, tmp_path: Path) -> None:
    """Under mitmdump with all its addons, and its eager default, the same holds."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(path=sys.path, application=application))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from mitmproxy.tools.main import mitmdump; mitmdump()", "-q", "-s", str(script)),
        *("--mode", f"reverse:{canary.url}@127.0.0.1:0", "--set", f"confdir={confdir}"),
        stdout=-1,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(3 * TIMEOUT):
            line = await process.stdout.readline()
        port = int(line.split()[1])
        assert (await talk(port, post("/on_end"))).startswith(expected)
        if application != "None":
            assert await curl("-k", f"https://127.0.0.1:{port}/fine") == b"/fine"
            assert await curl("--http2-prior-knowledge", f"http://127.0.0.1:{port}/fine") == b"/fine"
    finally:
        process.terminate()
        await process.wait()
    assert canary.connections == 0


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
