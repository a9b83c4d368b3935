"""The protos of the generated APIs, for what reads and writes gRPC messages as JSON."""

from functools import cache
from importlib.resources import files

from inferbridge.bridge.transcode_methods import Methods


def descriptor_set(api: str, variant: str = "") -> bytes:
    """The serialized `FileDescriptorSet` of an API, or of one of its variants."""
    folder = files("inferbridge_generated").joinpath(api.replace("-", "_"))
    own = folder.joinpath(variant, "protos.binpb") if variant else folder.joinpath("protos.binpb")
    return (own if own.is_file() else folder.joinpath("protos.binpb")).read_bytes()


def rest_descriptor_set(api: str) -> bytes:
    """That of the service which the gateway makes of an API's REST endpoints."""
    return files("inferbridge_generated").joinpath(api.replace("-", "_"), "rest_service.binpb").read_bytes()


@cache
def grpc_services() -> bytes:
    """That of the services which the gateway answers itself: health and reflection."""
    return files("inferbridge_generated").joinpath("grpc_services.binpb").read_bytes()


@cache
def rest_methods(api: str) -> Methods:
    """The methods of that service."""
    return Methods(rest_descriptor_set(api))


@cache
def methods(api: str, variant: str = "") -> Methods:
    """The methods of an API, or of one of its variants."""
    return Methods(descriptor_set(api, variant))
