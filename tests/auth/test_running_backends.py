"""Signed tokens, and tokens that others are asked about, at a running proxy: their rules, outages and storms."""

import asyncio
import hashlib
import hmac
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from auth import api_server
from auth.api_server import ACCESS, TOKENS, respond
from auth.backends import Backends, Last, running_backends
from auth.corners import CORNERS, REST, Corner, bearer
from auth.issuer import AUDIENCE, Issuer, claims_of, encode, signing_key
from upstream.h1_server import Answer

pytestmark = pytest.mark.usefixtures("home")
corners = pytest.mark.parametrize("corner", CORNERS, ids=[one.name for one in CORNERS])
PLATFORM = {
    "verb": "get",
    "group": "serving.kserve.io",
    "version": "v1beta1",
    "resource": "inferenceservices",
    "namespace": "team-a",
    "name": "flan",
}
"""What OpenShift AI's kube-rbac-proxy asks about a caller of the model `flan`."""
ACCESS_OPTION = ", access: {namespace: team-a, name: flan}"


def unsigned(url: str, header: dict[str, Any], **claims: Any) -> str:
    """A token whose signature is worth nothing."""
    return f"{encode(header)}.{encode(claims_of(url, time.time(), **claims))}.c2lnbmF0dXJl"


def confused(issuer: Issuer) -> str:
    """A token signed with HS256, where the shared secret is the issuer's public key, which everybody knows."""
    key = issuer.keys[0]
    secret = key.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = unsigned(issuer.url, {"alg": "HS256", "kid": key.key_id}).rpartition(".")[0]
    return f"{signed}.{encode(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


def forgeries(backends: Backends) -> dict[str, str]:
    """Tokens that are not good, by what is wrong with them."""
    issuer, now = backends.issuer, time.time()
    key, good = issuer.keys[0], issuer.token().split(".")
    crit = {"alg": key.algorithm, "kid": key.key_id, "crit": ["x"], "x": 1}
    other_payload = encode(claims_of(issuer.url, now, sub="root"))
    return {
        "alg none": unsigned(issuer.url, {"alg": "none", "kid": key.key_id}),
        "alg none, no signature": unsigned(issuer.url, {"alg": "none"}).rpartition(".")[0] + ".",
        "HS256 with a public key": confused(issuer),
        "another key of that name": issuer.token(replace(signing_key("strangers"), key_id=key.key_id)),
        "iss": issuer.token(iss="https://elsewhere.test"),
        "aud": issuer.token(aud="others"),
        "exp": issuer.token(exp=now - 61),
        "no exp": issuer.token(exp=None),
        "nbf": issuer.token(nbf=now + 300),
        "iat": issuer.token(iat=now + 300),
        "crit": key.sign(crit, claims_of(issuer.url, now)),
        "payload": f"{good[0]}.{other_payload}.{good[2]}",
        "signature": f"{good[0]}.{good[1]}.{good[2][:-8]}AAAAAAAA",
    }


@corners
async def test_forged_and_stale_tokens_are_refused(corner: Corner, tmp_path: Path) -> None:
    """A-06: none, a shared secret, wrong iss or aud, no exp, times, crit, tampering: all 401 or 16, none gets through.

    The API server, which is asked about tokens of nobody we know, knows none of them either.
    """
    async with running_backends(tmp_path) as backends:
        for problem, token in forgeries(backends).items():
            assert (await backends.gateway.call(corner, bearer(token))).outcome == "unauthenticated", problem
        assert backends.gateway.runtime.calls == []


@corners
async def test_clocks_may_differ_a_little(corner: Corner, tmp_path: Path) -> None:
    """A-06: 60 s of leeway in both directions."""
    async with running_backends(tmp_path) as backends:
        now = time.time()
        for claims in ({"nbf": now + 59, "iat": now + 59}, {"exp": now - 45}):
            reply = await backends.gateway.call(corner, bearer(backends.issuer.token(**claims)))
            assert reply.outcome == "ok"


