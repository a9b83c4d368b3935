"""Calls that are captured because their callers ask for it: who may, and what they cannot get."""

import asyncio
import logging
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from auth.key_files import HASH, ID, KEY, PLAIN, PLAIN_ENTRY
from capture.calls import Captured
from gateway.serving import TIMEOUT, curl
from gateway.test_guard import known
from gateway.test_service import GRPC, INFER, INFER_RPC, Runtime, infer_reply, silent
from inferbridge.auth.authenticator import Chain
from inferbridge.auth.identity import Identity
from inferbridge.auth.settings import AuthSettings, Callers, KeysSettings
from inferbridge.bridge.framing import frame
from inferbridge.bridge.values import Headers
from inferbridge.capture.lines import CapturedLine
from inferbridge.capture.settings import CaptureSettings, Fields, FileSink
from inferbridge.config import Listener, Settings, Upstream
from inferbridge.gateway.calls.guard import Access
from inferbridge.run import serving
from inferbridge.upstream.address import parse_address
from inferbridge_generated.open_inference import wire
from upstream.h1_server import Answer, h1_server

PATH = "/v2/models/m/infer"
ANN: Headers = (("authorization", "Bearer ann-token"),)
BOB: Headers = (("authorization", "Bearer bob-token"),)
ASKS: Headers = (("x-inferbridge-capture", "1"),)
QUIET = CaptureSettings(enabled=True, sample=0.0, errors=False, on_demand=(Callers(subjects=("ann",)),))


def captured(settings: CaptureSettings = QUIET, runtime: Runtime | None = None) -> Captured:
    """A gateway that knows Ann and Bob."""
    people = known(ann_token=Identity("ann", method="keys"), bob_token=Identity("bob", method="keys"))
    access = Access(Chain([people]), public=frozenset({"health"}))
    return Captured(settings, runtime or Runtime(infer_reply), chance=0.5, access=access)


async def test_who_may_ask_has_his_call_captured_and_no_other() -> None:
    """Of two calls of one caller the one that asks is written, with its reason; the other has not even a transcript."""
    gateway = captured()
    asked = gateway.call(PATH, INFER, (*ANN, *ASKS, ("x-request-id", "mine")))
    plain = gateway.call(PATH, INFER, ANN)
    (line,) = await gateway.lines()
    assert (line.request_id, line.reason, line.status) == ("mine", "demand", 200)
    assert line.calls[0].request.value["model_name"] == "m"
    assert asked.status == plain.status == 200
    assert plain.record is not None
    assert plain.record.transcript is None


@pytest.mark.parametrize(
    ("value", "count"), [("1", 1), ("true", 1), ("0", 0), ("", 0), ("false", 0), ("yes please", 0)]
)
async def test_asking_has_two_words(value: str, count: int) -> None:
    """`1` and `true` ask; anything else does not."""
    gateway = captured()
    gateway.call(PATH, INFER, (*ANN, ("x-inferbridge-capture", value)))
    assert len(await gateway.lines()) == count


async def test_a_call_of_grpc_asks_in_its_metadata() -> None:
    """The same name, and the runtime is not told."""
    runtime = Runtime(infer_reply)
    gateway = captured(runtime=runtime)
    body = b"".join(frame([wire.encode_ModelInferRequest(wire.ModelInferRequest(model_name="m"))]))
    gateway.call(INFER_RPC, body, (*GRPC, *ANN, *ASKS))
    assert (await gateway.line()).reason == "demand"
    assert "x-inferbridge-capture" not in dict(runtime.sent[0].headers)


