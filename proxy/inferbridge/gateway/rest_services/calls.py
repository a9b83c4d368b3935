"""A gRPC call of a service made for REST endpoints becomes the REST call that it stands for."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
from google.protobuf.descriptor import MethodDescriptor

from inferbridge.bridge import transcode
from inferbridge.bridge.dialects import DIALECTS, OPEN_INFERENCE, Dialect
from inferbridge.bridge.errors import BridgeError, Code, invalid
from inferbridge.bridge.framing import PREFIX_BYTES, too_large, unframe
from inferbridge.bridge.registry import Api, Endpoint, RestHalf, RestMethod
from inferbridge.bridge.rest import JSON_HEADERS
from inferbridge.bridge.transcode_methods import Methods
from inferbridge.bridge.values import Buffer, GrpcReply, Headers, header, join
from inferbridge.bridge.wire import Unknown, unknown_names
from inferbridge.gateway.answering import answer_grpc, is_grpc
from inferbridge.gateway.application import RequestHead, RequestSink, Responder, press
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.rest_services.answers import RestAnswer

type Open = Callable[[RequestHead, Responder], RequestSink]
type Lost = Callable[[Api, Endpoint, Collection[str]], None]
"""Is told the fields of an endpoint's answer that no message has a place for, each once."""


@dataclass(frozen=True, slots=True)
class Service:
    """One method, and all that its calls need."""

    method: RestMethod
    endpoint: Endpoint
    api: Api
    descriptor: MethodDescriptor

    @property
    def rest(self) -> RestHalf:
        """The binding that it stands for."""
        assert self.endpoint.rest is not None
        return self.endpoint.rest

    @property
    def dialect(self) -> Dialect:
        """How the API words its errors."""
        return DIALECTS.get(self.api.errors, OPEN_INFERENCE)


class RestServices:
    """Finds calls by path; `open_rest` opens the REST calls that they become."""

    def __init__(self, apis: Iterable[tuple[Api, Methods]], limits: Limits, open_rest: Open, lost: Lost) -> None:
        """`apis` with the methods of each one's service."""
        self._limits = limits
        self._open = open_rest
        self._lost = lost
        self._services: Mapping[str, Service] = {
            method.rpc: Service(method, api.endpoints[method.endpoint], api, methods.find(method.rpc))
            for api, methods in apis
            for method in api.rest_methods
        }

    def service(self, head: RequestHead) -> Service | None:
        """What is called; None for calls of other services."""
        return self._services.get(head.target) if head.method == "POST" and is_grpc(head) else None

    def find(self, head: RequestHead) -> Open | None:
        """What opens a call; None where there is no `service`."""
        service = self.service(head)
        if service is None:
            return None
        return lambda head, responder: RestServiceCall(head, responder, service, self._limits, self._open, self._lost)


class RestServiceCall:
    """Collects a call and sends it on as REST."""

    def __init__(
        self, head: RequestHead, responder: Responder, service: Service, limits: Limits, open_rest: Open, lost: Lost
    ) -> None:
        self._head = head
        self._responder = responder
        if responder.record is not None:
            responder.record.routed(service.api.name, service.endpoint.operation, service.method.rpc)
        self._service = service
        self._limits = limits
        self._open = open_rest
        self._lost = lost
        self._body: list[Buffer] = []
        self._size = 0
        self._call: RequestSink | None = None
        self._answer: RestAnswer | None = None
        self._over = False

    def on_data(self, data: Buffer) -> None:
        """A piece of the body."""
        if self._over:
            return
        self._size += len(data)
        if self._size > self._limits.message_bytes + PREFIX_BYTES:
            self._fail(too_large(self._size, self._limits.message_bytes))
        else:
            self._body.append(data)

    def on_end(self) -> None:
        """The call is complete: send it."""
        if self._over:
            return
        try:
            head, body = self._rest_call()
        except BridgeError as error:
            self._fail(error)
            return
        self._over, self._body = True, []
        service = self._service
        framing = service.rest.framing if service.method.streams else None
        answer = self._answer = RestAnswer(
            self._responder,
            service.descriptor.output_type,
            service.dialect,
            framing,
            service.method.status,
            self._limits,
            partial(self._lost, service.api, service.endpoint),
        )
        call = self._call = self._open(head, answer)
        answer.cancel = call.on_cancel
        if body:
            call.on_data(body)
        call.on_end()

    def on_pressure(self, full: bool) -> None:
        """The answer piles up, or no more."""
        press(self._call, full)

    def on_cancel(self) -> None:
        """The client went away."""
        self._over = True
        if self._call is not None and self._answer is not None:
            self._answer.leave()
            self._call.on_cancel()

    def _fail(self, error: BridgeError) -> None:
        if self._responder.record is not None:
            self._responder.record.failed(error, "TE")
        self._over, self._body = True, []
        answer_grpc(GrpcReply(int(error.code), error.message), self._responder)

    def _rest_call(self) -> tuple[RequestHead, bytes]:
        """The REST call of the message: its body, and what stands in path and query."""
        service, members = self._service, self._members()
        path = _path(service.rest.paths, {name: members.pop(name, "") for name in service.method.path})
        query = [(name, value) for name in service.method.query for value in members.pop(name, [])]
        if service.endpoint.mode == "either":
            members["stream"] = service.method.streams
        has_body = service.rest.method not in {"GET", "HEAD"}
        head = self._head
        headers = (*(JSON_HEADERS if has_body else ()), *_metadata(head.headers))
        target = f"{path}?{urlencode(query)}" if query else path
        made = head.derived(method=service.rest.method, target=target, headers=headers, version="1.1")
        return made, msgspec.json.encode(members) if has_body else b""

    def _members(self) -> dict[str, Any]:
        limit, head = self._limits.message_bytes, self._head
        encoding = header(head.headers, "grpc-encoding") or "identity"
        messages = unframe(join(self._body) if self._body else b"", encoding, limit)
        if len(messages) != 1:
            raise BridgeError(Code.UNIMPLEMENTED, f"{self._service.method.rpc} takes one message, got {len(messages)}")
        unknown: Unknown = []
        kind = self._service.descriptor.input_type
        text = transcode.to_json(join(messages[0]), kind, original_names=True, plain_integers=True, unknown=unknown)
        if unknown:
            raise invalid(f"unknown fields: {', '.join(unknown_names(unknown))}")
        members: dict[str, Any] = msgspec.json.decode(text)
        return members


def _path(templates: Iterable[str], variables: Mapping[str, str]) -> str:
    """The first template whose variables are all set."""
    for template in templates:
        segments = template.split("/")
        names = [segment[1:-1] for segment in segments if segment.startswith("{")]
        if all(variables.get(name) for name in names):
            return "/".join(
                quote(variables[segment[1:-1]], safe="") if segment.startswith("{") else segment for segment in segments
            )
    raise invalid(f"{', '.join(variables)} must be set")


def _metadata(headers: Headers) -> Headers:
    """What of a call's metadata are headers of the REST call; the deadline crosses as it is."""
    return tuple(
        pair for pair in headers if not pair[0].startswith(("content-", "grpc-a", "grpc-e")) and pair[0] != "te"
    )
