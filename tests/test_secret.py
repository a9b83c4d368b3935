"""What counts as a secret where something of a call is shown."""

import pytest

from inferbridge.secret import is_credential_header, shown_value


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("authorization", True),
        ("cookie", True),
        ("set-cookie", True),
        ("x-api-key", True),
        ("x-amz-security-token", True),
        ("x-request-id", False),
        ("mm-model-id", False),
        ("grpc-status", False),
    ],
)
def test_headers_that_hold_credentials_are_known(name: str, expected: bool) -> None:
    """Whatever shows headers can tell which values to hide, also those of credentials that are not configured."""
    assert is_credential_header(name) is expected
    assert (shown_value(name, "canary") == "canary") is not expected
