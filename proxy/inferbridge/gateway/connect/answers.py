"""Takes the gRPC answer of a call for a client that wants it in another form.

It stands where a client's codec would, as the `Responder` of an ordinary gRPC call, and hands messages and outcome to a
writer of the client's form.
"""

from collections.abc import Callable, Collection, Iterable

from google.protobuf.any_pb2 import Any
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from inferbridge.bridge import connect_messages, grpc
from inferbridge.bridge.bridge import LOST_HEADER
from inferbridge.bridge.connect_messages import Detail, StreamEnd
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.grpc_messages import MessageReader
from inferbridge.bridge.values import Buffer, Headers, header
from inferbridge.bridge.wire import Unknown, unknown_names
from inferbridge.gateway.application import Responder, Wrapped
from inferbridge.gateway.connect.forms import Form
from inferbridge.gateway.connect.methods import Method
from inferbridge.gateway.connect.writers import writer

_DETAILS = "grpc-status-details-bin"
_OWN = ("grpc-", "content-", "trailer")
_DETAILS_FIELD = 3
"""Of `google.rpc.Status`."""


class GrpcAnswer(Wrapped):
    """A gRPC answer on its way to a client that wants it otherwise; `cancel` ends the call when that cannot be."""

    def __init__(
        self,
        form: Form,
        method: Method,
        responder: Responder,
        limit: int,
        on_losses: Callable[[Collection[str]], None],
    ) -> None:
        self.record = responder.record
        self._form = form
        self._method = method
        self._responder = responder
        self._writer = writer(form, responder)
        self._limit = limit
        self._status = 0
        self._headers: Headers = ()
        self._messages: MessageReader | None = None
        self._lost: dict[str, None] = {}
        self._on_losses = on_losses
        self._done = False
        self.cancel: Callable[[], None] = _nothing

    def head(self, status: int, headers: Headers) -> None:
        """Status and initial metadata."""
        self._status, self._headers = status, headers
        self._messages = MessageReader(self._limit, header(headers, "grpc-encoding") or "identity")

    def data(self, data: Buffer) -> None:
        """Some of the messages."""
        if self._done or self._messages is None:
            return
        texts: list[bytes] = []
        try:
            for message in self._messages.feed(data):
                texts.append(self._text(message))
        except BridgeError as error:
            self._tell(texts)
            told = BridgeError(Code.INTERNAL, f"the answer cannot be written as JSON: {error.message}")
            if self.record is not None:
                self.record.failed(told, "TE")
            cancel = self.cancel
            self.fail(told)
            cancel()
        else:
            self._tell(texts)

    def _tell(self, texts: list[bytes]) -> None:
        if texts:
            self._writer.messages(texts, _metadata(self._headers))

    def _text(self, message: Buffer) -> bytes:
        unknown: Unknown = []
        text = self._form.write(message, self._method.descriptor.output_type, self._limit, unknown)
        if unknown:
            self._lose(unknown_names(unknown))
        return text

    def _lose(self, names: Iterable[str]) -> None:
        new = dict.fromkeys(name for name in names if name not in self._lost)
        self._lost |= new
        if new:
            self._on_losses(new)

    def end(self, trailers: Headers = ()) -> None:
        """The call's status."""
        if self._done:
            return
        try:
            code, text = grpc.outcome(self._status, self._headers, trailers)
            if code == 0 and self._messages is not None:
                self._messages.finish()
        except BridgeError as error:
            self.fail(error)
            return
        fields = trailers if header(trailers, "grpc-status") is not None else self._headers
        if code:
            known = Code(code) if code in Code else Code.UNKNOWN
            self.fail(BridgeError(known, text), _details(header(fields, _DETAILS)), _metadata(fields))
        else:
            self._over()
            lost: Headers = ((LOST_HEADER, ", ".join(self._lost)),) if self._lost else ()
            self._writer.end(_metadata(self._headers), _metadata(trailers), lost)

    def fail(self, error: BridgeError, details: tuple[Detail, ...] = (), metadata: Headers = ()) -> None:
        """End with an error."""
        if not self._done:
            self._over()
            self._writer.fail(StreamEnd(error, details, metadata))

    def leave(self) -> None:
        """The client went away."""
        self._over()
        self._writer.leave()

    def _over(self) -> None:
        self._done, self.cancel = True, _nothing  # the call holds this: leave nothing to the garbage collector

    def abort(self) -> None:
        """The runtime's answer broke off."""
        self.fail(BridgeError(Code.UNAVAILABLE, "the runtime's answer broke off"))


def _nothing() -> None:
    """There is nothing to cancel."""


def _metadata(headers: Headers) -> Headers:
    """What of a gRPC answer's headers and trailers is metadata."""
    return tuple(pair for pair in headers if not pair[0].startswith(_OWN))


def _details(text: str | None) -> tuple[Detail, ...]:
    """The details of a `grpc-status-details-bin`, a `google.rpc.Status`; none of what is none."""
    if not text:
        return ()
    try:
        status = Empty.FromString(connect_messages.from_base64(text))
        unknown = UnknownFieldSet(status)
        fields = [unknown[position] for position in range(len(unknown))]
        found = [Any.FromString(field.data) for field in fields if field.field_number == _DETAILS_FIELD]
    except (DecodeError, ValueError, TypeError):
        return ()
    return tuple(Detail(each.type_url.rpartition("/")[2], each.value) for each in found)
