"""Ids of calls: the client's where it is harmless, else a new one; with every answer, at every runtime."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc.aio
import pytest

from gateway.applications import Echo
from gateway.serving import TIMEOUT, curl, serving
from gateway.test_connect import Tgis
from gateway.test_guard import BAD, GOOD, PATH, known
from gateway.test_recording import Kept, connected, message
from gateway.test_rest_services import Vllm
from gateway.test_service import GRPC, INFER, INFER_RPC, Client, Runtime, infer_reply, target
from inferbridge.auth.authenticator import Chain
from inferbridge.bridge.context import Policy, Setting
from inferbridge.bridge.values import Headers, header
from inferbridge.config import Flags
from inferbridge.gateway import build
from inferbridge.gateway.application import RequestHead
from inferbridge.gateway.calls.guard import Access, Guard
from inferbridge.gateway.calls.targets import Target
from inferbridge.gateway.connect.calls import ConnectGateway
from inferbridge.gateway.connect.methods import methods_of
from inferbridge.gateway.fields import REQUEST_ID
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.records.recording import Recorder, ids
from inferbridge.gateway.service import GatewayService
from inferbridge.protos import methods
from inferbridge.run import running
from inferbridge.upstream.api import Receiver, UpstreamRequest
from inferbridge.upstream.headers import EncodedHead
from inferbridge.upstream.http1_codec import encode_fields, encode_route
from inferbridge_generated import operations
from inferbridge_generated.registry import APIS
from inferbridge_generated.runtimes import PROFILES

METHODS = methods_of((methods("open-inference"),), lambda rpc: False)
TRACE = f"00-{'a' * 32}-{'b' * 16}-01"
HOSTILE = ("", "a b", "x" * 129, "a\x7fb", "a;b=c", "ä", "a,b", "../../etc", "${jndi:ldap://x}")


def rest_reply(request: UpstreamRequest, receiver: Receiver) -> None:
    """A Triton that speaks REST, and has its own idea of the call's id."""
    receiver.on_head(200, (("content-type", "application/json"), (REQUEST_ID, "the-runtimes-own")))
    output = {"name": "y", "datatype": "FP32", "shape": [2], "data": [1.0, 2.0]}
    receiver.on_data(json.dumps({"model_name": "m", "outputs": [output]}).encode())
    receiver.on_end(())


def call(runtime: Runtime, protocol: str, path: str, body: bytes, headers: Headers) -> tuple[Client, Kept]:
    """A guarded call to a Triton of a protocol."""
    kept, client = Kept(), Client()
    inner = GatewayService([target(runtime, protocol=protocol)], APIS, Policy(), Limits())
    inner.connect = ConnectGateway(METHODS, Limits(), inner.open, inner.lost_in_message)
    recorder = Recorder(Guard(inner, Access(Chain([known()]))), [kept])
    sink = recorder.open(RequestHead("POST", path, "a", headers, "1.1"), client)
    sink.on_data(body)
    sink.on_end()
    return client, kept


def sent(request: UpstreamRequest, name: str) -> list[str]:
    """The values of a header at the runtime."""
    return [value for found, value in (*request.headers, *request.own) if found == name]


CORNERS = [
    (infer_reply, "grpc", PATH, INFER, GOOD),
    (rest_reply, "rest", PATH, INFER, GOOD),
    (rest_reply, "rest", INFER_RPC, message(), (*GRPC, *GOOD)),
    (infer_reply, "grpc", INFER_RPC, message(), (*GRPC, *GOOD)),
    (infer_reply, "grpc", INFER_RPC, b"{}", (("content-type", "application/json"), *GOOD)),
]


@pytest.mark.parametrize(("answer", "protocol", "path", "body", "headers"), CORNERS)
def test_an_acceptable_id_goes_all_the_way(
    answer: Any, protocol: str, path: str, body: bytes, headers: Headers
) -> None:
    """REST and gRPC on both sides: the runtime, the client and the record have the client's id, each once."""
    runtime = Runtime(answer)
    client, kept = call(runtime, protocol, path, body, (*headers, (REQUEST_ID, "my-id_1.2")))
    assert [value for name, value in client.headers if name == REQUEST_ID] == ["my-id_1.2"]
    assert sent(runtime.sent[0], REQUEST_ID) == ["my-id_1.2"]
    assert kept.one.request_id == "my-id_1.2"


