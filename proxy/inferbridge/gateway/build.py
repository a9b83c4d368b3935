"""Builds the gateway's application from the settings."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from inferbridge.auth.build import OPEN, chain
from inferbridge.auth.failures import Failures
from inferbridge.auth.outgoing import Outgoing
from inferbridge.auth.presented import Reader
from inferbridge.auth.rates import RateLimiter
from inferbridge.auth.rules import Authorizer
from inferbridge.auth.settings import AuthSettings
from inferbridge.bridge.chat_template import ChatTemplate
from inferbridge.bridge.context import Setting
from inferbridge.bridge.matching import protocols
from inferbridge.bridge.registry import Api, Endpoint
from inferbridge.bridge.routes import Match
from inferbridge.bridge.transcode_methods import Methods
from inferbridge.config.load import load_settings
from inferbridge.config.sources import Flags
from inferbridge.config.values import Settings, Upstream
from inferbridge.gateway.calls.guard import Access, Guard
from inferbridge.gateway.calls.readiness import Probe, Readiness
from inferbridge.gateway.calls.targets import Target
from inferbridge.gateway.connect.calls import ConnectGateway
from inferbridge.gateway.connect.methods import methods_of
from inferbridge.gateway.counters import NO_COUNTERS, Counters
from inferbridge.gateway.local.health import ServiceStates
from inferbridge.gateway.local.services import HEALTH, REFLECTIONS, LocalServices
from inferbridge.gateway.rest_services.calls import RestServices
from inferbridge.gateway.service import GatewayService
from inferbridge.protos import descriptor_set, grpc_services, methods, rest_descriptor_set, rest_methods
from inferbridge.upstream.api import Pool, WatchedPool
from inferbridge.upstream.balanced import Spread
from inferbridge.upstream.pool import open_pool
from inferbridge_generated import operations
from inferbridge_generated.registry import APIS
from inferbridge_generated.runtimes import PROFILES

RUNTIMES: Mapping[str, frozenset[str]] = {
    name: frozenset(protocol for profile in profiles for protocol in protocols(APIS[profile.api]))
    for name, profiles in PROFILES.items()
}
"""Known runtimes and the protocols that they speak."""
_ABOUT = frozenset({"server_ready", "server_metadata", "model_list"})
"""Operations about a runtime, which nearly every API can say."""


def settings(
    file: Path | None,
    environment: Mapping[str, str] | None = None,
    flags: Flags | None = None,
    text: bytes | None = None,
) -> Settings:
    """The settings of a file, the environment and flags; raises `SettingsError` with all problems.

    `text` is what the file held, for who has read it already.
    """
    return load_settings(file, environment or {}, flags or Flags(), RUNTIMES, text)


def application(settings: Settings, counters: Counters = NO_COUNTERS) -> Guard:
    """The application, guarded; its pools connect on their first call. ValueError or OSError for a file of secrets."""
    return guard(settings, service(settings, counters), counters)


def guard(settings: Settings, application: GatewayService, counters: Counters = NO_COUNTERS) -> Guard:
    """What clients reach of an application. ValueError or OSError for a file of secrets that cannot be used."""
    auth = settings.auth or OPEN
    reader = Reader(auth.headers, _written_by_us(settings, auth))
    access = Access(
        chain(auth, counters.auth_cache),
        reader,
        frozenset(auth.public),
        auth.realm,
        Failures(auth.failures_per_minute),
        settings.limits.body_bytes,
        counters,
    )
    return Guard(application, access)


def _written_by_us(settings: Settings, auth: AuthSettings) -> frozenset[str]:
    """Headers in which runtimes are told who calls: a client's own would stand before ours."""
    credentials = (upstream.credentials for upstream in settings.upstreams)
    own = {one.header for one in credentials if one.is_set}
    return frozenset({auth.forward.subject, auth.forward.groups, *own} - {""})


def service(settings: Settings, counters: Counters = NO_COUNTERS, limiter: RateLimiter | None = None) -> GatewayService:
    """What the guard stands before; `limiter` knows what callers have left of their rates."""
    targets = [target for upstream in settings.upstreams for target in _targets(upstream, settings, counters)]
    apis = [api for api in APIS.values() if _is_served(api, targets)]
    served = [api for api in apis if "grpc" in protocols(api)]
    rest_apis = [(api, rest_methods(api.name)) for api in apis if api.rest_methods]
    sets = [*(descriptor_set(api.name) for api in served), *(rest_descriptor_set(api.name) for api, _ in rest_apis)]
    probes = _probes(targets)
    local = LocalServices(sets, _states(_served_services(targets), probes))
    authorizer = Authorizer(settings.auth.rules if settings.auth else ())
    service = GatewayService(targets, APIS, settings.policy, settings.limits, local, authorizer, counters, limiter)
    own = (*(methods(api.name) for api in served), *(made for _, made in rest_apis))
    known = methods_of((Methods(grpc_services()), *_variants(served, targets), *own), _idempotent(served).__contains__)
    service.metering.reads_all = settings.admin.tokens == "all"
    service.connect = ConnectGateway(known, settings.limits, service.open, service.lost_in_message)
    service.upstreams = Readiness({one.name: [probes[one.name]] if one.name in probes else [] for one in targets})
    service.rest_services = RestServices(rest_apis, settings.limits, service.open, service.losses.in_answer)
    return service


