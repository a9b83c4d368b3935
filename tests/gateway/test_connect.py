"""gRPC methods as plain JSON: curl at one end, a real gRPC server at the other, and the gateway's own services."""

import asyncio
import base64
import gzip
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc.aio
import pytest

from gateway.serving import TIMEOUT, curl, serving
from inferbridge.bridge.connect_messages import EnvelopeReader
from inferbridge.config import Flags
from inferbridge.gateway import build
from inferbridge_generated.tgis import wire

SERVICE = "fmaas.GenerationService"
JSON = ("-H", "content-type: application/json")


def encoded(chunks: Any) -> bytes:
    """The bytes of a message."""
    return b"".join(map(bytes, chunks))


class Tgis:
    """A gRPC server of the generation service that answers with what it was asked."""

    def __init__(self) -> None:
        self.metadata: dict[str, str] = {}

    async def generate(self, request: bytes, context: Any) -> bytes:
        """Each text again, with an exclamation mark."""
        self.metadata = dict(context.invocation_metadata())
        asked = wire.decode_BatchedGenerationRequest(request, [])
        texts = [item.text for item in asked.requests]
        if "fail" in texts:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "full",
                (("grpc-status-details-bin", base64.b64decode("CAgSBGZ1bGwaDAoFYS9iLkMSA3h5eg==")), ("x-more", "1")),
            )
        answers = [wire.GenerationResponse(text=f"{text}!", generated_token_count=3) for text in texts]
        return encoded(wire.encode_BatchedGenerationResponse(wire.BatchedGenerationResponse(responses=answers)))

    async def stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        """The text letter by letter; a text that begins with ! fails after its first letter."""
        asked = wire.decode_SingleGenerationRequest(request, [])
        text = asked.request.text if asked.request is not None else ""
        if not text:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "nothing to say")
        for letter in text:
            yield encoded(wire.encode_GenerationResponse(wire.GenerationResponse(text=letter)))
            if letter == "!":
                await context.abort(grpc.StatusCode.INTERNAL, "broke")

    async def model_info(self, request: bytes, context: Any) -> bytes:
        """Some limits; of a model named `new` also a field of a later proto."""
        newer = b"\x98\x06\x01" if b"new" in request else b""
        return encoded(wire.encode_ModelInfoResponse(wire.ModelInfoResponse(max_sequence_length=256))) + newer

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """Run; gives the port."""
        methods = {
            "Generate": grpc.unary_unary_rpc_method_handler(self.generate),
            "GenerateStream": grpc.unary_stream_rpc_method_handler(self.stream),
            "ModelInfo": grpc.unary_unary_rpc_method_handler(self.model_info),
        }
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield port
        finally:
            await server.stop(None)


@pytest.fixture
async def gateway(confdir: Path) -> AsyncIterator[tuple[Tgis, str]]:
    """The server behind a gateway, and the gateway's address."""
    runtime = Tgis()
    async with runtime.serving() as upstream:
        settings = build.settings(None, {}, Flags(upstream=(f"tgis=grpc://127.0.0.1:{upstream}",)))
        application = build.application(settings)
        async with serving(application, confdir) as port, asyncio.timeout(TIMEOUT):
            yield runtime, f"http://127.0.0.1:{port}"
        await application.close()


