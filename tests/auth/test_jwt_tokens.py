"""Signed tokens, with keys from a file: nothing here needs a network."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from auth.asking import NOON, Clock, at_once, shown
from auth.issuer import AUDIENCE, SigningKey, claims_of, encode, signing_key
from inferbridge.auth.authenticator import Chain, Reason, Unauthenticated
from inferbridge.auth.identity import Identity, Presented
from inferbridge.auth.jwt_tokens import JwtAuthenticator
from inferbridge.auth.settings import JwtSettings

ISSUER = "https://issuer.example/realm"
OTHER = "https://other.example"
RSA = signing_key("rsa", "RS256")
KEYS = (RSA, *(signing_key(name, name) for name in ("PS256", "ES256", "ES384", "ES512", "EdDSA")))
STRANGER = signing_key("stranger", "RS256")

type Make = Callable[..., JwtAuthenticator]


def write(path: Path, *keys: SigningKey | dict[str, Any]) -> Path:
    """A file with a key set."""
    public = [key.public if isinstance(key, SigningKey) else key for key in keys]
    path.write_text(json.dumps({"keys": public}))
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """All keys of the issuer."""
    return str(write(tmp_path_factory.mktemp("keys") / "jwks.json", *KEYS))


@pytest.fixture(scope="module")
def make(file: str) -> Make:
    """An authenticator at noon."""

    def made(clock: Clock | None = None, **settings: Any) -> JwtAuthenticator:
        clock = clock or Clock()
        return JwtAuthenticator(JwtSettings(ISSUER, (AUDIENCE,), jwks=file, **settings), clock, clock=clock)

    return made


def good(key: SigningKey = RSA, **claims: Any) -> str:
    """A token that is accepted at noon, changed by `claims`."""
    return key.sign({"alg": key.algorithm, "kid": key.key_id}, claims_of(ISSUER, NOON, **claims))


def refused(authenticator: JwtAuthenticator, token: str, secret: str = "") -> Unauthenticated:
    """How a chain of this one authenticator refuses a token; what it says holds nothing of the token."""
    with pytest.raises(Unauthenticated) as caught:
        Chain([authenticator]).authenticate(shown(token))
    told = f"{caught.value.message} {caught.value.detail}"
    assert not secret or secret not in told
    assert not any(len(part) > 8 and part in told for part in token.split("."))
    return caught.value


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.algorithm)
def test_a_good_token_is_recognised(make: Make, key: SigningKey) -> None:
    """Each algorithm of the allow-list verifies, and the identity says what the claims say."""
    identity = at_once(make(), good(key, groups=["a", "b"], scope="read write"))
    assert identity == Identity(
        "alice", ("a", "b"), "jwt", scopes=("read", "write"), expires_at=NOON + 600 + 60, grant=None
    )


def test_claims_go_by_other_names_and_in_other_forms(make: Make) -> None:
    """Subject, groups and scopes come from the configured claims; one group may be a text, scopes a list."""
    authenticator = make(subject_claim="email", groups_claim="roles", scope_claim="scp")
    identity = at_once(authenticator, good(email="a@b.example", roles="only one", scp=["x", "y"]))
    assert (identity.subject, identity.groups, identity.scopes) == ("a@b.example", ("only one",), ("x", "y"))


@pytest.mark.parametrize("aud", [AUDIENCE, [AUDIENCE], ["other", AUDIENCE]])
def test_an_audience_among_others_is_enough(make: Make, aud: object) -> None:
    """`aud` is a text or a list, and one of ours in it is enough."""
    assert at_once(make(), good(aud=aud)).subject == "alice"


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"aud": "other"}, "audience"),
        ({"aud": ["other", AUDIENCE + "x"]}, "audience"),
        ({"aud": []}, "malformed"),
        ({"aud": None}, "malformed"),
        ({"aud": {AUDIENCE: 1}}, "audience"),
        ({"iss": ISSUER + "/"}, "unknown"),
        ({"iss": None}, "unknown"),
        ({"iss": [ISSUER]}, "unknown"),
        ({"exp": None}, "malformed"),
        ({"exp": str(int(NOON) + 600)}, "malformed"),
        ({"exp": True}, "malformed"),
        ({"exp": float("nan")}, "malformed"),
        ({"exp": float("inf")}, "malformed"),
        ({"exp": 10**400}, "malformed"),
        ({"exp": NOON - 61}, "expired"),
        ({"exp": NOON - 60}, "expired"),
        ({"exp": -1}, "expired"),
        ({"nbf": NOON + 61}, "invalid"),
        ({"iat": NOON + 61}, "invalid"),
        ({"nbf": "soon"}, "malformed"),
        ({"sub": None}, "malformed"),
        ({"sub": ""}, "malformed"),
        ({"sub": 7}, "malformed"),
        ({"groups": [1]}, "malformed"),
        ({"groups": {"a": 1}}, "malformed"),
        ({"scope": 1}, "malformed"),
    ],
    ids=str,
)
def test_wrong_claims_are_refused(make: Make, claims: dict[str, Any], reason: Reason) -> None:
    """A well-signed token whose claims are wrong, missing, or of the wrong kind lets nobody in."""
    assert refused(make(), good(**claims)).reason == reason


@pytest.mark.parametrize("claims", [{"exp": NOON - 59}, {"nbf": NOON + 59}, {"iat": NOON + 59}], ids=str)
def test_clocks_may_differ_by_a_minute(make: Make, claims: dict[str, Any]) -> None:
    """59 seconds too late or too early are accepted, and none are where no leeway is configured."""
    assert at_once(make(), good(**claims)).subject == "alice"
    refused(make(leeway=0.0), good(**claims))


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", ""])
def test_unsigned_tokens_are_refused(make: Make, name: str) -> None:
    """`alg: none` in any spelling is refused, with an empty signature and with the signature of another token."""
    body = encode(claims_of(ISSUER, NOON))
    for header in ({"alg": name}, {"alg": name, "kid": RSA.key_id}):
        for signature in ("", good().rpartition(".")[2]):
            refused(make(), f"{encode(header)}.{body}.{signature}")


@pytest.mark.parametrize("name", ["HS256", "HS384", "HS512"])
def test_the_public_key_is_no_shared_secret(make: Make, name: str) -> None:
    """A token signed HS* with the RSA public key as secret, in any form that is public, is refused."""
    public = RSA.private.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    forms = [pem, pem.strip(), public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)]
    forms += [public.public_bytes(Encoding.PEM, PublicFormat.PKCS1), json.dumps(RSA.public).encode()]
    algorithm = jwt.get_algorithm_by_name(name)
    for secret in forms:
        signed = f"{encode({'alg': name, 'kid': RSA.key_id})}.{encode(claims_of(ISSUER, NOON))}"
        assert refused(make(), f"{signed}.{encode(algorithm.sign(signed.encode(), secret))}").reason == "invalid"


def test_the_key_decides_the_algorithm(make: Make) -> None:
    """A key published for RS256 verifies nothing that says PS256, though the same key could."""
    same = SigningKey(RSA.key_id, "PS256", RSA.private)
    assert refused(make(), good(same)).reason == "invalid"


def test_a_key_without_algorithm_verifies_what_its_type_can(tmp_path: Path) -> None:
    """An RSA key that is published without `alg` verifies RS* and PS*, and no elliptic or shared-secret signatures."""
    public = {name: value for name, value in RSA.public.items() if name != "alg"}
    settings = JwtSettings(ISSUER, (AUDIENCE,), jwks=str(write(tmp_path / "jwks.json", public)))
    authenticator = JwtAuthenticator(settings, Clock())
    for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"):
        assert at_once(authenticator, good(SigningKey(RSA.key_id, name, RSA.private))).subject == "alice"
    refused(authenticator, good(SigningKey(RSA.key_id, "ES256", signing_key("ES256").private)))
    refused(authenticator, good(SigningKey(RSA.key_id, "HS256", b"a secret of 32 characters at least")))


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_a_short_key_verifies_nothing(tmp_path: Path) -> None:
    """A signature of an RSA key that can be factored is refused, whoever published it."""
    short = SigningKey("short", "RS256", rsa.generate_private_key(65537, 1024))  # what the test is about
    settings = JwtSettings(ISSUER, (AUDIENCE,), jwks=str(write(tmp_path / "jwks.json", short)))
    assert refused(JwtAuthenticator(settings, Clock()), good(short)).reason == "invalid"


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"], "exp": 1},
        {"crit": ["x-secret-extension"], "x-secret-extension": True},
        {"crit": []},
        {"crit": "b64"},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
    ],
    ids=str,
)
def test_critical_headers_that_are_not_understood_are_refused(make: Make, header: dict[str, Any]) -> None:
    """`crit` names what must be understood; a token that is otherwise good is refused when it is not."""
    token = RSA.sign({"alg": "RS256", "kid": RSA.key_id, **header}, claims_of(ISSUER, NOON))
    assert refused(make(), token, "x-secret-extension").reason == "malformed"


def test_tampering_is_refused(make: Make) -> None:
    """Another payload, another signature, another header, or parts of two good tokens make no good token."""
    header, payload, signature = good().split(".")
    root = encode(claims_of(ISSUER, NOON, sub="root"))
    other = good(sub="bob").split(".")
    for parts in (
        (header, root, signature),
        (header, payload, other[2]),
        (header, other[1], signature),
        (header, payload, signature[:-2]),
        (header, payload, ""),
        (encode({"alg": "RS256", "kid": RSA.key_id, "typ": "JWT"}), payload, signature),
    ):
        assert refused(make(), ".".join(parts), "root").reason == "invalid"


def test_keys_of_others_are_refused(make: Make) -> None:
    """A key that is not the issuer's is refused, by its own name, by the name of one of ours, or nameless."""
    for key_id, reason in ((STRANGER.key_id, "unknown"), (RSA.key_id, "invalid")):
        assert refused(make(), good(SigningKey(key_id, "RS256", STRANGER.private)), "stranger").reason == reason
    nameless = STRANGER.sign({"alg": "RS256"}, claims_of(ISSUER, NOON))
    assert refused(make(), nameless).reason == "invalid"


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c"])
def test_a_token_brings_no_keys(make: Make, name: str) -> None:
    """Keys, and places of keys, in the header of a token are not looked at."""
    values = {"jwk": STRANGER.public, "jku": f"{OTHER}/keys", "x5u": f"{OTHER}/certificate", "x5c": ["MIIB"]}
    token = STRANGER.sign({"alg": "RS256", "kid": RSA.key_id, name: values[name]}, claims_of(ISSUER, NOON))
    assert refused(make(), token).reason == "invalid"


