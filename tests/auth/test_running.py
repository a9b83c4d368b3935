"""Who is let in by a running proxy, what the runtime learns of it, and what it never learns: in all four corners."""

import json
from pathlib import Path

import pytest

from auth.backends import Last, running_backends
from auth.corners import CORNERS, KEYS, REST, Corner, bearer, running_gateway, write_keys
from auth.key_files import KEY
from gateway.serving import curl
from inferbridge.bridge.values import Headers
from inferbridge.config import Flags, SettingsError
from inferbridge.gateway import build

pytestmark = pytest.mark.usefixtures("home")
corners = pytest.mark.parametrize("corner", CORNERS, ids=[one.name for one in CORNERS])
upstreams = pytest.mark.parametrize("upstream", ["rest", "grpc"])
AUTH = f"authenticators: [{KEYS}]"
WRONG: tuple[Headers, ...] = (
    *(((("authorization", value),)) for value in ("", "Bearer", f"Basic {KEY}", f"Bearer  {KEY}", f"{KEY}")),
    bearer("garbage"),
    bearer(f"{KEY[:-1]}x"),
    bearer("ib-short"),
    bearer("a.b.c"),
)


@corners
@upstreams
async def test_a_bad_credential_reaches_nothing(corner: Corner, upstream: str, tmp_path: Path) -> None:
    """A-01: nothing, blanks, another scheme and garbage are 401 with a challenge in the client's dialect, or 16."""
    async with running_backends(tmp_path, upstream) as backends:
        forged = backends.issuer.token()[:-4] + "AAAA"
        for metadata in ((), *WRONG, bearer(forged)):
            reply = await backends.gateway.call(corner, metadata)
            assert reply.outcome == "unauthenticated", metadata
            assert KEY not in repr(reply)
            if corner.rest:
                assert reply.challenge.startswith('Bearer realm="inferbridge"')
                assert ('error="invalid_token"' in reply.challenge) == bool(metadata)
                assert json.loads(reply.text)["error"]["code"] == "invalid_api_key"
        assert backends.gateway.runtime.calls == []


