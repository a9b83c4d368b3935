"""Calls as flows of mitmproxy: when they are shown, to whom, and how much memory they take."""

import asyncio
import gc
import io
from types import ModuleType
from typing import Any

import pytest
from mitmproxy import flowfilter
from mitmproxy.addons.dumper import Dumper
from mitmproxy.addons.intercept import Intercept
from mitmproxy.addons.view import View
from mitmproxy.http import HTTPFlow
from mitmproxy.io import FlowReader, FlowWriter
from mitmproxy.master import Master
from mitmproxy.options import Options

from flows.inspected import COMPLETION, JSON, Heard, connection, inspected
from gateway.test_translating import OK, message
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.values import Headers
from inferbridge.flows import consumers, keeping
from inferbridge.flows.choosing import choose
from inferbridge.gateway.calls.pulse import Pulse
from inferbridge.gateway.transcript import Transcript
from inferbridge.inspect.filters import parse_filter
from inferbridge.inspect.told import FLOW_KEY

GRPC: Headers = (("content-type", "application/grpc"),)


@pytest.fixture(autouse=True)
def _no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing happens but what a test makes happen."""
    monkeypatch.setattr(Pulse, "start", lambda self: None)
    monkeypatch.setattr(keeping, "UPDATE_SECONDS", 3600.0)


async def test_a_call_is_shown_with_the_ordinary_hooks_in_their_order() -> None:
    """An addon hears of a stream as of any flow, and each hook finds no more than mitmproxy would have by then."""
    heard = Heard()
    with inspected(heard) as gateway:
        client, _ = gateway.open()
        await gateway.keeper.idle()
        assert heard.hooks == [("requestheaders", -1), ("request", -1)]
        (_, receiver) = gateway.upstream.calls[0]
        receiver.on_head(200, GRPC)
        receiver.on_data(message(input_token_count=1))
        receiver.on_data(message(text="Hel", generated_token_count=1))
        receiver.on_data(message(text="lo", generated_token_count=2, stop_reason=2))
        receiver.on_end(OK)
        await gateway.keeper.idle()
        assert heard.names == ["requestheaders", "request", "responseheaders", "response"]
        flow = gateway.flow
        assert flow.response is not None
        assert (flow.request.method, flow.request.path, flow.request.raw_content) == (
            "POST",
            "/v1/completions",
            COMPLETION,
        )
        assert flow.request.url == "http://gateway:8080/v1/completions"
        assert (flow.response.status_code, flow.response.raw_content) == (200, client.body)
        assert flow.client_conn.peername == ("10.0.0.1", 5)
        assert flow.server_conn.address == ("10.0.0.9", 8033)
        assert flow.error is None


async def test_a_running_stream_grows() -> None:
    """Each update shows what has come until then, on both sides."""
    with inspected() as gateway:
        _, receiver = gateway.open(), gateway.upstream.calls[0][1]
        receiver.on_head(200, GRPC)
        sizes = []
        for count in range(1, 5):
            receiver.on_data(message(text="word ", generated_token_count=count))
            gateway.keeper.tick()
            await gateway.keeper.idle()
            assert gateway.flow.response is not None
            told = gateway.flow.metadata[FLOW_KEY]
            sizes.append((len(gateway.flow.response.raw_content or b""), len(told["upstream"][0]["told"]["body"])))
        assert sizes == sorted(set(sizes))
        assert told["timing"]["ended"] is None


async def test_the_flow_tells_of_both_sides() -> None:
    """Endpoints, the runtime's messages, times and labels that mitmproxy's filter finds; no credential anywhere."""
    with inspected() as gateway:
        _, receiver = gateway.open(), gateway.upstream.calls[0][1]
        receiver.on_head(200, GRPC)
        receiver.on_data(message(text="a", generated_token_count=1, stop_reason=2))
        receiver.on_end(OK)
        await gateway.keeper.idle()
        flow = gateway.flow
        told = flow.metadata[FLOW_KEY]
        assert (told["client"]["api"], told["client"]["way"]) == ("openai", "rest")
        assert (told["runtime"]["endpoint"], told["runtime"]["way"]) == ("generate_stream", "grpc")
        assert told["upstream"][0]["target"] == "/fmaas.GenerationService/GenerateStream"
        assert told["call"]["status"] == 200
        assert (
            told["timing"]["received"] <= told["timing"]["asked"] <= told["timing"]["headed"] <= told["timing"]["ended"]
        )
        for wanted in ('~meta "model: tiny"', '~meta "status: 200"', '~meta "runtime: tgis"', '~meta "lossy: false"'):
            found = flowfilter.parse(wanted)
            assert found is not None
            assert found(flow), wanted
        saved = io.BytesIO()
        FlowWriter(saved).add(flow)
        assert b"canary" not in saved.getvalue()
        (read,) = FlowReader(io.BytesIO(saved.getvalue())).stream()
        assert read.metadata[FLOW_KEY]["upstream"][0]["told"]["body"] == told["upstream"][0]["told"]["body"]


async def test_a_credential_in_a_header_of_its_own_is_hidden() -> None:
    """What the settings name as a place of credentials is one, whatever it is called."""
    with inspected() as gateway:
        gateway.keeper.know({}, ["x-team"])
        gateway.open(headers=(*JSON, ("x-team", "canary")))
        await gateway.keeper.idle()
        assert gateway.flow.request.headers["x-team"] == "***"
        saved = io.BytesIO()
        FlowWriter(saved).add(gateway.flow)
        assert b"canary" not in saved.getvalue()


async def test_a_call_that_fails_is_a_flow_with_an_error() -> None:
    """A client that leaves, and an answer that is cut: mitmproxy hears `error` and why."""
    heard = Heard()
    with inspected(heard) as gateway:
        _, sink = gateway.open()
        sink.on_cancel()
        await gateway.keeper.idle()
        assert heard.names == ["requestheaders", "request", "error"]
        assert gateway.flow.error is not None
        assert gateway.flow.error.msg == "the client went away"


async def test_an_error_answer_is_a_response() -> None:
    """What the client gets is what is shown, and the runtime's failure stands beside it."""
    heard = Heard()
    with inspected(heard) as gateway:
        gateway.open()
        gateway.upstream.calls[0][1].on_failure(BridgeError(Code.UNAVAILABLE, "cannot connect"))
        await gateway.keeper.idle()
        assert heard.names[-1] == "response"
        assert gateway.flow.response is not None
        assert gateway.flow.response.status_code == 503
        assert gateway.flow.metadata[FLOW_KEY]["upstream"][0]["error"] == "cannot connect"


