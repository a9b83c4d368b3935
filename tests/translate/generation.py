"""Calls and answers of text generation in the forms of OpenAI (vLLM), TGIS (fmaas) and caikit."""

import base64
import json
from collections.abc import Mapping
from typing import Any

from inferbridge.bridge.context import Policy
from inferbridge.translate import translate_call, translate_reply
from inferbridge_generated.tgis import wire as fmaas

LOSSY = Policy(lossy=True)
GENERATE, STREAM = "/fmaas.GenerationService/Generate", "/fmaas.GenerationService/GenerateStream"


def packed(data: Any) -> list[str]:
    """One gRPC message in JSON form."""
    return [base64.b64encode(b"".join(map(bytes, data))).decode()]


def openai(endpoint: str = "completions", **body: Any) -> dict[str, Any]:
    """A call of an OpenAI client."""
    asked = {"prompt": "a"} if endpoint == "completions" else {"messages": [{"role": "user", "content": "a"}]}
    text = json.dumps({"model": "m", **asked, **body})
    return {"method": "POST", "path": f"/v1/{endpoint}", "headers": [], "body": text}


def tgis(rpc: str = GENERATE, adapter: str | None = None, **params: Any) -> dict[str, Any]:
    """A call of an fmaas client."""
    parameters, text = fmaas.Parameters(**params), fmaas.GenerationRequest(text="a")
    if rpc == STREAM:
        single = fmaas.SingleGenerationRequest(model_id="m", adapter_id=adapter, request=text, params=parameters)
        return {"rpc": rpc, "messages_base64": packed([*fmaas.encode_SingleGenerationRequest(single)])}
    batch = fmaas.BatchedGenerationRequest(model_id="m", adapter_id=adapter, requests=[text], params=parameters)
    return {"rpc": rpc, "messages_base64": packed([*fmaas.encode_BatchedGenerationRequest(batch)])}


def stopping(**values: Any) -> dict[str, Any]:
    """fmaas' stopping criteria."""
    return {"stopping": fmaas.StoppingCriteria(**values)}


def response(**values: Any) -> dict[str, Any]:
    """fmaas' response options."""
    return {"response": fmaas.ResponseOptions(**values)}


def caikit_call(stream: bool = False, **parameters: Any) -> dict[str, Any]:
    """A call of a caikit REST client."""
    task = "server-streaming-text-generation" if stream else "text-generation"
    body = json.dumps({"model_id": "m", "inputs": "a", "parameters": parameters})
    return {"method": "POST", "path": f"/api/v1/task/{task}", "headers": [], "body": body}


def to_vllm(call: Mapping[str, Any], client: str = "tgis/grpc", policy: Policy = LOSSY) -> dict[str, Any]:
    """The body that a vLLM runtime gets."""
    made: dict[str, Any] = json.loads(translate_call(client, "openai/rest", call, policy)["body"])
    return made


def to_fmaas(call: Mapping[str, Any], client: str = "openai/rest") -> Any:
    """The parameters that an fmaas runtime gets."""
    form = translate_call(client, "vllm-nvidia/grpc", call)
    assert "error" not in form, form
    data = base64.b64decode(form["messages_base64"][0])
    if form["rpc"] == STREAM:
        return fmaas.decode_SingleGenerationRequest(data, []).params
    return fmaas.decode_BatchedGenerationRequest(data, []).params


def to_caikit(call: Mapping[str, Any], client: str = "openai/rest") -> dict[str, Any]:
    """The parameters that a caikit runtime gets."""
    made = translate_call(client, "caikit/rest", call)
    assert "error" not in made, made
    parameters: dict[str, Any] = json.loads(made["body"]).get("parameters", {})
    return parameters


def refusal(client: str, runtime: str, call: Mapping[str, Any]) -> str:
    """What a client is told that asks for something that cannot be carried."""
    made = translate_call(client, runtime, call)
    error = made["error"]
    if "rpc" in call:
        assert error["code"] == 3
        return str(error["details"])
    assert error["status"] == 400
    body = json.loads(error["body"])
    return str(body["error"]["message"] if "error" in body else body["details"])


def completion(text: str = "b", reason: str = "stop", **more: Any) -> dict[str, Any]:
    """A vLLM answer."""
    tokens = more.pop("tokens", 3)
    choice = {"index": 0, "text": text, "finish_reason": reason, "stop_reason": None, **more}
    usage = {"prompt_tokens": 2, "completion_tokens": tokens, "total_tokens": tokens + 2}
    body = {"id": "x", "object": "text_completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    return {"status": 200, "headers": [["content-type", "application/json"]], "body": json.dumps(body)}


def stream_of(*chunks: dict[str, Any], usage: bool = True) -> dict[str, Any]:
    """A vLLM stream, with counts in every chunk."""
    out = []
    for number, chunk in enumerate(chunks, 1):
        choice = {"index": 0, "text": "", "logprobs": None, "finish_reason": None, "stop_reason": None, **chunk}
        body: dict[str, Any] = {"id": "x", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]}
        if usage:
            body["usage"] = {"prompt_tokens": 2, "completion_tokens": number, "total_tokens": number + 2}
        out.append(f"data: {json.dumps(body)}\n\n")
    body_text = "".join([*out, "data: [DONE]\n\n"])
    return {"status": 200, "headers": [["content-type", "text/event-stream"]], "body": body_text}


def fmaas_answer(call: Mapping[str, Any], reply: Mapping[str, Any], policy: Policy = LOSSY) -> Any:
    """What an fmaas client is told of a vLLM answer: the response, or the messages of its stream."""
    made = translate_reply("tgis/grpc", "openai/rest", {"request": call, "reply": reply}, policy)
    assert made["code"] == 0, made
    data = [base64.b64decode(text) for text in made["messages_base64"]]
    if call["rpc"] == STREAM:
        return [fmaas.decode_GenerationResponse(each, []) for each in data]
    return fmaas.decode_BatchedGenerationResponse(data[0], []).responses[0]


def openai_answer(call: Mapping[str, Any], *responses: fmaas.GenerationResponse, lossy: bool = True) -> Any:
    """What an OpenAI client is told of an fmaas batch."""
    data = fmaas.encode_BatchedGenerationResponse(fmaas.BatchedGenerationResponse(responses=list(responses)))
    reply = {"code": 0, "messages_base64": packed(data)}
    made = translate_reply("openai/rest", "tgis/grpc", {"request": call, "reply": reply}, LOSSY if lossy else Policy())
    assert made["status"] == 200, made
    return json.loads(made["body"])


def lost(form: Mapping[str, Any]) -> str:
    """The names in x-inferbridge-lost of an answer."""
    pairs = [*form.get("headers", []), *form.get("metadata", [])]
    return next((value for name, value in pairs if name == "x-inferbridge-lost"), "")
