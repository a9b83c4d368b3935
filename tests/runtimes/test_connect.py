"""connect-python's client in front of a real caikit runtime, which knows nothing of the Connect protocol."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import inferbridge_generated
from runtimes.lab import Lab, environment
from runtimes.programs import Client, run_client

pytestmark = [
    pytest.mark.runtimes,
    pytest.mark.parametrize("upstream", ["rest", "grpc"]),
    pytest.mark.parametrize("json", [True, False], ids=["json", "binary"]),
    pytest.mark.parametrize("http", [1, 2]),
]

RUNTIME = "caikit-tgis"
GENERATED = Path(inferbridge_generated.__file__).parent
NLP = "/caikit.runtime.Nlp.NlpService"
TGIS = "/fmaas.GenerationService"
MODEL = {"mm-model-id": "parrot"}


@pytest.fixture(scope="module")
def clients(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Client]]:
    """A client for each of the proxies."""
    python = environment("connect")
    addresses = {upstream: lab.proxy(RUNTIME, upstream).address for upstream in ("rest", "grpc")}
    folder = tmp_path_factory.mktemp("connect")
    with (
        run_client(python, "connect_client", addresses["rest"], folder) as rest,
        run_client(python, "connect_client", addresses["grpc"], folder) as grpc,
    ):
        yield {"rest": rest, "grpc": grpc}


@pytest.fixture
def call(clients: dict[str, Client], upstream: str, json: bool, http: int) -> Any:
    """Calls one method of an API and gives the outcome."""

    def perform(api: str, path: str, request: dict[str, Any], **more: Any) -> dict[str, Any]:
        descriptors = str(GENERATED / api / "protos.binpb")
        return clients[upstream].call(path, descriptors=descriptors, request=request, json=json, http=http, **more)

    return perform


def test_a_message_for_a_message(call: Any) -> None:
    """The runtime's own API: the text and its counts arrive in the client's messages."""
    request = {"text": "one two", "max_new_tokens": 3}
    outcome = call("caikit", f"{NLP}/TextGenerationTaskPredict", request, metadata=MODEL)
    answer = outcome["result"]
    assert answer["generated_text"] == " one two one"
    assert answer["finish_reason"] == "MAX_TOKENS"
    assert (answer["generated_tokens"], answer["input_token_count"]) == ("3", "2")


def test_a_stream_of_messages(call: Any) -> None:
    """Each message of the runtime's stream is one of the client's, and the stream ends well."""
    request = {"text": "one two", "max_new_tokens": 3}
    outcome = call("caikit", f"{NLP}/ServerStreamingTextGenerationTaskPredict", request, metadata=MODEL)
    assert "".join(each.get("generated_text", "") for each in outcome["result"]) == " one two one"
    assert outcome["result"][-1]["details"]["finish_reason"] == "MAX_TOKENS"


def test_another_api(call: Any) -> None:
    """TGIS' messages for the same runtime, a batch and a stream."""
    stopping = {"stopping": {"max_new_tokens": 2}}
    batch = {"model_id": "parrot", "requests": [{"text": "one"}, {"text": "two three"}], "params": stopping}
    answer = call("tgis", f"{TGIS}/Generate", batch)["result"]
    assert [each["text"] for each in answer["responses"]] == [" one one", " two three"]
    single = {"model_id": "parrot", "request": {"text": "one two"}, "params": stopping}
    pieces = call("tgis", f"{TGIS}/GenerateStream", single)["result"]
    assert "".join(each.get("text", "") for each in pieces) == " one two"


def test_errors_have_their_code(call: Any) -> None:
    """Before a stream and within it, the client raises its own error with code and words."""
    unknown = call("caikit", f"{NLP}/TextGenerationTaskPredict", {"text": "a"}, metadata={"mm-model-id": "nobody"})
    assert unknown["error"]["status"] == "not_found"
    stream = f"{NLP}/ServerStreamingTextGenerationTaskPredict"
    failing = call("caikit", stream, {"text": "one FAIL", "max_new_tokens": 5}, metadata=MODEL)
    assert failing["error"]["status"] == "invalid_argument"
    assert "the prompt wants it" in failing["error"]["message"]


def test_a_get_is_answered(call: Any) -> None:
    """A method without side effects may be asked by GET."""
    outcome = call("caikit", "/caikit.runtime.info.InfoService/GetRuntimeInfo", {}, get=True)
    assert "caikit" in outcome["result"]["python_packages"]
