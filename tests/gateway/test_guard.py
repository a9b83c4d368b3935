"""The guard before the application, with clients, authenticators and runtimes in memory."""

import asyncio
import json
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field

import pytest

from gateway.test_service import GRPC, INFER, INFER_RPC, Client, Runtime, infer_reply, target
from inferbridge.auth.anonymous import Anonymous
from inferbridge.auth.authenticator import Authenticator, CannotAuthenticate, Chain, Unauthenticated
from inferbridge.auth.failures import Failures
from inferbridge.auth.identity import Grant, Identity, Presented
from inferbridge.auth.outgoing import Outgoing
from inferbridge.auth.rules import Authorizer, Forbidden
from inferbridge.auth.settings import Forwarding, Rule, UpstreamCredentials
from inferbridge.bridge.context import Policy, Setting
from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.framing import frame
from inferbridge.bridge.values import Headers, header, join
from inferbridge.gateway.application import RequestHead, RequestSink
from inferbridge.gateway.calls.guard import Access, Guard
from inferbridge.gateway.calls.targets import Target
from inferbridge.gateway.clients.connection import ClientConnection
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.local.health import ServiceStates
from inferbridge.gateway.local.services import LocalServices
from inferbridge.gateway.service import GatewayService
from inferbridge.secret import Secret
from inferbridge_generated.open_inference import wire
from inferbridge_generated.registry import APIS
from inferbridge_generated.runtimes import PROFILES

GOOD: Headers = (("authorization", "Bearer good-token"),)
BAD: Headers = (("authorization", "Bearer bad-token"),)
PATH = "/v2/models/m/infer"


class _Deaf:
    """Takes the rest of a call that has its answer, as the codecs' side does."""

    def on_data(self, data: object) -> None:
        """Not read."""

    def on_end(self) -> None:
        """Nothing more."""

    def on_cancel(self) -> None:
        """Nothing more."""


DEAF = _Deaf()


@dataclass
class Known:
    """Knows some tokens: an identity, or the error to raise; with `later`, answers on another turn."""

    tokens: dict[str, Identity | BridgeError]
    later: asyncio.Event | None = None
    asked: int = 0
    method: str = "keys"
    challenge: str = "Bearer"
    closed: bool = False

    def authenticate(self, presented: Presented) -> Identity | Awaitable[Identity] | None:
        if presented.token is None:
            return None
        self.asked += 1
        found = self.tokens.get(presented.token.secret.reveal(), Unauthenticated("unknown"))
        return self._answer(found) if self.later is None else self._wait(found, self.later)

    def _answer(self, found: Identity | BridgeError) -> Identity:
        if isinstance(found, BridgeError):
            raise found
        return found

    async def _wait(self, found: Identity | BridgeError, later: asyncio.Event) -> Identity:
        await later.wait()
        return self._answer(found)

    def posture(self) -> Sequence[str]:
        return ()

    async def close(self) -> None:
        self.closed = True


def known(later: asyncio.Event | None = None, **tokens: Identity | BridgeError) -> Known:
    """Knows `good-token`, and more."""
    good: dict[str, Identity | BridgeError] = {"good-token": Identity("alice", groups=("team",), method="keys")}
    return Known(good | {name.replace("_", "-"): found for name, found in tokens.items()}, later)


@dataclass
class Gateway:
    """A guarded gateway and its runtime."""

    runtime: Runtime
    guard: Guard
    heads: list[RequestHead] = field(default_factory=list)

    def open(self, client: Client, method: str, path: str, headers: Headers, peer: str = "10.0.0.1:5") -> RequestSink:
        """A call begins; a head that was sent before is the same object, as from the codecs."""
        head = RequestHead(method, path, "localhost", headers, "1.1", peer=peer)
        if head in self.heads:
            head = self.heads[self.heads.index(head)]
        else:
            self.heads.append(head)
        return self.guard.open(head, client)  # what it raises would be an internal error

    def call(
        self, method: str, path: str, body: bytes = b"", headers: Headers = (), peer: str = "10.0.0.1:5"
    ) -> Client:
        """A whole call."""
        client = Client()
        sink = self.open(client, method, path, headers, peer)
        if body:
            sink.on_data(body)
        sink.on_end()
        return client