def test_a_nameless_token_needs_a_single_key(tmp_path: Path, make: Make) -> None:
    """A token without `kid` counts when just one key can be meant, and not when there are two."""
    nameless = RSA.sign({"alg": "RS256"}, claims_of(ISSUER, NOON))
    assert at_once(make(), nameless).subject == "alice"  # the only key for RS256 of six
    settings = JwtSettings(ISSUER, (AUDIENCE,), jwks=str(write(tmp_path / "jwks.json", RSA, STRANGER)))
    assert refused(JwtAuthenticator(settings, Clock()), nameless).reason == "invalid"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "sk-oai-4711_key",
        "a.b.c",
        "..",
        "eyJhbGciOiJSUzI1NiJ9..",
        f"{encode(b'[]')}.{encode(b'{}')}.AAAA",
        f"{encode(b'[' * 10_000)}.{encode(b'{}')}.AAAA",
        f"{encode({'alg': 'RS256'})}.{encode({'iss': OTHER})}.AAAA",
        f"{encode({'alg': 7})}.{encode({'iss': ISSUER})}.AAAA",
        f"{encode({'typ': 'JWT'})}.{encode({'iss': ISSUER})}.AAAA",
        f"{encode({'alg': 'RS256'})}.{encode({'iss': ISSUER})}.AA.AA.AA",
        f"{encode({'alg': 'RS256'})}.{encode({'iss': ISSUER})}.AA\n",
        f"{encode({'alg': 'RS256'})}.{encode({'iss': ISSUER})}.ÄÄ\udcff",
    ],
    ids=lambda token: ascii(token)[:32],
)
def test_what_is_no_token_of_ours_is_left_to_others(make: Make, token: str) -> None:
    """Keys, tokens of other issuers and nonsense are not claimed, and refused when nobody else claims them."""
    assert make().authenticate(shown(token)) is None
    assert refused(make(), token).reason == "unknown"


