"""From the words of the command line to a call."""

import json

import pytest

from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.values import join
from inferbridge.calling.asking import Place, Spoken, composed, find_endpoint, parse_place, spoken
from inferbridge.protos import methods

REST = "http://127.0.0.1:1"
GRPC = "grpc://127.0.0.1:1"


def ask(endpoint: str, place: Place, wanted: str | None = None) -> Spoken:
    """How an endpoint is spoken to a place."""
    return spoken(*find_endpoint(endpoint), place, wanted)


@pytest.mark.parametrize(
    ("endpoint", "place", "wanted", "protocol", "bridged"),
    [
        ("tgis/generate", Place(GRPC), None, "grpc", False),
        ("open-inference/infer", Place(REST), None, "rest", False),
        ("open-inference/infer", Place(GRPC), None, "grpc", False),
        ("open-inference/infer", Place(GRPC, "kserve"), None, "grpc", False),
        ("open-inference/infer", Place(GRPC, "kserve"), "rest", "rest", True),
        ("openai/chat", Place(GRPC, "tgis"), None, "rest", True),
        ("tgis/generate", Place(REST, "vllm-amd"), None, "grpc", True),
        ("caikit/text_generation", Place(GRPC, "tgis"), "grpc", "grpc", True),
        ("tgis/generate", Place(REST), None, "rest", False),
        ("openai/chat", Place(GRPC), None, "grpc", False),
    ],
)
def test_a_call_is_translated_only_where_it_must_be(
    endpoint: str, place: Place, wanted: str | None, protocol: str, bridged: bool
) -> None:
    """Who understands the endpoint is called straight, in the protocol of the URL; else as the client's API prefers."""
    found = ask(endpoint, place, wanted)
    assert (found.protocol, found.bridged) == (protocol, bridged)


def test_a_runtimes_variant_is_spoken() -> None:
    """To a runtime that is named, its own form of the protos is spoken."""
    assert ask("open-inference/infer", Place(GRPC, "kserve")).variant == "kserve"


@pytest.mark.parametrize(
    ("endpoint", "place", "wanted", "said"),
    [
        ("openai/chta", REST, None, "did you mean 'openai/chat'?"),
        ("openai", REST, None, "there is no endpoint 'openai'"),
        (
            "open-inference/model_unload",
            "grpc://127.0.0.1:1",
            "rest",
            "not spoken over rest; say which runtime is at grpc",
        ),
        ("tgis/generate", f"vllm-amd={REST}", "rest", "tgis/generate is not spoken over rest"),
        ("openai/chat", "ollama=http://127.0.0.1:1", None, "there is no such runtime"),
        ("openai/chat", "127.0.0.1:1", None, "expected http://, https://, grpc:// or grpcs://"),
    ],
)
def test_what_cannot_be_called_is_refused(endpoint: str, place: str, wanted: str | None, said: str) -> None:
    """A wrong name or an impossible pair is an error that says what there is."""
    with pytest.raises(ValueError, match=r".") as caught:
        ask(endpoint, parse_place(place), wanted)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("parameters", "path"),
    [
        ({"model": "m"}, "/v2/models/m/infer"),
        ({"model": "a/b c"}, "/v2/models/a%2Fb%20c/infer"),
        ({"model": "m", "version": "2"}, "/v2/models/m/versions/2/infer"),
        ({"model": "m", "x": "1 2"}, "/v2/models/m/infer?x=1+2"),
    ],
)
def test_parameters_fill_the_path_then_the_query(parameters: dict[str, str], path: str) -> None:
    """The path that takes most of the parameters is called, the others stand in its query."""
    request = composed(ask("open-inference/infer", Place(REST)), b"{}", (), parameters)
    assert (request.method, request.path) == ("POST", path)


def test_json_goes_as_it_is_over_rest_and_as_a_message_over_grpc() -> None:
    """The body of a REST call is the user's; over gRPC its fields become those of the proto."""
    body = b'{"model_id": "m", "requests": [{"text": "a"}]}'
    rest = composed(ask("openai/completions", Place(REST)), body, (("x-a", "b"),), {})
    assert rest.chunks == (body,)
    assert rest.headers == (("content-type", "application/json"), ("x-a", "b"))
    plain = composed(ask("openai/completions", Place(REST)), body, (("content-type", "text/plain"),), {})
    assert plain.headers == (("content-type", "text/plain"),)
    request = composed(ask("tgis/generate", Place(GRPC)), body, (), {})
    message = bytes(join(request.chunks))[5:]
    assert json.loads(methods("tgis").request_to_json(request.path, message)) == json.loads(body)


def test_a_call_that_cannot_be_made_is_refused() -> None:
    """A variable of the path that is missing, a field that the proto has not, a path over gRPC."""
    with pytest.raises(ValueError, match="needs -p model=…"):
        composed(ask("open-inference/infer", Place(REST)), b"{}", (), {})
    with pytest.raises(BridgeError, match="no such field"):
        composed(ask("tgis/generate", Place(GRPC)), b'{"modl": 1}', (), {})
    with pytest.raises(ValueError, match="has no path"):
        composed(ask("tgis/generate", Place(GRPC)), b"{}", (), {"model": "m"})
