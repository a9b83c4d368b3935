"""Reads upstreams: `runtime=URL` in one text, or a map with every setting."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from inferbridge.auth.settings import UpstreamCredentials
from inferbridge.config.auth import Credentials, header_name
from inferbridge.config.kinds import (
    Field,
    FilePath,
    ListOf,
    Names,
    Record,
    Schema,
    SettingsReader,
    Text,
    duration,
    name,
    scalar,
)
from inferbridge.config.upstream_tls import UPSTREAM_TLS
from inferbridge.config.values import HealthCheck, Listener, Upstream
from inferbridge.gateway.limits import UPSTREAM_AGE_SECONDS
from inferbridge.upstream.address import Address, Endpoint, parse_address, parse_endpoint
from inferbridge.upstream.tls import TlsSettings, client_context
from inferbridge_codegen.problems import Mark, suggestion
from inferbridge_codegen.spec.yaml_tree import MapNode, Node, Scalar

_HOUR = 3600.0
_UPSTREAM_PATTERN = r"^[^=:/]+=(https?|grpcs?)://.+$"


def parse_listener(text: str) -> Listener:
    """`host:port`; an IPv6 host is in brackets, an empty one is every interface."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("must have its IPv6 host in brackets, such as [::1]:8080")
    if not colon or not port.isascii() or not port.isdecimal() or int(port) > 65535 or set(host) & set("/@ []"):
        raise ValueError("must be host:port, such as 127.0.0.1:8080")
    return Listener(host, int(port))


@dataclass(frozen=True, slots=True)
class Url:
    """The URL of a runtime."""

    def read(self, reader: SettingsReader, node: Node, where: str) -> Address | None:
        text = reader.text(node, where)
        try:
            return None if text is None else parse_address(text)
        except ValueError as error:
            reader.problems.add(node.mark, str(error))
            return None

    def schema(self) -> Schema:
        return scalar({"type": "string", "pattern": "^(https?|grpcs?)://"})


@dataclass(frozen=True, slots=True)
class Runtime:
    """The name of a runtime that a description exists for."""

    def read(self, reader: SettingsReader, node: Node, where: str) -> str | None:
        text = reader.text(node, where)
        if text is None or known_runtime(reader, text, node.mark):
            return text
        return None

    def schema(self) -> Schema:
        return scalar({"type": "string", "pattern": "^[a-z][a-z0-9]*(-[a-z0-9]+)*$"})


def known_runtime(reader: SettingsReader, runtime: str, mark: Mark) -> bool:
    """Whether there is a description of the runtime; a problem if not."""
    if runtime in reader.runtimes:
        return True
    known = ", ".join(sorted(reader.runtimes))
    reader.problems.add(mark, f"the runtime is not known{suggestion(runtime, reader.runtimes)} (known: {known})")
    return False


@dataclass(frozen=True, slots=True)
class _Written:
    """An upstream as written in a map; the name may follow from the runtime."""

    runtime: str
    url: Address
    name: str = ""
    models: tuple[str, ...] = ("*",)
    tls: TlsSettings | None = None
    default_model: str = ""
    chat_template: Path | None = None
    credentials: UpstreamCredentials = field(default_factory=UpstreamCredentials)
    adapters: Mapping[str, str] = field(default_factory=dict)
    addresses: tuple[Endpoint, ...] = ()
    resolve: float | None = None
    sticky: str = ""
    health_check: HealthCheck | None = None
    connection_age: float = UPSTREAM_AGE_SECONDS