async def answered(*arguments: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of what curl gets."""
    head, _, body = (await curl("-i", *arguments)).partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return int(status.split()[1]), dict(line.split(": ", 1) for line in lines), body


@pytest.mark.parametrize("http", ["--http1.1", "--http2-prior-knowledge"])
async def test_the_documented_body_is_answered_as_json(gateway: tuple[Tgis, str], http: str) -> None:
    """What grpcurl would send goes with curl as well, with or without a content type, over either HTTP."""
    runtime, address = gateway
    body = '{"requests": [{"text":"a"}, {"text":"b"}]}'
    url = f"{address}/{SERVICE}/Generate"
    for extra in (JSON, ()):
        status, headers, answer = await answered(http, *extra, "-H", "x-who: me", "-d", body, url)
        assert (status, headers["content-type"]) == (200, "application/json")
        assert json.loads(answer) == {
            "responses": [{"generatedTokenCount": 3, "text": "a!"}, {"generatedTokenCount": 3, "text": "b!"}]
        }
    assert runtime.metadata["x-who"] == "me"


@pytest.mark.parametrize(
    ("accept", "content_type", "expected"),
    [
        ("*/*", "application/x-ndjson", b'{"text":"h"}\n{"text":"i"}\n'),
        ("text/event-stream", "text/event-stream; charset=utf-8", b'data: {"text":"h"}\n\ndata: {"text":"i"}\n\n'),
        ("application/json", "application/json", b'[{"text":"h"},{"text":"i"}]'),
    ],
)
async def test_a_stream_has_the_form_asked_for(
    gateway: tuple[Tgis, str], accept: str, content_type: str, expected: bytes
) -> None:
    """Lines unless `Accept` says otherwise."""
    _, address = gateway
    url = f"{address}/{SERVICE}/GenerateStream"
    status, headers, body = await answered(*JSON, "-H", f"accept: {accept}", "-d", '{"request": {"text": "hi"}}', url)
    assert (status, headers["content-type"], body) == (200, content_type, expected)


@pytest.mark.parametrize(
    ("accept", "tail"),
    [
        ("*/*", b'{"error":{"code":"internal","message":"broke"}}\n'),
        ("text/event-stream", b'event: error\ndata: {"code":"internal","message":"broke"}\n\n'),
        ("application/json", b',{"error":{"code":"internal","message":"broke"}}]'),
    ],
)
async def test_an_error_in_a_stream_is_told_there(gateway: tuple[Tgis, str], accept: str, tail: bytes) -> None:
    """After the first message the error is the last thing in the stream."""
    _, address = gateway
    url = f"{address}/{SERVICE}/GenerateStream"
    _, _, body = await answered(*JSON, "-H", f"accept: {accept}", "-d", '{"request": {"text": "!x"}}', url)
    assert body.endswith(tail)
    assert b"!" in body


@pytest.mark.parametrize("accept", ["*/*", "text/event-stream", "application/json"])
async def test_an_error_before_a_stream_has_its_status(gateway: tuple[Tgis, str], accept: str) -> None:
    """Nothing was sent yet, so the answer is the error alone."""
    _, address = gateway
    url = f"{address}/{SERVICE}/GenerateStream"
    status, headers, body = await answered(*JSON, "-H", f"accept: {accept}", "-d", "{}", url)
    assert (status, headers["content-type"]) == (400, "application/json")
    assert json.loads(body) == {"code": "invalid_argument", "message": "nothing to say"}


async def test_an_error_keeps_its_details(gateway: tuple[Tgis, str]) -> None:
    """Code, message, details and metadata of a failed call are Connect's, with the status of the code."""
    _, address = gateway
    status, headers, body = await answered(
        *JSON, "-d", '{"requests": [{"text": "fail"}]}', f"{address}/{SERVICE}/Generate"
    )
    assert status == 429
    assert headers["x-more"] == "1"
    assert json.loads(body) == {
        "code": "resource_exhausted",
        "message": "full",
        "details": [{"type": "b.C", "value": "eHl6"}],
    }


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("-H", "content-type: application/json", "-d", '{"requests": [{"txt": "a"}]}'), 400, "requests[0]"),
        (("-H", "content-type: application/json", "-d", '{"requests": '), 400, "not valid JSON"),
        (("-H", "content-type: text/xml", "-d", "<a/>"), 415, "text/xml"),
        (("-H", "content-type: application/json", "-H", "connect-timeout-ms: soon", "-d", "{}"), 400, "timeout"),
        (("-H", "content-type: application/json", "-H", "connect-protocol-version: 2", "-d", "{}"), 400, "version"),
        (("-H", "content-type: application/json", "-H", "content-encoding: br", "-d", "{}"), 501, "br"),
    ],
)
async def test_what_is_wrong_is_said_in_connects_form(
    gateway: tuple[Tgis, str], arguments: tuple[str, ...], status: int, words: str
) -> None:
    """A call that cannot be understood is refused by name before it gets anywhere."""
    runtime, address = gateway
    got, _, body = await answered(*arguments, f"{address}/{SERVICE}/Generate")
    assert got == status
    assert words in json.loads(body)["message"]
    assert runtime.metadata == {}


async def test_a_get_may_ask_what_changes_nothing(gateway: tuple[Tgis, str]) -> None:
    """A method that may be called twice takes its message from the query, plain or as base64; others do not."""
    _, address = gateway
    url = f"{address}/{SERVICE}/ModelInfo?connect=v1&encoding=json"
    message = '{"modelId": "m"}'
    for query in (
        f"message={quote(message)}",
        f"base64=1&message={base64.urlsafe_b64encode(message.encode()).decode()}",
    ):
        status, _, body = await answered(f"{url}&{query}")
        assert (status, json.loads(body)) == (200, {"maxSequenceLength": 256})
    status, _, body = await answered(f"{address}/{SERVICE}/Generate?connect=v1&encoding=json&message=%7B%7D")
    assert status == 405


