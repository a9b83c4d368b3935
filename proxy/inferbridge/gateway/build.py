"""Builds the gateway's application from the settings."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from inferbridge.bridge.chat_template import ChatTemplate
from inferbridge.bridge.context import Setting
from inferbridge.bridge.matching import protocols
from inferbridge.bridge.registry import Api
from inferbridge.bridge.routes import Match
from inferbridge.config.load import load_settings
from inferbridge.config.sources import Flags
from inferbridge.config.values import Settings, Upstream
from inferbridge.gateway.connect.calls import ConnectGateway
from inferbridge.gateway.connect.methods import methods_of
from inferbridge.gateway.local.health import ServiceStates
from inferbridge.gateway.local.messages import grpc_services
from inferbridge.gateway.local.services import LocalServices
from inferbridge.gateway.rest_services.calls import RestServices
from inferbridge.gateway.service import GatewayService
from inferbridge.gateway.targets import Target
from inferbridge.upstream.pool import open_pool
from inferbridge_generated import operations
from inferbridge_generated.registry import APIS
from inferbridge_generated.runtimes import PROFILES

RUNTIMES: Mapping[str, frozenset[str]] = {
    name: frozenset(protocol for profile in profiles for protocol in protocols(APIS[profile.api]))
    for name, profiles in PROFILES.items()
}
"""Known runtimes and the protocols that they speak."""


def settings(file: Path | None, environment: Mapping[str, str] | None = None, flags: Flags | None = None) -> Settings:
    """The settings of a file, the environment and flags; raises `SettingsError` with all problems."""
    return load_settings(file, environment or {}, flags or Flags(), RUNTIMES)


def application(settings: Settings) -> GatewayService:
    """The application; its pools connect on their first call."""
    targets = [target for upstream in settings.upstreams for target in _targets(upstream, settings)]
    served = [api for api in APIS.values() if "grpc" in protocols(api) and _is_served(api, targets)]
    rest_apis = [(api, _generated(api, "rest_service.binpb")) for api in APIS.values() if _serves_rest(api, targets)]
    sets = [*(_generated(api, "protos.binpb") for api in served), *(data for _, data in rest_apis)]
    service = GatewayService(targets, APIS, settings.policy, settings.limits, _local_services(served, rest_apis, sets))
    methods = methods_of([grpc_services(), *_variants(served, targets), *sets], _idempotent(served).__contains__)
    service.connect = ConnectGateway(methods, settings.limits, service.open)
    service.rest_services = RestServices(rest_apis, settings.limits, service.open)
    return service


def _idempotent(apis: Iterable[Api]) -> frozenset[str]:
    """Paths of the gRPC methods that may be called twice."""
    endpoints = (endpoint for api in apis for endpoint in api.endpoints.values())
    return frozenset(endpoint.grpc.rpc for endpoint in endpoints if endpoint.grpc and endpoint.idempotent)


def _variants(served: Iterable[Api], targets: Iterable[Target]) -> Iterator[bytes]:
    """Descriptors of the dialects that clients of gRPC speak: an API's first upstream decides on its own."""
    first = {target.profile.api: target.profile.variant for target in reversed(list(targets))}
    for api in served:
        if variant := first.get(api.name):
            yield _generated(api, f"{variant}/protos.binpb")


def _generated(api: Api, name: str) -> bytes:
    return files("inferbridge_generated").joinpath(api.name.replace("-", "_"), name).read_bytes()


def _serves_rest(api: Api, targets: Sequence[Target]) -> bool:
    """Whether there is an upstream for a gRPC service made of an API's REST endpoints."""
    matches = [Match(api, api.endpoints[method.endpoint], {}) for method in api.rest_methods]
    return any(target.serving(APIS, match) for target in targets for match in matches)


def _local_services(served: Iterable[Api], rest: Iterable[tuple[Api, bytes]], sets: Iterable[bytes]) -> LocalServices:
    """Health and reflection of the gRPC services for which there is an upstream, whatever protocol that speaks."""
    services = {
        endpoint.grpc.rpc.split("/")[1]: _is_ready
        for api in served
        for endpoint in api.endpoints.values()
        if endpoint.grpc
    }
    services |= {method.rpc.split("/")[1]: _is_ready for api, _ in rest for method in api.rest_methods}
    return LocalServices(sets, ServiceStates(services))


def _is_served(api: Api, targets: Sequence[Target]) -> bool:
    matches = [Match(api, endpoint, {}) for endpoint in api.endpoints.values() if endpoint.grpc is not None]
    return any(target.serving(APIS, match) for target in targets for match in matches)


def _is_ready() -> bool:
    """An upstream is configured; whether it runs shows with the first call."""
    return True


def _targets(upstream: Upstream, settings: Settings) -> list[Target]:
    pool = open_pool(str(upstream.url), limits=settings.limits, tls=upstream.tls)
    template = ChatTemplate.load(upstream.chat_template) if upstream.chat_template is not None else None
    setting = Setting(operations=operations, chat_template=template, default_model=upstream.default_model)
    return [
        Target(upstream.name, profile, upstream.protocol, pool, upstream.models, setting)
        for profile in PROFILES[upstream.runtime]
    ]


async def close(service: GatewayService) -> None:
    """End what the gateway answers itself, and close the pools."""
    if service.local is not None:
        service.local.close()
    for target in service.targets:
        await target.pool.close()
