"""What messages on the wire are read with: protos and paths of all APIs, the user's own among them."""

from functools import cache

from google.protobuf.descriptor import MethodDescriptor

from inferbridge.bridge.routes import Routes
from inferbridge.bridge.transcode_methods import Methods
from inferbridge.protos import grpc_services, methods, rest_methods


def find_method(rpc: str, api: str = "", variant: str = "") -> MethodDescriptor | None:
    """The method of `/package.Service/Method`; that of the API and variant, if they have it, else the first found."""
    if api:
        found = _by_rpc(api, variant).get(rpc)
        if found is not None:
            return found
    return _all().get(rpc)


@cache
def known_routes() -> Routes:
    """Finds the endpoints of all APIs by their paths and methods."""
    from inferbridge_generated.registry import APIS  # only here: it brings in every generated module

    return Routes(APIS.values())


@cache
def _all() -> dict[str, MethodDescriptor]:
    from inferbridge_generated.registry import APIS  # only here: it brings in every generated module

    found: dict[str, MethodDescriptor] = {}
    for name, api in APIS.items():
        for variant in ("", *api.variants):
            found = {**_by_rpc(name, variant), **found}
        if api.rest_methods:
            found = {**rest_methods(name).by_rpc, **found}
    return {**Methods(grpc_services()).by_rpc, **found}


def _by_rpc(api: str, variant: str) -> dict[str, MethodDescriptor]:
    try:
        return dict(methods(api, variant).by_rpc)
    except FileNotFoundError:  # an API without protos, or one that is not known
        return {}
