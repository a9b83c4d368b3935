"""Clients of the two APIs that say in a word or two how a call ended, after a strict look at its form.

    REST, one answer      200 | 503 | 200 cut                             status; `cut` is a body without its end
    REST, events          done | 503 | events, 503 | no event, 503 | cut  after the comma the error event
    gRPC, one answer      OK | UNAVAILABLE
    gRPC, stream          OK | UNAVAILABLE | messages, UNAVAILABLE | messages, told

An answer with the runtime's own bytes that is no answer of the API is `as sent`.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

import grpc.aio
import h11

from faults.answering import HTML
from faults.growing import grow
from faults.speech import bytes_tensor
from inferbridge.bridge.wire import WireError
from inferbridge_generated.open_inference import wire as v2
from inferbridge_generated.tgis import wire

LARGE = 1 << 16
"""Bytes of a prompt beyond which windows and sockets do not take a request at once."""
GROWTH = 20
"""Large messages that come after the first, one by one."""
TIMEOUT = 15
"""Seconds after which a call has hung."""
type Kind = Literal[
    "completion", "completion events", "Generate", "GenerateStream", "infer", "ModelInfer", "ModelStreamInfer"
]


@dataclass
class Seen:
    """How a call ended."""

    outcome: str
    text: str = ""
    """All that was generated."""
    message: str = ""
    """Of the error."""


@dataclass
class Client:
    """Calls the gateway on `port`."""

    port: int
    channel: grpc.aio.Channel
    seconds: float
    """Until the deadline of a call whose deadline is its client's to set."""

    async def call(self, kind: Kind, transport: str, prompt: str) -> Seen:
        """One call to the runtime on a transport; TimeoutError when it hangs."""
        model = tensor_model(transport) if kind in TENSOR_KINDS else transport
        async with asyncio.timeout(TIMEOUT):
            return await _CALLS[kind](self, model, prompt)


def tensor_model(transport: str) -> str:
    """The model of the runtime for tensors, as one for text has the name of its transport."""
    return f"{transport.replace(' ', '-').lower()}-tensors"


@dataclass
class _Answer:
    status: int = 0
    mime: str = ""
    body: bytes = b""
    whole: bool = False


async def _complete(client: Client, model: str, prompt: str, stream: bool) -> _Answer:
    asked = {"model": model, "prompt": prompt, "stream": stream, "max_tokens": 5}
    return await _post(client, "/v1/completions", json.dumps(asked).encode())


async def _post(client: Client, path: str, body: bytes) -> _Answer:
    fields = [("host", "a"), ("content-type", "application/json"), ("content-length", str(len(body)))]
    connection, answer = h11.Connection(h11.CLIENT), _Answer()
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    try:
        request = h11.Request(method="POST", target=path, headers=fields)
        for sent in (request, h11.Data(body), h11.EndOfMessage()):
            writer.write(connection.send(sent) or b"")
        while not answer.whole:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(1 << 16))
            else:
                _note(event, answer)
    except (h11.RemoteProtocolError, ConnectionResetError):
        pass  # a cut
    finally:
        writer.close()
    return answer


def _note(event: Any, answer: _Answer) -> None:
    if isinstance(event, h11.Response):
        answer.status = event.status_code
        answer.mime = dict(event.headers).get(b"content-type", b"").decode()
    elif isinstance(event, h11.Data):
        answer.body += bytes(event.data)
    else:
        answer.whole = isinstance(event, h11.EndOfMessage)


def _error(said: Any, status: int | None = None) -> str:
    """The message of an error in OpenAI's form, of which the SDK makes an exception."""
    error = said["error"]
    assert set(error) == {"message", "type", "param", "code"}, said
    assert status in (None, error["code"]), said
    assert isinstance(error["message"], str), said
    return str(error["message"])


async def _completion(client: Client, model: str, prompt: str) -> Seen:
    answer = await _complete(client, model, prompt, False)
    if not answer.whole:
        return Seen(f"{answer.status} cut".removeprefix("0 "))
    if answer.body == HTML:
        return Seen(f"{answer.status} as sent")
    if answer.status != 200:
        return Seen(str(answer.status), message=_error(json.loads(answer.body), answer.status))
    try:
        return Seen("200", json.loads(answer.body)["choices"][0]["text"])
    except ValueError:
        return Seen("200 as sent")


async def _events(client: Client, model: str, prompt: str) -> Seen:
    answer = await _complete(client, model, prompt, True)
    if answer.body == HTML:
        return Seen(f"{answer.status} as sent")
    if answer.status != 200 and answer.whole:
        return Seen(str(answer.status), message=_error(json.loads(answer.body), answer.status))
    *events, rest = answer.body.decode(errors="replace").split("\n\n")
    datas = [event.removeprefix("data: ") for event in events if not event.startswith(":")]
    texts = ""
    for number, data in enumerate(datas):
        if data == "[DONE]":
            assert number == len(datas) - 1
            return Seen("done", texts)
        try:
            said = json.loads(data)
        except ValueError:
            return Seen("as sent", texts)
        if "error" in said:
            assert (number, rest, answer.whole) == (len(datas) - 1, "", True), answer
            return Seen(f"{'events' if number else 'no event'}, {said['error']['code']}", texts, _error(said))
        texts += said["choices"][0]["text"]
    return Seen("end without [DONE]" if answer.whole else "events, cut" if datas else "cut", texts)


