"""A call in Connect's form becomes a gRPC call of the gateway: collected, transcoded, and opened like any other."""

from collections.abc import Callable, Mapping

from inferbridge.bridge.connect_messages import parse_timeout
from inferbridge.bridge.errors import BridgeError, Code, invalid
from inferbridge.bridge.framing import GRPC_HEADERS, frame, timeout_text, too_large
from inferbridge.bridge.values import Buffer, Headers, header
from inferbridge.gateway.answers import is_grpc
from inferbridge.gateway.application import RequestHead, RequestSink, Responder
from inferbridge.gateway.connect.answers import GrpcAnswer
from inferbridge.gateway.connect.forms import Form, form_of, messages_of, metadata
from inferbridge.gateway.connect.methods import Method
from inferbridge.gateway.limits import Limits

type Open = Callable[[RequestHead, Responder], RequestSink]


class ConnectGateway:
    """Finds calls in Connect's form by path; `open_grpc` opens the gRPC calls that they become."""

    def __init__(self, methods: Mapping[str, Method], limits: Limits, open_grpc: Open) -> None:
        self._methods = methods
        self._limits = limits
        self._open = open_grpc

    def find(self, head: RequestHead) -> Open | None:
        """What opens a call; None for what is no call of a known method, or is gRPC itself."""
        method = self._methods.get(head.target if head.method == "POST" else head.target.partition("?")[0])
        if method is None or head.method not in {"POST", "GET"} or is_grpc(head):
            return None
        return lambda head, responder: ConnectCall(head, responder, method, self._limits, self._open)


class ConnectCall:
    """Collects a call and sends it on as gRPC."""

    def __init__(
        self, head: RequestHead, responder: Responder, method: Method, limits: Limits, open_grpc: Open
    ) -> None:
        self._head = head
        self._method = method
        self._limits = limits
        self._open = open_grpc
        self._body: list[Buffer] = []
        self._size = 0
        self._call: RequestSink | None = None
        self._over = False
        wrong: BridgeError | None = None
        try:
            self._form = form_of(head, method)
        except BridgeError as error:
            self._form, wrong = Form("unary", True), error
        self._answer = GrpcAnswer(self._form, method, responder, limits.reply_bytes)
        self._answer.cancel = self.on_cancel
        if wrong is not None:
            self._fail(wrong)

    def on_data(self, data: Buffer) -> None:
        """A piece of the body."""
        if self._over:
            return
        self._size += len(data)
        if self._size > self._limits.body_bytes:
            self._fail(too_large(self._size, self._limits.body_bytes))
        else:
            self._body.append(data)

    def on_end(self) -> None:
        """The call is complete: send it."""
        if self._over:
            return
        try:
            head, body = self._head.memo.get("grpc") or self._grpc_head(), self._grpc_body()
        except BridgeError as error:
            self._fail(error)
            return
        self._over, self._body = True, []
        self._call = self._open(head, self._answer)
        self._call.on_data(body)
        self._call.on_end()

    def on_cancel(self) -> None:
        """The client went away."""
        self._over = True
        if self._call is not None:
            self._call.on_cancel()

    def _fail(self, error: BridgeError) -> None:
        self._over, self._body = True, []
        self._answer.fail(error)

    def _grpc_head(self) -> RequestHead:
        head = self._head
        if header(head.headers, "connect-protocol-version") not in {None, "1"}:
            raise invalid("connect-protocol-version is not 1")
        timeout: Headers = ()
        text = header(head.headers, "connect-timeout-ms")
        if text is not None:
            timeout = (("grpc-timeout", timeout_text(parse_timeout(text))),)
        headers = (*GRPC_HEADERS, ("te", "trailers"), *timeout, *metadata(head.headers))
        made = RequestHead("POST", self._method.rpc, head.authority, headers, "2", head.tls, head.peer)
        head.memo["grpc"] = made
        return made

    def _grpc_body(self) -> bytes:
        limit, messages = (
            self._limits.message_bytes,
            messages_of(self._head, self._form, self._body, self._limits.message_bytes),
        )
        if not self._method.descriptor.client_streaming and len(messages) != 1:
            raise BridgeError(Code.UNIMPLEMENTED, f"{self._method.rpc} takes one message, got {len(messages)}")
        wire = [self._form.read(message, self._method.descriptor.input_type, limit) for message in messages]
        return b"".join(frame((message,) for message in wire))
