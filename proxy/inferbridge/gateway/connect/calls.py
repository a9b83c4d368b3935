"""A call in Connect's form becomes a gRPC call of the gateway: transcoded, and opened like any other."""

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial

from inferbridge.bridge.connect_messages import error_reply, parse_timeout
from inferbridge.bridge.errors import BridgeError, Code, invalid
from inferbridge.bridge.framing import GRPC_HEADERS, frame, timeout_text
from inferbridge.bridge.values import Buffer, Headers, header
from inferbridge.gateway.answering import is_grpc
from inferbridge.gateway.application import RequestHead, RequestSink, Responder, press
from inferbridge.gateway.connect.answers import GrpcAnswer
from inferbridge.gateway.connect.forms import Form, body_of, form_of, metadata
from inferbridge.gateway.connect.methods import Method
from inferbridge.gateway.limits import Limits

type Open = Callable[[RequestHead, Responder], RequestSink]
type Lost = Callable[[str, Collection[str]], None]
"""Is told the fields of a method's answer that cannot be written, each once."""


class ConnectGateway:
    """Finds calls in Connect's form by path; `open_grpc` opens the gRPC calls that they become."""

    def __init__(self, methods: Mapping[str, Method], limits: Limits, open_grpc: Open, lost: Lost) -> None:
        self._methods = methods
        self._limits = limits
        self._open = open_grpc
        self._lost = lost

    def method(self, head: RequestHead) -> Method | None:
        """The method that is called; None for what is no call of a known method, or is gRPC itself."""
        method = self._methods.get(head.target if head.method == "POST" else head.target.partition("?")[0])
        return None if method is None or head.method not in {"POST", "GET"} or is_grpc(head) else method

    def find(self, head: RequestHead) -> Open | None:
        """What opens a call; None where there is no `method`."""
        method = self.method(head)
        if method is None:
            return None
        return lambda head, responder: ConnectCall(head, responder, method, self._limits, self._open, self._lost)

    def refuse(self, error: BridgeError, head: RequestHead, responder: Responder) -> bool:
        """Answer an error in Connect's form, if the call has it."""
        if self.method(head) is None:
            return False
        reply = error_reply(error)
        responder.whole(reply.status, reply.headers, reply.chunks)
        return True


class ConnectCall:
    """Reads a call and sends it on as gRPC, message by message."""

    def __init__(
        self, head: RequestHead, responder: Responder, method: Method, limits: Limits, open_grpc: Open, lost: Lost
    ) -> None:
        self._head = head
        self._record = responder.record
        if self._record is not None:
            self._record.routed("", "", method.rpc)
        self._method = method
        self._limits = limits
        self._open = open_grpc
        self._call: RequestSink | None = None
        self._count = 0
        self._over = False
        wrong: BridgeError | None = None
        try:
            self._form = form_of(head, method)
        except BridgeError as error:
            self._form, wrong = Form("unary", True), error
        self._body = body_of(head, self._form, limits)
        self._answer = GrpcAnswer(self._form, method, responder, limits.reply_bytes, partial(lost, method.rpc))
        self._answer.cancel = self._stop
        if wrong is not None:
            self._fail(wrong)

    def on_data(self, data: Buffer) -> None:
        """A piece of the body."""
        self._guarded(lambda: self._send(self._body.feed(data)))

    def on_end(self) -> None:
        """The call is complete."""
        self._guarded(self._finish)

    def on_pressure(self, full: bool) -> None:
        """The answer piles up, or no more."""
        press(self._call, full)

    def on_cancel(self) -> None:
        """The client went away."""
        self._answer.leave()
        self._stop()

    def _stop(self) -> None:
        self._over = True
        if self._call is not None:
            self._call.on_cancel()

    def _guarded(self, step: Callable[[], None]) -> None:
        """Do a step, unless the call is over; what it raises is the answer."""
        if self._over:
            return
        try:
            step()
        except BridgeError as error:
            self._fail(error)

    def _fail(self, error: BridgeError) -> None:
        if self._record is not None:
            self._record.failed(error, "TE")
        self._answer.fail(error)
        self._stop()

    def _send(self, messages: Iterable[Buffer]) -> None:
        for message in messages:
            self._count += 1
            if self._count > 1 and not self._method.descriptor.client_streaming:
                raise BridgeError(Code.UNIMPLEMENTED, f"{self._method.rpc} takes one message, got more")
            wire = self._form.read(message, self._method.descriptor.input_type, self._limits.message_bytes)
            self._opened().on_data(b"".join(frame(((wire,),))))

    def _finish(self) -> None:
        self._send(self._body.finish())
        if not self._count and not self._method.descriptor.client_streaming:
            raise BridgeError(Code.UNIMPLEMENTED, f"{self._method.rpc} takes one message, got none")
        self._opened().on_end()

    def _opened(self) -> RequestSink:
        """The gRPC call; it begins with the first message, so that a call which is wrong reaches nobody."""
        if self._call is None:
            self._call = self._open(self._head.memo.get("grpc") or self._grpc_head(), self._answer)
        return self._call

    def _grpc_head(self) -> RequestHead:
        head = self._head
        if header(head.headers, "connect-protocol-version") not in {None, "1"}:
            raise invalid("connect-protocol-version is not 1")
        timeout: Headers = ()
        text = header(head.headers, "connect-timeout-ms")
        if text is not None:
            timeout = (("grpc-timeout", timeout_text(parse_timeout(text))),)
        headers = (*GRPC_HEADERS, ("te", "trailers"), *timeout, *metadata(head.headers))
        made = head.memo["grpc"] = head.derived(method="POST", target=self._method.rpc, headers=headers)
        return made