UPSTREAM = Record(
    _Written,
    {
        "name": Field(Text(name), "Name in logs and errors; the runtime's unless given."),
        "runtime": Field(Runtime(), "What runs there.", required=True),
        "url": Field(
            Url(),
            "http, https, grpc (HTTP/2 without TLS) or grpcs, host and port.",
            required=True,
        ),
        "models": Field(ListOf(Text(name)), "Globs of the models it serves; all unless given."),
        "tls": Field(UPSTREAM_TLS, "Trust, for https and grpcs."),
        "default_model": Field(
            Text(name), "The model that a call without one means, where the runtime insists on one."
        ),
        "chat_template": Field(
            FilePath(),
            "The model's chat template (a .jinja file or tokenizer_config.json), for chats to a runtime of prompts.",
        ),
        "adapters": Field(
            Names(),
            "LoRA adapters: the model name that a client gives, and the id that the runtime knows it by, the same"
            " unless given.",
        ),
        "credentials": Field(Credentials(), "As whom it is called; as nobody unless given."),
        "addresses": Field(
            ListOf(Text(parse_endpoint, r":[0-9]+$")),
            "Where replicas of it are, each host:port; the URL says what is spoken and how they are called.",
        ),
        "resolve": Field(
            duration(_HOUR),
            "How often the name in the URL (or names in addresses) is looked up; each address found is a replica.",
        ),
        "sticky": Field(
            Text(header_name, "^[A-Za-z0-9-]+$"), "Header whose value binds calls to a replica, as long as it lives."
        ),
        "health_check": Field(
            Record(
                HealthCheck,
                {"interval": Field(duration(_HOUR), "How often; 10s unless given.")},
                "health_check",
            ),
            "Replicas are asked whether they are ready, and left out while they are not.",
        ),
        "connection_age": Field(
            duration(24 * _HOUR), "How long a connection takes new calls; then another is opened. 10m unless given."
        ),
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
                found[named] = Upstream(
                    named,
                    item.runtime,
                    item.url,
                    item.models,
                    item.tls,
                    item.default_model,
                    item.chat_template,
                    item.credentials,
                    item.adapters,
                    item.addresses,
                    item.resolve,
                    item.sticky,
                    item.health_check,
                    item.connection_age,
                )
        return tuple(found.values())

    def _item(self, reader: SettingsReader, node: Node) -> _Written | None:
        item = _short(reader, node) if isinstance(node, Scalar) else UPSTREAM.read(reader, node, "upstream")
        return item if item is not None and _consistent(reader, node, item) else None

    def schema(self) -> Schema:
        text = scalar({"type": "string", "pattern": _UPSTREAM_PATTERN})
        return {"type": "array", "items": {"anyOf": [text, UPSTREAM.schema()]}}


def _mark(node: Node, key: str) -> Mark:
    found = [child.mark for name, _, child in node.entries if name == key] if isinstance(node, MapNode) else []
    return found[0] if found else node.mark


def _free_name(runtime: str, taken: Collection[str]) -> str:
    number = 1
    while (named := runtime if number == 1 else f"{runtime}-{number}") in taken:
        number += 1
    return named


def _short(reader: SettingsReader, node: Scalar) -> _Written | None:
    text = reader.text(node, "an upstream")
    runtime, equals, url = (text or "").partition("=")
    if text is None:
        return None
    if not equals or not runtime or ":" in runtime or "/" in runtime:
        reader.problems.add(node.mark, "an upstream must be runtime=URL, such as triton=grpc://127.0.0.1:8001")
        return None
    address = Url().read(reader, Scalar(url, url, node.mark), "an upstream")
    known = known_runtime(reader, runtime, node.mark)
    return _Written(runtime, address) if known and address is not None else None


def _consistent(reader: SettingsReader, node: Node, item: _Written) -> bool:
    """What no single key can say: protocol, TLS and key pair belong together."""
    spoken, tls, found = reader.runtimes[item.runtime], item.tls, []
    protocol = "grpc" if item.url.scheme.startswith("grpc") else "rest"
    if protocol not in spoken:
        only = ", ".join(sorted(spoken))
        found.append(("url", f"{item.url}: {item.runtime} does not speak {protocol}, only {only}"))
    if tls is not None and not item.url.tls:
        found.append(("tls", f"tls needs a https or grpcs url, {item.url} is without TLS"))
    elif tls is not None and not tls.verify and tls.ca_file is not None:
        found.append(("tls", "verify is false, so ca would have no effect; remove one of them"))
    elif tls is not None and (problem := _unusable(tls)):
        found.append(("tls", problem))
    found += _unspread(item)
    if item.adapters and not item.default_model and "*" in item.models:
        unnamed = "adapters need default_model or models beside them: who names no model of these must not be answered"
        found.append(("adapters", unnamed))
    for key, message in found:
        reader.problems.add(_mark(node, key), message)
    return not found


def _unspread(item: _Written) -> list[tuple[str, str]]:
    """What has no effect without several addresses."""
    if len(set(item.addresses)) < len(item.addresses):
        return [("addresses", "addresses must be different from each other")]
    if item.addresses or item.resolve is not None:
        return []
    set_ones = {"sticky": item.sticky, "health_check": item.health_check}
    reason = "needs addresses or resolve beside it: there is one address only"
    return [(key, f"{key} {reason}") for key, value in set_ones.items() if value]


def _unusable(tls: TlsSettings) -> str:
    """Why the files do not make a TLS client, or an empty string."""
    try:
        client_context(tls, ())
    except ValueError as error:
        return str(error)
    return ""
