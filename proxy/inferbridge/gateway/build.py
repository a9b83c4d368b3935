"""Builds the gateway's application from the settings."""

from collections.abc import Mapping
from pathlib import Path

from inferbridge.config.load import load_settings
from inferbridge.config.sources import Flags
from inferbridge.config.values import Settings, Upstream
from inferbridge.gateway.service import GatewayService
from inferbridge.gateway.targets import Target
from inferbridge.upstream.pool import open_pool
from inferbridge_generated.registry import APIS
from inferbridge_generated.runtimes import PROFILES

RUNTIMES: Mapping[str, frozenset[str]] = {name: frozenset({"rest", "grpc"}) for name in PROFILES}
"""Known runtimes and the protocols that they speak."""


def settings(file: Path | None, environment: Mapping[str, str] | None = None, flags: Flags | None = None) -> Settings:
    """The settings of a file, the environment and flags; raises `SettingsError` with all problems."""
    return load_settings(file, environment or {}, flags or Flags(), RUNTIMES)


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
