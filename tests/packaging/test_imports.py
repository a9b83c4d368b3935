"""Imports point one way: generated → bridge ← gateway, upstream; the generator knows nothing of the proxy."""

import pytest

from packaging_sources import PACKAGES, Import, imports, is_standard, within

IMPORTS = list(imports())

ALLOWED = {
    "inferbridge_generated": (
        "inferbridge.bridge",
        "inferbridge_generated",
        "betterproto2",
        "grpclib",
        "msgspec",
        "typing_extensions",  # in what betterproto2 makes of google.protobuf
    ),
    "inferbridge.bridge": ("inferbridge.bridge", "google.protobuf", "jinja2", "msgspec", "numpy", "orjson", "simdjson"),
    "inferbridge.event_loop": ("uvloop",),
    "inferbridge.http2": ("inferbridge.http2", "inferbridge.bridge.values"),
    "inferbridge.upstream": (
        "inferbridge.upstream",
        "inferbridge.secret",
        "inferbridge.bridge",
        "inferbridge.gateway.limits",
        "inferbridge.http2",
        "hpack",
        "httptools",
        "msgspec",
    ),
    "inferbridge.config": (
        "inferbridge.config",
        "inferbridge.event_loop",
        "inferbridge.auth.identity",
        "inferbridge.auth.settings",
        "inferbridge.bridge",
        "inferbridge.capture.places",
        "inferbridge.capture.settings",
        "inferbridge.gateway.limits",
        "inferbridge.upstream.address",
        "inferbridge.upstream.tls",
        "inferbridge.secret",
        "inferbridge_codegen.problems",
        "inferbridge_codegen.spec",
    ),
}
"""What a package may import beside the standard library."""

FORBIDDEN = {
    "inferbridge_codegen": ("mitmproxy", "hpack", "hyperframe", "httptools", "inferbridge.gateway",
                            "inferbridge.upstream", "inferbridge.config", "inferbridge.demo", "inferbridge.addon"),
    "inferbridge.gateway": ("inferbridge_codegen", "inferbridge.demo", "inferbridge.cli", "inferbridge.observe",
                            "inferbridge.flows", "inferbridge.inspect"),
    "inferbridge.observe": ("inferbridge_codegen", "inferbridge.config", "inferbridge.addon", "mitmproxy"),
    "inferbridge.auth": ("mitmproxy", "inferbridge.addon", "inferbridge.cli", "inferbridge.observe",
                         "inferbridge.gateway.calls.guard"),
    "inferbridge.capture": ("inferbridge_codegen", "inferbridge.config", "inferbridge.addon", "inferbridge.cli",
                            "inferbridge.observe", "mitmproxy"),
    "inferbridge.flows": ("inferbridge_codegen", "inferbridge.cli", "inferbridge.demo"),
    "inferbridge.inspect": ("inferbridge_codegen", "inferbridge.flows", "inferbridge.gateway", "inferbridge.upstream",
                            "inferbridge.config", "inferbridge.addon", "inferbridge.cli", "inferbridge.demo"),
    "inferbridge.recorded": ("inferbridge.gateway", "inferbridge.config", "inferbridge.addon", "inferbridge.cli",
                             "inferbridge.calling", "inferbridge.demo"),
    "inferbridge.demo": ("inferbridge_codegen", "grpc", "grpc_tools", "inferbridge.cli"),
    "inferbridge": ("grpc", "grpc_tools", "h2"),
}  # fmt: skip
"""What a package must not import, whatever else it may."""

GATEWAY = {
    "clients": ("codecs",),
    "codecs": (),
    "calls": ("records",),
    "records": (),
    "connect": ("calls",),
    "rest_services": (),
    "local": (),
}
"""The folders of the gateway, and which others each may import beside what they share."""
TOGETHER = ("build", "service")
"""The modules of the gateway that put the folders together."""


def wrong(found: list[Import]) -> str:
    """One line for each import that is not allowed."""
    return "\n".join(f"{one.place}: {one.importer} imports {one.imported}" for one in found)


