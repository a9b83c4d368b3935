"""A proxy on real sockets, made from a configuration file, and callers in its four corners.

    REST, SSE      POST /v1/completions, with `stream: true`          over a plain socket
    unary, stream  fmaas Generate, GenerateStream                     by grpcio

The runtime is vLLM, mocked in-process: over REST it speaks the first two itself and the others are translated, over
gRPC it is the other way round. It keeps the head and the body of every call that reaches it.

async with running_gateway(tmp_path, "rest", f"authenticators: [{KEYS}]") as gateway:
    reply = await gateway.call(UNARY, bearer(KEY))
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from auth.key_files import HASH, ID
from auth.recording import Recorder
from gateway.serving import TIMEOUT
from inferbridge.bridge.values import Headers, header
from inferbridge.config import Flags
from inferbridge.gateway import build
from inferbridge.gateway.clients.listening import listening
from inferbridge.gateway.limits import Limits
from inferbridge.mock.runtime import MockRuntime
from inferbridge.run import serving
from inferbridge_generated.runtimes import PROFILES
from inferbridge_generated.tgis import wire

OUTCOMES = {
    "ok": (200, 0),
    "invalid": (400, 3),
    "unauthenticated": (401, 16),
    "forbidden": (403, 7),
    "too many": (429, 8),
    "unavailable": (503, 14),
}
"""What happened to a call, as REST and as gRPC say it."""
_BY_STATUS = {number: name for name, pair in OUTCOMES.items() for number in pair}
KEYS = "keys: {file: keys.yaml}"
PROMPT = "a b c"
"""What the runtime answers, word for word."""
NO_LIMIT = "failures_per_minute: 100000"


@dataclass(frozen=True)
class Corner:
    """One way to call."""

    name: str
    rest: bool
    stream: bool


REST = Corner("REST", rest=True, stream=False)
SSE = Corner("SSE", rest=True, stream=True)
UNARY = Corner("unary", rest=False, stream=False)
STREAM = Corner("stream", rest=False, stream=True)
CORNERS = (REST, SSE, UNARY, STREAM)


@dataclass(frozen=True)
class Reply:
    """What a caller got."""

    status: int
    """Of HTTP, or of gRPC."""
    headers: Headers
    """Metadata and trailers in gRPC."""
    text: str
    """The body; in gRPC the generated text, or the message of the status."""

    @property
    def outcome(self) -> str:
        """One of `OUTCOMES`, or the number."""
        return _BY_STATUS.get(self.status, str(self.status))

    @property
    def challenge(self) -> str:
        """`WWW-Authenticate`."""
        return self.get("www-authenticate") or ""

    def get(self, name: str) -> str | None:
        """A header, or metadata."""
        return header(self.headers, name)


@dataclass
class Gateway:
    """The running proxy."""

    port: int
    admin: int
    runtime: Recorder
    folder: Path
    channel: grpc.aio.Channel
    tls: ssl.SSLContext | None = None

    async def call(
        self, corner: Corner, metadata: Headers = (), model: str = "m", query: str = "", prompt: str = PROMPT
    ) -> Reply:
        """A whole call."""
        if corner.rest:
            return await self._http(rest_request(corner, metadata, model, query, prompt))
        return await self._grpc(corner, metadata, model, prompt)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection of the client's own."""
        return await asyncio.open_connection("localhost", self.port, ssl=self.tls)

    async def get(self, path: str, headers: Headers = (), method: str = "GET", body: bytes = b"") -> Reply:
        """The answer to any HTTP request."""
        return await self._http(http_request(f"{method} {path}", headers, body))

    async def _http(self, request: bytes) -> Reply:
        reader, writer = await self.connect()
        try:
            writer.write(request)
            return await read_reply(reader)
        finally:
            writer.close()

    async def _grpc(self, corner: Corner, metadata: Headers, model: str, prompt: str) -> Reply:
        call = self.begin(corner, metadata, model, prompt)
        texts = []
        try:
            async with asyncio.timeout(TIMEOUT):
                texts = [text_of(message, corner) async for message in messages(call, corner)]
        except grpc.aio.AioRpcError:
            pass
        said = "".join(texts) if await call.code() is grpc.StatusCode.OK else await call.details()
        return await _grpc_reply(call, said or "")

    def begin(self, corner: Corner, metadata: Headers, model: str = "m", prompt: str = PROMPT) -> Any:
        """A gRPC call that goes on."""
        path = "/fmaas.GenerationService/" + ("GenerateStream" if corner.stream else "Generate")
        method = self.channel.unary_stream(path) if corner.stream else self.channel.unary_unary(path)
        return method(grpc_request(corner, model, prompt), metadata=metadata)

    async def code(self, rpc: str, metadata: Headers = ()) -> str:
        """The outcome of any gRPC call with an empty message."""
        call = self.channel.unary_unary(rpc)(b"", metadata=metadata, timeout=TIMEOUT)
        number = (await call.code()).value[0]
        return _BY_STATUS.get(number, str(number))

    async def admin_page(self, path: str) -> Reply:
        """A page of the admin port."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.admin)
        try:
            writer.write(http_request(f"GET {path}", (), b""))
            return await read_reply(reader)
        finally:
            writer.close()

    async def counted(self, method: str, result: str, reason: str = "") -> float:
        """`inferbridge_auth_total` on the admin port."""
        page = (await self.admin_page("/metrics")).text
        labels = f'inferbridge_auth_total{{method="{method}",reason="{reason}",result="{result}"}} '
        return sum(float(line.removeprefix(labels)) for line in page.splitlines() if line.startswith(labels))


async def messages(call: Any, corner: Corner) -> AsyncIterator[bytes]:
    """The answers of a gRPC call."""
    if corner.stream:
        async for message in call:
            yield message
    else:
        yield await call


async def _grpc_reply(call: Any, text: str) -> Reply:
    initial, trailing = await call.initial_metadata(), await call.trailing_metadata()
    code = await call.code()
    pairs = tuple((str(name), str(value)) for name, value in (*initial, *trailing))
    return Reply(code.value[0], pairs, text)


def bearer(token: str) -> Headers:
    """The usual place."""
    return (("authorization", f"Bearer {token}"),)


def http_request(line: str, headers: Headers, body: bytes) -> bytes:
    """A request of HTTP/1.1, the last on its connection."""
    fields = (("Host", "gateway"), ("Connection", "close"), ("Content-Length", str(len(body))), *headers)
    return f"{line} HTTP/1.1\r\n{''.join(f'{name}: {value}\r\n' for name, value in fields)}\r\n".encode() + body


def rest_request(corner: Corner, headers: Headers, model: str = "m", query: str = "", prompt: str = PROMPT) -> bytes:
    """A completion."""
    asked = {"model": model, "prompt": prompt, "max_tokens": 5, "temperature": 0, "stream": corner.stream}
    content = (("Content-Type", "application/json"), *headers)
    return http_request(f"POST /v1/completions{query}", content, json.dumps(asked).encode())


def grpc_request(corner: Corner, model: str, prompt: str) -> bytes:
    """The message of the same."""
    one = wire.GenerationRequest(text=prompt)
    if corner.stream:
        single = wire.SingleGenerationRequest(model_id=model, request=one)
        return b"".join(map(bytes, wire.encode_SingleGenerationRequest(single)))
    batch = wire.BatchedGenerationRequest(model_id=model, requests=[one])
    return b"".join(map(bytes, wire.encode_BatchedGenerationRequest(batch)))


def text_of(message: bytes, corner: Corner) -> str:
    """The text in an answer of fmaas."""
    if corner.stream:
        return wire.decode_GenerationResponse(message, []).text
    return wire.decode_BatchedGenerationResponse(message, []).responses[0].text


async def read_reply(reader: asyncio.StreamReader) -> Reply:
    """An answer of HTTP/1.1, up to the end of its connection."""
    async with asyncio.timeout(TIMEOUT):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")
    pairs = tuple((name.lower(), value) for name, _, value in (one.partition(": ") for one in fields))
    return Reply(int(line.split(" ")[1]), pairs, body.decode())


def write_keys(folder: Path, *lines: str) -> None:
    """The file of keys, with one key; `lines` are more of its settings."""
    entry = [f"  - id: {ID}", f"    hash: {HASH}", *(f"    {line}" for line in lines)]
    (folder / "keys.yaml").write_text("\n".join(["keys:", *entry, ""]))


@asynccontextmanager
async def running_gateway(
    folder: Path,
    upstream: str,
    auth: str,
    *,
    more: str = "",
    of_upstream: str = "",
    channel: Callable[[str], grpc.aio.Channel] = grpc.aio.insecure_channel,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Gateway]:
    """A proxy before a runtime that speaks `upstream`, rest or grpc.

    `auth` holds the lines of that section, `more` other sections, `of_upstream` more lines of the upstream's.
    """
    if not (folder / "keys.yaml").exists():
        write_keys(folder, "groups: [team-a]")
    runtime = Recorder(MockRuntime([one for one in PROFILES["vllm-nvidia"] if _speaks(one, upstream)], upstream))
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(listening(runtime, Limits(), "127.0.0.1", 0))
        (folder / "inferbridge.yaml").write_text(_configuration(upstream, port, auth, more, of_upstream))
        settings = build.settings(folder / "inferbridge.yaml", {}, Flags())
        bound = await stack.enter_async_context(serving(settings))
        assert bound.admin is not None
        target = f"localhost:{bound.listen[0].port}"
        opened = await stack.enter_async_context(channel(target))
        yield Gateway(bound.listen[0].port, bound.admin.port, runtime, folder, opened, tls)


def _speaks(profile: Any, protocol: str) -> bool:
    return protocol in profile.ports


def _configuration(upstream: str, port: int, auth: str, more: str, of_upstream: str) -> str:
    scheme = "http" if upstream == "rest" else "grpc"
    return f"""
listen: ["127.0.0.1:0"]
admin: {{listen: "127.0.0.1:0"}}
upstreams:
  - runtime: vllm-nvidia
    url: "{scheme}://127.0.0.1:{port}"
{_indented(of_upstream, 4)}
auth:
{_indented(auth, 2)}
{more}
"""


def _indented(text: str, by: int) -> str:
    return "\n".join(" " * by + line for line in text.splitlines())
