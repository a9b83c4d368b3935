"""Prints what authentication costs, and whether the time of a refusal tells anything about the key.

Run with `PYTHONPATH=codegen:proxy:tests python tests/perf/auth.py`. The cost is CPU microseconds of one call. Refusals
are timed in turns, a thousand times each way of being wrong; exits 1 when their medians are 5 % apart or more.
"""

import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from inferbridge.auth import key_form
from inferbridge.auth.authenticator import Chain, Unauthenticated
from inferbridge.auth.identity import Presented, Token
from inferbridge.auth.key_edit import entry_text
from inferbridge.auth.key_file import KeyEntry, read_keys
from inferbridge.auth.keys import KeysAuthenticator
from inferbridge.auth.settings import KeysSettings
from inferbridge.bridge.errors import BridgeError
from inferbridge.gateway.application import RequestHead, RequestSink, Responder
from inferbridge.gateway.calls.guard import Access, Guard
from inferbridge.observe.metrics import Metrics
from inferbridge.observe.versions import versions
from perf.cost import cost

KEYS = 100
SAMPLES = 1000
CALLS = 20
"""In one sample, so that it is longer than the clock's own noise."""
APART = 0.05


def file_of(keys: list[tuple[str, str]]) -> str:
    """A file of these keys and one plain one."""
    entries = [KeyEntry(key_id, key_form.digest_of(key_id, secret), name=key_id) for key_id, secret in keys]
    plain = KeyEntry("plain", key_form.plain_digest("sk-" + keys[0][1]), "plain")
    return "keys:\n" + "".join(map(entry_text, (*entries, plain)))


def other(digit: str) -> str:
    """Another digit."""
    return "0" if digit != "0" else "1"


def wrong_keys(key_id: str, secret: str) -> dict[str, str]:
    """Keys that are wrong in one place."""
    return {
        "wrong first digit": key_form.written(key_id, other(secret[0]) + secret[1:]),
        "wrong last digit": key_form.written(key_id, secret[:-1] + other(secret[-1])),
        "unknown id": key_form.written(key_id[:-1] + other(key_id[-1]), secret),
    }


class Mute(Responder):
    """Says nothing."""

    def head(self, status: int, headers: object) -> None:
        """Nothing."""

    def data(self, data: object) -> None:
        """Nothing."""

    def end(self, trailers: object = ()) -> None:
        """Nothing."""

    def abort(self) -> None:
        """Nothing."""


class Nothing:
    """An application that does nothing."""

    def open(self, head: RequestHead, responder: object) -> RequestSink:
        return self

    def refuse(self, error: BridgeError, head: RequestHead | None, responder: object) -> None:
        raise error

    def purposes(self, head: RequestHead) -> frozenset[str]:
        return frozenset()

    def on_data(self, data: object) -> None:
        """Nothing."""

    def on_end(self) -> None:
        """Nothing."""

    def on_cancel(self) -> None:
        """Nothing."""

    async def close(self) -> None:
        """Nothing."""


def guarding(asked: KeysAuthenticator, key: str) -> tuple[Callable[[], object], Callable[[], object]]:
    """A call through the guard with a head that was seen before, and one with a new head."""
    guard, nothing = Guard(Nothing(), Access(Chain([asked]), counters=Metrics(versions()))), Mute()
    headers = (("authorization", f"Bearer {key}"), ("accept", "*/*"), ("content-type", "application/json"))
    head = RequestHead("POST", "/v1/completions", "localhost", headers, "1.1", peer="127.0.0.1:1")

    def anew() -> None:
        head.memo.clear()
        guard.open(head, nothing)

    return lambda: guard.open(head, nothing), anew


def refused(asked: KeysAuthenticator, shown: Presented) -> None:
    """One refusal."""
    try:
        asked.authenticate(shown)
    except Unauthenticated:
        return
    raise AssertionError("a wrong key got in")


def medians(asked: KeysAuthenticator, wrong: Mapping[str, str]) -> dict[str, float]:
    """Nanoseconds of a refusal, by what is wrong; the ways take turns, so that the machine's moods hit all of them."""
    shown = {what: Presented(Token.of(key)) for what, key in wrong.items()}
    times: dict[str, list[float]] = {what: [] for what in wrong}
    ways = list(wrong)
    for sample in range(SAMPLES):
        for what in ways[sample % len(ways) :] + ways[: sample % len(ways)]:
            started = time.perf_counter_ns()
            for _ in range(CALLS):
                refused(asked, shown[what])
            times[what].append((time.perf_counter_ns() - started) / CALLS)
    return {what: statistics.median(found) for what, found in times.items()}


def report(asked: KeysAuthenticator, key: tuple[str, str], text: bytes) -> bool:
    """Print all of it; whether the refusals are alike."""
    token = Token.of(key_form.written(*key))
    head = Presented(token)
    seen, new = guarding(asked, key_form.written(*key))
    rows = {
        "guard and key, head seen before": seen,
        "guard and key, new head": new,
        "key, head seen before": lambda: asked.authenticate(head),
        "key, new head": lambda: asked.authenticate(Presented(token)),
        "plain key, new head": lambda: asked.authenticate(Presented(Token.of("sk-" + key[1]))),
        f"file of {KEYS} keys, read again": lambda: read_keys(text, ""),
    }
    for what, call in rows.items():
        sys.stdout.write(f"{what:<32} {cost(call):>10.2f} µs\n")
    found = medians(asked, wrong_keys(*key))
    for what, nanoseconds in found.items():
        sys.stdout.write(f"{what:<32} {nanoseconds / 1000:>10.3f} µs, median of {SAMPLES}\n")
    apart = max(found.values()) / min(found.values()) - 1
    sys.stdout.write(f"{'refusals apart':<32} {apart:>10.1%}, must be less than {APART:.0%}\n")
    return apart < APART


def main() -> None:
    """Keys in a file of a hundred."""
    keys = [key_form.new_key() for _ in range(KEYS)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "keys.yaml"
        path.write_text(file_of(keys))
        asked = KeysAuthenticator(KeysSettings(path))
        gc.disable()
        alike = report(asked, keys[0], path.read_bytes())
    sys.exit(not alike)


if __name__ == "__main__":
    main()
