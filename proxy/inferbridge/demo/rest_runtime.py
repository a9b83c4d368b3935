"""A demo runtime that speaks the Open Inference Protocol over REST only, in this process.

It is no inference server: it runs a toy model, keeps everything in memory and trusts its caller.
"""

import json
import re
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from urllib.parse import unquote

import httptools

from inferbridge.bridge.errors import BridgeError, Code, invalid
from inferbridge.bridge.values import Headers
from inferbridge.demo.models import Model, Tensor, Value, find, pack
from inferbridge.demo.serving import Connection, Memory, serving
from inferbridge.demo.view import field_lines, header_lines

type Json = dict[str, object] | list[object] | str | int | float | bool | None
_MODEL = re.compile(r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?(?P<what>/ready|/infer)?")
_STATUS = {Code.INVALID_ARGUMENT: 400, Code.NOT_FOUND: 404, Code.UNIMPLEMENTED: 405}
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 500: "Internal Server Error"}


class RestRuntime:
    """Answers REST calls; `memory` holds the latest of them."""

    def __init__(self, models: Sequence[Model]) -> None:
        self._models = models
        self.memory = Memory()

    def serve(self) -> AbstractAsyncContextManager[int]:
        """Listen on a free port of 127.0.0.1, the context's value."""
        return serving(lambda: _Connection(self))

    def handle(self, method: str, path: str, headers: Headers, body: bytes) -> tuple[int, bytes]:
        """Status and JSON body of one call."""
        seen = self.memory.begin([("", f"{method} {path}"), *header_lines(headers)])
        try:
            value = json.loads(body) if body else None
            seen.request += field_lines(value) if body else []
            status, reply = 200, self._answer(method, path.partition("?")[0], value)
        except BridgeError as error:
            status, reply = _STATUS.get(error.code, 500), {"error": error.message}
        except ValueError as error:
            status, reply = 400, {"error": f"malformed JSON: {error}"}
        seen.reply += [("", f"{status} {_REASONS[status]}"), *field_lines(reply)]
        return status, json.dumps(reply).encode()

    def _answer(self, method: str, path: str, body: Json) -> Json:
        if path in ("/v2/health/live", "/v2/health/ready"):
            return {path.rpartition("/")[2]: True}
        if path == "/v2":
            return {"name": "inferbridge-demo-rest", "version": "1", "extensions": []}
        found = _MODEL.fullmatch(path)
        if not found:
            raise BridgeError(Code.NOT_FOUND, f"no such path: {path}")
        model = find(self._models, unquote(found["model"]))
        if found["version"] not in (None, "1"):
            raise BridgeError(Code.NOT_FOUND, f"model {model.name!r} has no version {found['version']}")
        if (found["what"] == "/infer") != (method == "POST"):
            raise BridgeError(Code.UNIMPLEMENTED, f"{method} is not for {path}")
        match found["what"]:
            case "/ready":
                return {"name": model.name, "ready": True}
            case "/infer":
                return _infer(model, body)
        return _metadata(model)


def _metadata(model: Model) -> Json:
    return {
        "name": model.name,
        "versions": ["1"],
        "platform": "inferbridge-demo",
        "inputs": [asdict(port) for port in model.inputs],
        "outputs": [asdict(port) for port in model.outputs],
    }


def _infer(model: Model, body: Json) -> Json:
    if not isinstance(body, dict) or not isinstance(body.get("inputs"), list):
        raise invalid("the body must have a list of inputs")
    inputs = body["inputs"]
    outputs = model.run([_tensor(item) for item in inputs] if isinstance(inputs, list) else [])
    reply: dict[str, object] = {"model_name": model.name, "model_version": "1"}
    if "id" in body:
        reply["id"] = body["id"]
    reply["outputs"] = [_written(tensor) for tensor in outputs]
    return reply


def _tensor(item: object) -> Tensor:
    if not isinstance(item, dict) or not {"name", "datatype", "shape", "data"} <= item.keys():
        raise invalid("an input needs name, datatype, shape and data")
    values = tuple(_flatten(item["data"]))
    tensor = Tensor(item["name"], item["datatype"], tuple(item["shape"]), values)
    pack(tensor.datatype, values)
    return tensor


def _flatten(data: object) -> list[Value]:
    if isinstance(data, list):
        return [value for item in data for value in _flatten(item)]
    if isinstance(data, str):
        return [data.encode()]
    if isinstance(data, bool | int | float):
        return [data]
    raise invalid("data must hold numbers, booleans or strings")


def _written(tensor: Tensor) -> dict[str, object]:
    data = [value.decode() if isinstance(value, bytes) else value for value in tensor.values]
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape), "data": data}


class _Connection(Connection):
    """One HTTP/1.1 connection; the parser calls the `on_` methods. Calls are answered at once, so in order."""

    def __init__(self, runtime: RestRuntime) -> None:
        super().__init__()
        self._runtime = runtime
        self._parser = httptools.HttpRequestParser(self)
        self.on_message_begin()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def on_message_begin(self) -> None:
        self._path = b""
        self._headers: list[tuple[str, str]] = []
        self._body = bytearray()

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        method, path = self._parser.get_method().decode(), self._path.decode("latin-1")
        status, body = self._runtime.handle(method, path, tuple(self._headers), bytes(self._body))
        fields = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self.write(f"HTTP/1.1 {status} {_REASONS[status]}\r\n{fields}".encode() + body)
        if not self._parser.should_keep_alive():
            self.close()
