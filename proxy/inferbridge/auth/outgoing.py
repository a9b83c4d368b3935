"""As whom the gateway calls runtimes, and how it tells them who calls."""

import time
from collections.abc import Callable
from urllib.parse import quote

from inferbridge.auth.files import WatchedFile
from inferbridge.auth.identity import ANONYMOUS, Identity, read_token
from inferbridge.auth.presented import AUTHORIZATION
from inferbridge.auth.settings import Forwarding, UpstreamCredentials
from inferbridge.bridge.values import Headers
from inferbridge.secret import Secret

_PLAIN = "".join(map(chr, range(0x21, 0x7F))).replace("%", "").replace("|", "")
"""What stands for itself in a forwarded name: visible ASCII but for the escape and the separator of groups."""


class Outgoing:
    """The headers that calls of one upstream get. ValueError or OSError for a token file that cannot be read."""

    def __init__(
        self,
        credentials: UpstreamCredentials | None = None,
        forward: Forwarding | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._credentials = credentials or UpstreamCredentials()
        self._forward = forward or Forwarding()
        path = self._credentials.service_account_token
        self._file = (
            None if path is None else WatchedFile(path, lambda content: read_token(content, str(path)), now=now)
        )
        differs = self._file or self._credentials.passthrough or self._forward.subject or self._forward.groups
        self._fixed: Headers | None = None if differs else self._credential(None)
        self.header = self._credentials.header if self._credentials.is_set else ""
        """Name of the header with our own credential."""
        self.nothing = self._fixed == ()
        """It adds no headers, to any call."""

    def headers(self, identity: Identity = ANONYMOUS, token: Secret | None = None) -> Headers:
        """The headers of a call made for `identity`, whose own credential is `token`."""
        if self._fixed is not None:
            return self._fixed
        return (*self._credential(token), *self._names(identity))

    def _credential(self, token: Secret | None) -> Headers:
        own = self._credentials
        if own.static is not None:
            token = own.static
        elif self._file is not None:
            token = self._file.value
        elif not own.passthrough:
            token = None
        if token is None:
            return ()
        text = token.reveal()
        return ((own.header, f"Bearer {text}" if own.header == AUTHORIZATION else text),)

    def _names(self, identity: Identity) -> Headers:
        named = []
        if self._forward.subject:
            named.append((self._forward.subject, quote(identity.subject, safe=_PLAIN)))
        if self._forward.groups:
            named.append((self._forward.groups, "|".join(quote(group, safe=_PLAIN) for group in identity.groups)))
        return tuple(named)
