"""What REST calls and replies of the Open Inference protocol mean."""

import json
from typing import Any
from urllib.parse import unquote

import golden_v2
from translate.v2_json import (
    BinaryData,
    checked_text,
    json_and_binary,
    json_object,
    json_parameters,
    json_tensor,
    no_other,
)
from translate.v2_meaning import Meaning, Unreadable, Unrouted

GET_OPERATIONS = {"health/live": "ServerLive", "health/ready": "ServerReady", "": "ServerMetadata"}


def of_rest_call(call: dict[str, Any]) -> Meaning:
    """The meaning of a REST call."""
    path = call["path"].partition("?")[0]
    if path == "/v2/" or not (path + "/").startswith("/v2/"):
        raise Unrouted(path)
    parts = path.removeprefix("/v2").removeprefix("/")
    segments = parts.split("/")
    if call["method"] == "GET":
        return _get(parts, segments)
    if call["method"] == "POST" and segments[0] == "models" and segments[-1] == "infer":
        return _infer_call(call, *_model(segments[1:-1]))
    if call["method"] == "POST" and segments[0] == "repository":
        return _repository(call, segments[1:])
    raise Unrouted(f"{call['method']} {path}")


def _get(parts: str, segments: list[str]) -> Meaning:
    if parts in GET_OPERATIONS:
        return {"call": GET_OPERATIONS[parts]}
    if segments[0] != "models":
        raise Unrouted(parts)
    ready = segments[-1] == "ready"
    model, version = _model(segments[1:-1] if ready else segments[1:])
    return {"call": "ModelReady" if ready else "ModelMetadata", "model": model, "version": version}


def _model(segments: list[str]) -> tuple[str, str]:
    if len(segments) == 1 and segments[0]:
        return unquote(segments[0]), ""
    if len(segments) == 3 and segments[1] == "versions" and all(segments):
        return unquote(segments[0]), unquote(segments[2])
    raise Unrouted("/".join(segments))


def _repository(call: dict[str, Any], segments: list[str]) -> Meaning:
    fields = json_object(golden_v2.body(call) or b"{}")
    if segments == ["index"]:
        return {"call": "RepositoryIndex", "ready": fields.get("ready", False)}
    if len(segments) == 3 and segments[0] == "models" and segments[2] in ("load", "unload"):
        change = f"RepositoryModel{segments[2].capitalize()}"
        return {"call": change, "model": unquote(segments[1]), "parameters": json_parameters(fields)}
    raise Unrouted("/".join(segments))


def _infer_call(call: dict[str, Any], model: str, version: str) -> Meaning:
    fields, binary = json_and_binary(call)
    known = {"id", "model_name", "model_version", "parameters", "inputs", "outputs"}
    no_other(fields, known, "the request")
    inputs = fields.get("inputs")
    if not isinstance(inputs, list):
        raise Unreadable("inputs must be a list")
    reader = BinaryData(binary)
    meaning = {
        "call": "ModelInfer",
        "model": model,
        "version": version,
        "id": "" if fields.get("id") is None else checked_text(fields["id"], "id"),
        "parameters": json_parameters(fields),
        "inputs": [json_tensor(tensor, reader) for tensor in inputs],
        "outputs": [_json_requested(output) for output in fields.get("outputs") or []],
    }
    reader.finish()
    return meaning


def _json_requested(output: Any) -> Meaning:
    if not isinstance(output, dict):
        raise Unreadable("an output must be an object")
    no_other(output, {"name", "parameters"}, "an output")
    return {"name": checked_text(output.get("name"), "name"), "parameters": json_parameters(output)}


def of_rest_reply(reply: dict[str, Any], call: str) -> Meaning:
    """The meaning of a REST reply to a call with this name."""
    status = reply["status"]
    if call in ("ServerLive", "ServerReady", "ModelReady"):
        problem = _error_text(reply)
        if status == 200 or not problem or "not ready" in problem:
            return {"reply": call, "ready": status == 200}
    if status != 200:
        return {"error": _error_text(reply), "status": status}
    if call.startswith("RepositoryModel"):
        return {"reply": call}
    if call == "ModelInfer":
        return _infer_reply(reply)
    return {"reply": call, **_without_empty(json.loads(golden_v2.body(reply)))}


def _infer_reply(reply: dict[str, Any]) -> Meaning:
    fields, binary = json_and_binary(reply, lenient=True)
    reader = BinaryData(binary)
    return {
        "reply": "ModelInfer",
        "model": fields["model_name"],
        "version": fields.get("model_version") or "",
        "id": fields.get("id") or "",
        "parameters": json_parameters(fields),
        "outputs": [json_tensor(tensor, reader) for tensor in fields["outputs"]],
    }


def _error_text(reply: dict[str, Any]) -> str:
    body = golden_v2.body(reply)
    try:
        fields = json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")
    problem = fields.get("error", fields.get("detail", "")) if isinstance(fields, dict) else fields
    return problem if isinstance(problem, str) else json.dumps(problem)


def _without_empty(value: Any) -> Any:
    """Metadata without what says nothing: null, empty lists, empty texts and empty objects."""
    if isinstance(value, list):
        return {"models": [_without_empty(each) for each in value]}
    kept = {key: each for key, each in value.items() if each not in (None, [], "", {})}
    for side in ("inputs", "outputs"):
        if side in kept:
            kept[side] = [_without_empty(tensor) for tensor in kept[side]]
    return kept
