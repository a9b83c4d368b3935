"""Reads the settings of authentication and authorization."""

import re
from pathlib import Path
from urllib.parse import urlsplit

from inferbridge.auth.identity import Grant
from inferbridge.auth.settings import (
    AccessReview,
    AuthSettings,
    Forwarding,
    IntrospectionSettings,
    JwtSettings,
    KeysSettings,
    KubernetesSettings,
    MtlsSettings,
    NoneSettings,
    Rates,
    Rule,
    UpstreamCredentials,
)
from inferbridge.config.kinds import (
    Count,
    Each,
    Field,
    FilePath,
    ListOf,
    Record,
    Schema,
    SettingsReader,
    Switch,
    Tagged,
    Text,
    duration,
    name,
    size,
)
from inferbridge.config.upstream_tls import UPSTREAM_TLS
from inferbridge.secret import Secret
from inferbridge.upstream.address import LOOPBACK
from inferbridge_codegen.spec.yaml_tree import Node, Scalar

_MOST = 1 << 40
_DAY = 86400.0
_HEADER = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,64}")


def secret(text: str) -> Secret:
    """A text that is not shown."""
    return Secret(name(text))


def url(text: str) -> str:
    """An https URL; http is for this machine alone, because credentials and keys travel there."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:  # its message repeats a part of the URL
        raise ValueError("must be a URL whose host and port can be read") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be a URL such as https://issuer.example")
    if "@" in text or parts.query or parts.fragment:  # a / in a password makes a path of it
        raise ValueError("must be a URL without user, query and fragment")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise ValueError("must begin with https://: without TLS anybody on the way could answer instead")
    return text


def header_name(text: str) -> str:
    """A header's name in lower case."""
    if not _HEADER.fullmatch(text.lower()):
        raise ValueError("must be the name of a header")
    return text.lower()


class PlainPath:
    """A path; whether there is a file shows when it is used."""

    def read(self, reader: SettingsReader, node: Node, where: str) -> Path | None:
        text = reader.text(node, where)
        return None if text is None else reader.resolve(text, node.mark)

    def schema(self) -> Schema:
        return {"type": "string", "minLength": 1}


class UrlOrPath:
    """A URL, or else a path."""

    def read(self, reader: SettingsReader, node: Node, where: str) -> str | None:
        if isinstance(node, Scalar) and "://" in node.text:
            return _URL.read(reader, node, where)
        path = FilePath().read(reader, node, where)
        return None if path is None else str(path)

    def schema(self) -> Schema:
        return {"type": "string", "minLength": 1}


_NAMES = ListOf(Text(name))
_URL = Text(url, "^https?://")
_HEADER_NAME = Text(header_name)
_TLS = Field(UPSTREAM_TLS, "Whom to trust there.")

