"""What the demo says before and after its tour."""

import json

from inferbridge.config.values import Listener
from inferbridge.demo.scenes import TEXT
from inferbridge.demo.view import Screen

_CHAT = json.dumps({"model": "poet-tgis", "stream": True, "messages": [{"role": "user", "content": TEXT}]})
_INFER = json.dumps({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.5, 2]}]})
_WELCOME = """\
inferbridge demo

Five mocked runtimes run in this process; they are toys, not inference servers: models repeat what they are given.
  poet-tgis     TGIS        speaks gRPC only          echo-grpc   Triton      speaks gRPC only
  poet-vllm     vLLM        speaks REST only          echo-rest   MLServer    speaks REST only
  poet-caikit   Caikit      speaks gRPC only
The proxy in front of them listens on {address} for REST and gRPC alike."""
_CURL = """\
curl -sN http://{address}/v1/chat/completions -d '{chat}'
curl -s http://{address}/v2/models/echo-grpc/infer -d '{infer}'"""
_PYTHON = """\
import tritonclient.grpc as grpc, numpy as np          # pip install 'tritonclient[grpc]'
x = grpc.InferInput("number", [2], "INT64"); x.set_data_from_numpy(np.array([1, 2]))
print(grpc.InferenceServerClient("{address}").infer("echo-rest", [x]).as_numpy("number"))"""


def welcome(screen: Screen, address: Listener) -> None:
    """Say what runs, and that the runtimes are toys."""
    screen.text(_WELCOME.format(address=address))


def farewell(screen: Screen, address: Listener, *, serving: bool) -> None:
    """Say what to try next."""
    screen.title("Try it" if serving else f"Try it, with `inferbridge demo --serve --listen {address}` running")
    screen.text("REST to the gRPC-only runtimes:\n")
    screen.text(_indented(_CURL.format(address=address, chat=_CHAT, infer=_INFER)))
    screen.text("\ngRPC to the REST-only runtime, in Python:\n")
    screen.text(_indented(_PYTHON.format(address=address)))
    if serving:
        screen.text("\nServing until you press Ctrl-C.")


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
