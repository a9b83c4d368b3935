"""Tokens reviewed by an API server, over real sockets and real TLS."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from auth.api_server import ACCESS, CLIENT, FLAN, GROUPS, TOKENS, ApiServer, account, api_server, jwt, respond
from documents import blocks, section
from inferbridge.auth.authenticator import CannotAuthenticate, Unauthenticated
from inferbridge.auth.identity import ClientCertificate, Identity, Presented, Token
from inferbridge.auth.kubernetes import KubernetesAuthenticator
from inferbridge.auth.kubernetes_api import api_url
from inferbridge.auth.settings import AccessReview, KubernetesSettings
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.config import Flags, load_settings
from upstream.h1_server import Answer

PLATFORM = {
    "namespace": "team-a",
    "verb": "get",
    "group": "serving.kserve.io",
    "version": "v1beta1",
    "resource": "inferenceservices",
    "name": "flan",
}
"""What kube-rbac-proxy asks for an InferenceService `flan` of OpenShift AI."""

type Make = Callable[..., KubernetesAuthenticator]


class Clock:
    """Seconds since 1970 that pass when they are told to."""

    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    """An API server that knows one client; in the end nothing must have been asked that it does not allow."""
    async with api_server(tmp_path) as running:
        running.accounts["good"] = account()
        running.attributes = dict(PLATFORM)
        yield running
        assert running.mistakes == []


@pytest.fixture
def clock() -> Clock:
    """A clock."""
    return Clock()


@pytest.fixture
async def make(api: ApiServer, clock: Clock) -> AsyncIterator[Make]:
    """Makes authenticators that ask the API server, and closes them."""
    made: list[KubernetesAuthenticator] = []

    def one(**changes: Any) -> KubernetesAuthenticator:
        made.append(KubernetesAuthenticator(api.settings(**changes), {}, now=clock))
        return made[-1]

    yield one
    for each in made:
        await each.close()


def shown(token: str) -> Presented:
    """A client with this token."""
    return Presented(Token.of(token))


async def found(answer: Identity | Awaitable[Identity] | None) -> Identity:
    """Whom the authenticator has recognised, now or later."""
    assert answer is not None
    return answer if isinstance(answer, Identity) else await answer


async def ask(authenticator: KubernetesAuthenticator, token: str = "good") -> Identity:
    """Authenticate a client that has not been seen before."""
    return await found(authenticator.authenticate(shown(token)))


async def test_identity(make: Make, clock: Clock, api: ApiServer) -> None:
    """A token that the cluster knows has the cluster's name and groups, and the token's own end."""
    api.accounts[token := jwt(exp=clock() + 3600, sub="whatever")] = account()
    assert await ask(make(), token) == Identity(CLIENT, tuple(GROUPS), "kubernetes", expires_at=clock() + 3600)


async def test_a_known_token_is_answered_at_once(make: Make, api: ApiServer) -> None:
    """The second call with a token gets the very same identity, without a question and without waiting."""
    authenticator = make()
    client = shown("good")
    first = await found(authenticator.authenticate(client))
    assert authenticator.authenticate(client) is first
    assert authenticator.authenticate(shown("good")) is first
    assert api.asked == (1, 0)


async def test_one_review_for_many_callers(make: Make, api: ApiServer) -> None:
    """A hundred calls at once with one token are one review of each kind."""
    authenticator = make(access=FLAN)
    identities = await asyncio.gather(*(ask(authenticator) for _ in range(100)))
    assert all(one is identities[0] for one in identities)
    assert api.asked == (1, 1)


async def test_tasks_that_start_at_once(make: Make, clock: Clock, api: ApiServer) -> None:
    """It is the same under mitmproxy, whose tasks run at once until they wait."""
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    authenticator = make()
    await asyncio.gather(*(ask(authenticator) for _ in range(100)))
    assert api.asked == (1, 0)
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            await ask(authenticator, jwt(exp=clock() - 1))
    assert api.asked == (1, 0)


async def test_a_caller_that_leaves(make: Make, api: ApiServer) -> None:
    """A client that hangs up while its token is reviewed takes the answer from nobody else."""
    gate = asyncio.Event()
    api.instead[TOKENS] = Answer(respond(201, {"status": account()}).sent, hold=gate)
    authenticator = make()
    first, second = (asyncio.create_task(ask(authenticator)) for _ in range(2))
    await api.server.arrived.wait()
    first.cancel()
    gate.set()
    assert (await second).subject == CLIENT
    assert api.asked == (1, 0)


async def test_the_same_object_after_the_cache(make: Make, clock: Clock, api: ApiServer) -> None:
    """A token is reviewed again after the time of the cache, and not before; the identity stays the same object."""
    authenticator = make(cache=60.0)
    first = await ask(authenticator)
    clock.seconds += 59.9
    assert await ask(authenticator) is first
    assert api.asked == (1, 0)
    clock.seconds += 0.2
    assert await ask(authenticator) is first
    assert api.asked == (2, 0)


async def test_a_changed_account(make: Make, clock: Clock, api: ApiServer) -> None:
    """Groups that have changed are those of the next review."""
    authenticator = make()
    await ask(authenticator)
    api.accounts["good"]["user"] = api.accounts["good"]["user"] | {"groups": ["system:authenticated"]}
    clock.seconds += 61
    assert (await ask(authenticator)).groups == ("system:authenticated",)


async def test_never_beyond_the_tokens_end(make: Make, clock: Clock, api: ApiServer) -> None:
    """From its `exp` on a token is refused as expired, without a question, however fresh the review is."""
    api.accounts[token := jwt(exp=clock() + 10)] = account()
    authenticator = make(cache=60.0)
    await ask(authenticator, token)
    clock.seconds += 9.9
    assert isinstance(authenticator.authenticate(shown(token)), Identity)
    clock.seconds += 0.1
    with pytest.raises(Unauthenticated) as refusal:
        await ask(authenticator, token)
    assert refusal.value.reason == "expired"
    assert api.asked == (1, 0)


@pytest.mark.parametrize(
    "token",
    [
        *("opaque", "a.b.c", "a.bm8.c", "..", f"a.{'W1tb' * 4000}.c"),
        *(jwt(), jwt(exp="soon"), jwt(exp=True), jwt(exp=10**400), jwt(exp=float("nan")), jwt(exp=float("inf"))),
        jwt(iss="https://sso.example", sub="jane"),
    ],
)
async def test_any_token_is_asked_about(make: Make, api: ApiServer, token: str) -> None:
    """Only the API server knows which tokens it trusts: those of other issuers and opaque ones are asked about too."""
    api.accounts[token] = account("jane")
    identity = await ask(make(), token)
    assert (identity.subject, identity.expires_at) == ("jane", None)


async def test_no_token(make: Make, api: ApiServer) -> None:
    """Whoever shows no token is left to the next authenticator."""
    authenticator = make()
    assert authenticator.authenticate(Presented()) is None
    assert authenticator.authenticate(Presented(certificate=ClientCertificate(common_name="x"))) is None
    assert api.asked == (0, 0)


@pytest.mark.parametrize("token", ["", " good", "go od", "good\n", "g\u00f6\u00f6d", "x" * 16385])
async def test_what_cannot_be_a_token(make: Make, api: ApiServer, token: str) -> None:
    """What is no token is refused without asking: with a space in front an API server would find an anonymous user."""
    with pytest.raises(Unauthenticated) as refusal:
        make().authenticate(shown(token))
    assert refusal.value.reason == "malformed"
    assert api.asked == (0, 0)


async def test_an_unknown_token(make: Make, clock: Clock, api: ApiServer) -> None:
    """authenticated=false is 401, kept for 10 s, so that one bad client does not keep the API server busy."""
    authenticator = make()
    for _ in range(3):
        with pytest.raises(Unauthenticated) as refusal:
            await ask(authenticator, "stranger")
        assert (refusal.value.code, refusal.value.reason) == (Code.UNAUTHENTICATED, "invalid")
    assert api.asked == (1, 0)
    api.accounts["stranger"] = account()
    clock.seconds += 10.1
    assert (await ask(authenticator, "stranger")).subject == CLIENT


@pytest.mark.parametrize("audiences", [["vault"], [], None])
async def test_a_token_for_somebody_else(make: Make, api: ApiServer, audiences: list[str] | None) -> None:
    """A token without one of our audiences is refused, also by a server that does not speak of audiences."""
    api.accounts["good"]["audiences"] = audiences
    with pytest.raises(Unauthenticated) as refusal:
        await ask(make())
    assert refusal.value.reason == "audience"


async def test_one_of_our_audiences(make: Make, api: ApiServer) -> None:
    """Any one of the configured audiences will do, and all of them are asked."""
    api.audiences = ["https://inference.example", "https://kubernetes.default.svc"]
    assert (await ask(make(audiences=tuple(api.audiences)))).subject == CLIENT


async def test_anonymous_is_nobody(make: Make, api: ApiServer) -> None:
    """A review that finds the anonymous user has recognised nobody."""
    api.accounts["good"]["user"] = {"username": "system:anonymous", "groups": ["system:unauthenticated"]}
    with pytest.raises(Unauthenticated):
        await ask(make())


async def test_the_platforms_question(make: Make, api: ApiServer) -> None:
    """The SubjectAccessReview has user, uid, groups, extra and the attributes of kube-rbac-proxy, and nothing else."""
    assert (await ask(make(access=FLAN))).subject == CLIENT
    assert api.asked == (1, 1)  # the server refuses any other body, and notes it


async def test_other_attributes(make: Make, api: ApiServer) -> None:
    """Every attribute can be set, and one that is empty is not sent."""
    api.attributes = {"namespace": "ns", "verb": "post", "version": "v1", "resource": "services"}
    api.attributes |= {"subresource": "proxy", "name": "s"}
    access = AccessReview("s", "ns", "post", "", "v1", "services", "proxy")
    await ask(make(access=access))
    api.attributes = {"namespace": "ns", "verb": "get", "group": "g", "version": "v1", "resource": "r", "name": "n"}
    await ask(make(access=AccessReview("n", "ns", "get", "g", "v1", "r")))


async def test_a_user_without_uid_and_extra(make: Make, api: ApiServer) -> None:
    """What the cluster does not say about a user is not made up."""
    api.accounts["good"]["user"] = {"username": "jane", "groups": None, "extra": None}
    assert (await ask(make(access=FLAN))).groups == ()


@pytest.mark.parametrize(
    "status", [{"allowed": False}, {}, {"allowed": False, "denied": True}, {"allowed": True, "denied": True}]
)
async def test_not_allowed(make: Make, clock: Clock, api: ApiServer, status: dict[str, bool]) -> None:
    """Who is known but not allowed gets 403 and is told what is missing; kept for 10 s."""
    api.access = status
    authenticator = make(access=FLAN)
    for _ in range(3):
        with pytest.raises(BridgeError) as refusal:
            await ask(authenticator)
        assert refusal.value.code is Code.PERMISSION_DENIED
    assert CLIENT in refusal.value.message
    assert "get inferenceservices.serving.kserve.io 'flan' in namespace 'team-a'" in refusal.value.message
    assert api.asked == (1, 1)
    api.access = {"allowed": True}
    clock.seconds += 10.1
    assert (await ask(authenticator)).subject == CLIENT


GOOD = {"status": account() | {"allowed": True}}
OUTAGES = {
    **{str(status): respond(status, GOOD) for status in (202, 302, 400, 404, 409, 429, 500, 503)},
    "500 in words": respond(500, b"etcd"),
    "no JSON": respond(201, b"<html>good</html>"),
    "no object": respond(201, b"[]"),
    "no status": respond(201, {"kind": "TokenReview"}),
    "a Status": respond(201, {"kind": "Status", "status": "Failure"}),
    "text for true": respond(201, {"status": {"authenticated": "true", "allowed": "true"}}),
    "deep": respond(201, b'{"kind":' + b"[" * 100_000),
    "cut off": Answer(b"HTTP/1.1 201 Created\r\ncontent-length: 99\r\n\r\n{", "close"),
    "reset": Answer(b"", "reset"),
    "too much": respond(201, b" " * (2 << 20)),
}


@pytest.mark.parametrize("path", [TOKENS, ACCESS])
@pytest.mark.parametrize("outage", OUTAGES)
async def test_an_outage(make: Make, api: ApiServer, outage: str, path: str) -> None:
    """While the API server cannot answer it is 503, never 401 and never "let in"; nothing is kept of it."""
    api.instead[path] = OUTAGES[outage]
    authenticator = make(access=FLAN)
    for _ in range(2):
        with pytest.raises(CannotAuthenticate) as failure:
            await ask(authenticator)
        assert failure.value.code is Code.UNAVAILABLE
        assert failure.value.retry_after is not None
        assert "good" not in str(failure.value)
    del api.instead[path]
    assert (await ask(authenticator)).subject == CLIENT


@pytest.mark.parametrize("user", [b"{}", b'{"username":""}', b'{"username":"\xff"}', b'{"username":7}', b"[]"])
async def test_a_nameless_user(make: Make, api: ApiServer, user: bytes) -> None:
    """A review that authenticates a token without saying whose it is lets nobody in."""
    status = b'{"status":{"authenticated":true,"audiences":["https://kubernetes.default.svc"],"user":%s}}'
    api.instead[TOKENS] = respond(201, status % user)
    with pytest.raises(CannotAuthenticate):
        await ask(make())


async def test_a_server_that_does_not_answer(make: Make, api: ApiServer) -> None:
    """A review that takes longer than `timeout` is given up as an outage."""
    api.instead[TOKENS] = Answer(hold=asyncio.Event())
    authenticator = make(timeout=0.05)
    with pytest.raises(CannotAuthenticate):
        await ask(authenticator)
    api.instead.clear()
    assert (await ask(make())).subject == CLIENT


async def test_nobody_listens(make: Make, tmp_path: Path, api: ApiServer) -> None:
    """Without a connection there is no answer: 503, with the address in the log's detail."""
    authenticator = make(api="https://localhost:1")
    with pytest.raises(CannotAuthenticate) as failure:
        await ask(authenticator)
    assert "https://localhost:1" in failure.value.detail