def gateway(
    *authenticators: Authenticator, rules: Sequence[Rule] = (), public: Sequence[str] = (), **access: object
) -> Gateway:
    """A Triton over gRPC behind a guard."""
    runtime = Runtime(infer_reply)
    return guarded(target(runtime), runtime, *authenticators, rules=rules, public=public, **access)


def guarded(
    one: Target,
    runtime: Runtime,
    *authenticators: Authenticator,
    rules: Sequence[Rule] = (),
    public: Sequence[str] = (),
    **access: object,
) -> Gateway:
    """A target behind a guard."""
    local = LocalServices([], ServiceStates({}))
    inner = GatewayService([one], APIS, Policy(), Limits(), local, Authorizer(tuple(rules)))
    return Gateway(runtime, Guard(inner, Access(Chain(authenticators), public=frozenset(public), **access)))  # type: ignore[arg-type]  # fields


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ((), ""),
        (BAD, "invalid_token"),
        ((("authorization", "Basic YTpi"),), "invalid_token"),
        ((("authorization", ""),), "invalid_token"),
    ],
)
def test_rest_callers_nobody_knows_get_401_and_reach_nothing(headers: Headers, problem: str) -> None:
    """A-01: in the client's dialect, with a challenge, before the body is read; nothing is sent to the runtime."""
    gate = gateway(known())
    client = Client()
    gate.open(client, "POST", PATH, headers)
    assert client.ended  # although no body has come
    assert client.status == 401
    assert json.loads(client.body).keys() == {"error"}
    challenge = client.get("www-authenticate") or ""
    assert challenge.startswith('Bearer realm="inferbridge"')
    assert (f'error="{problem}"' in challenge) == bool(problem)
    assert gate.runtime.sent == []


def test_each_dialect_says_401_in_its_own_words() -> None:
    """OpenAI's, Caikit's, V2's and Connect's clients each find the error where they look for it."""
    gate = gateway(known())
    assert json.loads(gate.call("POST", "/v1/chat/completions", b"{}").body)["error"]["code"] == "invalid_api_key"
    assert json.loads(gate.call("POST", "/api/v1/task/text-generation", b"{}").body)["code"] == 401
    assert json.loads(gate.call("GET", "/v2/models/m").body) == {
        "error": "no credential: send it as Authorization: Bearer"
    }


def test_grpc_callers_nobody_knows_get_16_in_trailers_only() -> None:
    """A-01: HTTP 200, the status in the head, no message."""
    gate = gateway(known())
    client = gate.call("POST", INFER_RPC, b"", (*GRPC, *BAD))
    assert (client.status, client.get("grpc-status"), client.body) == (200, "16", b"")
    assert gate.runtime.sent == []


def test_a_known_caller_reaches_the_runtime_and_its_credential_does_not() -> None:
    """A-02, A-03, A-05: over REST and gRPC; headers that claim to name a caller are gone as well."""
    gate = gateway(known())
    lies = (("x-remote-user", "admin"), ("x-forwarded-client-cert", "admin"), ("cookie", "good-token"))
    assert gate.call("POST", f"{PATH}?access_token=good-token", INFER, (*GOOD, *lies)).status == 200
    message = join(wire.encode_ModelInferRequest(wire.ModelInferRequest(model_name="m")))
    gate.call("POST", INFER_RPC, b"".join(frame([[message]])), (*GRPC, *GOOD, *lies))
    assert len(gate.runtime.sent) == 2
    assert "good-token" not in repr(gate.runtime.sent)
    assert "admin" not in repr(gate.runtime.sent)


def test_a_repeated_head_is_read_once_and_authenticated_each_time() -> None:
    """What follows from a head is remembered, whether its credential is still good is not."""
    identities: dict[str, Identity | BridgeError] = {"good-token": Identity("alice")}
    authenticator = Known(identities)
    gate = gateway(authenticator)
    assert gate.call("POST", PATH, INFER, GOOD).status == 200
    assert gate.call("POST", PATH, INFER, GOOD).status == 200
    identities["good-token"] = Unauthenticated("disabled")
    assert gate.call("POST", PATH, INFER, GOOD).status == 401
    assert authenticator.asked == 3


