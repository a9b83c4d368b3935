"""Letting callers in whom nobody knows."""

from collections.abc import Sequence

from inferbridge.auth.identity import ANONYMOUS, Identity, Presented


class Anonymous:
    """Everybody who shows nothing is anonymous; with `whatever`, also who shows something.

    SDKs insist on an API key, so a gateway that authenticates nobody takes any. Beside other authenticators a
    credential that none of them knows is a mistake that its owner should learn of.
    """

    method = "none"
    challenge = ""

    def __init__(self, *, whatever: bool) -> None:
        self._whatever = whatever

    def authenticate(self, presented: Presented) -> Identity | None:
        """Nobody in particular."""
        shown = presented.token is not None or presented.certificate is not None
        return ANONYMOUS if self._whatever or not shown else None

    def posture(self) -> Sequence[str]:
        """Said by the gateway as a whole."""
        return ()

    async def close(self) -> None:
        """Nothing is held."""