class Broken:
    """An addon that fails at every hook, and another way each time."""

    def requestheaders(self, flow: HTTPFlow) -> None:
        raise ZeroDivisionError

    async def request(self, flow: HTTPFlow) -> None:
        raise KeyError

    def response(self, flow: HTTPFlow) -> None:
        flow.request = None  # type: ignore[assignment]
        raise SystemError


async def test_a_hook_that_fails_hurts_no_call(caplog: pytest.LogCaptureFixture) -> None:
    """The call is answered, the failure is logged, and the next addon hears of it all."""
    heard = Heard()
    with inspected(Broken(), heard) as gateway:
        client, _ = gateway.open()
        gateway.upstream.calls[0][1].on_head(200, GRPC)
        gateway.upstream.calls[0][1].on_end((("grpc-status", "5"),))
        await gateway.keeper.idle()
        assert client.ended
        assert heard.names == ["requestheaders", "request", "responseheaders", "response"]
        assert "Addon error" in caplog.text


async def test_a_filter_shows_the_calls_that_it_lets_through() -> None:
    """By the terms of `export`, once enough is known of a call; the others are kept and not shown."""
    with inspected() as gateway:
        choose(gateway.master.addons, parse_filter("model:tiny* status:200 ttft:<10m -lossy:true"))
        for body in (COMPLETION, COMPLETION.replace(b"tiny", b"other")):
            gateway.open(body=body)
            receiver = gateway.upstream.calls[-1][1]
            receiver.on_head(200, GRPC)
            await gateway.keeper.idle()
            assert body != COMPLETION or not gateway.flows  # its first byte is not there yet
            receiver.on_data(message(text="a", generated_token_count=1, stop_reason=2))
            receiver.on_end(OK)
            await gateway.keeper.idle()
        assert gateway.view.store_count() == 2
        assert gateway.flow.metadata["model"] == "tiny"