def test_two_credentials_are_one_too_many() -> None:
    """400: whoever looked at the other one would see another caller."""
    client = gateway(known()).call("POST", PATH, INFER, (*GOOD, *BAD))
    assert client.status == 400
    assert "good-token" not in client.body.decode()


def test_a_client_on_a_connection_hears_of_its_two_credentials() -> None:
    """Through the codec too: what the guard refuses is the client's mistake, never a fault of ours."""
    connection = ClientConnection(gateway(known()).guard, Limits(), lambda: None)
    fields = b"authorization: Bearer good-token\r\nauthorization: Bearer bad\r\ncontent-length: 2\r\n"
    connection.receive(b"POST /v2/models/m/infer HTTP/1.1\r\nhost: a\r\n" + fields + b"\r\n{}")
    assert connection.take_output().startswith(b"HTTP/1.1 400 ")


def test_a_backend_that_is_down_is_503_and_never_open() -> None:
    """A-14: 503 with Retry-After, 14 for gRPC; nothing is let through, and nothing says 401."""
    gate = gateway(known(good_token=CannotAuthenticate("issuer is down")))
    client = gate.call("POST", PATH, INFER, GOOD)
    assert (client.status, client.get("retry-after")) == (503, "5")
    assert gate.call("POST", INFER_RPC, b"", (*GRPC, *GOOD)).get("grpc-status") == "14"
    assert gate.runtime.sent == []


def test_what_is_public_needs_no_credential_and_nothing_else_is_opened_by_it() -> None:
    """A-13: health over REST and gRPC, reflection only if chosen; a bad credential does not matter there."""
    gate = gateway(known(), public=("health",))
    for headers in ((), BAD, GOOD):
        assert gate.call("GET", "/v2/health/ready", headers=headers).status != 401
        assert gate.call("POST", "/grpc.health.v1.Health/Check", bytes(5), (*GRPC, *headers)).get("grpc-status") == "0"
    reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
    assert gate.call("POST", reflection, b"", GRPC).get("grpc-status") == "16"
    assert gateway(known(), public=("reflection",)).call("POST", reflection, b"", GRPC).get("grpc-status") == "0"
    for path in ("/v2/models/m/ready", "/v2/health/ready/x", "/v2/health/../models/m/infer", "/v2", "/unknown"):
        assert gate.call("GET", path).status == 401


@pytest.mark.parametrize(
    "path", sorted({path for api in APIS.values() for e in api.endpoints.values() if e.rest for path in e.rest.paths})
)
def test_every_endpoint_of_every_spec_is_guarded(path: str) -> None:
    """A-10: a new endpoint in a spec is guarded without anyone remembering."""
    gate = gateway(known())
    for method in ("GET", "POST", "DELETE", "OPTIONS", "HEAD"):
        client = gate.call(method, path.replace("{", "").replace("}", ""))
        assert client.status == 401
    assert gate.runtime.sent == []


def test_rules_decide_by_endpoint_before_the_body_and_by_model_with_it() -> None:
    """A-04: 403 and 7; the runtime is not asked."""
    rules = (Rule(groups=("team",), allow=Grant(operations=("infer",), models=("m",))),)
    gate = gateway(known(), rules=rules)
    client = Client()
    gate.open(client, "GET", "/v2/models/m", GOOD)
    assert (client.status, client.ended) == (403, True)
    assert 'error="insufficient_scope"' in (client.get("www-authenticate") or "")
    assert gate.call("POST", PATH, INFER, GOOD).status == 200
    assert gate.call("POST", "/v2/models/other/infer", INFER, GOOD).status == 403
    for model, code in (("m", "0"), ("other", "7"), ("", "7")):
        message = join(wire.encode_ModelInferRequest(wire.ModelInferRequest(model_name=model)))
        client = gate.call("POST", INFER_RPC, b"".join(frame([[message]])), (*GRPC, *GOOD))
        assert client.get("grpc-status") == code
    assert len(gate.runtime.sent) == 2


def test_the_model_must_be_the_same_wherever_it_is_named() -> None:
    """A-04: path or body against metadata: 400 and 3, also for callers who may call every model."""
    gate = gateway(known())
    named = (("mm-model-id", "other"),)
    assert gate.call("POST", PATH, INFER, (*GOOD, *named)).status == 400
    message = b"".join(frame([wire.encode_ModelInferRequest(wire.ModelInferRequest(model_name="m"))]))
    assert gate.call("POST", INFER_RPC, message, (*GRPC, *GOOD, *named)).get("grpc-status") == "3"
    assert gate.runtime.sent == []
    assert gate.call("POST", INFER_RPC, message, (*GRPC, *GOOD, ("mm-model-id", "m"))).get("grpc-status") == "0"


