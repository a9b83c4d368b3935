"""Asks a server for its protos, by gRPC server reflection (v1, else v1alpha)."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.framing import GRPC_HEADERS, frame, unframe
from inferbridge.bridge.grpc import outcome
from inferbridge.bridge.values import Buffer, Headers, join
from inferbridge.calling.reading import LIMIT
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.local.messages import message_class, parse
from inferbridge.upstream.api import Pool, UpstreamRequest
from inferbridge.upstream.pool import open_pool
from inferbridge_codegen.importing.sources import name_and_imports

_VERSIONS = ("v1", "v1alpha")
_SECONDS = 30.0
_LEFT_OUT = ("grpc.reflection.", "grpc.health.")


def reflected(url: str) -> list[bytes]:
    """The serialized `FileDescriptorProto`s of all services of a server, imports first. Raises `BridgeError`."""
    return asyncio.run(_reflected(url))


async def _reflected(url: str) -> list[bytes]:
    pool = open_pool(url, limits=Limits())
    try:
        version = _VERSIONS[0]
        try:
            services = await _services(pool, version)
        except BridgeError as error:
            if error.code is not Code.UNIMPLEMENTED:
                raise
            version = _VERSIONS[1]
            services = await _services(pool, version)
        return _sorted(await _files(pool, version, services))
    finally:
        await pool.close()


async def _services(pool: Pool, version: str) -> list[str]:
    (answer,) = await _ask(pool, version, [{"list_services": ""}])
    names = [str(service.name) for service in answer.list_services_response.service]
    return [name for name in names if not name.startswith(_LEFT_OUT)]


async def _files(pool: Pool, version: str, services: Iterable[str]) -> dict[str, bytes]:
    """The files that declare the services, and all that they import, by name."""
    found: dict[str, bytes] = {}
    questions = [{"file_containing_symbol": name} for name in services]
    while questions:
        for answer in await _ask(pool, version, questions):
            for file in answer.file_descriptor_response.file_descriptor_proto:
                found[name_and_imports(file)[0]] = file
        wanted = {name for file in found.values() for name in name_and_imports(file)[1]} - found.keys()
        questions = [{"file_by_filename": name} for name in sorted(wanted)]
    return found


def _sorted(files: Mapping[str, bytes]) -> list[bytes]:
    ordered: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in files and name not in ordered:
            for imported in name_and_imports(files[name])[1]:
                add(imported)
            ordered[name] = files[name]

    for name in sorted(files):
        add(name)
    return list(ordered.values())


async def _ask(pool: Pool, version: str, questions: Iterable[Mapping[str, Any]]) -> list[Any]:
    """The answers to some questions, in one call."""
    package = f"grpc.reflection.{version}"
    kind = message_class(f"{package}.ServerReflectionRequest")
    body = frame([(kind(**question).SerializeToString(),) for question in questions])
    collected = _Collected()
    path = f"/{package}.ServerReflection/ServerReflectionInfo"
    pool.send(UpstreamRequest("POST", path, (*GRPC_HEADERS, ("te", "trailers")), body), collected, _SECONDS)
    messages = await collected.done
    answers = [parse(f"{package}.ServerReflectionResponse", message) for message in messages]
    for answer in answers:
        if answer.HasField("error_response"):
            raise BridgeError(Code(answer.error_response.error_code), answer.error_response.error_message)
    return answers


class _Collected:
    """The messages of one answer."""

    def __init__(self) -> None:
        self.done: asyncio.Future[list[Buffer]] = asyncio.get_running_loop().create_future()
        self._status = 0
        self._headers: Headers = ()
        self._body = bytearray()

    def on_head(self, status: int, headers: Headers) -> None:
        self._status, self._headers = status, headers

    def on_data(self, data: Buffer) -> None:
        self._body += data

    def on_end(self, trailers: Headers) -> None:
        try:
            code, details = outcome(self._status, self._headers, trailers)
            if code:
                raise BridgeError(Code(code), details)
            self.done.set_result([join(chunks) for chunks in unframe(self._body, "identity", LIMIT)])
        except BridgeError as error:
            self.on_failure(error)

    def on_failure(self, error: BridgeError) -> None:
        if not self.done.done():
            self.done.set_exception(error)