class Slow:
    """An addon whose hooks wait until they may go on."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def requestheaders(self, flow: HTTPFlow) -> None:
        await self.go.wait()


async def test_a_hook_that_waits_delays_no_call() -> None:
    """The client has its answer before the first hook is through; later hooks of that flow wait for it."""
    slow, heard = Slow(), Heard()
    with inspected(slow, heard) as gateway:
        client, _ = gateway.open()
        gateway.upstream.calls[0][1].on_head(200, GRPC)
        gateway.upstream.calls[0][1].on_end((("grpc-status", "5"),))
        await asyncio.sleep(0)
        assert client.ended
        assert heard.names == []
        slow.go.set()
        await gateway.keeper.idle()
        assert heard.names == ["requestheaders", "request", "responseheaders", "response"]


async def test_calls_cannot_be_intercepted(caplog: pytest.LogCaptureFixture) -> None:
    """mitmproxy's intercept would wait for nothing: the flow is let go at once, and the log says so once."""
    with inspected(Intercept()) as gateway:
        gateway.master.options.update(intercept="~all", intercept_active=True)
        for _ in range(2):
            _, sink = gateway.open()
            sink.on_cancel()
        await gateway.keeper.idle()
        assert [flow.intercepted for flow in gateway.flows] == [False, False]
        assert caplog.text.count("cannot be intercepted") == 1


def _script() -> ModuleType:
    script = ModuleType("__mitmproxy_script__.mine")
    script.response = lambda flow: None  # type: ignore[attr-defined]
    return script


@pytest.mark.parametrize(
    ("addons", "options", "expected"),
    [
        ([], {}, False),
        ([Intercept()], {}, False),
        ([Dumper()], {"flow_detail": 0}, False),
        ([Dumper()], {"flow_detail": 1}, True),
        ([View()], {}, True),
        ([Heard()], {}, True),
        ([_script()], {}, True),
        ([], {"save_stream_file": "x.flows"}, True),
    ],
)
async def test_flows_are_made_for_consumers_alone(addons: list[Any], options: dict[str, Any], expected: bool) -> None:
    """An interface, printed lines, a file or somebody's own addon is a consumer; mitmproxy's idle addons are none."""
    master = Master(Options(), with_termlog=False)
    master._legacy_log_events.uninstall()
    if "save_stream_file" in options:
        master.options.add_option("save_stream_file", str, "", "")
    master.addons.add(*addons)
    master.options.update(**options)
    assert consumers.wanted(master.addons, master.options) is expected


async def test_without_a_consumer_no_call_has_a_transcript() -> None:
    """Nothing is noted of a call that nobody wants to see."""
    with inspected() as gateway:
        gateway.master.addons.remove(gateway.view)
        client, _ = gateway.open()
        assert client.record is not None
        assert client.record.transcript is None
        assert gateway.keeper.held == 0


