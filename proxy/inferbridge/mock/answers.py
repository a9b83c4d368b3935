"""What a mocked runtime answers, as neutral values: by operation where its meaning matters, else by its types alone."""

from collections.abc import Callable, Iterable, Mapping
from copy import copy
from typing import Any

from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.folding import UNFOLDS
from inferbridge.mock import pooling, text, tokens
from inferbridge.mock.values import Maker

MESSAGES = 3
"""Of a stream whose operation says nothing about their number."""
VERSION = "1"
MAX_LENGTH = 2048
"""Tokens that a model takes."""


def reply_to(operation: str, request: Any, operations: Any) -> Any:
    """The whole answer to a request."""
    answer = _REPLIES.get(operation)
    if answer is not None:
        return answer(request, operations)
    return Maker(request).struct(_struct(operation, "Reply", operations))


def messages_to(operation: str, request: Any, operations: Any) -> Iterable[Any]:
    """The messages of a streamed answer."""
    if operation == "generate":
        return text.messages(request, operations)
    if operation == "infer":
        return _infer_messages(request, operations)
    if operation in UNFOLDS:
        return UNFOLDS[operation](reply_to(operation, request, operations), operations)
    kind = _struct(operation, "Message", operations)
    return (Maker(request).struct(kind, at) for at in range(MESSAGES))


def _struct(operation: str, part: str, operations: Any) -> Any:
    name = "".join(word.capitalize() for word in operation.split("_")) + part
    kind = getattr(operations, name, None)
    if kind is None:
        raise BridgeError(Code.UNIMPLEMENTED, f"the mock knows no {part.lower()} of {operation}")
    return kind


def _infer(request: Any, operations: Any) -> Any:
    """The inputs come back as outputs: those that are asked for by name, or all."""
    outputs = request.inputs
    if request.outputs and request.inputs:
        outputs = [_named(request.inputs, output.name, at) for at, output in enumerate(request.outputs)]
    outputs = [_output(tensor) for tensor in outputs]
    return operations.InferReply(
        model=request.model, version=request.version or VERSION, id=request.id, outputs=outputs
    )


def _infer_messages(request: Any, operations: Any) -> Iterable[Any]:
    """A message for each output, as a model that answers in parts sends them."""
    reply = _infer(request, operations)
    for output in reply.outputs:
        yield operations.InferMessage(model=reply.model, version=reply.version, id=reply.id, outputs=[output])


def _output(tensor: Any) -> Any:
    output = copy(tensor)
    output.parameters = {}
    return output


def _named(inputs: list[Any], name: str, at: int) -> Any:
    """The input of that name, or another one under it."""
    found = copy(next((tensor for tensor in inputs if tensor.name == name), inputs[at % len(inputs)]))
    found.name = name
    return found


def _server_metadata(request: Any, operations: Any) -> Any:
    packages = {"inferbridge-mock": VERSION}
    return operations.ServerMetadataReply(name="inferbridge-mock", version=VERSION, packages=packages)


def _model_metadata(request: Any, operations: Any) -> Any:
    tensor = operations.TensorMetadata(name="x", datatype="FP32", shape=[-1])
    return operations.ModelMetadataReply(
        name=request.model, versions=[VERSION], platform="mock", inputs=[tensor], outputs=[tensor]
    )


def _model_list(request: Any, operations: Any) -> Any:
    """The models that are asked for: a mock has every model."""
    names = [name for name in request.models if name] or ["mock"]
    facts = {"version": VERSION, "state": "READY", "loaded": True}
    limits = {"max_length": MAX_LENGTH, "max_new_tokens": MAX_LENGTH}
    return operations.ModelListReply(models=[operations.Model(id=name, **facts, **limits) for name in names])


_REPLIES: Mapping[str, Callable[[Any, Any], Any]] = {
    **pooling.REPLIES,
    **tokens.REPLIES,
    "generate": text.reply,
    "model_list": _model_list,
    "infer": _infer,
    "server_metadata": _server_metadata,
    "model_metadata": _model_metadata,
}
