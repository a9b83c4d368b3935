"""The calls as the documentation of the runtimes gives them, with curl, word for word."""

import json
import shlex
import shutil
import subprocess
from typing import Any

import pytest

from runtimes.lab import Lab
from runtimes.routes import RUNTIMES

pytestmark = [
    pytest.mark.runtimes,
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed"),
    pytest.mark.parametrize("runtime", RUNTIMES),
]

INFER = """curl -ks {host}/v2/models/{model}/infer -d '{{ "model_name": "{model}", "inputs": [\
{{ "name": "LEFT", "shape": [3], "datatype": "FP32", "data": [1, 2.5, 0.1] }},\
{{ "name": "RIGHT", "shape": [3], "datatype": "FP32", "data": [1, -1, 0] }}]}}' -H 'Authorization: Bearer token'"""
SUM_OF_A_TENTH = 0.10000000149011612  # the float32 nearest 0.1, as every V2 server writes it


def curl(command: str) -> str:
    """Run a documented command; its output ends with the status on a line of its own."""
    arguments = [*shlex.split(command), "--write-out", "\n%{http_code}", "--max-time", "30"]
    return subprocess.run(arguments, capture_output=True, text=True, check=True).stdout


def get(lab: Lab, runtime: str, path: str) -> tuple[int, Any]:
    """Status and JSON of a GET through the proxy."""
    body, _, status = curl(f"curl -ks {lab.proxy(runtime, 'grpc').address}/{path}").rpartition("\n")
    return int(status), json.loads(body) if body else None


@pytest.mark.parametrize("scheme", ["", "http://", "https://"])
@pytest.mark.parametrize("path", ["add", "add/versions/1"])
def test_infer(lab: Lab, runtime: str, scheme: str, path: str) -> None:
    """The documented inference works with any scheme, with a model_name in the body and curl's own content type."""
    host = scheme + lab.proxy(runtime, "grpc").address
    body, _, status = curl(INFER.format(host=host, model="add").replace("add/infer", f"{path}/infer")).rpartition("\n")
    assert status == "200", body
    reply = json.loads(body)
    outputs = {output["name"]: output for output in reply["outputs"]}
    assert (reply["model_name"], reply["model_version"]) == ("add", "1" if "versions" in path else "2")
    assert outputs["SUM"]["data"] == [2.0, 1.5, SUM_OF_A_TENTH]
    assert (outputs["SUM"]["shape"], outputs["SUM"]["datatype"]) == ([3], "FP32")
    assert outputs["DIFFERENCE"]["data"] == [0.0, 3.5, SUM_OF_A_TENTH]


@pytest.mark.parametrize(
    "path", ["v2/health/live", "v2/health/ready", "v2/models/add/ready", "v2/models/add/versions/1/ready"]
)
def test_health(lab: Lab, runtime: str, path: str) -> None:
    """The documented health paths answer 200."""
    assert get(lab, runtime, path)[0] == 200


@pytest.mark.parametrize("path", ["v2/models/add", "v2/models/add/versions/1"])
def test_model_metadata(lab: Lab, runtime: str, path: str) -> None:
    """The documented metadata paths describe the model."""
    status, metadata = get(lab, runtime, path)
    assert status == 200
    assert metadata["name"] == "add"
    assert [(each["name"], each["datatype"], each["shape"]) for each in metadata["inputs"]] == [
        ("LEFT", "FP32", [3]),
        ("RIGHT", "FP32", [3]),
    ]


def test_server_metadata(lab: Lab, runtime: str) -> None:
    """The documented server path names the runtime."""
    status, metadata = get(lab, runtime, "v2")
    assert (status, metadata["name"]) == (200, runtime)


@pytest.mark.parametrize("path", ["v2/models/nobody/infer", "v2/models/nobody"])
def test_unknown_model(lab: Lab, runtime: str, path: str) -> None:
    """A model nobody serves is a 404 whose JSON body has one text under `error`."""
    address = lab.proxy(runtime, "grpc").address
    option = """ -d '{"inputs": []}'""" if path.endswith("infer") else ""
    body, _, status = curl(f"curl -ks {address}/{path}{option}").rpartition("\n")
    assert status == "404", body
    reply = json.loads(body)
    assert list(reply) == ["error"]
    assert "nobody" in reply["error"]
