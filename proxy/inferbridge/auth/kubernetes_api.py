"""The API server of a cluster, asked as one of its service accounts.

What it takes to ask changes while we run: the kubelet renews a pod's token about every hour, and the authority of the
API server may be replaced. Both are files that are looked at when they are used. A new authority means new
connections: those that the old one vouched for are closed when nobody waits for an answer on them.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from inferbridge.auth.authenticator import CannotAuthenticate
from inferbridge.auth.fetch import Answer, Origin
from inferbridge.auth.files import WatchedFile
from inferbridge.auth.identity import read_token
from inferbridge.auth.settings import KubernetesSettings
from inferbridge.secret import Secret
from inferbridge.upstream.tls import TlsSettings

_WHAT_TO_DO = {
    401: "it does not accept the token in {token}",
    403: "our service account may not ask: bind it to the ClusterRole system:auth-delegator",
}


class ApiServer:
    """Creates reviews. ValueError when it cannot be told where the API server is, or a file cannot be used."""

    def __init__(self, settings: KubernetesSettings, environment: Mapping[str, str]) -> None:
        """`environment` is where Kubernetes says the address, unless the settings do."""
        self.url = api_url(settings, environment)
        self._settings = settings
        self._prefix = urlsplit(self.url).path.rstrip("/")
        self._token = _watch("token", settings.token, lambda content: read_token(content, "it"))
        self._origin = self._follow_authority() if self.url.startswith("https:") else self._without_tls()
        self._asking: Counter[Origin] = Counter()
        """Open questions of every origin that has been asked and is not closed."""

    def _follow_authority(self) -> Callable[[], Origin]:
        settings = self._settings
        tls = TlsSettings(ca_file=str(settings.ca))
        authority = _watch("ca", settings.ca, lambda _: Origin(self.url, tls=tls, timeout=settings.timeout))
        return lambda: authority.value

    def _without_tls(self) -> Callable[[], Origin]:
        """For `kubectl proxy` on this machine."""
        origin = Origin(self.url, timeout=self._settings.timeout)
        return lambda: origin

    async def create(self, path: str, review: object) -> bytes:
        """The review as the API server has completed it; CannotAuthenticate when it has not."""
        body = msgspec.json.encode(review)
        token = self._token.value
        answer = await self._post(path, token, body)
        if answer.status == 401:
            renewed = self._token.read_again()
            if renewed != token:  # the same token would be refused again
                answer = await self._post(path, renewed, body)
        if answer.status not in (200, 201):
            advice = _WHAT_TO_DO.get(answer.status, "").format(token=self._settings.token)
            raise CannotAuthenticate(f"{self.url}{path} answered {answer.status}" + (advice and f": {advice}"))
        return answer.body

    async def _post(self, path: str, token: Secret, body: bytes) -> Answer:
        headers = (
            ("authorization", f"Bearer {token.reveal()}"),
            ("content-type", "application/json"),
            ("accept", "application/json"),
        )
        origin = self._origin()
        self._asking[origin] += 1
        try:
            return await origin.ask("POST", self._prefix + path, headers, body)
        finally:
            self._asking[origin] -= 1
            await self._close_former()

    async def _close_former(self) -> None:
        current = self._origin()
        for origin in [one for one, questions in self._asking.items() if one is not current and not questions]:
            del self._asking[origin]
            await origin.close()

    async def close(self) -> None:
        """Close the connections."""
        for origin in {self._origin(), *self._asking}:
            await origin.close()


def api_url(settings: KubernetesSettings, environment: Mapping[str, str]) -> str:
    """Where the API server is; ValueError when nothing says so."""
    if settings.api:
        return settings.api
    host, port = (environment.get(f"KUBERNETES_SERVICE_{part}", "") for part in ("HOST", "PORT"))
    if not host or not port:
        raise ValueError(
            "kubernetes: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set, so this is no pod: "
            "say where the API server is with `api`"
        )
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def _watch[T](key: str, path: Path, read: Callable[[bytes], T]) -> WatchedFile[T]:
    try:
        return WatchedFile(path, read)
    except OSError as error:
        # the path is not repeated: somebody may have put the token itself there
        advice = f"in a pod Kubernetes puts it where we look, elsewhere `{key}` must name it"
        raise ValueError(f"kubernetes: cannot read the file of `{key}`: {error.strerror}: {advice}") from None
    except ValueError as error:
        raise ValueError(f"kubernetes: {key} {path}: {error}") from None