@corners
async def test_a_new_key_of_the_issuer_counts_at_once(corner: Corner, tmp_path: Path) -> None:
    """A-07: the first token with a new key makes the proxy look, once; the key that is gone counts no more."""
    async with running_backends(tmp_path) as backends:
        issuer, gateway = backends.issuer, backends.gateway
        before = issuer.token(sub="bob")
        assert (await gateway.call(corner, bearer(issuer.token()))).outcome == "ok"
        issuer.keys = [signing_key("second")]
        for _ in range(3):
            assert (await gateway.call(corner, bearer(issuer.token()))).outcome == "ok"
        assert issuer.asked["jwks"] == 2
        assert (await gateway.call(corner, bearer(before))).outcome == "unauthenticated"
        assert issuer.asked["jwks"] == 2


async def test_strangers_cannot_drive_the_issuer(tmp_path: Path) -> None:
    """A-07: 1 000 calls with as many made-up key ids, from all corners at once, are two fetches at most."""
    async with running_backends(tmp_path) as backends:
        gateway, issuer = backends.gateway, backends.issuer
        assert (await gateway.call(REST, bearer(issuer.token()))).outcome == "ok"

        async def storm(corner: Corner) -> None:
            for number in range(250):
                token = unsigned(issuer.url, {"alg": "ES256", "kid": f"{corner.name}-{number}"})
                assert (await gateway.call(corner, bearer(token))).outcome == "unauthenticated"

        await asyncio.gather(*map(storm, CORNERS))
        assert issuer.asked["jwks"] <= 2
        assert await gateway.counted("jwt", "denied", "unknown") == 1000
        assert len(gateway.runtime.calls) == 1


@corners
async def test_known_keys_count_while_the_issuer_is_down(corner: Corner, tmp_path: Path) -> None:
    """A-07: a token that was never seen is verified with the keys from before; one with an unknown key is 401 or 16."""
    async with running_backends(tmp_path) as backends:
        issuer, gateway = backends.issuer, backends.gateway
        assert (await gateway.call(corner, bearer(issuer.token()))).outcome == "ok"
        issuer.trouble = {"discovery": "closed", "jwks": "closed"}
        assert (await gateway.call(corner, bearer(issuer.token(sub="bob")))).outcome == "ok"
        unknown = issuer.token(signing_key("second"))
        assert (await gateway.call(corner, bearer(unknown))).outcome == "unauthenticated"


@corners
async def test_what_the_cluster_says_decides(corner: Corner, tmp_path: Path) -> None:
    """A-08: exactly the platform's questions; unknown, for another audience or expired is 401, without the role 403."""
    async with running_backends(tmp_path, options=ACCESS_OPTION) as backends:
        gateway, api = backends.gateway, backends.api
        api.attributes = PLATFORM

        async def outcome(token: str) -> str:
            return (await gateway.call(corner, bearer(token))).outcome

        assert await outcome(backends.good("kubernetes")) == "ok"
        assert await outcome(api_server.jwt(sub="stranger")) == "unauthenticated"
        elsewhere = api_server.jwt(sub="elsewhere")
        api.accounts[elsewhere] = api_server.account("elsewhere", "https://another.audience")
        assert await outcome(elsewhere) == "unauthenticated"
        expired = api_server.jwt(sub="expired", exp=time.time() - 1)
        api.accounts[expired] = api_server.account()
        asked = api.asked
        assert await outcome(expired) == "unauthenticated"
        assert api.asked == asked
        without = api_server.jwt(sub="without the role")
        api.accounts[without] = api_server.account("system:serviceaccount:team-b:other")
        api.access = {"allowed": False}
        assert [await outcome(without) for _ in range(2)] == ["forbidden"] * 2  # asked, then known
        assert await gateway.counted("kubernetes", "denied", "forbidden") == 2
        assert api.mistakes == []
        assert len(gateway.runtime.calls) == 1


@corners
async def test_a_hundred_calls_are_one_question(corner: Corner, tmp_path: Path) -> None:
    """A-08: whoever calls at once with one token waits for one review, and then all are let in."""
    async with running_backends(tmp_path) as backends:
        gateway, api = backends.gateway, backends.api
        token, hold = backends.good("kubernetes"), asyncio.Event()
        api.server.behave = lambda request: replace(api.answer(request), hold=hold)
        calls = [asyncio.ensure_future(gateway.call(corner, bearer(token))) for _ in range(100)]
        async with asyncio.timeout(10):
            await api.server.arrived.wait()
        hold.set()
        assert {reply.outcome for reply in await asyncio.gather(*calls)} == {"ok"}
        assert api.asked == (1, 0)
        assert len(gateway.runtime.calls) == 100