def test_metadata_is_no_cover_for_the_default_model() -> None:
    """A call that names no model is for the upstream's default model, whatever its metadata says."""
    runtime = Runtime(infer_reply)
    setting = Setting(default_model="large")
    one = Target("triton", PROFILES["triton"][0], "grpc", runtime, setting=setting)
    gate = guarded(one, runtime, known(), rules=(Rule(allow=Grant(models=("small",))),))
    message = b"".join(frame([wire.encode_ModelInferRequest(wire.ModelInferRequest())]))
    for named, code in (((), "7"), ((("mm-model-id", "small"),), "3")):
        assert gate.call("POST", INFER_RPC, message, (*GRPC, *GOOD, *named)).get("grpc-status") == code
    assert runtime.sent == []


CHAT = {"model": "small", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (json.dumps(CHAT), 200),
        (json.dumps(CHAT | {"model": "large"}), 403),
        (json.dumps(CHAT | {"max_tokens": 50}), 403),
        (json.dumps({name: CHAT[name] for name in ("model", "messages")}), 403),
        (json.dumps(CHAT | {"vendor_field": {"a": [1]}}), 200),
        (json.dumps(CHAT)[:-1] + ', "model": "small"}', 400),
        ('{"model": "large", ' + json.dumps(CHAT)[1:], 400),
        ("no json", 400),
        ("[" * 100_000, 400),
    ],
)
def test_a_body_that_passes_unread_is_looked_at_for_callers_with_limits(body: str, status: int) -> None:
    """The model and tokens that are checked are those that the runtime will read; vendor fields pass."""

    def answer(request: object, receiver: object) -> None:
        receiver.on_head(200, ())  # type: ignore[attr-defined]
        receiver.on_end(())  # type: ignore[attr-defined]

    runtime = Runtime(answer)  # type: ignore[arg-type]
    vllm = next(profile for profile in PROFILES["vllm-nvidia"] if profile.api == "openai")
    rules = (Rule(allow=Grant(models=("small",), max_tokens=10)),)
    gate = guarded(Target("vllm", vllm, "rest", runtime), runtime, known(), rules=rules)
    client = gate.call("POST", "/v1/chat/completions", body.encode(), (*GOOD, ("content-type", "application/json")))
    assert client.status == status
    assert len(runtime.sent) == (status == 200)


def test_a_body_larger_than_allowed_is_refused_while_it_comes() -> None:
    """413 as soon as it shows."""
    gate = gateway(known(), rules=(Rule(allow=Grant(max_body=100)),))
    client = Client()
    sink = gate.open(client, "POST", PATH, GOOD)
    sink.on_data(bytes(101))
    assert client.status == 413


async def test_a_call_waits_with_its_body_while_somebody_is_asked() -> None:
    """The client is held, nothing is sent before the answer, and all of the body after it."""
    later = asyncio.Event()
    gate = gateway(known(later))
    client = Client()
    sink = gate.open(client, "POST", PATH, GOOD)
    sink.on_data(INFER[:10])
    sink.on_data(INFER[10:])
    sink.on_end()
    await asyncio.sleep(0)
    assert client.held
    assert gate.runtime.sent == []
    later.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (client.status, client.held) == (200, False)


async def test_a_call_that_is_refused_after_asking_reaches_nothing() -> None:
    """401 as if it had been known at once; what comes of the body afterwards is not read."""
    later = asyncio.Event()
    gate = gateway(known(later))
    client = Client()
    sink = gate.open(client, "POST", PATH, BAD)
    sink.on_data(INFER)
    later.set()
    for _ in range(3):
        await asyncio.sleep(0)
    sink.on_data(INFER)
    sink.on_end()
    assert client.status == 401
    assert gate.runtime.sent == []


