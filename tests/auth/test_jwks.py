"""Which keys of a key set may verify tokens."""

import json
import logging
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from auth.issuer import SigningKey, signing_key
from inferbridge.auth.jwks import KeySet, key_set, read_key_set

RSA = signing_key("rsa", "RS256").public
PRIVATE = jwt.get_algorithm_by_name("RS256").to_jwk(signing_key("rsa", "RS256").private, as_dict=True)
EC = signing_key("ES256").public
KOBLITZ = SigningKey("koblitz", "ES256K", ec.generate_private_key(ec.SECP256K1())).public


def without(key: dict[str, Any], *names: str) -> dict[str, Any]:
    """The key without these members."""
    return {name: value for name, value in key.items() if name not in names}


@pytest.mark.parametrize(
    ("member", "algorithms"),
    [
        (RSA, ["RS256"]),
        ({**RSA, "alg": "PS512"}, ["PS512"]),
        (without(RSA, "alg"), ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]),
        (without(RSA, "use"), ["RS256"]),
        ({**without(RSA, "use"), "key_ops": ["verify"]}, ["RS256"]),
        (without(EC, "alg"), ["ES256"]),
        (without(signing_key("ES384", "ES384").public, "alg"), ["ES384"]),
        (signing_key("PS256", "PS256").public, ["PS256"]),
        (without(signing_key("EdDSA", "EdDSA").public, "alg"), ["EdDSA"]),
    ],
)
def test_the_key_says_what_it_verifies(member: dict[str, Any], algorithms: list[str]) -> None:
    """A key verifies its `alg`; without one, what its type and curve allow."""
    (key,) = key_set({"keys": [member]}).keys
    assert list(key.algorithms) == algorithms


@pytest.mark.parametrize(
    "member",
    [
        {"kty": "oct", "k": "c2VjcmV0LW9mLXRoaXJ0eS10d28tYnl0ZXMtYXQtbGVhc3Q", "alg": "HS256", "kid": "rsa"},
        {**RSA, "alg": "HS256"},
        {**RSA, "alg": "none"},
        {**RSA, "alg": "RSA-OAEP"},
        {**RSA, "alg": ["RS256"]},
        {**RSA, "alg": "ES256"},
        {**RSA, "use": "enc"},
        {**without(RSA, "use"), "key_ops": ["encrypt"]},
        {**RSA, "kid": 7},
        {**RSA, "d": "AQAB"},
        {**RSA, **without(PRIVATE, "key_ops")},
        {**RSA, "n": ""},
        {**RSA, "n": 7},
        without(RSA, "n"),
        without(RSA, "kty"),
        {**RSA, "kty": ["RSA"]},
        {**EC, "crv": ["P-256"]},
        {**EC, "alg": "ES384"},
        {**EC, "crv": "P-999"},
        {**EC, "x": EC["y"], "y": EC["x"]},
        KOBLITZ,
        without(KOBLITZ, "alg"),
        "a text",
        None,
        [],
    ],
)
def test_other_keys_verify_nothing(member: object) -> None:
    """Shared secrets, private keys, keys for encryption and broken keys are left out; the others stay."""
    assert [key.key_id for key in key_set({"keys": [member, EC]}).keys] == ["ES256"]


@pytest.mark.parametrize(
    "content", [b"", b"<html>", b"[]", b"{}", b'{"keys": {}}', b"[" * 100_000, b"\xff", b"1" * 9999]
)
def test_what_is_no_key_set_is_an_error(content: bytes) -> None:
    """Nonsense is told apart from a set without keys, so that it takes no keys away."""
    with pytest.raises(ValueError, match="key set"):
        read_key_set(content)


def test_a_set_without_usable_keys_is_empty_and_told(caplog: pytest.LogCaptureFixture) -> None:
    """An issuer that takes all its keys back is believed, and the log says what follows."""
    with caplog.at_level(logging.WARNING):
        assert key_set({"keys": []}).keys == ()
    assert "no token will be accepted" in caplog.text


def test_equal_documents_are_equal_sets() -> None:
    """A set that is fetched again and says the same is equal, whatever its spaces; another is not."""
    text = json.dumps({"keys": [RSA]})
    spaced = json.dumps({"keys": [RSA]}, indent=4)
    assert read_key_set(text.encode()) == read_key_set(spaced.encode())
    assert read_key_set(text.encode()) != key_set({"keys": [EC]})


ODD = st.sampled_from([None, True, 7, -1, 1.5, "", "AQAB", "=", "é", "sig", "verify", ["verify"], [], {}, "A" * 3000])


@settings(max_examples=150, deadline=None)
@given(key=st.sampled_from([RSA, EC, KOBLITZ, PRIVATE]), odd=st.dictionaries(st.sampled_from([*PRIVATE, *EC]), ODD))
def test_a_strange_key_spoils_no_others(key: dict[str, Any], odd: dict[str, Any]) -> None:
    """Whatever stands in the members of a key, the set is read and the other keys are in it."""
    found = key_set({"keys": [{**key, **odd}, {**EC, "kid": "good"}]})
    assert isinstance(found, KeySet)
    assert found.keys[-1].key_id == "good"
