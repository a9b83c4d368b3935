"""Text generation on a real caikit runtime, through the proxy in every dialect, over REST and over gRPC."""

import json
import shlex
import subprocess
from typing import Any

import grpc
import pytest

from inferbridge_generated.tgis import wire
from runtimes.lab import Lab

pytestmark = [pytest.mark.runtimes, pytest.mark.parametrize("upstream", ["rest", "grpc"])]

RUNTIME = "caikit-tgis"
STREAM = (  # as OpenShift AI documents it
    """curl --json '{{"model_id": "parrot", "inputs": "{text}"}}' """
    """http://{host}/api/v1/task/server-streaming-text-generation -H 'Authorization: Bearer token'"""
)


def curl(command: str) -> str:
    """What a command prints, with the status on the last line."""
    arguments = [*shlex.split(command), "-sN", "--max-time", "30", "--write-out", "\n%{http_code}"]
    return subprocess.run(arguments, capture_output=True, text=True, check=True).stdout


def post(host: str, path: str, body: dict[str, Any]) -> tuple[int, str]:
    """Status and body of a call."""
    text, _, status = curl(f"curl http://{host}{path} -d {shlex.quote(json.dumps(body))}").rpartition("\n")
    return int(status), text


def test_the_documented_stream_is_the_runtimes_own(lab: Lab, upstream: str) -> None:
    """curl's documented streaming call gives through the proxy the events that the runtime gives itself."""
    direct = f"127.0.0.1:{lab.server(RUNTIME).rest_port}"
    streams = []
    for host in (direct, lab.proxy(RUNTIME, upstream).address):
        output, _, status = curl(STREAM.format(host=host, text="one two")).rpartition("\n")
        assert status == "200"
        events = [event.partition("data: ")[2] for event in output.replace("\r", "").split("\n\n") if "data: " in event]
        streams.append([json.loads(event) for event in events])
    for event in (*streams[0], *streams[1]):
        event.pop("producer_id", None)  # null in REST, where gRPC has nothing
    assert streams[0] == streams[1]
    assert len(streams[0]) == 21


@pytest.mark.parametrize("stream", [False, True])
def test_an_openai_client_generates(lab: Lab, upstream: str, stream: bool) -> None:
    """An OpenAI completion is answered by caikit, with its counts and its reason."""
    body = {"model": "parrot", "prompt": "one two", "max_tokens": 3, "temperature": 0, "stream": stream}
    body |= {"stream_options": {"include_usage": True}} if stream else {}
    status, text = post(lab.proxy(RUNTIME, upstream).address, "/v1/completions", body)
    assert status == 200
    if stream:
        *chunks, usage, done = [json.loads(line[6:]) if "{" in line else line for line in text.split("\n\n") if line]
        assert done == "data: [DONE]"
        assert [chunk["choices"][0]["text"] for chunk in chunks] == [" one", " two", " one"]
        assert chunks[-1]["choices"][0]["finish_reason"] == "length"
        assert usage["usage"] == {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
    else:
        answer = json.loads(text)
        assert answer["choices"][0]["text"] == " one two one"
        assert answer["choices"][0]["finish_reason"] == "length"
        assert answer["usage"] == {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}


def test_errors_keep_their_meaning(lab: Lab, upstream: str) -> None:
    """An unknown model is 404 and a failing one 400, in OpenAI's words; within a stream the failure is an event."""
    host = lab.proxy(RUNTIME, upstream).address
    status, text = post(host, "/v1/completions", {"model": "nobody", "prompt": "a"})
    assert (status, json.loads(text)["error"]["type"]) == (404, "NotFoundError")
    status, text = post(host, "/v1/completions", {"model": "parrot", "prompt": "FAIL", "temperature": 0})
    assert status == 400
    assert "the prompt wants it" in json.loads(text)["error"]["message"]
    body = {"model": "parrot", "prompt": "one FAIL", "temperature": 0, "stream": True}
    status, text = post(host, "/v1/completions", body)
    assert status == 200
    first, last = [json.loads(line[6:]) for line in text.split("\n\n") if line]
    assert first["choices"][0]["text"] == " one"
    assert "the prompt wants it" in last["error"]["message"]


def test_a_tgis_client_generates(lab: Lab, upstream: str) -> None:
    """A gRPC client of TGIS gets a batch in order and a stream with its counts from caikit."""
    with grpc.insecure_channel(lab.proxy(RUNTIME, upstream).address) as channel:
        stopping = wire.StoppingCriteria(max_new_tokens=2)
        asked = wire.BatchedGenerationRequest(
            model_id="parrot",
            requests=[wire.GenerationRequest(text=text) for text in ("one", "two three")],
            params=wire.Parameters(stopping=stopping),
        )
        call = channel.unary_unary("/fmaas.GenerationService/Generate")
        data = b"".join(map(bytes, wire.encode_BatchedGenerationRequest(asked)))
        answer = wire.decode_BatchedGenerationResponse(call(data, timeout=30), [])
        assert [each.text for each in answer.responses] == [" one one", " two three"]
        assert [each.input_token_count for each in answer.responses] == [1, 2]
        single = wire.SingleGenerationRequest(
            model_id="parrot",
            request=wire.GenerationRequest(text="one two three"),
            params=wire.Parameters(stopping=wire.StoppingCriteria(max_new_tokens=9, stop_sequences=["three"])),
        )
        stream = channel.unary_stream("/fmaas.GenerationService/GenerateStream")
        data = b"".join(map(bytes, wire.encode_SingleGenerationRequest(single)))
        pieces = [wire.decode_GenerationResponse(each, []) for each in stream(data, timeout=30)]
        assert [each.text for each in pieces] == ["", " one", " two"]
        assert [each.generated_token_count for each in pieces] == [0, 1, 2]
        assert pieces[-1].stop_reason == 5
