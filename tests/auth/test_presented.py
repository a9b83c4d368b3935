"""What counts as a credential, and what of a head goes on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferbridge.auth.authenticator import Unauthenticated
from inferbridge.auth.presented import Reader, without_secrets
from inferbridge.bridge.errors import BridgeError, Code

READER = Reader(("authorization", "api-key"), ("x-user",))


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_the_scheme_is_read_in_any_case(scheme: str) -> None:
    """RFC 9110 §11.1: schemes are case-insensitive."""
    token = READER.read((("authorization", f"{scheme} abc.def"),)).token
    assert token is not None
    assert token.secret.reveal() == "abc.def"


@pytest.mark.parametrize(
    "value",
    [
        *("", "Bearer", "Bearer ", "Bearer  abc", "Bearer a b", "Bearer\tabc", "Basic YTpi", "abc", "Bearer a\xe9"),
        "Bearer " + "a" * 16384,
    ],
)
def test_what_is_no_bearer_token_is_malformed(value: str) -> None:
    """One scheme, one space, one token of visible ASCII, and no more than 16 KiB of it."""
    with pytest.raises(Unauthenticated) as failure:
        READER.read((("authorization", value),))
    assert failure.value.reason == "malformed"
    assert failure.value.code is Code.UNAUTHENTICATED


def test_no_credential_is_nothing_presented() -> None:
    """A head without any of the headers shows nothing; other headers are not looked at."""
    presented = READER.read((("x-api-key", "abc"), ("accept", "*/*")))
    assert presented.token is None


def test_the_same_credential_may_stand_twice_a_different_one_may_not() -> None:
    """Whoever looks at one place only must not see another caller."""
    assert READER.read((("authorization", "Bearer abc"), ("api-key", "abc"))).token is not None
    for headers in (
        (("authorization", "Bearer abc"), ("api-key", "abd")),
        (("authorization", "Bearer abc"), ("authorization", "Bearer abd")),
        (("authorization", "Bearer abc"), ("authorization", "Bearer abc")),
    ):
        with pytest.raises(BridgeError) as failure:
            READER.read(headers)
        assert failure.value.code is Code.INVALID_ARGUMENT
        assert "abc" not in failure.value.message


def test_credentials_and_names_of_callers_do_not_go_on() -> None:
    """A-03, A-05: neither credentials, nor what claims to name a caller, nor what is ours pass; all else does."""
    ours = (
        *("authorization", "proxy-authorization", "cookie", "api-key", "x-api-key", "x-user", "x-remote-user"),
        *("x-remote-groups", "x-remote-extra-scopes", "x-maas-user", "x-maas-groups", "x-forwarded-client-cert"),
        *("x-gateway-inference-objective", "x-inferbridge-capture"),
    )
    others = (("traceparent", "00"), ("content-type", "application/json"), ("x-request-id", "1"))
    assert READER.stripped((*((name, "x") for name in ours), *others)) == others


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/v1/models", "/v1/models"),
        ("/v1/models?api_key=s", "/v1/models"),
        ("/v1/models?a=1&api%5Fkey=s&b=2", "/v1/models?a=1&b=2"),
        ("/v1/models?KEY=s&Access_Token=s&token=s", "/v1/models"),
        ("/v1/models?tokens=5", "/v1/models?tokens=5"),
        ("/v1/models?", "/v1/models?"),
    ],
)
def test_query_parameters_that_others_take_credentials_from_do_not_go_on(target: str, expected: str) -> None:
    """A key in the query is no credential here, and reaches no runtime's log either."""
    assert without_secrets(target) == expected


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1))
def test_every_visible_token_is_read_as_it_is(text: str) -> None:
    """Both places give the token unchanged."""
    for headers in ((("authorization", f"Bearer {text}"),), (("api-key", text),)):
        token = READER.read(headers).token
        assert token is not None
        assert token.secret.reveal() == text
