"""Reads upstreams: `runtime=URL` in one text, or a map with every setting."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from inferbridge.config.kinds import FilePath, ListOf, Record, Schema, SettingsReader, Switch, Text, name
from inferbridge.config.kinds import Field as F
from inferbridge.config.values import SCHEMES, Address, Protocol, Upstream, UpstreamTls, Url
from inferbridge_codegen.problems import Mark, suggestion
from inferbridge_codegen.spec.yaml_tree import MapNode, Node, Scalar

_PORTS = {"http": 80, "https": 443, "grpcs": 443}
_UPSTREAM_PATTERN = r"^[^=:/]+=(https?|grpcs?)://.+$"


def parse_address(text: str) -> Address:
    """`host:port`; an IPv6 host is in brackets, an empty one is every interface."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("must have its IPv6 host in brackets, such as [::1]:8080")
    if not colon or not port.isascii() or not port.isdecimal() or int(port) > 65535 or set(host) & set("/@ []"):
        raise ValueError("must be host:port, such as 127.0.0.1:8080")
    return Address(host, int(port))


def parse_url(text: str) -> Url:
    """`scheme://host[:port]`; http, https and grpcs have a usual port, grpc must name one."""
    parts = _split(text)
    if parts.scheme not in SCHEMES:
        raise ValueError(
            f"must start with one of {', '.join(f'{scheme}://' for scheme in SCHEMES)}{suggestion(parts.scheme, SCHEMES)}"
        )
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not contain a user name or password")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("must be scheme://host:port without path, query or fragment")
    port = parts.port if parts.port is not None else _PORTS.get(parts.scheme)
    if not parts.hostname or set(parts.hostname) & set(" []"):
        raise ValueError("must name a host")
    if not port:
        raise ValueError("must name a port, such as :8001")
    return Url(parts.scheme, parts.hostname, port)


def _split(text: str):  # type: ignore[no-untyped-def]  # SplitResult is not worth an import of its own
    parts = urlsplit(text)
    try:
        _ = parts.port
    except ValueError:
        raise ValueError("must name a port from 1 to 65535") from None
    return parts


def split_upstream(text: str) -> tuple[str, Url]:
    """Runtime and URL of `runtime=URL`."""
    runtime, equals, url = text.partition("=")
    if not equals or not runtime or ":" in runtime or "/" in runtime:
        raise ValueError("must be runtime=URL, such as triton=grpc://127.0.0.1:8001")
    try:
        return runtime, parse_url(url)
    except ValueError as error:
        raise ValueError(f"has a URL that {error}") from None


@dataclass(frozen=True, slots=True)
class Runtime:
    """The name of a runtime that a description exists for."""

    def read(self, reader: SettingsReader, node: Node, where: str) -> str | None:
        text = reader.text(node, where)
        if text is None or known_runtime(reader, text, node.mark):
            return text
        return None

    def schema(self) -> Schema:
        return {"type": "string", "pattern": "^[a-z][a-z0-9]*(-[a-z0-9]+)*$"}


def known_runtime(reader: SettingsReader, runtime: str, mark: Mark) -> bool:
    """Whether there is a description of the runtime; a problem if not."""
    if runtime in reader.runtimes:
        return True
    known = ", ".join(sorted(reader.runtimes))
    reader.problems.add(
        mark, f"runtime {runtime!r} is not known{suggestion(runtime, reader.runtimes)} (known: {known})"
    )
    return False


UPSTREAM_TLS = Record(
    UpstreamTls,
    {
        "ca": F(FilePath(), "PEM file of the authorities to trust instead of the system's."),
        "certificate": F(FilePath(), "PEM file of our own certificate chain, for a runtime that asks for one."),
        "key": F(FilePath(), "PEM file of the private key of `certificate`."),
        "server_name": F(Text(name), "Name in the runtime's certificate when it is not the host of the URL."),
        "insecure": F(Switch(), "Accept any certificate."),
    },
    "tls of an upstream",
)


@dataclass(frozen=True, slots=True)
class _Written:
    """An upstream as written in a map; the name may follow from the runtime."""

    runtime: str
    url: Url
    name: str = ""
    models: tuple[str, ...] = ("*",)
    tls: UpstreamTls = UpstreamTls()


UPSTREAM = Record(
    _Written,
    {
        "name": F(Text(name), "Name in logs and errors; the runtime's unless given."),
        "runtime": F(Runtime(), "What runs there.", required=True),
        "url": F(
            Text(parse_url, r"^(https?|grpcs?)://"),
            "http, https, grpc (HTTP/2 without TLS) or grpcs, host and port.",
            required=True,
        ),
        "models": F(ListOf(Text(name)), "Globs of the models it serves; all unless given."),
        "tls": F(UPSTREAM_TLS, "Trust, for https and grpcs."),
    },
    "an upstream",
)


@dataclass(frozen=True, slots=True)
class Upstreams:
    """A list of upstreams; an unnamed one is called after its runtime, with a number from the second on."""

    def read(self, reader: SettingsReader, node: Node, where: str) -> tuple[Upstream, ...] | None:
        items = reader.sequence(node, where)
        found: dict[str, Upstream] = {}
        written = [(child, self._item(reader, child)) for child in items]
        taken = {item.name for _, item in written if item is not None}
        for child, item in written:
            if item is not None:
                named = item.name or _free_name(item.runtime, taken)
                taken.add(named)
                if named in found:
                    reader.problems.add(_mark(child, "name"), f"upstream {named!r} is declared twice")
                found[named] = Upstream(named, item.runtime, item.url, item.models, item.tls)
        return tuple(found.values())

    def _item(self, reader: SettingsReader, node: Node) -> _Written | None:
        if isinstance(node, Scalar):
            split = Text(split_upstream).read(reader, node, "upstream")
            item = _Written(*split) if split and known_runtime(reader, split[0], node.mark) else None
        else:
            item = UPSTREAM.read(reader, node, "upstream")
        return item if item is not None and _consistent(reader, node, item) else None

    def schema(self) -> Schema:
        return {
            "type": "array",
            "items": {"anyOf": [{"type": "string", "pattern": _UPSTREAM_PATTERN}, UPSTREAM.schema()]},
        }


def _mark(node: Node, key: str) -> Mark:
    found = [child.mark for name, _, child in node.entries if name == key] if isinstance(node, MapNode) else []
    return found[0] if found else node.mark


def _free_name(runtime: str, taken: Collection[str]) -> str:
    number = 1
    while (named := runtime if number == 1 else f"{runtime}-{number}") in taken:
        number += 1
    return named


def _consistent(reader: SettingsReader, node: Node, item: _Written) -> bool:
    """What no single key can say: protocol, TLS and key pair belong together."""
    add = partial(reader.problems.add, _mark(node, "tls"))
    before = len(reader.problems)
    _check_protocol(reader.runtimes, item.runtime, item.url, partial(reader.problems.add, _mark(node, "url")))
    if item.tls != UpstreamTls() and not item.url.secure:
        add(f"tls needs a https or grpcs url, {item.url} is without TLS")
    if (item.tls.certificate is None) != (item.tls.key is None):
        add("tls needs certificate and key together")
    if item.tls.insecure and item.tls.ca is not None:
        add("tls is insecure, so ca would have no effect; remove one of them")
    return len(reader.problems) == before


def _check_protocol(
    runtimes: Mapping[str, Collection[Protocol] | Collection[str]], runtime: str, url: Url, add: partial[None]
) -> None:
    spoken = runtimes[runtime]
    if url.protocol not in spoken:
        add(f"{url}: {runtime} does not speak {url.protocol}, only {', '.join(sorted(spoken))}")