async def test_a_known_token_survives_an_outage(make: Make, api: ApiServer) -> None:
    """What was answered before an outage counts for its time."""
    authenticator = make(access=FLAN)
    first = await ask(authenticator)
    api.instead = {TOKENS: OUTAGES["500"], ACCESS: OUTAGES["500"]}
    assert await ask(authenticator) is first


async def test_our_own_token_is_renewed(make: Make, api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new token in the projected file is used from the next look on, before anybody complains."""
    authenticator = make()
    await ask(authenticator)
    api.rotate("renewed")
    monkeypatch.setattr("inferbridge.auth.files.LOOK_SECONDS", 0.0)
    api.accounts["second"] = account("jane")
    assert (await ask(authenticator, "second")).subject == "jane"
    assert api.asked == (2, 0)


async def test_our_own_token_is_refused(make: Make, api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A 401 to us has the file read at once, even if it looks the same, and the question asked once more."""
    monkeypatch.setattr("inferbridge.auth.files.LOOK_SECONDS", 3600.0)
    authenticator = make(access=FLAN)
    before = (api.folder / "token").stat()
    api.rotate("our-new-token")
    os.utime(api.folder / "token", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (await ask(authenticator)).subject == CLIENT
    assert api.asked == (2, 1)


async def test_our_own_token_is_no_good(make: Make, api: ApiServer) -> None:
    """A 401 to us is no 401 to the client: it is 503, not repeated with the same token, and the log names the file."""
    api.own = {"somebody else's"}
    with pytest.raises(CannotAuthenticate) as failure:
        await ask(make())
    assert str(api.folder / "token") in failure.value.detail
    assert "our-own-token" not in failure.value.detail
    assert api.asked == (1, 0)


@pytest.mark.parametrize("path", [TOKENS, ACCESS])
async def test_we_may_not_ask(make: Make, api: ApiServer, path: str) -> None:
    """A 403 to us is no 403 to the client: it is 503, and the log says which role is missing."""
    api.instead[path] = respond(403, {"kind": "Status", "status": "Failure", "reason": "Forbidden"})
    with pytest.raises(CannotAuthenticate) as failure:
        await ask(make(access=FLAN))
    assert "system:auth-delegator" in failure.value.detail


async def test_a_new_authority(make: Make, api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new authority in the file counts from the next look on; what the old one vouched for is closed."""
    monkeypatch.setattr("inferbridge.auth.files.LOOK_SECONDS", 0.0)
    authenticator = make()
    await ask(authenticator)
    renewed = trustme.CA()
    api.certify(renewed)
    api.trust(renewed)
    api.accounts["second"] = account("jane")
    assert (await ask(authenticator, "second")).subject == "jane"
    await api.server.left.wait()
    assert (api.server.connections, api.server.open_now) == (2, 1)


async def test_a_strangers_certificate(make: Make, api: ApiServer) -> None:
    """A server that our authority does not vouch for sees neither the client's token nor ours."""
    api.certify(trustme.CA())
    with pytest.raises(CannotAuthenticate) as failure:
        await ask(make())
    assert "certificate" in failure.value.detail
    assert api.server.requests == []


async def test_a_broken_authority(
    make: Make, api: ApiServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that breaks while we run is logged and does not end what works."""
    monkeypatch.setattr("inferbridge.auth.files.LOOK_SECONDS", 0.0)
    authenticator = make()
    await ask(authenticator)
    (api.folder / "ca.crt").write_text("junk")
    api.accounts["second"] = account("jane")
    with caplog.at_level(logging.ERROR):
        assert (await ask(authenticator, "second")).subject == "jane"
    assert "ca.crt" in caplog.text


async def test_nothing_is_told(make: Make, api: ApiServer) -> None:
    """Neither the refusal nor its detail repeats the token, or what the API server says about it."""
    api.accounts["s3cr3t"] = {"error": "oidc: issuer https://evil.example is not https://sso.example, token s3cr3t"}
    with pytest.raises(Unauthenticated) as refusal:
        await ask(make(), "s3cr3t")
    told = refusal.value.message + refusal.value.detail
    assert "s3cr3t" not in told
    assert "example" not in told


async def test_an_api_server_behind_a_path(make: Make, api: ApiServer) -> None:
    """A URL with a path leads through it, as clusters behind Rancher have it."""
    authenticator = make(api=f"{api.server.url}/k8s/clusters/c-1/")
    with pytest.raises(CannotAuthenticate):
        await ask(authenticator)
    assert api.mistakes == [f"POST /k8s/clusters/c-1{TOKENS} HTTP/1.1"]
    api.mistakes.clear()


def test_the_address_of_a_pod() -> None:
    """The address comes from the settings, else from what Kubernetes tells its pods, IPv6 in brackets."""
    settings = KubernetesSettings()
    pod = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    assert api_url(settings, pod) == "https://10.96.0.1:443"
    assert api_url(settings, pod | {"KUBERNETES_SERVICE_HOST": "fd00:10:96::1"}) == "https://[fd00:10:96::1]:443"
    assert api_url(KubernetesSettings(api="https://api.example:6443"), pod) == "https://api.example:6443"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"api": ""}, "KUBERNETES_SERVICE_HOST"),
        ({"token": Path("/nowhere/token")}, "`token`: no such file or directory"),
        ({"ca": Path("/nowhere/ca.crt")}, "`ca`: no such file or directory"),
    ],
)
def test_it_says_what_is_missing(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """Outside a pod the error says what is missing and which setting tells it."""
    (tmp_path / "token").write_text("t")
    settings = KubernetesSettings(**{"api": "https://localhost:1", "token": tmp_path / "token"} | changes)
    with pytest.raises(ValueError, match=f"(?i){message}"):
        KubernetesAuthenticator(settings, {})


@pytest.mark.parametrize("name", ["token", "ca.crt"])
async def test_a_file_that_holds_nothing(make: Make, api: ApiServer, name: str) -> None:
    """An empty token or authority is an error at the start, with the name of the file."""
    (api.folder / name).write_text("")
    with pytest.raises(ValueError, match=str(api.folder / name)):
        make()


async def test_posture(make: Make, api: ApiServer) -> None:
    """An operator is told that without `access` every pod of the cluster gets in, and with it who does."""
    (everybody,) = make().posture()
    (some,) = make(access=FLAN).posture()
    assert "every account of the cluster" in everybody
    assert "get inferenceservices.serving.kserve.io 'flan'" in some


def documented(*words: str) -> str:
    """The YAML in the section about Kubernetes of docs/access.md that has all these words."""
    written = blocks(section("access.md", "Kubernetes and OpenShift AI"), "yaml")
    return next(block for block in written if all(word in block for word in words))


def test_the_documented_configuration(tmp_path: Path) -> None:
    """The configuration in docs/access.md loads, and asks what the platform asks."""
    (tmp_path / "server.pem").write_text("")
    text = documented("authenticators:", "kubernetes:").replace("/etc/tls/private/", "")
    (tmp_path / "inferbridge.yaml").write_text(text)
    settings = load_settings(tmp_path / "inferbridge.yaml", {}, Flags(), {"vllm-nvidia": {"rest", "grpc"}})
    assert settings.auth is not None
    assert settings.auth.authenticators == (KubernetesSettings(access=FLAN),)


def test_the_documented_roles() -> None:
    """The roles in docs/access.md let the gateway ask, and let its callers do what is asked about."""
    binding, role, _ = yaml.safe_load_all(documented("ClusterRoleBinding"))
    assert binding["roleRef"]["name"] == "system:auth-delegator"
    (rule,) = role["rules"]
    named = {"group": "apiGroups", "resource": "resources", "name": "resourceNames", "verb": "verbs"}
    assert {ours: rule[theirs] for ours, theirs in named.items()} == {ours: [PLATFORM[ours]] for ours in named}
    assert role["metadata"]["namespace"] == PLATFORM["namespace"]