@pytest.mark.parametrize("package", ALLOWED)
def test_only_allowed_imports(package: str) -> None:
    """A package with a closed list imports nothing beyond the list and the standard library."""
    own = [one for one in IMPORTS if within(one.importer, package)]
    assert own or package == "inferbridge_generated", f"no module found in {package}"
    found = [one for one in own if not is_standard(one.imported) and not within(one.imported, *ALLOWED[package])]
    assert not found, wrong(found)


@pytest.mark.parametrize("package", FORBIDDEN)
def test_no_forbidden_imports(package: str) -> None:
    """A package never imports from where it must not."""
    own = [one for one in IMPORTS if within(one.importer, package)]
    found = [one for one in own if within(one.imported, *FORBIDDEN[package])]
    assert own
    assert not found, wrong(found)


@pytest.mark.parametrize("folder", GATEWAY)
def test_the_folders_of_the_gateway_depend_one_way(folder: str) -> None:
    """Wire and work of the gateway know each other only by what they share, and never what puts them together."""
    gateway = "inferbridge.gateway"
    own = [one for one in IMPORTS if within(one.importer, f"{gateway}.{folder}")]
    forbidden = [f"{gateway}.{name}" for name in (*GATEWAY, *TOGETHER) if name not in (folder, *GATEWAY[folder])]
    found = [one for one in own if within(one.imported, *forbidden)]
    assert own
    assert not found, wrong(found)


def test_what_the_folders_of_the_gateway_share_imports_none_of_them() -> None:
    """A module that all of the gateway imports needs none of its folders."""
    gateway = "inferbridge.gateway"
    folders = [f"{gateway}.{name}" for name in GATEWAY]
    together = [f"{gateway}.{name}" for name in TOGETHER]
    shared = [one for one in IMPORTS if within(one.importer, gateway) and not within(one.importer, *folders, *together)]
    found = [one for one in shared if within(one.imported, *folders, *together)]
    assert shared
    assert not found, wrong(found)


def test_the_extra_stays_behind_the_proxy() -> None:
    """What only the extra `proxy` installs is imported only by the parts that need the extra."""
    needing = (
        "inferbridge.gateway",
        "inferbridge.upstream",
        "inferbridge.demo",
        "inferbridge.addon",
        "inferbridge.flows",
        "inferbridge.inspect.told",
        "inferbridge.inspect.views",
        "inferbridge.observe",
        "inferbridge.recorded.exchanges",
    )
    installed = ("mitmproxy", "hpack", "hyperframe", "httptools", "prometheus_client")
    extra = [one for one in IMPORTS if within(one.imported, *installed)]
    found = [one for one in extra if not within(one.importer, *needing)]
    assert extra
    assert not found, wrong(found)


def test_opentelemetry_stays_behind_its_extra() -> None:
    """Only modules that are imported where somebody asks for OTLP import OpenTelemetry."""
    needing = ("inferbridge.observe.otlp", "inferbridge.observe.otlp_metrics", "inferbridge.observe.tracing")
    using = [one for one in IMPORTS if within(one.imported, "opentelemetry")]
    assert using
    assert not [one for one in using if one.importer not in needing], wrong(using)


def test_no_relative_way_around() -> None:
    """All imports of our own modules resolve to one of the three packages, so no rule can be stepped around."""
    tops = {one.imported.partition(".")[0] for one in IMPORTS}
    assert {top for top in tops if top.startswith("inferbridge")} <= set(PACKAGES)


def test_protobufs_own_codecs_stay_off_the_data_path() -> None:
    """google.protobuf serves what is rare: JSON, transcoding, reflection, health, views, captures, and no more."""
    rare = (
        "inferbridge.bridge.transcode",
        "inferbridge.bridge.json_messages",
        "inferbridge.capture",
        "inferbridge.gateway.connect",
        "inferbridge.gateway.local",
        "inferbridge.gateway.rest_services",
        "inferbridge.inspect",
        "inferbridge.recorded",
    )
    using = [one for one in IMPORTS if within(one.importer, "inferbridge") and within(one.imported, "google.protobuf")]
    assert using
    assert not [one for one in using if not one.importer.startswith(rare)]
