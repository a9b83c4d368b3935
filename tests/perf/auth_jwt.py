"""Prints what recognising a caller by a token costs, in CPU microseconds: known tokens, new ones, those of others.

Run with `PYTHONPATH=codegen:proxy:generated:tests python tests/perf/auth_jwt.py`.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from auth.asking import identify, shown
from auth.issuer import AUDIENCE, Issuer, running_issuer, signing_key
from inferbridge.auth.identity import Presented
from inferbridge.auth.jwt_tokens import JwtAuthenticator
from inferbridge.auth.settings import JwtSettings

KEYS = [signing_key(name, name) for name in ("RS256", "PS256", "ES256", "ES512", "EdDSA")]
NAMES = {"groups": ["a", "b"], "scope": "read write"}


def cost(authenticator: JwtAuthenticator, presented: Sequence[Presented], rounds: int) -> float:
    """CPU microseconds of one answer: the best of seven times `rounds` times all of `presented`."""
    best = float("inf")
    for _ in range(7):
        started = time.process_time()
        for _ in range(rounds):
            for each in presented:
                authenticator.authenticate(each)
        best = min(best, time.process_time() - started)
    return best / rounds / len(presented) * 1e6


def first_sight(authenticator: JwtAuthenticator, presented: Sequence[Presented]) -> float:
    """CPU microseconds of the first look at a token."""
    started = time.process_time()
    found = [authenticator.authenticate(each) for each in presented]
    spent = time.process_time() - started
    assert None not in found
    return spent / len(presented) * 1e6


def report(what: str, micros: float) -> None:
    """One line of the table."""
    sys.stdout.write(f"{what:<44} {micros:>8.2f} µs\n")


def measure(issuer: Issuer, authenticator: JwtAuthenticator) -> None:
    """The whole table."""
    known = [shown(issuer.token(KEYS[0], jti=str(number), **NAMES)) for number in range(2000)]
    report("a new token, RS256", first_sight(authenticator, known))
    for key in KEYS[1:]:
        fresh = [shown(issuer.token(key, jti=str(number), **NAMES)) for number in range(200)]
        report(f"a new token, {key.algorithm}", first_sight(authenticator, fresh))
    report("a known token", cost(authenticator, known[:1], 20_000))
    report("a known token, 2 000 of them in turn", cost(authenticator, known, 20))
    report("another issuer's token, the same head again", cost(authenticator, [shown(issuer.token(iss="x"))], 20_000))


async def main() -> None:
    """Measure with keys that were fetched from an issuer."""
    with tempfile.TemporaryDirectory() as folder:
        async with running_issuer(Path(folder)) as issuer:
            issuer.keys = KEYS
            authenticator = JwtAuthenticator(JwtSettings(issuer.url, (AUDIENCE,), tls=issuer.tls))
            await identify(authenticator, issuer.token())
            measure(issuer, authenticator)
            await authenticator.close()


if __name__ == "__main__":
    asyncio.run(main())
