"""Prints what a token costs a call when its review is known, in CPU microseconds.

Run with `PYTHONPATH=codegen:proxy:generated:tests python tests/perf/auth_kubernetes.py`.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from auth.api_server import account, api_server, jwt
from inferbridge.auth.identity import Identity, Presented, Token
from inferbridge.auth.kubernetes import KubernetesAuthenticator

CALLS = 200_000
ROUNDS = 5


def cost(authenticator: KubernetesAuthenticator, presented: Presented) -> float:
    """CPU microseconds of a call: the best of several rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.process_time()
        for _ in range(CALLS):
            authenticator.authenticate(presented)
        best = min(best, time.process_time() - started)
    return best / CALLS * 1e6


async def main() -> None:
    """One review, then calls with the head that is known, as those of one connection are."""
    token = jwt(exp=time.time() + 3600)
    with tempfile.TemporaryDirectory() as folder:
        async with api_server(Path(folder)) as api:
            api.accounts[token] = account()
            authenticator = KubernetesAuthenticator(api.settings(), {})
            presented = Presented(Token.of(token))
            reviewed = authenticator.authenticate(presented)
            assert reviewed is not None
            assert not isinstance(reviewed, Identity)
            await reviewed
            sys.stdout.write(f"known token {cost(authenticator, presented):.2f} µs\n")
            await authenticator.close()


asyncio.run(main())
