"""Paths and model's names that mean to reach something else, and a proxy that is not open."""

from urllib.parse import quote

import pytest

from hostile.conftest import Scene
from hostile.proxy import read_to_end

SECRET = "v2/repository/index"
DOTS = ["..", "%2e%2e", ".%2e", "%2e.", "%2E%2E", "%252e%252e", "%c0%ae%c0%ae", "%e0%80%ae%e0%80%ae", "．．", "%uff0e"]
SLASHES = ["/", "%2f", "%2F", "%5c", "\\", "%252f", "%255c", "%c0%af", "%c1%9c", "%e0%80%af", "∕", "／"]
NAMES = [
    *(f"{dots}{slash}{SECRET}" for dots in DOTS[:6] for slash in SLASHES),
    *DOTS,
    ".",
    "%2e",
    "...%2f",
    "m%00",
    "m%00.txt",
    "m%0d%0aX: y",
    "m%0a",
    "m%7f",
    "m%3f",
    "m%23",
    "m;/..",
    "m;%2e%2e",
    "%20m",
    "~root",
    "-x",
    "%ff",
    "%ed%a0%80",
    "%",
    "%2",
    "%zz",
    "m%",
    "file:%2f%2f%2fetc%2fpasswd",
    "http:%2f%2fevil",
    "$(id)",
    "`id`",
    "${jndi:ldap:x}",
    "{m}",
    "m'--",
    "m%22",
    "a" * 300,
]


def test_there_are_fifty_of_them() -> None:
    """Enough encodings are tried."""
    assert len(set(NAMES)) >= 50


@pytest.mark.parametrize("name", NAMES)
def test_a_name_never_reaches_another_operation(scene: Scene, name: str) -> None:
    """A name in a path that is none is refused with 400 or 404, and nothing reaches the runtime."""
    path = quote(name, safe="/%\\;:$(){}'`~")
    with scene.proxy.connect() as client:
        client.sendall(f"GET /v2/models/{path}/ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        status = int(read_to_end(client)[9:12])
    assert status in (400, 404)
    assert (scene.rest.requests, scene.rest.malformed) == ([], [])


@pytest.mark.parametrize("name", ["m", "gpt-2_x", "a.b", "org:model@v1", "a+b", "my model", "m%2Dx", "é", "модель"])
def test_ordinary_names_are_passed_on(scene: Scene, name: str) -> None:
    """What a model is called in earnest reaches the runtime as it was sent."""
    with scene.proxy.connect() as client:
        client.sendall(
            f"GET /v2/models/{quote(name, safe=':@+%')}/ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()
        )
        assert read_to_end(client).startswith(b"HTTP/1.1 200 ")
    assert scene.rest.requests[0][0] == f"GET /v2/models/{quote(name, safe=':@+%')}/ready HTTP/1.1"


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1:1", "169.254.169.254", "[::1]:1", "localhost:22", "metadata.google.internal"]
)
@pytest.mark.parametrize("absolute", [False, True], ids=["origin form", "absolute form"])
def test_only_configured_runtimes_are_reached(scene: Scene, host: str, absolute: bool) -> None:
    """Whatever Host and target say, the call goes to the configured runtime, under that one's own name."""
    target = f"http://{host}/v2/models/m/ready" if absolute else "/v2/models/m/ready"
    with scene.proxy.connect() as client:
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        assert read_to_end(client).startswith(b"HTTP/1.1 200 ")
    ((line, fields, _),) = scene.rest.requests
    assert line == "GET /v2/models/m/ready HTTP/1.1"
    assert fields["host"].startswith("127.0.0.1:")
    assert fields["host"] != host