def _idempotent(apis: Iterable[Api]) -> frozenset[str]:
    """Paths of the gRPC methods that may be called twice."""
    endpoints = (endpoint for api in apis for endpoint in api.endpoints.values())
    return frozenset(endpoint.grpc.rpc for endpoint in endpoints if endpoint.grpc and endpoint.idempotent)


def _variants(served: Iterable[Api], targets: Iterable[Target]) -> Iterator[Methods]:
    """Methods of the dialects that clients of gRPC speak: an API's first upstream decides on its own."""
    first = {target.profile.api: target.profile.variant for target in reversed(list(targets))}
    for api in served:
        if variant := first.get(api.name):
            yield methods(api.name, variant)


def _service(rpc: str) -> str:
    return rpc.split("/")[1]


def _grpc_methods(api: Api) -> dict[str, list[Endpoint]]:
    """The endpoints of an API by their gRPC service, but for services that the gateway answers itself."""
    methods = [(endpoint.grpc.rpc, endpoint) for endpoint in api.endpoints.values() if endpoint.grpc]
    methods += [(method.rpc, api.endpoints[method.endpoint]) for method in api.rest_methods]
    found: dict[str, list[Endpoint]] = {}
    for rpc, endpoint in methods:
        if _service(rpc) not in {HEALTH, *REFLECTIONS}:
            found.setdefault(_service(rpc), []).append(endpoint)
    return found


def _is_served(api: Api, targets: Sequence[Target]) -> bool:
    """Whether there is an upstream for some method of an API's gRPC services."""
    matches = [Match(api, endpoint, {}) for endpoints in _grpc_methods(api).values() for endpoint in endpoints]
    return any(target.serving(APIS, match) for target in targets for match in matches)


def _served_services(targets: Sequence[Target]) -> dict[str, list[Target]]:
    """The gRPC services that upstreams serve, whatever protocol these speak, by name.

    One that can only say which models there are does not serve a service that is for more than that, though it answers
    those calls.
    """
    found: dict[str, list[Target]] = {}
    for api in APIS.values():
        for service, endpoints in _grpc_methods(api).items():
            telling = [endpoint for endpoint in endpoints if endpoint.operation not in _ABOUT] or endpoints
            matches = [Match(api, endpoint, {}) for endpoint in telling]
            able = [target for target in targets if any(target.serving(APIS, match) for match in matches)]
            if able:
                found[service] = able
    return found


def _probes(targets: Iterable[Target]) -> dict[str, Probe]:
    """One for each upstream that can be asked, by its name."""
    probes: dict[str, Probe] = {}
    for target in targets:
        probe = Probe.of(target, APIS[target.profile.api])
        if probe is not None:
            probes.setdefault(target.name, probe)
    return probes


def _states(services: Mapping[str, Sequence[Target]], probes: Mapping[str, Probe]) -> ServiceStates:
    """The readiness of services is that of the upstreams which serve them."""
    readiness = Readiness(
        {name: [probes[target.name] for target in found if target.name in probes] for name, found in services.items()}
    )
    return ServiceStates({name: partial(readiness.ready, name) for name in services}, readiness.refresh)


def _targets(upstream: Upstream, settings: Settings, counters: Counters) -> list[Target]:
    def targets(pool: Pool) -> list[Target]:
        return [
            Target(upstream.name, profile, upstream.protocol, pool, upstream.served, setting, outgoing, upstream.url)
            for profile in PROFILES[upstream.runtime]
        ]

    template = ChatTemplate.load(upstream.chat_template) if upstream.chat_template is not None else None
    setting = Setting(
        operations=operations,
        chat_template=template,
        default_model=upstream.default_model,
        adapters=upstream.adapters,
    )
    outgoing = Outgoing(upstream.credentials, settings.auth.forward if settings.auth else None)
    pool = open_pool(
        str(upstream.url),
        limits=settings.limits,
        tls=upstream.tls,
        age_seconds=upstream.connection_age,
        retried=lambda reason: counters.retried(upstream.name, reason),
        spread=_spread(upstream, targets),
    )
    if isinstance(pool, WatchedPool):
        counters.watch(upstream.name, pool)
    if upstream.health_check is not None and not _probes(targets(pool)):
        unknown = f"{upstream.runtime} has no question for it over {upstream.protocol}"
        raise ValueError(f"upstream {upstream.name!r}: health_check: {unknown}; remove it")
    return targets(pool)


def _spread(upstream: Upstream, targets: Callable[[Pool], list[Target]]) -> Spread | None:
    """How calls are spread over its addresses; None where there is one."""
    if not upstream.addresses and upstream.resolve is None:
        return None

    def check(pool: Pool, then: Callable[[bool], None]) -> None:
        probe = _probes(targets(pool))[upstream.name]
        probe.ask(lambda: then(probe.ready))

    endpoints = tuple((one.host, one.port) for one in upstream.addresses)
    if upstream.health_check is None:
        return Spread(endpoints, upstream.resolve, upstream.sticky)
    return Spread(endpoints, upstream.resolve, upstream.sticky, check, upstream.health_check.interval)
