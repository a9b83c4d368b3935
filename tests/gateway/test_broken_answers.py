"""Answers of a runtime that are none: what is told to a client names the runtime's fault and is never the client's."""

import json

import pytest

from gateway.test_service import Client
from gateway.test_translating import GRPC, OK, begun, completion, message
from inferbridge.bridge.values import Headers
from inferbridge.gateway.calls.answers import PassthroughAnswer
from inferbridge_generated.tgis import wire

HTML: Headers = (("content-type", "text/html"),)
PAGE = b"<html></html>"


def generate() -> tuple[Client, object]:
    """A TGIS client of a vLLM; what takes the answer."""
    asked = wire.BatchedGenerationRequest(model_id="m", requests=[wire.GenerationRequest(text="a")])
    content = b"".join(map(bytes, wire.encode_BatchedGenerationRequest(asked)))
    body = b"\0" + len(content).to_bytes(4) + content
    client, upstream, _ = begun("vllm-amd", "rest", "/fmaas.GenerationService/Generate", body, grpc=True)
    return client, upstream.calls[0][1]


@pytest.mark.parametrize(
    ("body", "said"),
    [(PAGE, "invalid character"), (b'{"id": "1", "cho', "truncated"), (b"", "the body is empty"), (b"\xff", "JSON")],
)
def test_an_answer_that_is_no_json(body: bytes, said: str) -> None:
    """A page, half a body or none at all is INTERNAL and says what was wrong with it."""
    client, receiver = generate()
    receiver.on_head(200, HTML)  # type: ignore[attr-defined]  # a receiver
    receiver.on_data(body)  # type: ignore[attr-defined]  # as above
    receiver.on_end(())  # type: ignore[attr-defined]  # as above
    assert client.get("grpc-status") == "13"
    assert said in str(client.get("grpc-message"))


@pytest.mark.parametrize(("status", "told"), [(200, 500), (502, 503), (404, 404)])
@pytest.mark.parametrize("stream", [True, False])
def test_a_page_instead_of_a_grpc_answer(stream: bool, status: int, told: int) -> None:
    """It is told by its status and content type, and not read as messages."""
    client, upstream, _ = completion(stream=stream)
    receiver = upstream.calls[0][1]
    receiver.on_head(status, HTML)
    receiver.on_data(PAGE)
    receiver.on_end(())
    message = json.loads(client.body)["error"]["message"]
    assert (client.status, message) == (told, f"HTTP {status} (text/html) without a grpc-status")


@pytest.mark.parametrize("stream", [True, False])
def test_a_message_that_is_cut_off_is_not_the_clients_fault(stream: bool) -> None:
    """A gRPC answer that ends within a message is 500, of one answer and of a stream."""
    client, upstream, _ = completion(stream=stream)
    receiver = upstream.calls[0][1]
    receiver.on_head(200, GRPC)
    receiver.on_data(message(text="Hello")[:-1])
    receiver.on_end(OK)
    assert (client.status, json.loads(client.body)["error"]["code"]) == (500, 500)
    assert "the last gRPC message is cut off" in client.body.decode()


def test_a_message_over_the_limit_is_not_the_clients_fault() -> None:
    """A message that is too large is 500 to a REST client, for 413 would be about what it has sent."""
    client, upstream, _ = completion(stream=True)
    receiver = upstream.calls[0][1]
    receiver.on_head(200, GRPC)
    receiver.on_data(b"\0" + (1 << 30).to_bytes(4))
    assert client.status == 500
    assert "a message of 1073741824 bytes is over the limit" in client.body.decode()


def test_a_page_is_not_passed_through_to_a_grpc_client() -> None:
    """A client whose call passes through gets a status, and nothing of the page or of what becomes of it."""
    client = Client()
    receiver = PassthroughAnswer(client, True)
    receiver.on_head(502, HTML)
    receiver.on_data(PAGE)
    receiver.on_end(())
    assert (client.get("grpc-status"), client.body, client.ended) == ("14", b"", True)
    assert client.get("content-type") == "application/grpc"


@pytest.mark.parametrize(
    ("head", "trailers", "code"),
    [(GRPC, (), "13"), (GRPC, OK, "0"), ((*GRPC, ("grpc-status", "5")), (), "5")],
)
def test_a_grpc_call_that_passes_through_ends_with_a_status(head: Headers, trailers: Headers, code: str) -> None:
    """One is added where the runtime has given none, and only there: clients drop messages that no status follows."""
    client = Client()
    receiver = PassthroughAnswer(client, True)
    receiver.on_head(200, head)
    receiver.on_end(trailers)
    assert client.get("grpc-status") == code