@pytest.mark.parametrize(("answer", "protocol", "path", "body", "headers"), CORNERS)
@pytest.mark.parametrize("hostile", [None, *HOSTILE])
def test_a_missing_or_hostile_id_is_replaced(
    answer: Any, protocol: str, path: str, body: bytes, headers: Headers, hostile: str | None
) -> None:
    """A new UUID, the same on both sides; nothing of what was sent stays."""
    runtime = Runtime(answer)
    given: Headers = () if hostile is None else ((REQUEST_ID, hostile),)
    client, kept = call(runtime, protocol, path, body, (*headers, *given))
    (found,) = [value for name, value in client.headers if name == REQUEST_ID]
    assert UUID(found).version == 4
    assert sent(runtime.sent[0], REQUEST_ID) == [found] == [kept.one.request_id]


def test_two_ids_are_none() -> None:
    """Whoever reads one of them must not see another call."""
    runtime = Runtime(infer_reply)
    client, _ = call(runtime, "grpc", PATH, INFER, (*GOOD, (REQUEST_ID, "a"), (REQUEST_ID, "b")))
    assert sent(runtime.sent[0], REQUEST_ID) == [client.get(REQUEST_ID)]
    assert client.get(REQUEST_ID) not in {"a", "b"}


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (PATH, BAD, 401),
        ("/nothing", GOOD, 404),
        (INFER_RPC, (*GRPC, *BAD), 200),
        ("/a.B/C", (*GRPC, *GOOD), 200),
        (PATH, GOOD, 400),
    ],
)
def test_refusals_have_the_id_too(path: str, headers: Headers, status: int) -> None:
    """Not let in, not found, wrong: in the head, which for gRPC is that of a trailers-only answer."""
    client, _ = call(Runtime(infer_reply), "grpc", path, b"{", (*headers, (REQUEST_ID, "mine")))
    assert (client.status, header(client.headers, REQUEST_ID), client.ended) == (status, "mine", True)


def test_a_request_that_cannot_be_read_has_an_id() -> None:
    """Somebody will ask what became of it."""
    connection, kept = connected(Echo())
    connection.receive(b"GET / HTTP/1.1\r\nhost a\r\n\r\n")
    assert f"x-request-id: {kept.one.request_id}\r\n".encode() in connection.take_output()


@pytest.mark.parametrize(
    ("trace", "expected"),
    [
        (TRACE, ("a" * 32, "b" * 16)),
        (TRACE.replace("00-", "cc-", 1) + "-more", ("a" * 32, "b" * 16)),
        (TRACE + "-more", ("", "")),
        (TRACE.replace("00-", "ff-", 1), ("", "")),
        (TRACE.replace("a", "0"), ("", "")),
        (TRACE.replace("b", "0"), ("", "")),
        (TRACE.upper(), ("", "")),
        ("nonsense\u202e", ("", "")),
    ],
)
@pytest.mark.parametrize(("answer", "protocol", "path", "body", "headers"), CORNERS)
def test_trace_context_crosses_and_is_recorded(
    answer: Any, protocol: str, path: str, body: bytes, headers: Headers, trace: str, expected: tuple[str, str]
) -> None:
    """traceparent and tracestate are headers here and metadata there, untouched; a valid one is in the record."""
    runtime = Runtime(answer)
    context: Headers = (("traceparent", trace), ("tracestate", "vendor=1"))
    _, kept = call(runtime, protocol, path, body, (*headers, *context))
    assert (sent(runtime.sent[0], "traceparent"), sent(runtime.sent[0], "tracestate")) == ([trace], ["vendor=1"])
    assert (kept.one.trace_id, kept.one.span_id) == expected


