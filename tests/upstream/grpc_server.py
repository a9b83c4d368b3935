"""Real gRPC servers (grpcio) for tests, with bytes as messages."""

import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc

from inferbridge.upstream.api import UpstreamRequest

BIG = 20 << 20


def framed(message: bytes) -> list[bytes]:
    """A gRPC message as it stands in the body."""
    return [b"\0" + len(message).to_bytes(4), message]


def grpc_request(method: str, message: bytes = b"hello", idempotent: bool = False) -> UpstreamRequest:
    """A gRPC call."""
    headers = (("content-type", "application/grpc"), ("x-request", "r"))
    return UpstreamRequest("POST", f"/test.Service/{method}", headers, framed(message), idempotent)


@dataclass
class Seen:
    """What the server has noticed."""

    peers: set[str] = field(default_factory=set)
    active: int = 0
    most_active: int = 0
    waiting: threading.Event = field(default_factory=threading.Event)
    cancelled: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    metadata: dict[str, str | bytes] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


class _Service(grpc.GenericRpcHandler):
    """Any service; the method's name says what happens."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """The handler for a method."""
        name = handler_call_details.method.rpartition("/")[2]
        method = getattr(self, f"_{name.lower()}", None)
        if method is None:
            return None
        if name == "Stream":
            return grpc.unary_stream_rpc_method_handler(method)
        return grpc.unary_unary_rpc_method_handler(method)

    def _echo(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        seen = self._seen
        with seen.lock:
            seen.peers.add(context.peer())
            seen.active += 1
            seen.most_active = max(seen.most_active, seen.active)
            seen.metadata = dict(context.invocation_metadata())
        context.set_trailing_metadata((("x-trailer", "t"),))
        with seen.lock:
            seen.active -= 1
        return request

    def _wait(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        def over() -> None:
            self._seen.cancelled.set()
            self._seen.release.set()

        context.add_callback(over)
        self._seen.waiting.set()
        self._seen.release.wait(20)
        return request

    def _fail(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(grpc.StatusCode.NOT_FOUND, "no such model: Ü")

    def _stream(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        for index in range(50):
            yield b"%d" % index


@contextmanager
def grpc_server(
    credentials: grpc.ServerCredentials | None = None,
    port: int = 0,
    options: tuple[tuple[str, int], ...] = (),
    workers: int = 16,
) -> Iterator[tuple[grpc.Server, int, Seen]]:
    """A running server, its port and what it sees."""
    seen = Seen()
    unlimited = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
    pool = futures.ThreadPoolExecutor(workers)
    server = grpc.server(pool, options=(*unlimited, *options))
    server.add_generic_rpc_handlers((_Service(seen),))
    address = f"localhost:{port}"
    bound = server.add_insecure_port(address) if credentials is None else server.add_secure_port(address, credentials)
    server.start()
    try:
        yield server, bound, seen
    finally:
        seen.release.set()
        server.stop(0).wait()
        pool.shutdown()
