"""What is to be called, and the call itself, from the words of the command line."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

import msgspec

from inferbridge.bridge.context import RuntimeProfile
from inferbridge.bridge.framing import GRPC_HEADERS, frame
from inferbridge.bridge.matching import half_of
from inferbridge.bridge.registry import Api, Endpoint, RestHalf
from inferbridge.bridge.rest import JSON_HEADERS, segment
from inferbridge.bridge.transcode_methods import Methods
from inferbridge.bridge.values import Headers, header
from inferbridge.protos import methods, rest_methods
from inferbridge.upstream.address import parse_address
from inferbridge.upstream.api import UpstreamRequest
from inferbridge_codegen.problems import suggestion
from inferbridge_generated.registry import APIS
from inferbridge_generated.runtimes import PROFILES

_TE: Headers = (("te", "trailers"),)
_LINES: Headers = (("accept", "application/x-ndjson"),)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the call goes."""

    url: str
    runtime: str = ""
    """What is there; empty: something that speaks the endpoint."""

    @property
    def protocol(self) -> str:
        """`rest` or `grpc`."""
        return "grpc" if parse_address(self.url).scheme.startswith("grpc") else "rest"

    @property
    def profiles(self) -> tuple[RuntimeProfile, ...]:
        """The APIs of the runtime."""
        return PROFILES.get(self.runtime, ())


@dataclass(frozen=True, slots=True)
class Spoken:
    """An endpoint as the caller speaks it."""

    api: Api
    endpoint: Endpoint
    protocol: str
    variant: str = ""
    bridged: bool = False
    """The runtime speaks something else."""


def parse_place(text: str) -> Place:
    """`URL` or `RUNTIME=URL`; ValueError says what is wrong."""
    runtime, equals, url = text.partition("=")
    if not equals:
        runtime, url = "", text
    elif runtime not in PROFILES:
        near = suggestion(runtime, PROFILES) or f": it is none of {', '.join(sorted(PROFILES))}"
        raise ValueError(f"--to: there is no such runtime{near}")
    parse_address(url)
    return Place(url, runtime)


def find_endpoint(text: str) -> tuple[Api, Endpoint]:
    """The endpoint that `API/ENDPOINT` names; ValueError lists what there is."""
    name, _, endpoint = text.partition("/")
    known = [f"{api.name}/{each}" for api in APIS.values() for each in api.endpoints]
    if text not in known:
        some = [each for each in known if each.startswith(f"{name}/")] or sorted(APIS)
        near = suggestion(text, known) or f"; there are {', '.join(some)}"
        raise ValueError(f"there is no endpoint {text!r}{near}")
    return APIS[name], APIS[name].endpoints[endpoint]


def spoken(api: Api, endpoint: Endpoint, place: Place, wanted: str | None) -> Spoken:
    """How the call is spoken: as it is where the runtime understands it, else over a bridge. ValueError for neither."""
    own = next((profile for profile in place.profiles if profile.api == api.name), None)
    variant = own.variant if own is not None else ""
    understood = own is not None or not place.runtime
    there = half_of(api, endpoint.name, place.protocol, variant) if understood else None
    if there is not None and wanted in (None, place.protocol):
        return Spoken(api, endpoint, place.protocol, variant)
    if not place.runtime and wanted in (None, place.protocol) and _is_offered(api, endpoint, place.protocol):
        return Spoken(api, endpoint, place.protocol)
    if not place.runtime:
        what = f"{api.name}/{endpoint.name} is not spoken over {wanted or place.protocol}"
        raise ValueError(
            f"{what}; say which runtime is at {place.url}, as in triton={place.url}, to have it translated"
        )
    protocol = wanted or ("rest" if endpoint.rest is not None else "grpc")
    if half_of(api, endpoint.name, protocol, variant) is None:
        raise ValueError(f"{api.name}/{endpoint.name} is not spoken over {protocol}")
    return Spoken(api, endpoint, protocol, variant, bridged=True)


def composed(ask: Spoken, data: bytes | None, headers: Headers, parameters: Mapping[str, str]) -> UpstreamRequest:
    """The call as it is sent.

    `data` is JSON; over gRPC it becomes a message, and what it has no place for is a `BridgeError`. `parameters` are
    variables of the path and, those that it does not have, of the query; ValueError when one is missing.
    """
    half = half_of(ask.api, ask.endpoint.name, ask.protocol, ask.variant)
    idempotent = ask.endpoint.idempotent
    if half is None and ask.protocol == "rest" and ask.endpoint.grpc is not None:
        lines = _LINES if ask.endpoint.mode == "stream" else ()
        fields = (*JSON_HEADERS, *lines, *headers)
        return UpstreamRequest("POST", ask.endpoint.grpc.rpc, fields, (data or b"{}",), idempotent)
    if isinstance(half, RestHalf):
        kind = JSON_HEADERS if data is not None and header(headers, "content-type") is None else ()
        chunks = (data,) if data is not None else ()
        return UpstreamRequest(half.method, _path(half, parameters), (*kind, *headers), chunks, idempotent)
    if parameters:
        raise ValueError("a gRPC call has no path: its message says it all")
    rpc = half.rpc if half is not None else _offered_rpc(ask, data)
    wire = protos(ask).request_from_json(rpc, data or b"{}")
    return UpstreamRequest("POST", rpc, (*GRPC_HEADERS, *_TE, *headers), frame(((wire,),)), idempotent)


def protos(ask: Spoken) -> Methods:
    """The methods among which a gRPC call finds its own."""
    own = half_of(ask.api, ask.endpoint.name, "grpc", ask.variant)
    return methods(ask.api.name, ask.variant) if own is not None else rest_methods(ask.api.name)


def _is_offered(api: Api, endpoint: Endpoint, protocol: str) -> bool:
    """Whether a gateway offers an endpoint in a protocol of which its API knows nothing.

    A method of gRPC is plain JSON there (Connect), and a REST endpoint has a method of a generated service.
    """
    if protocol == "rest":
        return endpoint.grpc is not None
    return any(method.endpoint == endpoint.name for method in api.rest_methods)


def _offered_rpc(ask: Spoken, data: bytes | None) -> str:
    """The method that a gateway made of a REST endpoint; there may be one of its own for a streamed answer."""
    made = [method for method in ask.api.rest_methods if method.endpoint == ask.endpoint.name]
    streamed = ask.endpoint.mode == "stream" or (ask.endpoint.mode == "either" and _says_stream(data))
    return next((method.rpc for method in made if method.streams == streamed), made[0].rpc)


def _says_stream(data: bytes | None) -> bool:
    try:
        value = msgspec.json.decode(data or b"{}")
    except msgspec.DecodeError:
        return False  # said where the message is made
    return isinstance(value, dict) and value.get("stream") is True


def _path(half: RestHalf, parameters: Mapping[str, str]) -> str:
    """The first path that has the most of the parameters, the rest of them as its query."""
    able = [path for path in half.paths if _variables(path) <= parameters.keys()]
    if not able:
        missing = sorted(_variables(half.paths[0]) - parameters.keys())
        raise ValueError(f"{half.paths[0]} needs {', '.join(f'-p {name}=…' for name in missing)}")
    path = max(able, key=lambda each: len(_variables(each)))
    query = {name: value for name, value in parameters.items() if name not in _variables(path)}
    for name in _variables(path):
        path = path.replace(f"{{{name}}}", segment(parameters[name], name))
    return f"{path}?{urlencode(query)}" if query else path


def _variables(path: str) -> set[str]:
    return {part[1:-1] for part in path.split("/") if part.startswith("{")}
