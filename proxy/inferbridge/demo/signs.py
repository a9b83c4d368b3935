"""What the demo says before and after its tour."""

import json

from inferbridge.config.values import Listener
from inferbridge.demo.view import Screen

DOUBLE_PATH = "/v2/models/double/infer"
_BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.5, 2]}]})
_WELCOME = """\
inferbridge demo

Two demo runtimes run in this process; they are toys with one model each, not inference servers:
  double   FP32 x becomes y = 2x    speaks gRPC only
  echo     what goes in comes out   speaks REST only
The proxy in front of them listens on {address} for REST and gRPC alike."""
_CURL = """\
curl -s http://{address}{path} -d '{body}'
curl -s http://{address}/v2/models/double"""
_PYTHON = """\
import tritonclient.grpc as grpc, numpy as np          # pip install 'tritonclient[grpc]'
x = grpc.InferInput("number", [2], "INT64"); x.set_data_from_numpy(np.array([1, 2]))
print(grpc.InferenceServerClient("{address}").infer("echo", [x]).as_numpy("number"))"""


def welcome(screen: Screen, address: Listener) -> None:
    """Say what runs, and that the runtimes are toys."""
    screen.text(_WELCOME.format(address=address))


def farewell(screen: Screen, address: Listener, *, serving: bool) -> None:
    """Say what to try next."""
    screen.title("Try it" if serving else f"Try it, with `inferbridge demo --serve --listen {address}` running")
    screen.text("REST to the gRPC-only runtime:\n")
    screen.text(_indented(_CURL.format(address=address, path=DOUBLE_PATH, body=_BODY)))
    screen.text("\ngRPC to the REST-only runtime, in Python:\n")
    screen.text(_indented(_PYTHON.format(address=address)))
    if serving:
        screen.text("\nServing until you press Ctrl-C.")


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
