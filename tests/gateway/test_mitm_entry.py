"""The script for mitmproxy's own tools reads its option and builds the application, or stops mitmproxy."""

import logging
import runpy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.exceptions import OptionsError
from mitmproxy.hooks import ConfigureHook
from mitmproxy.master import Master
from mitmproxy.options import Options

import inferbridge.gateway
from gateway.applications import Echo
from inferbridge.addon import GatewayAddon
from inferbridge.auth.settings import AuthSettings
from inferbridge.capture.settings import CaptureSettings
from inferbridge.config import AccessLog, Admin, Listener, ListenerTls, Upstream
from inferbridge.gateway.application import Application
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.records.recording import Recorder

ENTRY = Path(__file__).parents[2] / "proxy" / "mitm_entry.py"


@dataclass
class Settings:
    """What the build is given."""

    limits: Limits
    tls: ListenerTls
    admin: Admin = Admin()  # noqa: RUF009 - it is frozen
    access_log: AccessLog = AccessLog()  # noqa: RUF009 - it is frozen
    capture: CaptureSettings = CaptureSettings()  # noqa: RUF009 - it is frozen
    upstreams: tuple[Upstream, ...] = ()
    auth: AuthSettings | None = None


class Build:
    """Stands in for the build, which needs generated modules."""

    def settings(self, path: Path, environment: Mapping[str, str]) -> Settings:
        if path.name == "broken.yaml":
            raise ValueError("broken.yaml:1:1: no")
        listen = Listener("127.0.0.1", 9901) if path.name == "admin.yaml" else None
        tls = ListenerTls(path if path.suffix == ".pem" else None)
        capture = CaptureSettings(enabled=path.name == "capture.yaml")
        return Settings(replace(Limits(), streams=7), tls, Admin(listen), capture=capture)

    def application(self, settings: Settings) -> Application:
        return Echo()


@pytest.fixture(autouse=True)
def log_handlers() -> Iterator[None]:
    """The entry makes all log handlers discreet; pytest's own must tell other tests everything again."""
    before = [(handler, list(handler.filters)) for handler in logging.getLogger().handlers]
    yield
    for handler, filters in before:
        handler.filters[:] = filters


@pytest.fixture
async def master(monkeypatch: pytest.MonkeyPatch) -> Master:
    """A master with the entry's addon loaded the way a script's addons are."""
    monkeypatch.setattr(inferbridge.gateway, "build", Build(), raising=False)
    master = Master(Options())
    master._legacy_log_events.uninstall()
    (entry,) = runpy.run_path(str(ENTRY))["addons"]
    master.addons.add(Proxyserver(), entry)
    master.addons.invoke_addon_sync(entry, ConfigureHook(set(master.options.keys())))  # as the script loader does
    return master


def addon(master: Master) -> GatewayAddon:
    found = master.addons.get("inferbridge")
    assert isinstance(found, GatewayAddon)
    return found


async def test_without_a_configuration(master: Master) -> None:
    """Without the option there is no application, and mitmproxy is kept from connecting early."""
    assert addon(master).application is None
    assert master.options.connection_strategy == "lazy"


async def test_with_a_configuration(master: Master) -> None:
    """The option builds the application with the limits of its file."""
    master.options.update(inferbridge_config="good.yaml")
    assert isinstance(addon(master).application, Recorder)
    assert addon(master).limits.streams == 7


async def test_an_admin_port_is_not_promised(master: Master, caplog: pytest.LogCaptureFixture) -> None:
    """mitmproxy's own tools have no admin port: a file that asks for one works, and the log says what does not."""
    master.options.update(inferbridge_config="admin.yaml")
    assert isinstance(addon(master).application, Recorder)
    assert [record.getMessage() for record in caplog.records if "admin.listen" in record.getMessage()]


async def test_telemetry_is_not_sent_in_silence(
    master: Master, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks for traces is told that only our own command sends them."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
    master.options.update(inferbridge_config="good.yaml")
    assert "OTEL_*" in caplog.text


async def test_a_capture_is_not_promised(master: Master, caplog: pytest.LogCaptureFixture) -> None:
    """mitmproxy's own tools capture no payloads: a file that asks for it works, and the log says what does not."""
    master.options.update(inferbridge_config="capture.yaml")
    assert isinstance(addon(master).application, Recorder)
    assert [record.getMessage() for record in caplog.records if "capture has no effect" in record.getMessage()]


async def test_tls_of_the_configuration(master: Master, certificate: Path, tmp_path: Path) -> None:
    """The certificate of the file is the listener's, and then required; one that cannot be used is an error."""
    master.options.update(inferbridge_config="good.yaml")
    assert addon(master).client_tls is None
    assert not addon(master).require_tls
    master.options.update(inferbridge_config=str(certificate))
    assert addon(master).client_tls is not None
    assert addon(master).require_tls
    with pytest.raises(OptionsError, match="No such file"):
        master.options.update(inferbridge_config=str(tmp_path / "nowhere.pem"))


async def test_broken_configuration(master: Master) -> None:
    """A broken file is an error of the option, and what ran before goes on."""
    master.options.update(inferbridge_config="good.yaml")
    before = addon(master).application
    with pytest.raises(OptionsError, match=r"broken\.yaml:1:1: no"):
        master.options.update(inferbridge_config="broken.yaml")
    assert addon(master).application is before


async def test_lazy_cannot_be_undone(master: Master) -> None:
    """Setting mitmproxy's strategy back to eager has no effect."""
    master.options.update(connection_strategy="eager")
    assert master.options.connection_strategy == "lazy"
