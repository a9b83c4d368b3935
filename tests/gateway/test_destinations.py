"""Where redirected clients were going, and that they get nowhere else."""

import pytest

from gateway.test_service import Client, Runtime, infer_reply
from inferbridge.bridge.context import Policy
from inferbridge.gateway.application import RequestHead
from inferbridge.gateway.calls.targets import Target
from inferbridge.gateway.clients import modes
from inferbridge.gateway.clients.destinations import FRESH_SECONDS, Destinations
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.service import GatewayService
from inferbridge.upstream.address import Address
from inferbridge_generated.registry import APIS
from inferbridge_generated.runtimes import PROFILES

UPSTREAMS = {
    "one": Address("grpc", "127.0.0.1", 8001),
    "two": Address("http", "127.0.0.1", 8001),
    "three": Address("http", "::1", 8002),
    "named": Address("http", "localhost", 8003),
}


@pytest.mark.parametrize(
    ("address", "names"),
    [
        (("127.0.0.1", 8001), ("one", "two")),
        (("::ffff:127.0.0.1", 8001), ("one", "two")),
        (("0:0:0:0:0:0:0:1", 8002), ("three",)),
        (("127.0.0.1", 8003), ("named",)),
        (("127.0.0.1", 8002), ()),
        (("127.0.0.2", 8001), ()),
        (("10.0.0.1", 8003), ()),
    ],
)
async def test_only_addresses_of_upstreams_count(address: tuple[str, int], names: tuple[str, ...]) -> None:
    """An upstream is known by its address and port, however they are spelled; nothing else is a destination."""
    assert await Destinations(UPSTREAMS).names(address) == names


async def test_names_are_resolved_anew() -> None:
    """A host's addresses count for a while; when they cannot be found again those of before do."""
    now, answers = [0.0], [["10.0.0.1"], ["10.0.0.2"], None]

    async def lookup(host: str, port: int) -> list[tuple[str, int]]:
        found = answers.pop(0)
        if found is None:
            raise OSError("no such name")
        return [(one, port) for one in found]

    destinations = Destinations({"a": Address("http", "models.test", 80)}, lambda: now[0], lookup)
    assert await destinations.names(("10.0.0.1", 80)) == ("a",)
    assert await destinations.names(("10.0.0.2", 80)) == ()
    now[0] = FRESH_SECONDS
    assert await destinations.names(("10.0.0.2", 80)) == ("a",)
    now[0] = 2 * FRESH_SECONDS
    assert await destinations.names(("10.0.0.2", 80)) == ("a",)


def test_a_call_goes_to_its_destination_alone() -> None:
    """Of two upstreams that could serve a call the one that the client meant gets it; if that cannot, nobody does."""
    runtimes = {name: Runtime(infer_reply) for name in ("first", "second")}
    targets = [Target(name, profile, "grpc", made) for name, made in runtimes.items() for profile in PROFILES["triton"]]
    tgis = Runtime(infer_reply)
    targets += [Target("tgis", profile, "grpc", tgis) for profile in PROFILES["tgis"]]
    service = GatewayService(targets, APIS, Policy(), Limits())
    body = b'{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":[1,2]}]}'
    for destination, status in ((("second",), 200), (("tgis",), 404)):
        client = Client()
        head = RequestHead("POST", "/v2/models/m/infer", "a", (), "1.1", destination=destination)
        sink = service.open(head, client)
        sink.on_data(body)
        sink.on_end()
        assert (destination, client.status) == (destination, status)
    assert [len(runtime.sent) for runtime in (*runtimes.values(), tgis)] == [0, 1, 0]


def test_the_option_says_what_is_special_about_a_listener() -> None:
    """The mode's text is read back as it was made, and a word that nobody knows is refused."""
    made = modes.InferbridgeMode.parse(modes.mode("::1", 80, shared=True, transparent=True))
    assert (made.special, made.listen_host(), made.listen_port()) == ({"shared", "transparent"}, "::1", 80)
    assert modes.InferbridgeMode.parse(modes.mode("", 80)).special == frozenset()
    with pytest.raises(ValueError, match="unknown kind of listener: open"):
        modes.InferbridgeMode.parse("inferbridge:open@:80")