def _stream(gateway: Any, size: int, messages: int) -> Any:
    """A stream of a call that goes on, of so many bytes."""
    gateway.open()
    receiver = gateway.upstream.calls[-1][1]
    receiver.on_head(200, GRPC)
    piece = message(text="x" * (size // messages))
    for _ in range(messages):
        receiver.on_data(piece)
    return receiver


def _bytes_of(flow: HTTPFlow) -> int:
    """What a flow holds of bodies."""
    legs = flow.metadata.get(FLOW_KEY, {}).get("upstream", [])
    bodies = [flow.request.raw_content, flow.response.raw_content if flow.response else b""]
    bodies += [leg[side]["body"] for leg in legs for side in ("asked", "told")]
    return sum(len(body or b"") for body in bodies)


async def test_memory_is_bounded_under_a_load_of_streams() -> None:
    """200 MB of streams go through; what is kept stays within 8 MiB, and the newest calls are those that are kept."""
    with inspected(memory=8 << 20, limit=1 << 20) as gateway:
        most = 0
        for number in range(100):
            receiver = _stream(gateway, 1 << 20, 64)
            most = max(most, gateway.keeper.held)
            receiver.on_end(OK)
            gateway.upstream.calls.clear()
            await gateway.keeper.idle()
            most = max(most, gateway.keeper.held)
            assert sum(map(_bytes_of, gateway.flows)) <= 8 << 20, number
        assert 4 << 20 < most <= 8 << 20
        assert 2 <= len(gateway.flows) <= 8
        gateway.view.clear()
        gateway.keeper.resize(1 << 20, 1 << 20)
        assert gateway.keeper.held == 0


async def test_a_flow_that_is_removed_is_gone() -> None:
    """What the view has let go of takes no memory until the garbage collector comes, and neither does its call."""
    with inspected() as gateway:
        gc.collect()
        of_other_tests = _kept_things()
        gc.disable()
        try:
            _stream(gateway, 1 << 10, 4).on_end(OK)
            gateway.upstream.calls.clear()
            await gateway.keeper.idle()
            gateway.view.clear()
            await asyncio.sleep(0)
            assert [found for found in _kept_things() if not any(found is other for other in of_other_tests)] == []
        finally:
            gc.enable()


def _kept_things() -> list[HTTPFlow | Transcript]:
    return [found for found in gc.get_objects() if isinstance(found, HTTPFlow | Transcript)]


async def test_running_calls_share_what_there_is(caplog: pytest.LogCaptureFixture) -> None:
    """Streams that do not end are kept in part when memory is used up, and further calls work without being shown."""
    with inspected(memory=4 << 20, limit=4 << 20) as gateway:
        receivers = [_stream(gateway, 1 << 20, 16) for _ in range(8)]
        assert gateway.keeper.held <= (4 << 20) + keeping.CALL_BYTES
        client, sink = gateway.open()
        sink.on_cancel()
        assert client.record is not None
        assert client.record.transcript is None
        assert gateway.keeper.unseen == 7  # each takes twice its size, once for either side
        assert "not shown" in caplog.text
        for receiver in receivers:
            receiver.on_end(OK)
        await gateway.keeper.idle()
        calls = [flow.metadata[FLOW_KEY]["call"] for flow in gateway.flows]
        assert calls
        assert any(call["cut"] for call in calls)
        client, _ = gateway.open()
        assert client.record is not None
        assert client.record.transcript is not None


async def test_a_client_is_known_by_its_connection() -> None:
    """A flow has mitmproxy's own connection of its client, with what mitmproxy knows of it."""
    with inspected() as gateway:
        known = connection()
        gateway.keeper.connected(known)
        gateway.open()
        gateway.keeper.disconnected(known)
        gateway.open()
        await gateway.keeper.idle()
        assert [flow.client_conn is known for flow in gateway.flows] == [True, False]


async def test_without_a_view_nothing_is_held_after_the_end() -> None:
    """mitmdump prints a flow and forgets it; so do we."""
    heard = Heard()
    with inspected(heard) as gateway:
        gateway.master.addons.remove(gateway.view)
        _, sink = gateway.open(headers=JSON)
        assert gateway.keeper.held > 0
        sink.on_cancel()
        await gateway.keeper.idle()
        assert (heard.names[-1], gateway.keeper.held) == ("error", 0)
