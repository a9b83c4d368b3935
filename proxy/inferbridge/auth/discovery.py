"""Fetches the keys that an OpenID Connect issuer publishes.

`<issuer>/.well-known/openid-configuration` names the issuer, which must be ours to the letter, and where its keys are.
Both are fetched each time: an issuer may move its keys. Whoever can answer in its place could let anybody in, so it is
https (http only to this machine), and redirects are not followed.
"""

from urllib.parse import SplitResult, urlsplit

from inferbridge.auth.authenticator import CannotAuthenticate
from inferbridge.auth.fetch import Answer, Origin, path_of
from inferbridge.auth.jwks import KeySet, key_set
from inferbridge.auth.settings import JwtSettings
from inferbridge.upstream.address import LOOPBACK

TIMEOUT = 5.0
"""Seconds for one answer."""
WELL_KNOWN = "/.well-known/openid-configuration"
_JSON = (("accept", "application/json"),)


class PublishedKeys:
    """Fetches the keys of one issuer. ValueError for a URL or a TLS file that cannot be used."""

    def __init__(self, settings: JwtSettings) -> None:
        self._settings = settings
        self._origins: dict[str, Origin] = {}
        self._first = settings.jwks or settings.issuer.rstrip("/") + WELL_KNOWN
        self._open(urlsplit(self._first), always_tls=True)

    async def fetch(self) -> KeySet:
        """The keys as they are now; CannotAuthenticate when they cannot be had, with the URL and what is wrong."""
        url = self._first if self._settings.jwks else await self._discover()
        answer = await self._get(url)
        try:
            return key_set(answer.json())
        except (ValueError, CannotAuthenticate) as error:
            raise CannotAuthenticate(f"{url}: {_reason(error)}") from None

    async def close(self) -> None:
        """Close the connections."""
        for origin in self._origins.values():
            await origin.close()

    async def _discover(self) -> str:
        answer = await self._get(self._first)
        try:
            document = answer.json()
        except CannotAuthenticate as error:
            raise CannotAuthenticate(f"{self._first}: {error.detail}") from None
        if document.get("issuer") != self._settings.issuer:
            told = f"its issuer is {document.get('issuer')!r:.200}, not {self._settings.issuer!r} to the letter"
            raise CannotAuthenticate(f"{self._first}: {told}")
        url = document.get("jwks_uri")
        if not isinstance(url, str):
            raise CannotAuthenticate(f"{self._first}: it has no jwks_uri")
        return url

    async def _get(self, url: str) -> Answer:
        parts = _checked(url)
        try:
            origin = self._open(parts)
        except ValueError as error:
            raise CannotAuthenticate(str(error)) from None
        answer = await origin.ask("GET", path_of(parts), _JSON)
        if answer.status != 200:
            raise CannotAuthenticate(f"{url} {answer.outcome}")
        return answer

    def _open(self, parts: SplitResult, *, always_tls: bool = False) -> Origin:
        name = f"{parts.scheme}://{parts.netloc}"
        if name not in self._origins:
            tls = self._settings.tls if always_tls or parts.scheme == "https" else None
            self._origins[name] = Origin(name, tls=tls, timeout=TIMEOUT)
        return self._origins[name]


def _checked(url: str) -> SplitResult:
    """A URL that keys may come from."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        raise CannotAuthenticate("the jwks_uri is no URL") from None
    if parts.scheme not in ("http", "https") or not host or parts.username is not None or not url.isascii():
        raise CannotAuthenticate(f"{url!r:.200} is no URL that keys can be fetched from")
    if parts.scheme == "http" and host not in LOOPBACK:
        raise CannotAuthenticate(f"{url!r:.200} is not https: anybody on the way could answer instead")
    return parts


def _reason(error: ValueError | CannotAuthenticate) -> str:
    return error.detail if isinstance(error, CannotAuthenticate) else str(error)