def test_whoever_shows_no_token_is_left_to_others(make: Make) -> None:
    """A client without a token is not claimed."""
    assert make().authenticate(Presented()) is None


def test_long_tokens_are_not_looked_at(make: Make) -> None:
    """16 KiB are the most; a longer token is refused though it is good otherwise."""
    assert at_once(make(), good(padding="x" * 11_000)).subject == "alice"
    token = good(padding="x" * 13_000)
    assert len(token) > 16_384
    assert refused(make(), token).reason == "unknown"


def test_several_issuers_stand_in_one_chain(make: Make, tmp_path: Path) -> None:
    """Each issuer decides about its own tokens, and its keys are no good for the tokens of another."""
    second = JwtSettings(OTHER, ("there",), jwks=str(write(tmp_path / "jwks.json", STRANGER)))
    chain = Chain([make(), JwtAuthenticator(second, Clock())])
    header = {"alg": "RS256", "kid": STRANGER.key_id}
    claims = claims_of(OTHER, NOON, aud="there", sub="bob")
    found = chain.authenticate(shown(STRANGER.sign(header, claims)))
    assert isinstance(found, Identity)
    assert found.subject == "bob"
    for crossed in (STRANGER.sign(header, claims_of(ISSUER, NOON)), RSA.sign({"alg": "RS256", "kid": "rsa"}, claims)):
        with pytest.raises(Unauthenticated) as caught:
            chain.authenticate(shown(crossed))
        assert caught.value.reason == "unknown"


