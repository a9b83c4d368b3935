"""Tokens that an OAuth server is asked about, over TLS."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from auth.asking import NOON, Clock, at_once, identify
from auth.issuer import AUDIENCE, CLIENT, Issuer, running_issuer
from inferbridge.auth.authenticator import CannotAuthenticate, Reason, Unauthenticated
from inferbridge.auth.identity import Identity, Presented
from inferbridge.auth.introspection import IntrospectionAuthenticator
from inferbridge.auth.settings import IntrospectionSettings
from inferbridge.secret import Secret

TOKEN = "opaque+token/=&%"

type Open = Callable[..., IntrospectionAuthenticator]


@pytest.fixture
async def issuer(tmp_path: Path) -> AsyncIterator[Issuer]:
    """A server that knows one token, of alice."""
    async with running_issuer(tmp_path) as running:
        running.answers[TOKEN] = {"active": True, "username": "alice"}
        yield running


@pytest.fixture
def clock() -> Clock:
    """Noon."""
    return Clock()


@pytest.fixture
async def opened(issuer: Issuer, clock: Clock) -> AsyncIterator[Open]:
    """Authenticators that ask the server, closed after the test."""
    made: list[IntrospectionAuthenticator] = []

    def open_one(**changed: Any) -> IntrospectionAuthenticator:
        settings = IntrospectionSettings(issuer.introspection, CLIENT[0], Secret(CLIENT[1]), tls=issuer.tls)
        made.append(IntrospectionAuthenticator(replace(settings, **changed), clock))
        return made[-1]

    yield open_one
    for each in made:
        await each.close()


async def refused(authenticator: IntrospectionAuthenticator, token: str = TOKEN) -> Reason:
    """Why the token is refused."""
    with pytest.raises(Unauthenticated) as caught:
        await identify(authenticator, token)
    assert token not in caught.value.detail
    return caught.value.reason


async def unavailable(authenticator: IntrospectionAuthenticator, token: str = TOKEN) -> str:
    """Why nobody can be recognised, for the log."""
    with pytest.raises(CannotAuthenticate) as caught:
        await identify(authenticator, token)
    return caught.value.detail


async def test_an_active_token_is_recognised(issuer: Issuer, opened: Open) -> None:
    """The server is asked as RFC 7662 says, and the identity is what it answers."""
    issuer.answers[TOKEN] |= {"sub": "4711", "groups": ["a", "b"], "scope": "read write", "exp": NOON + 600}
    identity = await identify(opened(), TOKEN)
    assert identity == Identity("alice", ("a", "b"), "introspection", scopes=("read", "write"), expires_at=NOON + 600)
    assert issuer.forms == [{"token": [TOKEN], "token_type_hint": ["access_token"]}]


async def test_without_a_user_name_the_subject_counts(issuer: Issuer, opened: Open) -> None:
    """`sub` names who has no `username`, and a token of nobody is refused."""
    issuer.answers[TOKEN] = {"active": True, "sub": "4711"}
    issuer.answers["nobody"] = {"active": True}
    authenticator = opened()
    identity = await identify(authenticator, TOKEN)
    assert identity is not None
    assert identity.subject == "4711"
    assert await refused(authenticator, "nobody") == "malformed"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"active": False, "username": "alice"}, "invalid"),
        ({"exp": NOON}, "expired"),
        ({"exp": NOON - 1}, "expired"),
        ({"exp": "tomorrow"}, "malformed"),
        ({"nbf": NOON + 61}, "invalid"),
        ({"aud": "other"}, "audience"),
        ({"aud": None}, "audience"),
        ({"aud": {"gateway": 1}}, "malformed"),
        ({"username": 7}, "malformed"),
        ({"groups": [1]}, "malformed"),
        ({"scope": 1}, "malformed"),
        ({"token_type": "DPoP"}, "invalid"),
        ({"token_type": "refresh_token"}, "invalid"),
    ],
    ids=str,
)
async def test_other_tokens_are_refused(issuer: Issuer, opened: Open, answer: dict[str, Any], reason: Reason) -> None:
    """A token that is not active, over, not yet good, for others, or no bearer token lets nobody in."""
    issuer.answers[TOKEN] = {"active": True, "username": "alice", "aud": AUDIENCE, **answer}
    assert await refused(opened(audience=(AUDIENCE,))) == reason


@pytest.mark.parametrize("good", [{"aud": ["other", AUDIENCE]}, {"nbf": NOON + 59}, {"token_type": "Bearer"}], ids=str)
async def test_what_is_good_enough(issuer: Issuer, opened: Open, good: dict[str, Any]) -> None:
    """One audience of several, a clock that differs by 59 seconds, and a named bearer token are accepted."""
    issuer.answers[TOKEN] |= {"aud": AUDIENCE, **good}
    assert await identify(opened(audience=(AUDIENCE,)), TOKEN)


async def test_answers_are_kept_for_a_minute(issuer: Issuer, opened: Open, clock: Clock) -> None:
    """A token is asked about once a minute; within it the same identity is given at once."""
    authenticator = opened()
    first = await identify(authenticator, TOKEN)
    clock.time += 59
    assert at_once(authenticator, TOKEN) is first
    assert issuer.asked["introspection"] == 1
    clock.time += 1
    assert await identify(authenticator, TOKEN) == first
    assert issuer.asked["introspection"] == 2


async def test_answers_do_not_outlive_the_token(issuer: Issuer, opened: Open, clock: Clock) -> None:
    """A token that is over in ten seconds is good for ten seconds."""
    issuer.answers[TOKEN]["exp"] = NOON + 10
    authenticator = opened()
    assert await identify(authenticator, TOKEN)
    clock.time += 10
    assert await refused(authenticator) == "expired"


async def test_refusals_are_kept_for_ten_seconds(issuer: Issuer, opened: Open, clock: Clock) -> None:
    """A token that is not known is asked about once in ten seconds."""
    authenticator = opened()
    for _ in range(10):
        assert await refused(authenticator, "stranger") == "invalid"
    assert issuer.asked["introspection"] == 1
    issuer.answers["stranger"] = {"active": True, "sub": "bob"}
    clock.time += 10
    assert await identify(authenticator, "stranger")


async def test_a_hundred_callers_ask_once(issuer: Issuer, opened: Open) -> None:
    """Callers with the same token wait for one question; others have their own."""
    issuer.answers["other"] = {"active": True, "sub": "bob"}
    authenticator = opened()
    tokens = [TOKEN] * 100 + ["other"] * 100
    found = await asyncio.gather(*(identify(authenticator, token) for token in tokens))
    assert [each.subject for each in found if each] == ["alice"] * 100 + ["bob"] * 100
    assert issuer.asked["introspection"] == 2


@pytest.mark.parametrize("trouble", ["500", "garbage", "redirect", "401", "closed", "huge"])
async def test_a_server_in_trouble_is_no_verdict(
    issuer: Issuer, opened: Open, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever is wrong with the server is 503 with a line in the log, not 401; the next question may be answered."""
    authenticator = opened()
    issuer.trouble["introspection"] = trouble  # type: ignore[assignment]  # from the list above
    details = {await unavailable(authenticator) for _ in range(3)}
    assert all(detail.startswith(issuer.introspection) for detail in details)
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1
    issuer.trouble.clear()
    assert await identify(authenticator, TOKEN)


