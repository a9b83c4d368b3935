"""What callers may call at a running proxy: in all four corners, and by Connect."""

import json
from pathlib import Path
from typing import Any

import pytest

from auth.corners import CORNERS, KEYS, Corner, bearer, running_gateway, write_keys
from auth.key_files import ID, KEY

pytestmark = pytest.mark.usefixtures("home")
corners = pytest.mark.parametrize("corner", CORNERS, ids=[one.name for one in CORNERS])
upstreams = pytest.mark.parametrize("upstream", ["rest", "grpc"])
AUTH = f"authenticators: [{KEYS}]"
LIMITS = {
    "key by model": (["models: [m]"], "", "m", "other"),
    "key by operation": (["operations: [embed]"], "", None, "m"),
    "rule by model": (["groups: [team-a]"], 'rules: [{groups: ["team-*"], allow: {models: ["m*"]}}]', "m", "other"),
    "rule for others": (["groups: [team-b]"], 'rules: [{groups: ["team-a"]}]', None, "m"),
    "rule by operation": ([], "rules: [{allow: {operations: [generate]}}, {allow: {models: [x]}}]", "m", None),
}


@corners
@upstreams
@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS)
async def test_who_is_known_may_not_call_everything(
    corner: Corner, upstream: str, limits: tuple[list[str], str, str | None, str | None], tmp_path: Path
) -> None:
    """A-04: keys and rules limit models and operations; what they do not allow is 403 or 7 and reaches nothing."""
    lines, rules, allowed, forbidden = limits
    write_keys(tmp_path, *lines)
    async with running_gateway(tmp_path, upstream, f"{AUTH}\n{rules}") as gateway:
        if forbidden is not None:
            reply = await gateway.call(corner, bearer(KEY), model=forbidden)
            assert reply.outcome == "forbidden", reply
            assert not corner.rest or 'error="insufficient_scope"' in reply.challenge
        assert gateway.runtime.calls == []
        if allowed is not None:
            assert (await gateway.call(corner, bearer(KEY), model=allowed)).outcome == "ok"


@corners
async def test_rules_name_endpoints(corner: Corner, tmp_path: Path) -> None:
    """A-04: a rule for the endpoints of one API allows none of another, though the operation is the same."""
    async with running_gateway(tmp_path, "rest", f'{AUTH}\nrules: [{{allow: {{endpoints: ["openai/*"]}}}}]') as gateway:
        assert (await gateway.call(corner, bearer(KEY))).outcome == ("ok" if corner.rest else "forbidden")


@corners
@upstreams
async def test_a_model_that_is_named_twice_is_one(corner: Corner, upstream: str, tmp_path: Path) -> None:
    """A-04: metadata that names another model than the body is 400 or 3, though the caller may call both."""
    async with running_gateway(tmp_path, upstream, AUTH) as gateway:
        reply = await gateway.call(corner, (*bearer(KEY), ("mm-model-id", "other")))
        assert reply.outcome == "invalid", reply
        assert gateway.runtime.calls == []
        assert (await gateway.call(corner, (*bearer(KEY), ("mm-model-id", "m")))).outcome == "ok"


@corners
async def test_the_id_of_a_key_stands_for_it(corner: Corner, tmp_path: Path) -> None:
    """A rule for the id of a key is for its holder alone, whatever the key's name is."""
    rules = f"rules: [{{keys: [{ID}], allow: {{models: [m]}}}}]"
    async with running_gateway(tmp_path, "rest", f"{AUTH}\n{rules}") as gateway:
        assert (await gateway.call(corner, bearer(KEY))).outcome == "ok"
        assert (await gateway.call(corner, bearer(KEY), model="other")).outcome == "forbidden"


@upstreams
async def test_connect_is_held_to_the_same_rules(upstream: str, tmp_path: Path) -> None:
    """A gRPC method as plain JSON: 401 without a key, 403 for another model or too many tokens, in its form."""
    write_keys(tmp_path, "models: [m]", "max_tokens: 10")
    async with running_gateway(tmp_path, upstream, AUTH) as gateway:

        async def code(key: str, model: str = "m", tokens: int = 5) -> Any:
            params = {"stopping": {"maxNewTokens": tokens}}
            asked = {"modelId": model, "requests": [{"text": "a b c"}], "params": params}
            headers = (("Content-Type", "application/json"), *bearer(key))
            path, body = "/fmaas.GenerationService/Generate", json.dumps(asked).encode()
            return json.loads((await gateway.get(path, headers, "POST", body)).text).get("code")

        assert await code("bad") == "unauthenticated"
        assert await code(KEY, model="other") == "permission_denied"
        assert await code(KEY, tokens=50) == "permission_denied"
        assert gateway.runtime.calls == []
        assert await code(KEY) is None
        assert len(gateway.runtime.calls) == 1