@pytest.mark.parametrize(("given", "expected"), [((), "mine"), ((("x-correlation-id", "theirs"),), "theirs")])
def test_tgis_finds_the_id_where_it_looks_for_it(given: Headers, expected: str) -> None:
    """TGIS logs `x-correlation-id`: ours unless the client has sent one."""
    runtime, client = Runtime(lambda request, receiver: None), Client()
    tgis = Target("tgis", PROFILES["tgis"][0], "grpc", runtime, setting=Setting(operations=operations))
    recorder = Recorder(GatewayService([tgis], APIS, Policy(), Limits()))
    headers = (("content-type", "application/json"), (REQUEST_ID, "mine"), *given)
    sink = recorder.open(RequestHead("POST", "/v1/completions", "a", headers, "1.1"), client)
    sink.on_data(b'{"model":"m","prompt":"a","max_tokens":3}')
    sink.on_end()
    assert sent(runtime.sent[0], "x-correlation-id") == [expected]


def test_what_only_one_request_has_is_not_kept() -> None:
    """A head with an id of its own is encoded like any other, and leaves nothing behind in the cache."""
    encode = EncodedHead(lambda method, path: encode_route("a", method, path), encode_fields)
    heads = {encode("GET", "/", (("a", "b"),), ((REQUEST_ID, str(number)),)) for number in range(100)}
    assert len(heads) == 100
    assert b"GET / HTTP/1.1\r\nhost: a\r\na: b\r\nx-request-id: 7\r\n" in heads
    assert len(encode._fields) == 1


async def test_real_runtimes_and_clients_see_one_id(confdir: Path) -> None:
    """curl and a gRPC channel in front, an HTTP/1.1 and an HTTP/2 runtime behind: one id on all sides of each call."""
    vllm, tgis = Vllm(), Tgis()
    async with vllm.serving() as rest, tgis.serving() as rpc:
        flags = Flags(upstream=(f"vllm-nvidia=http://127.0.0.1:{rest}", f"tgis=grpc://127.0.0.1:{rpc}"))
        application = build.application(build.settings(None, {}, flags))
        async with asyncio.timeout(TIMEOUT), serving(Recorder(application), confdir) as port:
            url = f"http://127.0.0.1:{port}"
            first = await curl("-i", "--json", '{"model":"m","prompt":"a"}', f"{url}/v1/completions")
            body = '{"requests":[{"text":"a"}]}'
            second = await curl("-i", "--json", body, f"{url}/fmaas.GenerationService/Generate")
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                ask = channel.unary_unary("/fmaas.GenerationService/Generate")(b"")
                metadata = dict(await ask.initial_metadata())
                await ask
        await application.close()
    assert _id(first) == vllm.asked[0][2][REQUEST_ID]
    assert _id(second) not in {None, metadata[REQUEST_ID]}
    assert tgis.metadata[REQUEST_ID] == tgis.metadata["x-correlation-id"] == metadata[REQUEST_ID]


async def test_ids_need_neither_log_nor_admin_port() -> None:
    """A proxy that tells nobody of its calls gives them ids all the same, refused ones too."""
    settings = build.settings(None, {}, Flags(listen=("127.0.0.1:0",), upstream=("triton=http://127.0.0.1:9",)))
    async with asyncio.timeout(TIMEOUT), running(settings) as address:
        given = await curl("-i", "-H", "x-request-id: mine", f"http://{address}/nothing")
        made = await curl("-i", f"http://{address}/nothing")
    assert given.startswith(b"HTTP/1.1 404 ")
    assert _id(given) == "mine"
    assert UUID(_id(made)).version == 4


def _id(answer: bytes) -> str | None:
    """The only id of an answer that curl shows."""
    found = re.findall(rb"x-request-id: (\S+)", answer)
    return found[0].decode() if len(found) == 1 else None


def test_no_two_calls_have_the_same_id() -> None:
    """The ids of a process are UUIDs, all different from the beginning, and so are those of another process."""
    one, other = ids(), ids()
    made = [one() for _ in range(5000)] + [other() for _ in range(5000)]
    assert len({each[:13] for each in made[:5000]}) == 5000
    assert len(set(made)) == len(made)
    assert all(str(UUID(each)) == each and UUID(each).version == 4 for each in made)
