"""What may be sent to a runtime."""

import pytest

from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.upstream.call import octets
from inferbridge.upstream.headers import EncodedHead, sendable


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x", "a\r\nb: c"),
        ("x", "a\nb"),
        ("x", "a\0b"),
        ("x\r\ny", "a"),
        ("x y", "a"),
        ("", "a"),
        (":path", "/"),
        ("x:", "a"),
        ("x", "snowman ☃"),
        ("é", "a"),
    ],
)
def test_injection_is_refused(name: str, value: str) -> None:
    """A name that is no token or a value with control characters raises INVALID_ARGUMENT."""
    with pytest.raises(BridgeError) as caught:
        sendable(((name, value),))
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_fields_of_the_connection_are_left_out() -> None:
    """The pool alone decides on host, length and connection."""
    headers = (("Host", "x"), ("Content-Length", "1"), ("TE", "x"), ("Transfer-Encoding", "x"), ("Connection", "x"))
    assert sendable((*headers, ("X-A", " é\t"))) == [(b"x-a", b"\xe9")]


@pytest.mark.parametrize("path", ["", "x", "/a b", "/a\r\nb", "/é", "http://x/", "/\x7f"])
def test_request_targets_are_checked(path: str) -> None:
    """Only an origin-form target in visible ASCII is sent."""
    head = EncodedHead(lambda method, path: b"", lambda fields: b"")
    with pytest.raises(BridgeError):
        head("GET", path, ())
    with pytest.raises(BridgeError):
        head("GE T", "/", ())


def test_heads_are_encoded_once() -> None:
    """Equal routes and equal fields come from the cache, and the cache does not grow without bound."""
    calls: list[str] = []

    def route(method: str, path: str) -> bytes:
        calls.append(path)
        return path.encode()

    head = EncodedHead(route, lambda fields: b"%d" % len(fields))
    assert head("GET", "/a", (("x", "1"),)) == b"/a1"
    assert head("GET", "/a", ()) == b"/a0"
    assert calls == ["/a"]
    for index in range(3000):
        head("GET", f"/{index}", ())
    assert len(head._routes) <= 1024


def test_views_of_wide_items_count_in_bytes() -> None:
    """A view of 64-bit items is sent as bytes, so that lengths are right."""
    wide = memoryview(bytes(16)).cast("q")
    assert [len(chunk) for chunk in octets([b"ab", wide])] == [2, 16]