async def test_what_has_no_name_in_json_is_named_by_number(gateway: tuple[Tgis, str]) -> None:
    """A field that a newer runtime answers is not dropped silently."""
    _, address = gateway
    _, headers, body = await answered(*JSON, "-d", '{"modelId": "new"}', f"{address}/{SERVICE}/ModelInfo")
    assert json.loads(body) == {"maxSequenceLength": 256}
    assert headers["x-inferbridge-lost"] == "fmaas.ModelInfoResponse#99"


async def test_a_compressed_call_is_understood(gateway: tuple[Tgis, str], tmp_path: Path) -> None:
    """gzip is Connect's usual compression."""
    _, address = gateway
    (tmp_path / "body").write_bytes(gzip.compress(b'{"requests": [{"text": "a"}]}'))
    arguments = (*JSON, "-H", "content-encoding: gzip", "--data-binary", f"@{tmp_path / 'body'}")
    status, _, body = await answered(*arguments, f"{address}/{SERVICE}/Generate")
    assert (status, json.loads(body)["responses"][0]["text"]) == (200, "a!")


async def test_protobuf_goes_as_it_is(gateway: tuple[Tgis, str], tmp_path: Path) -> None:
    """Connect's binary form needs no JSON at all."""
    _, address = gateway
    request = wire.BatchedGenerationRequest(requests=[wire.GenerationRequest(text="a")])
    (tmp_path / "body").write_bytes(encoded(wire.encode_BatchedGenerationRequest(request)))
    arguments = ("-H", "content-type: application/proto", "--data-binary", f"@{tmp_path / 'body'}")
    status, headers, body = await answered(*arguments, f"{address}/{SERVICE}/Generate")
    assert (status, headers["content-type"]) == (200, "application/proto")
    assert wire.decode_BatchedGenerationResponse(body, []).responses[0].text == "a!"


@pytest.mark.parametrize(("text", "error"), [("hi", None), ("!x", "broke"), ("", "nothing to say")])
async def test_connects_own_streams(gateway: tuple[Tgis, str], tmp_path: Path, text: str, error: str | None) -> None:
    """Envelopes in and out, always in a 200; the last one says how it ended."""
    _, address = gateway
    message = json.dumps({"request": {"text": text}} if text else {}).encode()
    (tmp_path / "body").write_bytes(struct.pack(">BI", 0, len(message)) + message)
    arguments = ("-H", "content-type: application/connect+json", "--data-binary", f"@{tmp_path / 'body'}")
    status, headers, body = await answered(*arguments, f"{address}/{SERVICE}/GenerateStream")
    assert (status, headers["content-type"]) == (200, "application/connect+json")
    reader = EnvelopeReader(1 << 20, reply=True)
    messages = [json.loads(bytes(each)) for each in reader.feed(body)]
    reader.finish()
    assert reader.end is not None
    assert "".join(each["text"] for each in messages) == ("!" if text == "!x" else text)
    assert (reader.end.error.message if reader.end.error else None) == error


async def test_the_gateways_own_services_answer_json(gateway: tuple[Tgis, str]) -> None:
    """Health and reflection are methods like any other."""
    _, address = gateway
    _, _, body = await answered(*JSON, "-d", "{}", f"{address}/grpc.health.v1.Health/Check")
    assert json.loads(body) == {"status": "SERVING"}
    call = '{"listServices": ""}'
    arguments = (*JSON, "-d", call, f"{address}/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
    _, _, body = await answered(*arguments)
    names = [service["name"] for service in json.loads(body)["listServicesResponse"]["service"]]
    assert SERVICE in names


async def test_any_runtime_of_the_operation_serves_it(gateway: tuple[Tgis, str], confdir: Path) -> None:
    """JSON in TGIS' form for a runtime of another API is translated as the gRPC call is: a caikit upstream is asked."""
    _, address = gateway
    body = '{"inputs": "hello", "model_id": "m", "parameters": {"max_new_tokens": 3}}'
    status, _, answer = await answered(*JSON, "-d", body, f"{address}/api/v1/task/text-generation")
    assert (status, json.loads(answer)["generated_text"]) == (200, "hello!")
    call = '{"text": "hello", "maxNewTokens": "3"}'
    url = f"{address}/caikit.runtime.Nlp.NlpService/TextGenerationTaskPredict"
    status, _, answer = await answered(*JSON, "-H", "mm-model-id: m", "-d", call, url)
    assert (status, json.loads(answer)["generatedText"]) == (200, "hello!")
