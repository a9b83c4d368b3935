"""The calls around inference: health, metadata, the model repository and parameters, on both runtimes."""

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from runtimes import tensors
from runtimes.programs import Client
from runtimes.routes import Route, routes
from runtimes.tensors import Tensor

pytestmark = pytest.mark.runtimes

ROUTES = routes()
TRITON_CLIENTS = [route for route in ROUTES if not route.kserve_client]


@pytest.mark.parametrize("route", ROUTES, ids=str)
@pytest.mark.parametrize("call", ["server_live", "server_ready"])
def test_server_health(client: Client, route: Route, call: str) -> None:
    """The server is live and ready in every client's eyes."""
    assert client.call(call) == {"result": True}


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_model_ready(client: Client, route: Route) -> None:
    """A served model is ready."""
    assert client.call("model_ready", model="echo") == {"result": True}


@pytest.mark.parametrize("route", TRITON_CLIENTS, ids=str)
def test_model_version_ready(client: Client, route: Route) -> None:
    """A version that is served is ready."""
    assert client.call("model_ready", model="add", version="1") == {"result": True}


@pytest.mark.parametrize("route", TRITON_CLIENTS, ids=str)
def test_unknown_model_is_not_ready(client: Client, route: Route) -> None:
    """A model nobody serves is not ready: false, or an error where the runtime knows no such model."""
    outcome = client.call("model_ready", model="nobody")
    if route.runtime == "triton" or route.rest_client:
        assert outcome == {"result": False}
    else:
        assert "result" not in outcome or outcome == {"result": False}, outcome


@pytest.mark.parametrize("route", TRITON_CLIENTS, ids=str)
def test_server_metadata(client: Client, route: Route) -> None:
    """The server's own name and version reach the client."""
    metadata = client.call("server_metadata")["result"]
    expected = {"triton": ("triton", "2.51.0"), "mlserver": ("mlserver", "1.7.1")}[route.runtime]
    assert (metadata["name"], metadata["version"]) == expected
    assert ("binary_tensor_data" in metadata.get("extensions", [])) == (route.runtime == "triton")


def plain_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    """Model metadata in one form: protobuf's JSON writes int64 as text and leaves empty lists out."""
    tensor_lists = {
        side: [
            {"name": each["name"], "datatype": each["datatype"], "shape": [int(size) for size in each["shape"]]}
            for each in metadata.get(side, [])
        ]
        for side in ("inputs", "outputs")
    }
    return {"name": metadata["name"], "platform": metadata["platform"], **tensor_lists}


@pytest.mark.parametrize("route", TRITON_CLIENTS, ids=str)
def test_model_metadata(client: Client, route: Route) -> None:
    """Names, datatypes and shapes of a model's tensors reach the client."""
    metadata = client.call("model_metadata", model="add")["result"]
    vector = {"datatype": "FP32", "shape": [3]}
    assert plain_metadata(metadata) == {
        "name": "add",
        "platform": {"triton": "python", "mlserver": "custom"}[route.runtime],
        "inputs": [{"name": "LEFT", **vector}, {"name": "RIGHT", **vector}],
        "outputs": [{"name": "SUM", **vector}, {"name": "DIFFERENCE", **vector}],
    }
    if route.runtime == "triton":
        assert metadata["versions"] == ["1", "2"]


def eventually(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for something a server does on its own time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


# tritonclient's messages and MLServer's gRPC agree on the index only since the proxy takes "State." off its states
REPOSITORY_ROUTES = [r for r in TRITON_CLIENTS if r.runtime == "triton" or r.translated]


def states(index: Any) -> dict[str, str]:
    """The state of each model in a repository index."""
    models = index if isinstance(index, list) else index["models"]
    return {each["name"]: each.get("state", "") for each in models}


@pytest.mark.parametrize("route", REPOSITORY_ROUTES, ids=str)
def test_repository(client: Client, route: Route) -> None:
    """The index lists models with their plain state, and loading and unloading a model changes it."""
    before = states(client.call("repository_index")["result"])
    assert before["echo"] == "READY"
    assert client.call("load", model="late") == {"result": None}
    assert states(client.call("repository_index")["result"])["late"] == "READY"
    assert client.infer("late", [Tensor("INPUT", "INT32", (1,), b"\1\0\0\0").call()])["result"]["outputs"]
    assert client.call("unload", model="late") == {"result": None}
    eventually(lambda: client.call("server_ready") == {"result": True})  # Triton is not while it unloads a model
    assert client.call("model_ready", model="late") != {"result": True}


@pytest.mark.parametrize("route", REPOSITORY_ROUTES, ids=str)
def test_load_of_an_unknown_model(client: Client, route: Route) -> None:
    """Loading a model the repository does not have is an error with the runtime's reason."""
    outcome = client.call("load", model="nobody")
    client.call("unload", model="nobody")  # a model that failed to load makes Triton as a whole not ready
    assert "nobody" in outcome["error"]["message"], outcome


def reflect(client: Client, route: Route, **fields: Any) -> dict[str, Any]:
    """What the reflecting model saw of a request."""
    outcome = client.infer("reflect", [Tensor("INPUT", "INT32", (1,), b"\1\0\0\0").call()], **fields)
    assert "result" in outcome, outcome
    (output,) = outcome["result"]["outputs"]
    seen = json.loads(base64.b64decode(output["raw"])[4:])
    assert isinstance(seen, dict)
    return seen


PARAMETERS = {"flag": True, "off": False, "count": 7, "below": -3, "zero": 0, "exact": 2**53 + 1, "text": "é", "no": ""}


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_parameters(client: Client, route: Route) -> None:
    """Parameters of each type reach the model with type and value, and nothing else does."""
    assert reflect(client, route, parameters=PARAMETERS)["parameters"] == PARAMETERS


def carries_doubles(route: Route) -> bool:
    """Whether doubles get through: kserve's protobuf messages and MLServer's gRPC have none."""
    if route.client == "kserve_grpc":
        return False
    return not (route.runtime == "mlserver" and route.upstream == "grpc")


@pytest.mark.parametrize("route", [r for r in ROUTES if carries_doubles(r)], ids=str)
def test_double_parameter(client: Client, route: Route) -> None:
    """A parameter that is a double reaches the model."""
    assert reflect(client, route, parameters={"ratio": 0.1})["parameters"] == {"ratio": 0.1}


@pytest.mark.parametrize("route", [r for r in ROUTES if not carries_doubles(r) and r.rest_client], ids=str)
def test_double_parameter_is_refused_where_it_would_be_lost(client: Client, route: Route) -> None:
    """A parameter the runtime's gRPC messages cannot hold is an error that names it."""
    outcome = client.infer("reflect", [tensors.edges("INT32").call()], parameters={"ratio": 0.1})
    assert outcome["error"]["status"] == "400", outcome
    assert "ratio" in outcome["error"]["message"]


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_id_and_outputs_reach_the_model(client: Client, route: Route) -> None:
    """Request id and requested outputs reach the model."""
    seen = reflect(client, route, id="seen-1", outputs=[{"name": "SEEN"}])
    assert (seen["id"], seen["outputs"]) == ("seen-1", ["SEEN"])


@pytest.mark.parametrize("route", [r for r in ROUTES if r.runtime == "mlserver"], ids=str)
def test_reply_parameters(client: Client, route: Route) -> None:
    """Parameters of the reply reach the client with type and value."""
    outcome = client.infer("reflect", [Tensor("INPUT", "INT32", (1,), b"\1\0\0\0").call()])
    assert outcome["result"]["parameters"].items() >= {"flag": True, "count": 7, "big": 2**53 + 1, "text": "é"}.items()
