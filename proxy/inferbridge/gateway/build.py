"""Builds the gateway's application from the settings."""

from inferbridge.config.values import Settings, Upstream
from inferbridge.gateway.service import GatewayService
from inferbridge.gateway.targets import Target
from inferbridge.upstream.pool import open_pool
from inferbridge_generated.registry import APIS
from inferbridge_generated.runtimes import PROFILES


def application(settings: Settings) -> GatewayService:
    """The application; its pools connect on their first call."""
    targets = [target for upstream in settings.upstreams for target in _targets(upstream, settings)]
    return GatewayService(targets, APIS, settings.policy, settings.limits)


def _targets(upstream: Upstream, settings: Settings) -> list[Target]:
    pool = open_pool(str(upstream.url), limits=settings.limits, tls=upstream.tls)
    return [
        Target(upstream.name, profile, upstream.protocol, pool, upstream.models)
        for profile in PROFILES[upstream.runtime]
    ]


async def close(service: GatewayService) -> None:
    """Close the pools."""
    for target in service.targets:
        await target.pool.close()
