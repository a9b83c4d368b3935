"""KServe's own model server behind the proxy: each protocol in front of the other, and its own doors beside it."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from runtimes import grpcurl
from runtimes.lab import Lab

pytestmark = [pytest.mark.runtimes, pytest.mark.parametrize("upstream", ["rest", "grpc"])]

TENSORS: dict[str, tuple[list[int], list[Any]]] = {
    "FP32": ([3], [1.0, -2.5, 0.5]),
    "FP64": ([2], [0.1, 1e300]),
    "INT64": ([2], [9007199254740993, -1]),
    "UINT8": ([3], [0, 7, 255]),
    "BOOL": ([2], [True, False]),
    "BYTES": ([2], ["a", "\u00e9"]),
}


def asked(address: str, path: str, body: Any = None) -> Any:
    """The JSON that curl gets."""
    data = [] if body is None else ["-d", json.dumps(body), "-H", "content-type: application/json"]
    command = ["curl", "-s", "--max-time", "30", f"http://{address}{path}", *data]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def infer(datatype: str) -> dict[str, Any]:
    """An inference with one tensor."""
    shape, data = TENSORS[datatype]
    return {"id": "7", "inputs": [{"name": "x", "shape": shape, "datatype": datatype, "data": data}]}


@pytest.mark.parametrize("datatype", TENSORS)
def test_rest_clients_get_their_tensors_back(lab: Lab, upstream: str, datatype: str) -> None:
    """An echoed tensor is what was sent, and what the server's own REST door answers."""
    address = lab.proxy("kserve", upstream).address
    answer = asked(address, "/v2/models/echo/infer", infer(datatype))
    direct = asked(lab.server("kserve").rest_url.removeprefix("http://"), "/v2/models/echo/infer", infer(datatype))
    (output,) = answer["outputs"]
    assert (output["shape"], output["data"]) == TENSORS[datatype]
    assert output["data"] == direct["outputs"][0]["data"]
    assert (answer["model_name"], answer["id"]) == (direct["model_name"], "7")


def test_grpc_clients_get_the_sum(lab: Lab, upstream: str, tmp_path: Path) -> None:
    """A gRPC client with typed contents is served in front of either door."""
    contents = {"LEFT": [1, 2.5], "RIGHT": [1, -1]}
    inputs = [
        {"name": name, "datatype": "FP32", "shape": [2], "contents": {"fp32Contents": values}}
        for name, values in contents.items()
    ]
    call = json.dumps({"modelName": "add", "inputs": inputs})
    address = lab.proxy("kserve", upstream).address
    (message,) = grpcurl.run(
        f"grpcurl -plaintext -d '{call}' {address} inference.GRPCInferenceService/ModelInfer", tmp_path
    )
    assert message["modelName"] == "add"
    assert [output["name"] for output in message["outputs"]] == ["SUM", "DIFFERENCE"]


def test_readiness_metadata_and_errors(lab: Lab, upstream: str) -> None:
    """The server is ready, tells its name, and does not know every model."""
    address = lab.proxy("kserve", upstream).address
    assert asked(address, "/v2/health/ready")["ready"] is True
    assert asked(address, "/v2")["name"] == "kserve"
    assert "nobody" in asked(address, "/v2/models/nobody/infer", infer("FP32"))["error"]
    assert "LEFT" in asked(address, "/v2/models/add/infer", infer("FP32"))["error"]
