"""One process that serves: everything that is made of the settings, and how it is replaced and stopped."""

import asyncio
import gc
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from inferbridge import addon
from inferbridge.auth.rates import RateLimiter
from inferbridge.bridge import allocator
from inferbridge.capture.build import capturing
from inferbridge.capture.capturer import Capturer
from inferbridge.config import Listener, Settings
from inferbridge.config.showing import shown
from inferbridge.gateway import build
from inferbridge.gateway.clients.client_tls import ClientTls
from inferbridge.gateway.clients.destinations import Destinations
from inferbridge.gateway.clients.draining import Stopper
from inferbridge.gateway.counters import NO_COUNTERS
from inferbridge.gateway.records.recording import Observer, Recorder
from inferbridge.observe import logs, otlp
from inferbridge.observe.access_log import AccessLog
from inferbridge.observe.admin import Admin
from inferbridge.observe.health import Health
from inferbridge.observe.metrics import Metrics
from inferbridge.observe.versions import versions
from inferbridge.posture import posture
from inferbridge.process.live import Generation, Live


def prepare(settings: Settings) -> None:
    """Set up what a process that serves has only one of: its log, its allocator and its garbage collector."""
    logs.set_up(settings.log.level, settings.log.format)
    allocator.tune()
    gc.collect()
    gc.freeze()  # what was loaded stays; collections look only at what calls make
    gc.set_threshold(
        20_000, *gc.get_threshold()[1:]
    )  # calls and connections leave no cycles, so there is little to find


class Proxy:
    """A proxy in this event loop. ValueError or OSError when the settings name files that cannot be used."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics | None,
        telemetry: Sequence[Observer] = (),
        capturer: Capturer | None = None,
    ) -> None:
        """`telemetry` and `capturer` hear of calls, beside the log and the metrics."""
        client_tls = _client_tls(settings)
        self.metrics = metrics
        self._telemetry = tuple(telemetry)
        self._capturer = capturer
        self._access_log = AccessLog(_to_stdout, asyncio.get_running_loop().call_soon)
        self._limiter = RateLimiter()
        self._live = Live(self._generation(settings))
        self._gateway = addon.GatewayAddon(
            self._live,
            settings.limits,
            client_tls=client_tls,
            # who has a certificate wants it used: nobody may then send in the clear by mistake
            require_tls=client_tls is not None,
            name=addon.NEXT_LAYER,
            counters=metrics or NO_COUNTERS,
        )
        self._gateway.destinations = _destinations(settings)
        self.stopper = Stopper(
            settings.drain_delay,
            settings.drain.timeout,
            unready=self._unready,
            listeners_closed=self._live.stop_watching,
            give_up=self._live.close,
        )
        self.health = Health(self._live.current.service.upstreams, _names(settings))
        self.admin = Admin(self.health, self.metrics, shown(settings)) if self.metrics is not None else None
        if self.metrics is not None:
            self._note(settings, self.metrics)
            if client_tls is not None:
                for listener in settings.listen:
                    self.metrics.certificate(str(listener), self._certificate_seconds)

    @property
    def settings(self) -> Settings:
        """Those in force."""
        return self._live.current.settings

    def posture(self) -> list[str]:
        """What an operator should know of who may come in."""
        return posture(self.settings, self._live.current.guard.access.chain.authenticators)

    def _generation(self, settings: Settings) -> Generation:
        counters = self.metrics or NO_COUNTERS
        service = build.service(settings, counters, self._limiter)
        guard = build.guard(settings, service, counters)
        wanted: tuple[Observer | None, ...] = (
            *self._telemetry,  # first: the log has the ids of its spans
            self._access_log if settings.access_log.enabled else None,
            self.metrics.calls if self.metrics is not None else None,
            self._capturer,
        )
        observers = [one for one in wanted if one is not None]
        recorder = Recorder(guard, observers, [self._capturer] if self._capturer is not None else [])
        return Generation(settings, service, guard, recorder)

    def apply(self, settings: Settings) -> None:
        """New calls go by these settings from now on. ValueError or OSError: nothing has changed."""
        before = self.settings
        if self.health.stopping:
            raise ValueError("the proxy is stopping")
        if (settings.tls.certificate is None) != (before.tls.certificate is None):
            raise ValueError("tls.certificate: to begin or end serving over TLS takes a restart")
        if settings.auth == before.auth:
            settings = replace(settings, auth=before.auth)  # callers keep what they have left of their rates
        client_tls = _client_tls(settings) if settings.tls != before.tls else self._gateway.client_tls
        self._live.replace(self._generation(settings), self._gateway.connections)
        self._gateway.renew(settings.limits, client_tls)
        self._gateway.destinations = _destinations(settings)
        self.health.look_at(self._live.current.service.upstreams, _names(settings))
        if settings.log != before.log:
            logs.set_level(settings.log.level)
        if self.metrics is not None and self.admin is not None:
            self._note(settings, self.metrics)
            self.admin.config = shown(settings)

    def _note(self, settings: Settings, metrics: Metrics) -> None:
        """Have the metrics say what the settings say."""
        metrics.upstreams(_names(settings))
        unverified = [one for one in settings.upstreams if one.tls is not None and not one.tls.verify]
        metrics.insecure_upstreams(len(unverified))

    def _certificate_seconds(self) -> float:
        tls = self._gateway.client_tls
        return tls.seconds_left() if tls is not None else 0.0

    def _unready(self) -> None:
        self.health.stopping = True
        self._live.stopping()

    async def serve(self, listen: Sequence[Listener], ready: addon.Ready, *, shared: bool = False) -> None:
        """Serve until it is stopped; see `addon.serve`."""
        try:
            await addon.serve(self._gateway, listen, addon.state_folder(), ready, self.stopper, shared=shared)
        finally:
            await self._live.close()
            self._access_log.flush()


@asynccontextmanager
async def proxying(settings: Settings) -> AsyncIterator[Proxy]:
    """A proxy, with all that it tells of its calls. ValueError or OSError when settings name what cannot be used."""
    metrics = Metrics(versions()) if settings.admin.listen is not None else None
    async with otlp.sending(os.environ) as telemetry, capturing(settings.capture, metrics) as capturer:
        yield Proxy(settings, metrics, telemetry, capturer)


def _names(settings: Settings) -> list[str]:
    return [upstream.name for upstream in settings.upstreams]


def _destinations(settings: Settings) -> Destinations:
    return Destinations({upstream.name: upstream.url for upstream in settings.upstreams})


def _client_tls(settings: Settings) -> ClientTls | None:
    return ClientTls(settings.tls) if settings.tls.certificate else None


def _to_stdout(lines: bytes) -> None:
    sys.stdout.buffer.write(lines)
    sys.stdout.buffer.flush()
