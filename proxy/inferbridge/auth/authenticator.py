"""What every way of authenticating offers, and how it fails."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from inferbridge.auth.identity import Identity, Presented
from inferbridge.auth.rules import Forbidden
from inferbridge.bridge.errors import BridgeError, Code

type Reason = Literal["missing", "malformed", "unknown", "invalid", "expired", "disabled", "audience", "issuer"]
"""Why somebody was not recognised: for logs and counters, never for the client."""


class Unauthenticated(BridgeError):
    """401 / UNAUTHENTICATED. The client is told the same whatever was wrong with its credential."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        """`detail` is for the log: without the credential or anything in it that a stranger made up."""
        missing = reason == "missing"
        message = "no credential: send it as Authorization: Bearer" if missing else "the credential is not accepted"
        super().__init__(Code.UNAUTHENTICATED, message)
        self.reason: Reason = reason
        self.detail = detail
        self.method = ""
        """The authenticator that refused it; empty for none."""


class CannotAuthenticate(BridgeError):
    """503 / UNAVAILABLE: who decides cannot be asked, and nothing is known from before."""

    def __init__(self, detail: str, *, retry_after: int = 5) -> None:
        """`detail` is for the log; `retry_after` in seconds."""
        message = "authentication is not available at the moment"
        super().__init__(Code.UNAVAILABLE, message, retry_after=retry_after)
        self.detail = detail
        self.method = ""
        """The authenticator that cannot ask."""


REFUSALS = (Unauthenticated, CannotAuthenticate, Forbidden)
"""What an authenticator may raise."""


class Authenticator(Protocol):
    """One way to recognise callers."""

    method: str
    """Its name in logs, counters and `Identity.method`."""
    challenge: str
    """The scheme of its `WWW-Authenticate` challenge, `Bearer`; empty for none."""

    def authenticate(self, presented: Presented) -> Identity | Awaitable[Identity] | None:
        """Who that is; None when the credential is not of this kind, so that the next authenticator is asked.

        It answers at once where it can. Raises `Unauthenticated` for a credential of its kind that is not good,
        `CannotAuthenticate` where whoever decides cannot be asked, `Forbidden` where it knows the caller and does not
        let it in; so may what is awaited.
        """

    def posture(self) -> Sequence[str]:
        """What an operator should know, one line each: what it trusts, and what it does not verify."""

    async def close(self) -> None:
        """Let go of connections."""


@dataclass(frozen=True, slots=True)
class Question:
    """A caller that somebody is to be asked about."""

    method: str
    answer: Awaitable[Identity]

    def withdraw(self) -> None:
        """Do not ask."""
        if asyncio.iscoroutine(self.answer):  # or Python would miss that nobody awaits it
            self.answer.close()


class Chain:
    """Authenticators in order: the first that claims a credential decides."""

    def __init__(self, authenticators: Sequence[Authenticator]) -> None:
        self.authenticators = authenticators

    def authenticate(self, presented: Presented) -> Identity | Question:
        """Who that is, or whom to ask; raises as `Authenticator.authenticate` does."""
        for authenticator in self.authenticators:
            try:
                found = authenticator.authenticate(presented)
            except REFUSALS as error:
                error.method = authenticator.method
                raise
            if found is not None:
                return found if isinstance(found, Identity) else Question(authenticator.method, found)
        if presented.token is None and presented.certificate is None:
            raise Unauthenticated("missing")
        raise Unauthenticated("unknown", "no authenticator knows this kind of credential")

    @property
    def challenges(self) -> tuple[str, ...]:
        """The schemes to offer in `WWW-Authenticate`, each once."""
        return tuple(dict.fromkeys(one.challenge for one in self.authenticators if one.challenge))

    async def close(self) -> None:
        """Let go of connections."""
        for authenticator in self.authenticators:
            await authenticator.close()