async def test_a_client_that_leaves_while_somebody_is_asked_is_forgotten() -> None:
    """Nothing is sent afterwards."""
    later = asyncio.Event()
    gate = gateway(known(later))
    client = Client()
    sink = gate.open(client, "POST", PATH, GOOD)
    sink.on_data(INFER)
    sink.on_end()
    await asyncio.sleep(0)
    sink.on_cancel()
    later.set()
    for _ in range(3):
        await asyncio.sleep(0)
    assert gate.runtime.sent == []
    assert not client.ended


async def test_the_body_of_a_call_that_waits_is_bounded() -> None:
    """413, and whoever is asked is not waited for."""
    gate = gateway(known(asyncio.Event()), body_bytes=10)
    client = Client()
    sink = gate.open(client, "POST", PATH, GOOD)
    sink.on_data(bytes(11))
    sink.on_end()
    assert client.status == 413
    assert gate.runtime.sent == []


async def test_an_authenticator_that_breaks_lets_nobody_in() -> None:
    """Fail closed: an exception while somebody is asked is 500, not a way through."""

    class Broken(Known):
        async def _wait(self, found: Identity | BridgeError, later: asyncio.Event) -> Identity:
            raise ZeroDivisionError

    gate = gateway(Broken({}, asyncio.Event()))
    client = Client()
    gate.open(client, "POST", PATH, GOOD).on_end()
    for _ in range(3):
        await asyncio.sleep(0)
    assert client.status == 500
    assert gate.runtime.sent == []


def test_the_first_authenticator_that_knows_the_kind_decides() -> None:
    """A refusal of the first is final; one that says nothing leaves the next to decide."""
    second = known()
    assert gateway(Known({}), second).call("POST", PATH, INFER, GOOD).status == 401
    assert second.asked == 0
    assert gateway(Anonymous(whatever=False), second).call("POST", PATH, INFER, GOOD).status == 200


def test_anonymous_beside_others_is_for_those_who_show_nothing() -> None:
    """A credential nobody knows is a mistake its owner learns of; alone, anonymous takes what SDKs must send."""
    gate = gateway(Anonymous(whatever=False))
    assert gate.call("POST", PATH, INFER).status == 200
    assert gate.call("POST", PATH, INFER, BAD).status == 401
    assert gateway(Anonymous(whatever=True)).call("POST", PATH, INFER, BAD).status == 200


def test_an_address_with_too_many_refused_credentials_must_wait() -> None:
    """A-15: 429 and 8 with Retry-After for further refusals; other addresses and good credentials do not notice."""
    clock = 0.0
    gate = gateway(known(), failures=Failures(2, lambda: clock))
    statuses = [gate.call("POST", PATH, INFER, BAD, peer=f"10.0.0.1:{port}").status for port in range(4)]
    assert statuses == [401, 401, 429, 429]
    client = gate.call("POST", INFER_RPC, b"", (*GRPC, *BAD))
    assert client.get("grpc-status") == "8"
    assert gate.call("POST", PATH, INFER, GOOD).status == 200
    assert gate.call("POST", PATH, INFER, BAD, peer="10.0.0.2:1").status == 401
    assert gate.call("POST", PATH, INFER).status == 401  # showing nothing is no attempt
    clock = 60.0
    assert gate.call("POST", PATH, INFER, BAD).status == 401


async def test_nobody_is_asked_for_an_address_that_must_wait() -> None:
    """A stranger cannot make the gateway ask others for as long as it likes."""
    failures = Failures(1)
    for _ in range(2):
        failures.count("10.0.0.1")
    gate = gateway(known(asyncio.Event()), failures=failures)
    assert gate.call("POST", PATH, INFER, GOOD).status == 429


async def test_health_is_public_to_whoever_is_refused_elsewhere() -> None:
    """A-13: an account without the role, two credentials, an address that must wait: none of it matters there."""
    failures = Failures(0)
    failures.count("10.0.0.1")
    asked = gateway(known(asyncio.Event()), failures=failures, public=("health",))
    told = gateway(known(good_token=Forbidden("may not")), public=("health",))
    for gate, headers in ((asked, GOOD), (told, GOOD), (told, (*GOOD, *BAD))):
        assert gate.call("POST", "/grpc.health.v1.Health/Check", bytes(5), (*GRPC, *headers)).get("grpc-status") == "0"
        assert gate.call("POST", PATH, INFER, headers).status in (400, 403, 429)


