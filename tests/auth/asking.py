"""Showing tokens to authenticators, and clocks that stand still."""

from collections.abc import Awaitable
from dataclasses import dataclass

from inferbridge.auth.authenticator import Authenticator
from inferbridge.auth.identity import Identity, Presented, Token

NOON = 1_800_000_000.0


@dataclass
class Clock:
    """Seconds, moved by the test."""

    time: float = NOON

    def __call__(self) -> float:
        return self.time


def shown(token: str) -> Presented:
    """What a client with this token presents."""
    return Presented(Token.of(token))


def at_once(authenticator: Authenticator, token: str) -> Identity:
    """Whom the token is recognised as, without waiting for anything."""
    found = authenticator.authenticate(shown(token))
    assert isinstance(found, Identity), found
    return found


async def identify(authenticator: Authenticator, token: str) -> Identity | None:
    """Whom the token is recognised as, waiting if need be; None when it is not its kind."""
    found = authenticator.authenticate(shown(token))
    return await found if isinstance(found, Awaitable) else found