@corners
async def test_an_api_server_that_is_slow_or_silent(corner: Corner, tmp_path: Path) -> None:
    """A-08: one that takes longer than `timeout` is 503 or 14, and is asked again by the next call."""
    async with running_backends(tmp_path, options=", timeout: 300ms") as backends:
        gateway, api = backends.gateway, backends.api
        token = backends.good("kubernetes")
        api.server.behave = lambda request: replace(api.answer(request), hold=asyncio.Event())
        assert (await gateway.call(corner, bearer(token))).outcome == "unavailable"
        api.server.behave = api.answer
        assert (await gateway.call(corner, bearer(token))).outcome == "ok"


@corners
@pytest.mark.parametrize("path", [TOKENS, ACCESS])
@pytest.mark.parametrize("status", [401, 403, 500])
async def test_an_api_server_that_fails(corner: Corner, path: str, status: int, tmp_path: Path) -> None:
    """A-08: 500, and not letting us ask, are never taken for a no of the caller, nor for a yes: 503 or 14."""
    async with running_backends(tmp_path, options=ACCESS_OPTION) as backends:
        backends.api.attributes = PLATFORM
        token = backends.good("kubernetes")
        backends.api.instead[path] = respond(status, {"kind": "Status", "code": status})
        assert (await backends.gateway.call(corner, bearer(token))).outcome == "unavailable"
        assert backends.gateway.runtime.calls == []


def break_down(backends: Backends, method: str) -> None:
    """Make whoever decides fail."""
    if method == "kubernetes":
        backends.api.server.behave = lambda _: Answer(b"", "reset")
    backends.issuer.trouble = {"discovery": "500", "introspection": "closed"}


def repair(backends: Backends) -> None:
    """Make all well again."""
    backends.api.server.behave = backends.api.answer
    backends.issuer.trouble = {}


@corners
@pytest.mark.parametrize("method", ["jwt", "kubernetes", "introspection"])
async def test_an_outage_passes(corner: Corner, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A-14: while nobody can say who calls it is 503 with Retry-After or 14, counted as error; then all goes on."""
    monkeypatch.setattr("inferbridge.auth.jwks_source.RETRY", 0.0)
    last: Last = "introspection" if method == "introspection" else "kubernetes"
    async with running_backends(tmp_path, last=last) as backends:
        gateway, token = backends.gateway, backends.good(method)
        break_down(backends, method)
        for _ in range(2):
            reply = await gateway.call(corner, bearer(token))
            assert reply.outcome == "unavailable", reply
            assert int(reply.get("retry-after") or 0) >= 1
        assert (await gateway.call(corner)).outcome == "unauthenticated"
        assert gateway.runtime.calls == []
        assert await gateway.counted(method, "error") == 2
        repair(backends)
        assert (await gateway.call(corner, bearer(token))).outcome == "ok"
        assert await gateway.counted(method, "error") == 2
        assert await gateway.counted(method, "allowed") == 1


@corners
async def test_what_the_oauth_server_says_decides(corner: Corner, tmp_path: Path) -> None:
    """An opaque token that is not active, or for somebody else, is 401 or 16; one answer serves many calls."""
    async with running_backends(tmp_path, last="introspection", options=f", audience: {AUDIENCE}") as backends:
        gateway, issuer = backends.gateway, backends.issuer
        issuer.answers |= {
            "good": {"active": True, "sub": "alice", "aud": AUDIENCE},
            "others": {"active": True, "sub": "alice", "aud": "others"},
        }
        assert [(await gateway.call(corner, bearer("good"))).outcome for _ in range(3)] == ["ok"] * 3
        for token in ("others", "gone"):
            assert (await gateway.call(corner, bearer(token))).outcome == "unauthenticated"
        assert [form["token"] for form in issuer.forms] == [["good"], ["others"], ["gone"]]
        assert len(gateway.runtime.calls) == 3