async def test_a_refusal_over_grpc_is_trailers_only(tmp_path: Path) -> None:
    """A-01: HTTP 200 and one block of headers that says 16, as grpc-go and grpc-java expect it, and no body."""
    async with running_gateway(tmp_path, "rest", AUTH) as gateway:
        url = f"http://127.0.0.1:{gateway.port}/fmaas.GenerationService/Generate"
        options = ("-H", "content-type: application/grpc", "-H", "te: trailers", "--data-binary", "")
        head, _, rest = (await curl("--http2-prior-knowledge", "-i", *options, url)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/2 200")
    assert b"\r\ngrpc-status: 16" in head
    assert rest == b""


@corners
@upstreams
@pytest.mark.parametrize("last", ["kubernetes", "introspection"])
async def test_a_good_credential_is_let_in(corner: Corner, upstream: str, last: Last, tmp_path: Path) -> None:
    """A-02: a key, a signed token and a token that others know reach the runtime; the scheme in any case."""
    async with running_backends(tmp_path, upstream, last) as backends:
        gateway = backends.gateway
        for method in ("keys", "jwt", last):
            token = backends.good(method)
            for scheme in ("Bearer", "bearer", "BEARER"):
                reply = await gateway.call(corner, (("authorization", f"{scheme} {token}"),))
                assert reply.outcome == "ok", (method, reply)
            assert await gateway.counted(method, "allowed") == 3
        assert len(gateway.runtime.calls) == 9


@corners
async def test_two_credentials_are_one_too_many(corner: Corner, tmp_path: Path) -> None:
    """A-02: whoever looked at the other one would see another caller, so it is 400 or 3 and nothing is called."""
    async with running_gateway(tmp_path, "rest", f"{AUTH}\nheaders: [authorization, api-key]") as gateway:
        for twice in ((*bearer(KEY), *bearer(KEY)), (*bearer(KEY), ("api-key", "another"))):
            assert (await gateway.call(corner, twice)).outcome == "invalid"
        assert gateway.runtime.calls == []
        for once in ((("api-key", KEY),), (*bearer(KEY), ("api-key", KEY))):
            assert (await gateway.call(corner, once)).outcome == "ok"


@corners
@upstreams
async def test_credentials_end_at_the_gateway(corner: Corner, upstream: str, tmp_path: Path) -> None:
    """A-03: no header, metadata, query or cookie brings the runtime the client's credential; it gets its own."""
    extra = (("cookie", f"token={KEY}"), ("x-api-key", KEY), ("api-key", KEY), ("proxy-authorization", KEY))
    own = 'credentials: {static: "runtimes-own"}'
    async with running_gateway(tmp_path, upstream, AUTH, of_upstream=own) as gateway:
        reply = await gateway.call(corner, (*bearer(KEY), *extra), query=f"?api_key={KEY}&access_token={KEY}")
        assert reply.outcome == "ok", reply
        (call,) = gateway.runtime.calls
    assert not call.shows(KEY)
    assert call.get("authorization") == "Bearer runtimes-own"


OWN = {
    "static": ("{static: runtimes-own, header: x-runtime-key}", ("x-runtime-key", "runtimes-own")),
    "passthrough": ("{passthrough: true}", ("authorization", f"Bearer {KEY}")),
    "passthrough elsewhere": ("{passthrough: true, header: x-api-key}", ("x-api-key", KEY)),
}


@corners
@upstreams
@pytest.mark.parametrize("own", OWN.values(), ids=OWN)
async def test_a_runtime_gets_one_credential(
    corner: Corner, upstream: str, own: tuple[str, tuple[str, str]], tmp_path: Path
) -> None:
    """A-03: the configured one, in the configured header; the client's own only where the upstream says so."""
    auth = f"{AUTH}\nheaders: [authorization, api-key]"
    async with running_gateway(tmp_path, upstream, auth, of_upstream=f"credentials: {own[0]}") as gateway:
        for shown in (bearer(KEY), (("api-key", KEY), ("x-runtime-key", "mine"))):
            assert (await gateway.call(corner, shown)).outcome == "ok"
            headers = gateway.runtime.calls[-1].head.headers
            assert [pair for pair in headers if pair[0] in ("authorization", "api-key", own[1][0])] == [own[1]]


@corners
@upstreams
async def test_a_token_that_is_renewed_is_used(
    corner: Corner, upstream: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A-03: the kubelet replaces the file of our service account's token; the next call has the new one."""
    monkeypatch.setattr("inferbridge.auth.files.LOOK_SECONDS", 0.0)
    (tmp_path / "own-token").write_text("first")
    own = "credentials: {service_account_token: own-token}"
    async with running_gateway(tmp_path, upstream, AUTH, of_upstream=own) as gateway:
        for token in ("first", "the-second"):
            (tmp_path / "own-token").write_text(token)
            assert (await gateway.call(corner, bearer(KEY))).outcome == "ok"
            assert gateway.runtime.calls[-1].get("authorization") == f"Bearer {token}"


@corners
@upstreams
async def test_only_the_gateway_says_who_calls(corner: Corner, upstream: str, tmp_path: Path) -> None:
    """A-05: headers that name a caller reach the runtime only as the gateway wrote them."""
    claimed = ("x-remote-user", "x-remote-groups", "x-remote-extra-scopes", "x-maas-user", "x-maas-groups")
    headers = [(name, "mallory") for name in (*claimed, "x-gateway-inference-objective", "x-forwarded-client-cert")]
    write_keys(tmp_path, "name: alice", "groups: [team-a, 'b|c']")
    forward = "forward: {subject: x-remote-user, groups: x-remote-groups}"
    async with running_gateway(tmp_path, upstream, f"{AUTH}\n{forward}") as gateway:
        assert (await gateway.call(corner, (*bearer(KEY), *headers))).outcome == "ok"
        (call,) = gateway.runtime.calls
    assert not call.shows("mallory")
    assert (call.get("x-remote-user"), call.get("x-remote-groups")) == ("alice", "team-a|b%7Cc")


def test_a_listener_for_others_needs_authentication(tmp_path: Path) -> None:
    """A-10: a configuration that lets other machines in unasked is refused; with keys, or said openly, it is not."""
    write_keys(tmp_path)
    open_to_all = 'listen: ["0.0.0.0:0"]\nupstreams: [{runtime: vllm-nvidia, url: "http://127.0.0.1:1"}]\n'
    file = tmp_path / "inferbridge.yaml"
    for more, refused in (
        ("", True),
        ("auth: {authenticators: [none]}", True),
        (f"auth: {{authenticators: [{KEYS}]}}", False),
        ("allow_unauthenticated: true", False),
    ):
        file.write_text(f"{open_to_all}{more}\n")
        if refused:
            with pytest.raises(SettingsError, match="can be reached from other machines"):
                build.settings(file, {}, Flags())
        else:
            build.settings(file, {}, Flags())


@upstreams
async def test_what_nobody_thought_of_is_guarded(upstream: str, tmp_path: Path) -> None:
    """A-10: unknown paths and methods, other verbs, Connect and reflection need a credential like all the rest."""
    async with running_gateway(tmp_path, upstream, AUTH) as gateway:
        for path in ("/", "/unknown", "/v1/models", "/metrics", "/healthz/x", "/v1/../health", "/fmaas.X/Y"):
            for method in ("GET", "POST", "OPTIONS", "DELETE"):
                assert (await gateway.get(path, method=method)).outcome == "unauthenticated", (method, path)
        json_body = (("Content-Type", "application/json"),)
        reply = await gateway.get("/fmaas.GenerationService/Generate", json_body, "POST")
        assert reply.outcome == "unauthenticated"
        for rpc in ("/unknown.Service/Method", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"):
            assert await gateway.code(rpc) == "unauthenticated"
        assert gateway.runtime.calls == []


@upstreams
async def test_health_is_public_and_metrics_are_elsewhere(upstream: str, tmp_path: Path) -> None:
    """A-13: health needs no credential and takes a bad one; the proxy's own pages are on the admin port alone."""
    async with running_gateway(tmp_path, upstream, AUTH) as gateway:
        for metadata in ((), bearer("bad"), bearer(KEY)):
            assert await gateway.code("/grpc.health.v1.Health/Check", metadata) == "ok"
            assert (await gateway.get("/health", metadata)).outcome != "unauthenticated"
        assert (await gateway.admin_page("/healthz")).outcome == "ok"
        assert (await gateway.admin_page("/metrics")).outcome == "ok"
        assert (await gateway.get("/metrics", bearer(KEY))).status == 404


async def test_health_is_public_to_callers_without_the_role(tmp_path: Path) -> None:
    """A-13: nor does it matter that the cluster would not let this account call a model, or that it tried too often."""
    options = ", access: {namespace: team-a, name: flan}"
    async with running_backends(tmp_path, options=options, auth="failures_per_minute: 1") as backends:
        gateway, api = backends.gateway, backends.api
        token = backends.good("kubernetes")
        api.access = {"allowed": False}
        api.attributes = {"verb": "get", "group": "serving.kserve.io", "version": "v1beta1", "namespace": "team-a"}
        api.attributes |= {"resource": "inferenceservices", "name": "flan"}
        for _ in range(2):  # asked, then known
            assert await gateway.code("/grpc.health.v1.Health/Check", bearer(token)) == "ok"
        for _ in range(3):
            await gateway.call(REST, bearer("ib-bad"))
        assert await gateway.code("/grpc.health.v1.Health/Check", bearer("never-seen")) == "ok"


@corners
async def test_guessing_is_slowed_down(corner: Corner, tmp_path: Path) -> None:
    """A-15: after 20 refused credentials in a minute an address gets 429 or 8; good credentials do not notice."""
    async with running_gateway(tmp_path, "rest", AUTH) as gateway:
        outcomes = [(await gateway.call(corner, bearer(f"guess-{number}"))).outcome for number in range(22)]
        assert outcomes == ["unauthenticated"] * 20 + ["too many"] * 2
        reply = await gateway.call(corner, bearer("another"))
        assert 1 <= int(reply.get("retry-after") or 0) <= 60
        assert (await gateway.call(corner, bearer(KEY))).outcome == "ok"
        assert (await gateway.call(corner)).outcome == "unauthenticated"
        assert len(gateway.runtime.calls) == 1