def test_the_runtime_gets_the_configured_credential_and_the_callers_name() -> None:
    """A-03: static credentials and forwarded identity, on translated and on passed-through calls."""
    runtime = Runtime(infer_reply)
    outgoing = Outgoing(UpstreamCredentials(static=Secret("runtimes")), Forwarding("x-remote-user", "x-remote-groups"))
    one = Target("triton", PROFILES["triton"][0], "grpc", runtime, outgoing=outgoing)
    gate = guarded(one, runtime, known())
    message = b"".join(frame([wire.encode_ModelInferRequest(wire.ModelInferRequest(model_name="m"))]))
    gate.call("POST", PATH, INFER, GOOD)
    gate.call("POST", INFER_RPC, message, (*GRPC, *GOOD))
    assert len(runtime.sent) == 2
    for request in runtime.sent:
        assert header(request.headers, "authorization") == "Bearer runtimes"
        assert header(request.headers, "x-remote-user") == "alice"
        assert header(request.headers, "x-remote-groups") == "team"


def test_passthrough_gives_the_runtime_the_clients_own_credential() -> None:
    """Only where the upstream is configured so."""
    runtime = Runtime(infer_reply)
    one = Target(
        "triton", PROFILES["triton"][0], "grpc", runtime, outgoing=Outgoing(UpstreamCredentials(passthrough=True))
    )
    guarded(one, runtime, known()).call("POST", PATH, INFER, GOOD)
    assert header(runtime.sent[0].headers, "authorization") == "Bearer good-token"


async def test_closing_closes_the_authenticators() -> None:
    """They may hold connections."""
    authenticator = known()
    await gateway(authenticator).guard.close()
    assert authenticator.closed


def test_secrets_do_not_show_in_heads() -> None:
    """The head behind the guard can be logged."""
    seen: list[RequestHead] = []

    class Inner(GatewayService):
        def open(self, head: RequestHead, responder: object) -> RequestSink:
            seen.append(head)
            return DEAF

    inner = Inner([], APIS, Policy(), Limits())
    Guard(inner, Access(Chain([known()]))).open(RequestHead("GET", "/v2", "h", GOOD, "1.1"), Client())
    assert seen[0].identity.subject == "alice"
    assert "good-token" not in repr(seen[0])


@dataclass
class Counted:
    """Remembers what is counted."""

    auths: list[tuple[str, str, str]] = field(default_factory=list)

    def lost_fields(self, operation: str, api: str, runtime: str, count: int) -> None:
        """Of no interest here."""

    def auth(self, method: str, result: str, reason: str) -> None:
        self.auths.append((method, result, reason))


async def test_each_call_is_counted_by_how_its_caller_was_recognised() -> None:
    """A-14: allowed, denied with the reason, error; by the method that decided, also when it had to ask."""
    counted, later = Counted(), asyncio.Event()
    later.set()
    down = CannotAuthenticate("down")
    for waits in (None, later):
        gate = gateway(known(waits, down_token=down), counters=counted, public=("health",))
        for headers in (GOOD, BAD, (("authorization", "Bearer down-token"),), ()):
            gate.call("POST", PATH, INFER, headers)
        for _ in range(3):
            await asyncio.sleep(0)
    decided = [("keys", "allowed", ""), ("keys", "denied", "unknown"), ("keys", "error", "")]
    assert sorted(counted.auths) == sorted([*decided, ("", "denied", "missing")] * 2)


async def test_other_refusals_are_counted_too() -> None:
    """An account without the role, two credentials, and an address that must wait are denied, each with its reason."""
    counted, later, failures = Counted(), asyncio.Event(), Failures(0)
    later.set()
    for waits in (None, later):
        gateway(known(waits, good_token=Forbidden("may not")), counters=counted).call("POST", PATH, INFER, GOOD)
        for _ in range(3):
            await asyncio.sleep(0)
    gateway(known(), counters=counted).call("POST", PATH, INFER, (*GOOD, *BAD))
    failures.count("10.0.0.1")
    gateway(known(later), counters=counted, failures=failures).call("POST", PATH, INFER, GOOD)
    assert counted.auths == [
        *[("keys", "denied", "forbidden")] * 2, ("", "denied", "malformed"), ("keys", "denied", "too_many"),
    ]  # fmt: skip
