"""Which endpoint of which API a message calls, by its head: what the translation view looks fields up with."""

from collections.abc import Mapping
from urllib.parse import parse_qsl

from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.routes import Match
from inferbridge.bridge.values import Headers, header
from inferbridge.inspect.known import known_routes
from inferbridge.inspect.translation import header_values

type Side = dict[str, object]
"""`api`, `endpoint`, `way` and `specials` of one side's request, as `translation.Asked` has them, without the body."""


def side(method: str, target: str, headers: Headers, api: str, variant: str = "") -> Side | None:
    """Of a request that calls some endpoint; `api` chooses where several have it. None where no endpoint is known."""
    found = _find(method, target, api, is_grpc=_is_grpc(headers))
    if found is None:
        return None
    is_rpc = found.endpoint.grpc is not None and found.endpoint.grpc.rpc == target.partition("?")[0]
    values = dict(header_values(headers))
    specials: Mapping[str, object] = (
        {"metadata": values}
        if is_rpc
        else {"path": found.variables, "query": dict(parse_qsl(target.partition("?")[2])), "header": values}
    )
    way = ("grpc", variant) if is_rpc else ("rest", "")
    return {
        "api": found.api.name,
        "endpoint": found.endpoint.name,
        "way": "/".join(part for part in way if part),
        "specials": dict(specials),
    }


def _is_grpc(headers: Headers) -> bool:
    return (header(headers, "content-type") or "").startswith("application/grpc")


def _find(method: str, target: str, api: str, *, is_grpc: bool) -> Match | None:
    matches: list[Match] = []
    for is_rpc in (True,) if is_grpc else (False, True):  # JSON may be sent to a method of gRPC, too (Connect)
        try:
            matches += [known_routes().rpc(target.partition("?")[0])] if is_rpc else known_routes().rest(method, target)
        except BridgeError:
            continue
    return next((match for match in matches if match.api.name == api), matches[0] if matches else None)
