"""grpc.reflection.v1 and v1alpha: which services there are, and the files that declare them.

The two versions have the same messages under two package names, so one set of classes serves both. An answer is made
of two parts: a head, which repeats the question, and a tail, which is the same for all who ask for the same thing and
is made once. Together they are one message, since protobuf messages can be joined. However many answers wait for a
client that does not read, only their heads take memory; and those are bounded. A client such as grpcurl goes on in
another call by itself when one call is used up.
"""

from typing import Any

from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.values import Buffer, Chunks
from inferbridge.gateway.application import RequestHead, Responder
from inferbridge.gateway.local.calls import StreamCall
from inferbridge.gateway.local.descriptors import DescriptorIndex
from inferbridge.gateway.local.messages import message_class, parse

MAX_QUESTIONS = 1000
"""In one call."""
MAX_BYTES = 256 * 1024
"""Of the questions of one call together."""
_PACKAGE = "grpc.reflection.v1"


class Reflection:
    """Answers questions about the files of an index."""

    def __init__(self, index: DescriptorIndex) -> None:
        self._index = index
        self._tails: dict[str, bytes] = {}
        """By the name of the file."""
        self._services = _tail(list_services_response={"service": [{"name": name} for name in index.services]})

    def answer(self, message: Buffer) -> Chunks:
        """The answer to one question; that something is unknown is an answer too."""
        question = parse(f"{_PACKAGE}.ServerReflectionRequest", message)
        head = message_class(f"{_PACKAGE}.ServerReflectionResponse")(
            valid_host=question.host, original_request=question
        )
        return head.SerializeToString(), self._tail(question)

    def _tail(self, question: Any) -> bytes:
        kind = question.WhichOneof("message_request")
        asked: Any = getattr(question, kind) if kind else None
        match kind:
            case "file_by_filename":
                return self._file(asked, f"file {_quoted(asked)}")
            case "file_containing_symbol":
                return self._file(self._index.file_of_symbol(asked), f"symbol {_quoted(asked)}")
            case "file_containing_extension":
                name = self._index.file_of_extension(asked.containing_type, asked.extension_number)
                return self._file(name, f"extension {asked.extension_number} of {_quoted(asked.containing_type)}")
            case "all_extension_numbers_of_type":
                return self._extension_numbers(asked)
            case "list_services":
                return self._services
            case _:
                return _error(Code.INVALID_ARGUMENT, "the request asks for nothing that is known here")

    def _file(self, name: str | None, wanted: str) -> bytes:
        files = None if name is None else self._index.with_imports(name)
        if name is None or files is None:
            return _error(Code.NOT_FOUND, f"{wanted} is not known")
        tail = self._tails.get(name)
        if tail is None:
            tail = self._tails[name] = _tail(file_descriptor_response={"file_descriptor_proto": files})
        return tail

    def _extension_numbers(self, message: str) -> bytes:
        numbers = self._index.extension_numbers(message)
        if numbers is None:
            return _error(Code.NOT_FOUND, f"message {_quoted(message)} is not known")
        return _tail(all_extension_numbers_response={"base_type_name": message, "extension_number": numbers})


def _quoted(name: str) -> str:
    return repr(name[:200])


def _error(code: Code, text: str) -> bytes:
    return _tail(error_response={"error_code": int(code), "error_message": text})


def _tail(**fields: Any) -> bytes:
    return bytes(message_class(f"{_PACKAGE}.ServerReflectionResponse")(**fields).SerializeToString())


class ReflectionCall(StreamCall):
    """ServerReflectionInfo: each question is answered as it arrives."""

    def __init__(self, head: RequestHead, responder: Responder, reflection: Reflection) -> None:
        super().__init__(head, responder)
        self._reflection = reflection
        self._questions = self._bytes = 0

    def take(self, message: Buffer) -> None:
        """One question."""
        self._questions += 1
        self._bytes += len(message)
        if self._questions > MAX_QUESTIONS or self._bytes > MAX_BYTES:
            text = f"one call may ask {MAX_QUESTIONS} questions, of {MAX_BYTES} bytes together; ask on in another"
            raise BridgeError(Code.RESOURCE_EXHAUSTED, text)
        self.send(self._reflection.answer(message))

    def complete(self) -> None:
        """The client has no more questions."""
        self.end()