@pytest.mark.parametrize("answer", [{}, {"active": "true"}, {"active": 1}, {"active": None}], ids=str)
async def test_only_true_is_active(issuer: Issuer, opened: Open, answer: dict[str, Any]) -> None:
    """An answer that does not say active: true or false lets nobody in."""
    issuer.answers[TOKEN] = {"username": "alice", **answer}
    assert "active" in await unavailable(opened())


async def test_a_wrong_secret_of_ours_is_not_the_clients_fault(
    issuer: Issuer, opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """When the server refuses us the client is told to come back, and the log says where to look, without secrets."""
    detail = await unavailable(opened(client_secret=Secret("canary-secret")))
    assert "client_id and client_secret" in detail
    assert "client_id and client_secret" in caplog.text
    assert "canary" not in caplog.text
    assert TOKEN not in caplog.text


async def test_a_server_that_is_too_slow_is_given_up(issuer: Issuer, opened: Open) -> None:
    """A question ends after its time."""
    issuer.hold = asyncio.Event()
    await unavailable(opened(timeout=0.05))
    issuer.hold.set()


async def test_a_long_token_is_not_sent(issuer: Issuer, opened: Open) -> None:
    """16 KiB are the most that is asked about."""
    assert await refused(opened(), "x" * 16_385) == "malformed"
    assert not issuer.asked


async def test_any_sign_of_a_token_arrives(issuer: Issuer, opened: Open) -> None:
    """Bytes that are no UTF-8 are sent, not an error."""
    assert await refused(opened(), "ÄÖ\udcff") == "invalid"
    assert issuer.asked["introspection"] == 1


async def test_whoever_shows_no_token_is_left_to_others(opened: Open) -> None:
    """A client without a token is not claimed; every token is."""
    assert opened().authenticate(Presented()) is None
    assert await refused(opened(), "anything") == "invalid"


async def test_the_posture_says_what_is_not_checked(opened: Open) -> None:
    """An operator reads where tokens go, and that without an audience the tokens of any service count."""
    assert "set audience" in "\n".join(opened().posture())
    assert "set audience" not in "\n".join(opened(audience=(AUDIENCE,)).posture())
