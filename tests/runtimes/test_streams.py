"""Streams of a real Triton and a real MLServer: tritonclient's start_stream, curl, and calls across the bridges."""

import base64
import json
import queue
import shutil
import subprocess
from typing import Any

import grpc
import pytest

from inferbridge.bridge.values import join
from inferbridge_generated.open_inference.mlserver import wire
from runtimes.lab import Lab
from runtimes.routes import Route
from runtimes.tensors import text as text_tensor

pytestmark = [
    pytest.mark.runtimes,
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed"),
]
INFER = '{"id": "s", "inputs": [{"name": "text_input", "shape": [1], "datatype": "BYTES", "data": ["%s"]}]}'


def request(text: str, answers: int, name: str) -> dict[str, Any]:
    """One request of a stream."""
    tensor = text_tensor("text_input", text)
    return {"model": "words", "inputs": [tensor.call()], "answers": answers, "id": name}


def word(answer: dict[str, Any]) -> str:
    """The text of an answer."""
    return base64.b64decode(answer["outputs"][0]["raw"])[4:].decode()


def curl(address: str, path: str, body: str) -> tuple[str, str]:
    """The answer to a POST, and its status with the content type."""
    command = ["curl", "-sN", "--max-time", "30", "-w", "\n%{http_code} %{content_type}", f"http://{address}{path}"]
    output = subprocess.run([*command, "-d", body], capture_output=True, text=True, check=True).stdout
    answer, _, outcome = output.rpartition("\n")
    return answer, outcome


def events(text: str) -> list[Any]:
    """The JSON of events."""
    return [json.loads(event.removeprefix("data: ")) for event in text.split("\n\n") if event]


@pytest.mark.parametrize("direct", [False, True], ids=["proxy", "direct"])
def test_tritonclient_streams(lab: Lab, direct: bool) -> None:
    """Answers to the first request come before the second is sent, on one stream; an error does not end it."""
    client = lab.client(Route("tritonclient_grpc", "triton", "grpc", direct=direct))
    requests = [request("one two", 2, "a"), request("three fail four", 2, "b"), request("five", 1, "c")]
    answers = client.call("stream", requests=requests)["result"]
    assert answers[3] == {"error": "asked to fail: é"}
    said = [(word(answer), answer["id"]) for answer in answers if "outputs" in answer]
    assert said == [("one", "a"), ("two", "a"), ("three", "b"), ("five", "c")]


@pytest.mark.parametrize("upstream", ["rest", "grpc"])
def test_infer_stream_of_mlserver(lab: Lab, upstream: str) -> None:
    """MLServer's REST stream, passed through and made of its gRPC stream, says the same."""
    address = lab.proxy("mlserver", upstream).address
    answer, outcome = curl(address, "/v2/models/words/infer_stream", INFER % "one two é")
    assert outcome == "200 text/event-stream; charset=utf-8"
    assert [(event["id"], event["outputs"][0]["data"]) for event in events(answer)] == [
        ("s", ["one"]),
        ("s", ["two"]),
        ("s", ["é"]),
    ]


@pytest.mark.parametrize("upstream", ["rest", "grpc"])
def test_grpc_stream_of_mlserver(lab: Lab, upstream: str) -> None:
    """A gRPC client in MLServer's form asks again when it has its answers, whichever side of MLServer serves it."""
    asked: queue.Queue[bytes | None] = queue.Queue()
    with grpc.insecure_channel(lab.proxy("mlserver", upstream).address) as channel:
        stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        answers = stream(iter(asked.get, None), timeout=30)
        for text in ("one two", "é"):
            asked.put(message(text))
            for expected in text.split():
                answer = wire.decode_ModelInferResponse(next(answers), [])
                assert answer.outputs[0].name == "text_output"
                assert bytes(answer.raw_output_contents[0])[4:].decode() == expected
        asked.put(message("fail"))
        with pytest.raises(grpc.RpcError, match=r"asked to fail: é|Internal Server Error"):
            next(answers)
        asked.put(None)


def message(text: str) -> bytes:
    """A request in MLServer's form."""
    tensor = wire.ModelInferRequest_InferInputTensor(name="text_input", datatype="BYTES", shape=[1])
    raw = base64.b64decode(text_tensor("text_input", text).call()["raw"])
    request = wire.ModelInferRequest(model_name="words", inputs=[tensor], raw_input_contents=[raw])
    return bytes(join(wire.encode_ModelInferRequest(request)))


def test_infer_stream_of_triton(lab: Lab) -> None:
    """Triton has this stream over gRPC alone; through the proxy curl has it too, errors included."""
    address = lab.proxy("triton", "grpc").address
    answer, outcome = curl(address, "/v2/models/words/infer_stream", INFER % "one fail")
    assert outcome.startswith("200 text/event-stream")
    first, last = events(answer)
    assert first["outputs"][0]["data"] == ["one"]
    assert last == {"error": "asked to fail: é"}
    refused, outcome = curl(address, "/v2/models/nobody/infer_stream", INFER % "one")
    assert outcome.startswith("400 application/json")
    assert "nobody" in json.loads(refused)["error"]


def test_generate_of_triton_passes_through(lab: Lab) -> None:
    """What Triton answers to `generate` and `generate_stream` arrives as it is, unknown members and errors included."""
    address, direct = lab.proxy("triton", "rest").address, f"127.0.0.1:{lab.server('triton').rest_port}"
    for path, text in (("generate", "one"), ("generate_stream", "one two"), ("generate_stream", "one fail")):
        body = json.dumps({"text_input": text, "id": "g", "anything": 1})
        answers = {curl(to, f"/v2/models/words/{path}", body) for to in (address, direct)}
        assert len(answers) == 1


def test_an_openai_client_of_triton(lab: Lab) -> None:
    """A completion of a Triton model, whole and streamed."""
    address = lab.proxy("triton", "rest").address
    answer, outcome = curl(address, "/v1/completions", '{"model": "words", "prompt": "one"}')
    assert outcome == "200 application/json"
    assert json.loads(answer)["choices"][0]["text"] == "one"
    streamed, _ = curl(address, "/v1/completions", '{"model": "words", "prompt": "one two", "stream": true}')
    *chunks, done = [line.removeprefix("data: ") for line in streamed.split("\n\n") if line]
    choices = [json.loads(chunk)["choices"][0] for chunk in chunks]
    assert [(choice["text"], choice["finish_reason"]) for choice in choices] == [
        ("one", None),
        ("two", None),
        ("", "stop"),
    ]
    assert done == "[DONE]"
