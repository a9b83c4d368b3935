"""As whom runtimes are called, and how they are told who calls."""

from pathlib import Path

import pytest

from inferbridge.auth.files import LOOK_SECONDS
from inferbridge.auth.identity import Identity
from inferbridge.auth.outgoing import Outgoing
from inferbridge.auth.settings import Forwarding, UpstreamCredentials
from inferbridge.secret import Secret

TOKEN = Secret("clients-own")


def test_nothing_is_sent_unless_configured() -> None:
    """The client's own credential does not go on by itself."""
    assert Outgoing().headers(Identity("alice"), TOKEN) == ()


def test_a_static_token_replaces_the_clients() -> None:
    """As Bearer in Authorization, alone in another header."""
    credentials = UpstreamCredentials(static=Secret("s3cret"))
    assert Outgoing(credentials).headers(Identity("alice"), TOKEN) == (("authorization", "Bearer s3cret"),)
    credentials = UpstreamCredentials(static=Secret("s3cret"), header="x-api-key")
    assert Outgoing(credentials).headers() == (("x-api-key", "s3cret"),)


def test_passthrough_sends_the_clients_own() -> None:
    """Only where it is asked for; a call without one goes without."""
    outgoing = Outgoing(UpstreamCredentials(passthrough=True))
    assert outgoing.headers(Identity("alice"), TOKEN) == (("authorization", "Bearer clients-own"),)
    assert outgoing.headers() == ()


def test_a_token_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    """Projected tokens rotate: the new one is used from then on, and a broken file keeps the old one."""
    clock = 0.0
    path = tmp_path / "token"
    path.write_text("one\n")
    outgoing = Outgoing(UpstreamCredentials(service_account_token=path), now=lambda: clock)
    assert outgoing.headers() == (("authorization", "Bearer one"),)
    for content, expected in (("two", "two"), ("", "two"), ("th ree", "two"), ("four", "four")):
        new = tmp_path / "new"
        new.write_text(content)
        new.rename(path)  # as kubelet does
        clock += LOOK_SECONDS
        assert outgoing.headers() == (("authorization", f"Bearer {expected}"),)
    path.unlink()
    clock += LOOK_SECONDS
    assert outgoing.headers() == (("authorization", "Bearer four"),)


def test_a_file_without_a_token_is_an_error_at_start(tmp_path: Path) -> None:
    """So that the proxy does not start to call a runtime as nobody."""
    path = tmp_path / "token"
    path.write_text("\n")
    with pytest.raises(ValueError, match="holds no token"):
        Outgoing(UpstreamCredentials(service_account_token=path))
    with pytest.raises(FileNotFoundError):
        Outgoing(UpstreamCredentials(service_account_token=tmp_path / "none"))


def test_the_caller_is_named_in_the_configured_headers() -> None:
    """Subject and groups as kube-rbac-proxy names them; what could break out of a header or a list is escaped."""
    outgoing = Outgoing(None, Forwarding("x-remote-user", "x-remote-groups"))
    identity = Identity("system:serviceaccount:a:b", groups=("a|b", "ü\r\nx: y", "c"))
    assert outgoing.headers(identity, TOKEN) == (
        ("x-remote-user", "system:serviceaccount:a:b"),
        ("x-remote-groups", "a%7Cb|%C3%BC%0D%0Ax:%20y|c"),
    )
