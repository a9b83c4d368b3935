"""Texts that must not be seen, and where they stand in a call."""

from urllib.parse import unquote

HIDDEN = "***"
CREDENTIAL_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "cookie", "set-cookie", "api-key", "x-api-key"}
)  # fmt: skip
"""Names of headers whose values are secrets."""
_CREDENTIAL_ENDINGS = ("-api-key", "-token", "-secret", "-authorization", "-credential")
"""Of headers that other systems take credentials from: x-goog-api-key, x-amz-security-token."""
_CREDENTIAL_PARAMETERS = frozenset({"access_token", "api_key", "api-key", "apikey", "key", "token"})


class Secret:
    """A text that prints as ***, so that it cannot leak through a log line, a traceback or `--check`."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __repr__(self) -> str:
        return HIDDEN

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


def is_credential_header(name: str) -> bool:
    """Whether the value of this header, in any case, may be a credential of anybody."""
    lower = name.lower()
    return lower in CREDENTIAL_HEADERS or lower.endswith(_CREDENTIAL_ENDINGS)


def is_credential_parameter(pair: str) -> bool:
    """Whether `name=value` of a query is one that other systems take credentials from."""
    return unquote(pair.partition("=")[0]).lower() in _CREDENTIAL_PARAMETERS


def path_of(target: str) -> str:
    """A request target for a log: without its query, which clients fill with credentials and prompts."""
    return target.partition("?")[0]


def shown_target(target: str) -> str:
    """A request target for whoever made the call, with the values of credentials hidden."""
    path, mark, query = target.partition("?")
    pairs = (
        f"{pair.partition('=')[0]}={HIDDEN}" if is_credential_parameter(pair) else pair for pair in query.split("&")
    )
    return f"{path}{mark}{'&'.join(pairs)}"


def shown_value(name: str, value: str) -> str:
    """A header's value, hidden where it is a secret; the scheme of `Authorization` is none."""
    if not is_credential_header(name):
        return value
    scheme, space, _ = value.partition(" ")
    known = name.lower().endswith("authorization") and space and scheme.lower() in ("bearer", "basic")
    return f"{scheme} {HIDDEN}" if known else HIDDEN