def _request(prompt: str) -> wire.GenerationRequest:
    return wire.GenerationRequest(text=prompt)


async def _generate(client: Client, model: str, prompt: str) -> Seen:
    asked = wire.BatchedGenerationRequest(model_id=model, requests=[_request(prompt)])
    body = b"".join(map(bytes, wire.encode_BatchedGenerationRequest(asked)))
    call = client.channel.unary_unary("/fmaas.GenerationService/Generate")(body)
    try:
        message = await call
        if message is None:  # so grpcio says that none came
            return Seen("OK as sent")
        found = wire.decode_BatchedGenerationResponse(message, [])
    except grpc.aio.AioRpcError as error:
        return Seen(error.code().name, message=error.details() or "")
    except WireError:
        return Seen("OK as sent")
    return Seen("OK", "".join(one.text for one in found.responses))


async def _generate_stream(client: Client, model: str, prompt: str) -> Seen:
    asked = wire.SingleGenerationRequest(model_id=model, request=_request(prompt))
    body = b"".join(map(bytes, wire.encode_SingleGenerationRequest(asked)))
    call = client.channel.unary_stream("/fmaas.GenerationService/GenerateStream")(body)
    messages, text = "", ""
    try:
        async for message in call:
            try:
                text += wire.decode_GenerationResponse(message, []).text
            except WireError:
                return Seen("OK as sent", text)
            messages = "messages, " if text else ""
    except grpc.aio.AioRpcError as error:
        return Seen(f"{messages}{error.code().name}", text, error.details() or "")
    return Seen("OK", text)


async def _infer(client: Client, model: str, prompt: str) -> Seen:
    tensor = {"name": "prompt", "datatype": "BYTES", "shape": [1], "data": [prompt]}
    answer = await _post(client, f"/v2/models/{model}/infer", json.dumps({"inputs": [tensor]}).encode())
    if not answer.whole:
        return Seen(f"{answer.status} cut".removeprefix("0 "))
    if answer.body == HTML:
        return Seen(f"{answer.status} as sent")
    if answer.status != 200:
        said = json.loads(answer.body)
        assert set(said) == {"error"}, said
        return Seen(str(answer.status), message=str(said["error"]))
    try:
        return Seen("200", json.loads(answer.body)["outputs"][0]["data"][0])
    except ValueError:
        return Seen("200 as sent")


def _inference(model: str, prompt: str) -> bytes:
    tensor = v2.ModelInferRequest_InferInputTensor(name="prompt", datatype="BYTES", shape=[1])
    asked = v2.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[bytes_tensor(prompt)])
    return b"".join(map(bytes, v2.encode_ModelInferRequest(asked)))


def _text(response: v2.ModelInferResponse) -> str:
    return "".join(bytes(raw[4:]).decode() for raw in response.raw_output_contents)


async def _model_infer(client: Client, model: str, prompt: str) -> Seen:
    call = client.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(_inference(model, prompt))
    try:
        message = await call
        return Seen("OK as sent") if message is None else Seen("OK", _text(v2.decode_ModelInferResponse(message, [])))
    except grpc.aio.AioRpcError as error:
        return Seen(error.code().name, message=error.details() or "")
    except WireError:
        return Seen("OK as sent")


async def _model_stream_infer(client: Client, model: str, prompt: str) -> Seen:
    """A large request to a runtime of streams grows."""
    requests = [_inference(model, prompt)]
    if model.startswith("h2") and len(prompt) > LARGE:
        requests += [_inference(model, "x" * LARGE)] * GROWTH
    grown = await grow(client.port, "/inference.GRPCInferenceService/ModelStreamInfer", requests, client.seconds)
    text = ""
    for message in grown.messages:
        try:
            said = v2.decode_ModelStreamInferResponse(message, [])
        except WireError:
            return Seen("OK as sent", text)
        if said.error_message:
            assert grown.status == 0, grown
            return Seen("messages, told" if text else "told", text, said.error_message)
        text += _text(said.infer_response or v2.ModelInferResponse())
    outcome = next(code.name for code in grpc.StatusCode if code.value[0] == grown.status)
    return Seen(f"messages, {outcome}" if text and grown.status else outcome, text, grown.message)


_CALLS: dict[Kind, Callable[[Client, str, str], Awaitable[Seen]]] = {
    "completion": _completion,
    "completion events": _events,
    "Generate": _generate,
    "GenerateStream": _generate_stream,
    "infer": _infer,
    "ModelInfer": _model_infer,
    "ModelStreamInfer": _model_stream_infer,
}
KINDS: tuple[Kind, ...] = tuple(_CALLS)
TEXT_KINDS, TENSOR_KINDS = KINDS[:4], KINDS[4:]