NONE = Record(NoneSettings, {}, "none")
MTLS = Record(MtlsSettings, {}, "mtls")
KEYS = Record(
    KeysSettings,
    {"file": Field(FilePath(), "File of keys, made by `inferbridge keys new`.", required=True)},
    "keys",
)
JWT = Record(
    JwtSettings,
    {
        "issuer": Field(_URL, "The exact `iss` of its tokens.", required=True),
        "audience": Field(_NAMES, "One of these must be in `aud`.", required=True),
        "jwks": Field(UrlOrPath(), "URL or file of the key set, instead of asking the issuer where it is."),
        "leeway": Field(duration(600.0), "How much clocks may differ."),
        "subject_claim": Field(Text(name), "The claim that names the caller."),
        "groups_claim": Field(Text(name), "The claim with the caller's groups."),
        "scope_claim": Field(Text(name), "The claim with scopes."),
        "tls": _TLS,
    },
    "jwt",
)
ACCESS = Record(
    AccessReview,
    {
        "verb": Field(Text(name), "What the caller must be allowed to do."),
        "group": Field(Text(name), "API group of the resource."),
        "version": Field(Text(name), "Its version."),
        "resource": Field(Text(name), "Its plural name."),
        "subresource": Field(Text(name), "Part of it."),
        "namespace": Field(Text(name), "Where it is.", required=True),
        "name": Field(Text(name), "What it is called.", required=True),
    },
    "access",
)
KUBERNETES = Record(
    KubernetesSettings,
    {
        "api": Field(_URL, "The API server, when this is not one of its pods."),
        "ca": Field(PlainPath(), "The authority of its certificate."),
        "token": Field(PlainPath(), "The file with our own token."),
        "audiences": Field(_NAMES, "One of these must be an audience of the caller's token."),
        "access": Field(ACCESS, "What the caller must be allowed in the cluster; being known is enough without."),
        "cache": Field(duration(3600.0), "How long a good review counts."),
        "timeout": Field(duration(60.0), "How long the API server may take."),
    },
    "kubernetes",
)
INTROSPECTION = Record(
    IntrospectionSettings,
    {
        "url": Field(_URL, "The introspection endpoint.", required=True),
        "client_id": Field(Text(name), "As whom we ask.", required=True),
        "client_secret": Field(Text(secret), "Our secret there.", required=True),
        "audience": Field(_NAMES, "One of these must be in `aud`."),
        "cache": Field(duration(3600.0), "How long a good answer counts."),
        "timeout": Field(duration(60.0), "How long it may take."),
        "tls": _TLS,
    },
    "introspection",
)
GRANT: dict[str, Field] = {
    "models": Field(_NAMES, "Globs of models."),
    "operations": Field(_NAMES, "Names of operations."),
    "endpoints": Field(_NAMES, "Globs of `api/endpoint`."),
    "max_tokens": Field(Count(1, 1 << 31), "The most new tokens that a call may ask for."),
    "max_body": Field(size(_MOST), "The largest body of a call."),
}
RATES: dict[str, Field] = {
    "requests_per_minute": Field(Count(1, 1 << 31), "Calls a minute, for each identity."),
    "concurrent_calls": Field(Count(1, 1 << 31), "Calls and streams at one time, for each identity."),
    "tokens_per_minute": Field(Count(1, 1 << 40), "Tokens of prompts and answers a minute, for each identity."),
}
CALLERS: dict[str, Field] = {
    "subjects": Field(_NAMES, "Globs of subjects it is for."),
    "groups": Field(_NAMES, "Globs of groups it is for."),
    "keys": Field(_NAMES, "Ids of keys it is for."),
    "methods": Field(_NAMES, "Authenticators it is for."),
}
RULE = Record(
    Rule,
    {
        **CALLERS,
        "allow": Field(Record(Grant, GRANT, "allow"), "What they may call; everything unless given."),
        "rates": Field(Record(Rates, RATES, "rates"), "How much of it."),
    },
    "a rule",
)
AUTH = Record(
    AuthSettings,
    {
        "authenticators": Field(
            Each(
                Tagged(
                    {
                        "keys": KEYS,
                        "jwt": JWT,
                        "kubernetes": KUBERNETES,
                        "introspection": INTROSPECTION,
                        "mtls": MTLS,
                        "none": NONE,
                    }
                )
            ),
            "How callers are recognised; the first that knows a credential's kind decides.",
            required=True,
        ),
        "headers": Field(ListOf(_HEADER_NAME), "Where credentials may stand: authorization, api-key …"),
        "public": Field(Each(Text(name)), "What anybody may call: health, reflection, names of operations."),
        "rules": Field(Each(RULE), "Who may call what; without rules everybody who is recognised may call everything."),
        "forward": Field(
            Record(
                Forwarding,
                {
                    "subject": Field(_HEADER_NAME, "Header for the subject, such as x-remote-user."),
                    "groups": Field(_HEADER_NAME, "Header for the groups, such as x-remote-groups."),
                },
                "forward",
            ),
            "Headers that tell runtimes who calls.",
        ),
        "realm": Field(Text(name), "The realm in challenges."),
        "failures_per_minute": Field(Count(1, 1 << 31), "Refused credentials of one address until it must wait."),
    },
    "auth",
)


class Credentials:
    """As whom a runtime is called: exactly one way of it."""

    record = Record(
        UpstreamCredentials,
        {
            "static": Field(Text(secret), "A token."),
            "service_account_token": Field(FilePath(), "A file with a token, read again when it changes."),
            "passthrough": Field(Switch(), "true: the client's own credential."),
            "header": Field(_HEADER_NAME, "Where it stands; authorization unless given."),
        },
        "credentials",
    )

    def read(self, reader: SettingsReader, node: Node, where: str) -> UpstreamCredentials | None:
        found = self.record.read(reader, node, where)
        if found is None:
            return None
        ways = [found.static is not None, found.service_account_token is not None, found.passthrough]
        if sum(ways) != 1:
            reader.problems.add(node.mark, f"{where} needs one of static, service_account_token and passthrough: true")
            return None
        return found

    def schema(self) -> Schema:
        return self.record.schema()
