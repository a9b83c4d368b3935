"""The skeleton of a spec from recorded calls that no spec knows, by way of what `inferbridge import` reads."""

import json
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from inferbridge.recorded.bodies import method_of
from inferbridge.recorded.exchanges import Exchange, Side
from inferbridge.recorded.facts import find_endpoint
from inferbridge.recorded.guessed_protos import protos_of
from inferbridge.recorded.guessed_schemas import openapi_of
from inferbridge_codegen.importing.skeleton import spec_name
from inferbridge_codegen.importing.sources import Imported, from_descriptors, from_openapi

_UNREADABLE = 404, 405
"""Who asked for this asked in vain: it is no endpoint."""


def imported(calls: Iterable[Exchange], side: str, source: str, name: str, tell: Callable[[str], None]) -> Imported:
    """The files of a spec folder; where calls are of both protocols, of two APIs. ValueError when there are none."""
    unknown = [each for call in calls for each in call.sides(side) if _is_unknown(call, each, tell)]
    rest = [each for each in unknown if each.protocol == "rest"]
    grpc = [each for each in unknown if each.protocol == "grpc"]
    if not unknown:
        raise ValueError("it has no call that the specs do not know already")
    files: dict[str, str] = {}
    if rest:
        document = json.dumps(openapi_of(rest, name)).encode()
        files |= from_openapi(document, source, spec_name(name)).files
    if grpc:
        protos = [file.SerializeToString() for file in protos_of(grpc)]
        own = spec_name(f"{name}-grpc" if rest else name)
        files |= from_descriptors(protos, source, own, urlsplit(grpc[0].url).port or 443).files
    return Imported(files)


def _is_unknown(call: Exchange, side: Side, tell: Callable[[str], None]) -> bool:
    match = find_endpoint(side.protocol, side.asked.method, side.asked.target)
    title = f"call {call.number}: {side.asked.method} {side.asked.target.partition('?')[0]}"
    if match is not None:
        tell(f"{title} is known already, as {match.api.name}/{match.endpoint.name}")
    elif side.protocol == "grpc" and method_of(side) is not None:
        tell(f"{title} is known already")
    elif side.told is None or side.told.status in _UNREADABLE:
        tell(f"{title} was not answered by an endpoint")
    else:
        return True
    return False