def test_a_token_is_verified_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repeated token is not verified again and is the same identity, also on another connection."""
    authenticator, token = make(), good()
    first = at_once(authenticator, token)
    monkeypatch.setattr(jwt, "decode", None)
    assert at_once(authenticator, token) is first
    assert at_once(authenticator, token) is first


def test_a_remembered_token_expires(make: Make) -> None:
    """A token that was verified is refused from the moment at which its identity ends."""
    clock = Clock()
    authenticator, token = make(clock), good()
    ends = at_once(authenticator, token).expires_at
    assert ends == NOON + 660
    clock.time = ends - 0.1
    assert at_once(authenticator, token).subject == "alice"
    clock.time = ends
    assert refused(authenticator, token).reason == "expired"


def test_refused_tokens_are_not_remembered(make: Make) -> None:
    """A token that comes too early is accepted later."""
    clock = Clock()
    authenticator, token = make(clock), good(nbf=NOON + 100)
    assert refused(authenticator, token).reason == "invalid"
    clock.time += 50
    assert at_once(authenticator, token).subject == "alice"


def test_a_changed_file_changes_what_counts(tmp_path: Path) -> None:
    """A key that is taken from the file counts no more, also for a token seen before; others keep their identity."""
    clock, path = Clock(), write(tmp_path / "jwks.json", RSA, STRANGER)
    authenticator = JwtAuthenticator(JwtSettings(ISSUER, (AUDIENCE,), jwks=str(path)), clock, clock=clock)
    leaving, staying = good(STRANGER), good()
    at_once(authenticator, leaving)
    before = at_once(authenticator, staying)
    write(path, RSA)
    clock.time += 2
    assert refused(authenticator, leaving).reason == "unknown"
    assert at_once(authenticator, staying) is before


def test_a_missing_or_broken_file_is_told_at_once(tmp_path: Path) -> None:
    """A key file that cannot be used is an error when the gateway starts."""
    with pytest.raises(OSError, match="jwks"):
        JwtAuthenticator(JwtSettings(ISSUER, (AUDIENCE,), jwks=str(tmp_path / "jwks.json")))
    (tmp_path / "jwks.json").write_text("<html>")
    with pytest.raises(ValueError, match="no JSON"):
        JwtAuthenticator(JwtSettings(ISSUER, (AUDIENCE,), jwks=str(tmp_path / "jwks.json")))


def test_the_posture_names_issuer_and_audience(make: Make) -> None:
    """An operator reads whom the gateway trusts."""
    told = "\n".join(make().posture())
    assert ISSUER in told
    assert AUDIENCE in told


SIGNS = st.sampled_from("ABCxyz019-_=.+/ \n\0é")
TEXT = st.text(SIGNS, max_size=5)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), key=st.sampled_from(KEYS))
def test_no_mutation_of_a_good_token_is_accepted(make: Make, data: st.DataObject, key: SigningKey) -> None:
    """A token that differs from a good one, by whatever edits, is refused: never accepted, never an accident."""
    token = good(key)
    changed = token
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(changed)))
        gone = data.draw(st.integers(0, 3))
        changed = changed[:at] + data.draw(TEXT) + changed[at + gone :]
    if changed != token:
        refused(make(), changed)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(["alg", "kid", "typ", "crit", "b64", "iss", "aud", "exp", "nbf", "iat", "sub", "jti", "groups"])


@settings(max_examples=150, deadline=None)
@given(header=st.dictionaries(NAMES, JSON, max_size=3), claims=st.dictionaries(NAMES, JSON, max_size=4))
def test_whatever_an_issuer_signs_ends_in_one_of_two_ways(
    make: Make, header: dict[str, Any], claims: dict[str, Any]
) -> None:
    """Claims and headers of any kind, rightly signed, are an identity or a refusal, and no other error."""
    token = RSA.sign({"alg": "RS256", "kid": RSA.key_id, **header}, {**claims_of(ISSUER, NOON), **claims})
    try:
        found = Chain([make()]).authenticate(shown(token))
    except Unauthenticated:
        return
    assert isinstance(found, Identity)
