"""Tokens whose keys are fetched from an issuer over TLS: rotation, outages, and issuers that cannot be trusted."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from auth.asking import Clock, at_once, identify, shown
from auth.issuer import AUDIENCE, Issuer, SigningKey, running_issuer, signing_key
from inferbridge.auth.authenticator import CannotAuthenticate, Unauthenticated
from inferbridge.auth.identity import Identity
from inferbridge.auth.jwks_source import CACHE, PAUSE, RETRY, STALE
from inferbridge.auth.jwt_tokens import JwtAuthenticator
from inferbridge.auth.settings import JwtSettings
from inferbridge.upstream.tls import TlsSettings

type Open = Callable[..., JwtAuthenticator]


@pytest.fixture
async def issuer(tmp_path: Path) -> AsyncIterator[Issuer]:
    """An issuer."""
    async with running_issuer(tmp_path) as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    """The age of keys."""
    return Clock(0.0)


@pytest.fixture
async def opened(issuer: Issuer, clock: Clock) -> AsyncIterator[Open]:
    """Authenticators that trust the issuer, closed after the test."""
    made: list[JwtAuthenticator] = []

    def open_one(**changed: Any) -> JwtAuthenticator:
        settings = replace(JwtSettings(issuer.url, (AUDIENCE,), tls=issuer.tls), **changed)
        made.append(JwtAuthenticator(settings, clock=clock))
        return made[-1]

    yield open_one
    for each in made:
        await each.close()


async def refused(authenticator: JwtAuthenticator, token: str) -> str:
    """Why the token is refused."""
    with pytest.raises(Unauthenticated) as caught:
        await identify(authenticator, token)
    return caught.value.reason


async def unavailable(authenticator: JwtAuthenticator, token: str) -> str:
    """Why nobody can be recognised, for the log."""
    with pytest.raises(CannotAuthenticate) as caught:
        await identify(authenticator, token)
    assert caught.value.retry_after
    assert token not in caught.value.detail
    return caught.value.detail


async def test_keys_are_found_by_discovery(issuer: Issuer, opened: Open) -> None:
    """The first token waits for discovery and keys; the next are answered at once, and nobody is asked again."""
    authenticator = opened()
    assert not issuer.asked
    first = await identify(authenticator, issuer.token())
    assert first is not None
    assert first.subject == "alice"
    assert at_once(authenticator, issuer.token(sub="bob")).subject == "bob"
    assert issuer.asked == {"discovery": 1, "jwks": 1}


async def test_a_configured_key_set_needs_no_discovery(issuer: Issuer, opened: Open) -> None:
    """`jwks` as a URL is fetched straight away."""
    assert await identify(opened(jwks=f"{issuer.url}/keys?v=1"), issuer.token())
    assert issuer.asked == {"jwks": 1}


async def test_many_first_tokens_ask_once(issuer: Issuer, opened: Open) -> None:
    """A hundred clients that come before there are keys cause one fetch."""
    authenticator = opened()
    found = await asyncio.gather(*(identify(authenticator, issuer.token(sub=f"user {n}")) for n in range(100)))
    assert len({each.subject for each in found if each}) == 100
    assert issuer.asked == {"discovery": 1, "jwks": 1}


async def test_a_new_key_works_after_one_refresh(issuer: Issuer, opened: Open) -> None:
    """A token with a key that the issuer has just published is accepted after one fetch; the old key works on."""
    authenticator = opened()
    old = await identify(authenticator, before := issuer.token())
    issuer.keys.insert(0, signing_key("second", "RS256"))
    assert await identify(authenticator, issuer.token(sub="bob"))
    assert issuer.asked["jwks"] == 2
    assert at_once(authenticator, issuer.token(sub="carol")).subject == "carol"
    assert at_once(authenticator, before) is old
    assert issuer.asked["jwks"] == 2


async def test_random_keys_do_not_drive_the_issuer(issuer: Issuer, opened: Open, clock: Clock) -> None:
    """A thousand tokens with made-up keys are refused and cause at most two fetches, from nothing."""
    authenticator = opened()
    tokens = [issuer.token(SigningKey(f"made up {n}", "ES256", issuer.keys[0].private)) for n in range(1000)]
    for token in tokens[:500]:
        assert await refused(authenticator, token) == "unknown"
    await asyncio.gather(*(refused(authenticator, token) for token in tokens[500:]))
    assert issuer.asked["jwks"] <= 2
    clock.time += PAUSE
    assert await refused(authenticator, tokens[0]) == "unknown"
    assert issuer.asked["jwks"] <= 3


async def test_a_key_taken_back_counts_no_longer_than_the_cache(issuer: Issuer, opened: Open, clock: Clock) -> None:
    """Five minutes after the last fetch, a token that was accepted is refused when its key is gone."""
    authenticator, token = opened(), issuer.token()
    assert await identify(authenticator, token)
    issuer.keys[:] = [signing_key("second", "RS256")]
    clock.time += CACHE
    assert await refused(authenticator, token) == "unknown"


async def test_known_keys_work_while_the_issuer_is_down(issuer: Issuer, opened: Open, clock: Clock) -> None:
    """With the issuer down known keys verify tokens old and new, unknown ones are 401, and after an hour it is 503."""
    authenticator, token = opened(), issuer.token()
    first = await identify(authenticator, token)
    issuer.trouble["discovery"] = "closed"
    clock.time += CACHE
    assert await identify(authenticator, token) is first
    assert at_once(authenticator, issuer.token(sub="bob")).subject == "bob"
    assert await refused(authenticator, issuer.token(signing_key("second"))) == "unknown"
    clock.time = STALE
    await unavailable(authenticator, token)
    await unavailable(authenticator, issuer.token(signing_key("second")))
    del issuer.trouble["discovery"]
    clock.time += RETRY
    assert await identify(authenticator, token) == first


@pytest.mark.parametrize("trouble", ["500", "garbage", "redirect", "401", "closed", "huge"])
@pytest.mark.parametrize("place", ["discovery", "jwks"])
async def test_without_keys_nobody_can_be_recognised(
    issuer: Issuer, opened: Open, clock: Clock, place: str, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever is wrong with the issuer from the start is 503 with its URL in the log; then it works by itself."""
    authenticator, token = opened(), issuer.token()
    issuer.trouble[place] = trouble  # type: ignore[index,assignment]  # both come from the lists above
    detail = await unavailable(authenticator, token)
    origin = issuer.url.removesuffix("/realm")
    assert origin in detail
    assert detail in caplog.text
    assert ("redirects are not followed" in detail) == (trouble == "redirect")
    issuer.trouble.clear()
    clock.time += RETRY
    assert await identify(authenticator, token)


