"""Where the fields of each operation stand on each wire, as data for the view of a translated call."""

import json

from inferbridge_codegen.explain import places
from inferbridge_codegen.model.types import Api, GrpcBinding, Model, RestBinding

FILE = "places.json"


def render_places(model: Model) -> bytes:
    """By API, endpoint, and `rest`, `grpc` or `grpc/VARIANT`: fields of the request, each with its places."""
    found = {api.name: _endpoints(api) for api in model.apis}
    lines = (
        f" {json.dumps(name)}: {{\n"
        + ",\n".join(f"  {json.dumps(endpoint)}: {json.dumps(ways)}" for endpoint, ways in endpoints.items())
        + "\n }"
        for name, endpoints in found.items()
    )
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _endpoints(api: Api) -> dict[str, dict[str, dict[str, list[str]]]]:
    found: dict[str, dict[str, dict[str, list[str]]]] = {}
    for endpoint in api.own.endpoints:
        ways = {"rest": endpoint.rest, "grpc": endpoint.grpc}
        found[endpoint.name] = {name: _request(binding) for name, binding in ways.items() if binding is not None}
    for variant in api.variants:
        for endpoint in variant.endpoints:
            if endpoint.grpc is not None:
                found[endpoint.name][f"grpc/{variant.name}"] = _request(endpoint.grpc)
    return found


def _request(binding: RestBinding | GrpcBinding) -> dict[str, list[str]]:
    return places(binding.request, aliases=True)