async def test_who_may_not_ask_gets_nothing_and_it_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody may who is not named: the call is served, counted as denied, and the log names the caller and the key."""
    caplog.set_level(logging.INFO)
    gateway = captured()
    assert gateway.call(PATH, INFER, (*BOB, *ASKS, ("x-request-id", "his"))).status == 200
    assert await gateway.lines() == []
    assert gateway.counts.dropped == [("all", "denied")]
    assert caplog.messages == ["call his is not captured: capture.on_demand does not name its caller, bob"]
    nobody = captured(replace(QUIET, on_demand=()))
    client = nobody.call(PATH, INFER, (*ANN, *ASKS))
    assert client.record is not None
    assert client.record.transcript is None
    assert nobody.counts.dropped == []


@pytest.mark.parametrize("callers", [Callers(subjects=("*",)), Callers(methods=("none",))])
async def test_who_is_turned_away_may_not_ask(callers: Callers) -> None:
    """A call without a good credential is nobody's, whatever callers are named."""
    gateway = captured(replace(QUIET, on_demand=(callers,)))
    for headers in (ASKS, (*ASKS, ("authorization", "Bearer bad"))):
        assert gateway.call(PATH, INFER, headers).status == 401
    assert await gateway.lines() == []


async def test_what_may_be_captured_holds_for_calls_that_ask() -> None:
    """Models, hidden fields, the size of messages and the memory bound a call that asks as they do any other."""
    others = captured(replace(QUIET, models=("n*",)))
    others.call(PATH, INFER, (*ANN, *ASKS))
    assert await others.lines() == []
    hidden = captured(replace(QUIET, fields=Fields(hide=("inputs[].data",))))
    hidden.call(PATH, INFER, (*ANN, *ASKS))
    assert (await hidden.line()).client.request.value["inputs"][0]["data"] == "***"
    short = captured(replace(QUIET, max_bytes=20))
    short.call(PATH, INFER, (*ANN, *ASKS))
    assert (await short.line()).client.request.truncated
    full = captured(replace(QUIET, max_bytes=100, memory=500), Runtime(silent))
    for _ in range(2):
        full.call(PATH, INFER, (*ANN, *ASKS))
    assert full.counts.dropped == [("all", "memory")]


async def test_one_of_several_descriptions_of_callers_is_enough() -> None:
    """Within one all words must hold."""
    both = (Callers(subjects=("bob",), methods=("jwt",)), Callers(subjects=("carol", "ann"), methods=("keys",)))
    gateway = captured(replace(QUIET, on_demand=both))
    for who in (ANN, BOB):
        gateway.call(PATH, INFER, (*who, *ASKS))
    assert [line.reason for line in await gateway.lines()] == ["demand"]


async def test_a_running_proxy_captures_what_a_key_asks_for(tmp_path: Path) -> None:
    """Two keys, one of them named: its call alone is in the file, and no runtime ever sees the header."""
    keys, path = tmp_path / "keys.yaml", tmp_path / "capture.jsonl"
    keys.write_text(f"keys:\n  - {{id: {ID}, hash: {HASH}}}\n{PLAIN_ENTRY}")
    keys.chmod(0o600)
    reply = b'{"model_name": "m", "outputs": []}'
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(reply)
    async with asyncio.timeout(TIMEOUT), h1_server(lambda request: Answer(head + reply)) as runtime:
        settings = Settings(
            listen=(Listener("127.0.0.1", 0),),
            upstreams=(Upstream("one", "triton", parse_address(runtime.url)),),
            auth=AuthSettings((KeysSettings(keys),)),
            capture=replace(QUIET, on_demand=(Callers(keys=(ID,)),), sinks=(FileSink(path),)),
        )
        async with serving(settings) as bound:
            for key in (KEY, PLAIN):
                headers = ("-H", f"authorization: Bearer {key}", "-H", "x-inferbridge-capture: 1")
                more = ("-H", f"x-request-id: {key[:2]}", "--json", '{"inputs": []}')
                assert await curl(*headers, *more, f"http://{bound.listen[0]}{PATH}") == reply
    lines = [msgspec.json.decode(line, type=CapturedLine) for line in path.read_bytes().splitlines()]
    assert [(line.request_id, line.reason) for line in lines] == [("ib", "demand")]
    assert [dict(one.headers).get("x-inferbridge-capture") for one in runtime.requests] == [None, None]