@pytest.mark.parametrize("place", ["discovery", "jwks"])
async def test_trouble_takes_no_keys_away(issuer: Issuer, opened: Open, clock: Clock, place: str) -> None:
    """An issuer that answers nonsense later is an outage, not a key set without keys."""
    authenticator, token = opened(), issuer.token()
    first = await identify(authenticator, token)
    issuer.trouble[place] = "garbage"  # type: ignore[index]  # as above
    clock.time += CACHE
    assert await identify(authenticator, token) is first


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"issuer": "https://localhost/other"}, "not 'https://localhost"),
        ({"issuer": None}, "its issuer is None"),
        ({"jwks_uri": None}, "no jwks_uri"),
        ({"jwks_uri": "http://issuer.example/keys"}, "is not https"),
        ({"jwks_uri": "file:///etc/passwd"}, "is no URL"),
        ({"jwks_uri": "https://user:password@localhost/keys"}, "is no URL"),
        ({"jwks_uri": "https://localhost:99999/keys"}, "host or port cannot be read"),
        ({"jwks_uri": "https://localhost:1/keys"}, "localhost:1"),
        ({"jwks_uri": "https://[::1/keys"}, "no URL"),
        ({"jwks_uri": "https://localhost/keys\r\nx: y"}, ""),
    ],
    ids=str,
)
async def test_a_wrong_discovery_document_is_not_believed(
    issuer: Issuer, opened: Open, document: dict[str, Any], told: str
) -> None:
    """Another issuer, or keys from where they could be forged, are refused before any key is fetched."""
    issuer.document = document
    assert told in await unavailable(opened(), issuer.token())
    assert issuer.asked["jwks"] == 0


async def test_an_issuer_with_a_slash_is_another(issuer: Issuer, opened: Open) -> None:
    """The issuer is compared to the letter, on either side, though its discovery document is in the same place."""
    assert "to the letter" in await unavailable(opened(issuer=f"{issuer.url}/"), issuer.token(iss=f"{issuer.url}/"))
    issuer.document["issuer"] = f"{issuer.url}/"
    assert "to the letter" in await unavailable(opened(), issuer.token())


async def test_an_issuer_that_cannot_prove_itself_is_not_believed(issuer: Issuer, opened: Open) -> None:
    """A certificate of an authority that is not configured means that no keys are fetched."""
    await unavailable(opened(tls=TlsSettings(ca_file=None)), issuer.token())
    assert not issuer.asked


async def test_a_slow_issuer_holds_nobody_back_who_is_known(issuer: Issuer, opened: Open, clock: Clock) -> None:
    """While keys are fetched again, known tokens are answered at once."""
    authenticator, token = opened(), issuer.token()
    first = await identify(authenticator, token)
    issuer.hold = asyncio.Event()
    issuer.server.arrived.clear()
    clock.time += CACHE - 1
    assert at_once(authenticator, token) is first
    await issuer.server.arrived.wait()
    assert at_once(authenticator, token) is first
    issuer.hold.set()


async def test_tokens_of_others_ask_nobody(issuer: Issuer, opened: Open) -> None:
    """A token that is not the issuer's is not a reason to fetch its keys."""
    assert opened().authenticate(shown(issuer.token(iss="https://other.example"))) is None
    assert not issuer.asked


async def test_the_log_holds_no_tokens(issuer: Issuer, opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing of a token is logged, whether it is accepted, refused or cannot be looked at."""
    caplog.set_level(logging.DEBUG)
    authenticator, token = opened(), issuer.token(sub="canary-subject")
    issuer.trouble["jwks"] = "garbage"
    await unavailable(authenticator, token)
    issuer.trouble.clear()
    assert isinstance(await identify(opened(), token), Identity)
    stranger = issuer.token(SigningKey("canary-key", "ES256", issuer.keys[0].private))
    assert await refused(opened(), stranger) == "unknown"
    assert "canary" not in caplog.text
    assert not any(part in caplog.text for part in (*token.split("."), *stranger.split(".")))


async def test_callers_may_leave_before_they_wait(issuer: Issuer, opened: Open) -> None:
    """An answer that nobody waits for in the end leaves nothing behind, and the next caller is served."""
    authenticator = opened()
    for _ in range(2):
        found = authenticator.authenticate(shown(issuer.token(signing_key("unknown"))))
        assert asyncio.iscoroutine(found)
        found.close()
        assert await identify(authenticator, issuer.token())
