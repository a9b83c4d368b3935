"""The views of live calls: what people see of a call that went through a gateway."""

import json
from collections.abc import Iterator

import pytest
from mitmproxy import contentviews
from mitmproxy.http import HTTPFlow
from mitmproxy.test import taddons, tflow, tutils

from flows.inspected import COMPLETION, JSON, Inspected, inspected
from gateway.test_service import GRPC, INFER, INFER_RPC, Runtime, infer_reply
from gateway.test_translating import OK, message
from inferbridge.bridge.framing import frame
from inferbridge.flows import keeping
from inferbridge.gateway.calls.pulse import Pulse
from inferbridge.inspect import endpoints, views
from inferbridge.inspect.told import asked
from inferbridge_generated.open_inference import wire


@pytest.fixture(autouse=True)
def _mitmproxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """mitmproxy with our views; nothing happens but what a test makes happen."""
    monkeypatch.setattr(Pulse, "start", lambda self: None)
    monkeypatch.setattr(keeping, "UPDATE_SECONDS", 3600.0)
    with taddons.context():
        views.register()
        yield


def seen(flow: HTTPFlow, view: str) -> str:
    """What a view shows of a call's answer."""
    assert flow.response is not None
    return contentviews.prettify_message(flow.response, flow, f"inferbridge {view}").text


async def completed(gateway: Inspected, body: bytes = COMPLETION) -> HTTPFlow:
    """A completion that the runtime has streamed."""
    gateway.open(body=body)
    receiver = gateway.upstream.calls[0][1]
    receiver.on_head(200, GRPC)
    receiver.on_data(message(text="Hel", generated_token_count=1))
    receiver.on_data(message(text="lo", generated_token_count=2, stop_reason=2))
    receiver.on_end(OK)
    await gateway.keeper.idle()
    return gateway.flow


async def test_the_translation_shows_both_sides() -> None:
    """Fields side by side with their marks, and the runtime's message by name below."""
    with inspected() as gateway:
        shown = seen(await completed(gateway), "translation")
    assert "openai completions over rest -> tgis generate_stream over grpc" in shown
    rows = [" ".join(line.split()) for line in shown.splitlines()]
    assert 'model model = "tiny" | model_id = "tiny"' in rows
    assert "max_tokens (not said) | params.stopping.max_new_tokens = 16 + written out" in rows
    assert "asked: POST /fmaas.GenerationService/GenerateStream" in rows
    assert 'model_id: "tiny"' in rows


async def test_the_upstream_view_shows_what_runtimes_said() -> None:
    """Every message of the runtime by name, and its trailers."""
    with inspected() as gateway:
        shown = seen(await completed(gateway), "upstream")
    assert "1: tgis-grpc-" in shown or "1: tgis (tgis, grpc)" in shown
    assert shown.count("fmaas.GenerationResponse") == 2
    assert 'text: "Hel"' in shown
    assert "grpc-status: 0 OK" in shown


async def test_the_times_of_a_call_are_shown() -> None:
    """All phases of a translated stream are there."""
    with inspected() as gateway:
        shown = seen(await completed(gateway), "timing")
    for phase in ("client's body", "map, and choose", "wait for runtime", "TTFT", "gaps"):
        assert phase in shown, shown


async def test_tensors_of_a_runtime_are_shown() -> None:
    """A V2 call in JSON shows the tensors that the gRPC runtime was sent and gave back."""
    with inspected(runtime="triton", pool=Runtime(infer_reply)) as gateway:
        gateway.open("/v2/models/m/infer", INFER)
        await gateway.keeper.idle()
        shown = seen(gateway.flow, "upstream")
        both = seen(gateway.flow, "translation")
    assert shown.count("FP32") >= 2
    assert INFER_RPC in shown
    assert "open-inference infer over rest" in both


def test_json_to_a_grpc_method_is_read_by_its_proto() -> None:
    """A client may call a method of gRPC with JSON (Connect), in either spelling of its fields."""
    body = json.dumps({"modelId": "tiny", "requests": [{"text": "a"}]}).encode()
    request = tutils.treq(path=b"/fmaas.GenerationService/Generate", content=body)
    request.headers["content-type"] = "application/json"
    side = endpoints.side("POST", request.path, (("content-type", "application/json"),), "tgis")
    client, trouble = asked(tflow.tflow(req=request), {"client": side}, "client")
    assert (client.way, client.body, trouble) == ("grpc", {"model_id": "tiny", "requests": [{"text": "a"}]}, "")


def test_a_body_that_cannot_be_read_says_so() -> None:
    """The rest of the view is shown all the same."""
    side = endpoints.side("POST", "/v1/completions", JSON, "openai")
    client, trouble = asked(tflow.tflow(req=tutils.treq(content=b"{")), {"client": side}, "client")
    assert client.body is None
    assert trouble.startswith("the client's body cannot be read")


async def test_a_call_that_passes_through_has_two_equal_sides() -> None:
    """Nothing is converted where nothing was translated."""
    body = b"".join(frame([wire.encode_ModelInferRequest(wire.ModelInferRequest(model_name="m"))]))
    with inspected(runtime="triton", pool=Runtime(infer_reply)) as gateway:
        gateway.open(INFER_RPC, body, (("content-type", "application/grpc"), ("te", "trailers")))
        await gateway.keeper.idle()
        shown = seen(gateway.flow, "translation")
    assert "converted" not in shown
    assert "written out" not in shown
    assert 'model_name = "m"' in shown
