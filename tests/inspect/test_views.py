"""The views as mitmproxy's interfaces choose and show them."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mitmproxy import contentviews, http
from mitmproxy.contentviews import Metadata
from mitmproxy.test import taddons, tflow, tutils

from inferbridge.bridge.framing import frame
from inferbridge.inspect import views
from inferbridge.inspect.page import PAGE_BYTES

VIEWS = (
    views.GrpcView(),
    views.EventsView(),
    views.TensorsView(),
    views.TranslationView(),
    views.UpstreamView(),
    views.TimingView(),
)


@pytest.fixture(autouse=True)
def _mitmproxy() -> Iterator[None]:
    """mitmproxy with our views, as `mitm_entry.py` adds them."""
    with taddons.context() as context:
        context.options.add_option("protobuf_definitions", str, "", "")
        views.register()
        yield


def flow_of(path: str, content_type: str, request: bytes = b"", reply: bytes = b"", **headers: str) -> http.HTTPFlow:
    """An exchange whose two bodies have one content type; `headers` are those of the reply."""
    flow = tflow.tflow(resp=tutils.tresp(content=reply))
    assert flow.response is not None
    flow.request.path, flow.request.content = path, request
    for message in (flow.request, flow.response):
        message.headers["content-type"] = content_type
    for name, value in headers.items():
        flow.response.headers[name.replace("_", "-")] = value
    return flow


def shown(flow: http.HTTPFlow, message: http.Message, view: str = "auto") -> list[str]:
    """What mitmproxy shows of a message, after the name of the view."""
    result = contentviews.prettify_message(message, flow, view)
    return [str(result.view_name), *result.text.splitlines()]


def test_grpc_is_shown_by_name_with_its_trailers() -> None:
    """A reply is read with the method's own proto, and its trailers stand behind it."""
    flow = flow_of("/grpc.health.v1.Health/Check", "application/grpc", reply=b"".join(frame([(b"\x08\x01",)])))
    assert flow.response is not None
    flow.response.trailers = http.Headers([(b"grpc-status", b"5"), (b"authorization", b"Bearer canary")])
    assert shown(flow, flow.response) == [
        "inferbridge gRPC",
        "message 1: grpc.health.v1.HealthCheckResponse, 2 bytes",
        "  status: SERVING",
        "trailers:",
        "  grpc-status: 5 NOT_FOUND",
        "  authorization: ***",
    ]


def test_an_answer_of_trailers_alone_has_them_in_its_head() -> None:
    """Where gRPC answers without a body, its status stands in the headers."""
    flow = flow_of("/a.B/C", "application/grpc+proto", reply=b"\0\0\0\0\0", grpc_status="12", x_api_key="canary")
    assert flow.response is not None
    assert shown(flow, flow.response) == [
        "inferbridge gRPC",
        "no proto has this method: fields go by their numbers",
        "message 1: 0 bytes",
        "trailers:",
        "  grpc-status: 12 UNIMPLEMENTED",
    ]


def test_events_are_reassembled() -> None:
    """A stream of events is shown put together."""
    body = b'data: {"choices":[{"index":0,"text":"hi","finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    flow = flow_of("/v1/completions", "text/event-stream; charset=utf-8", reply=body)
    assert flow.response is not None
    assert shown(flow, flow.response)[:4] == [
        "inferbridge events",
        'choice 0: finish reason "stop"',
        "  text:",
        "    | hi",
    ]


def test_tensors_are_summed_up() -> None:
    """A V2 body shows its tensors and the rest of its JSON, without the long arrays."""
    data = list(range(100))
    body = json.dumps(
        {"id": "7", "inputs": [{"name": "x", "datatype": "INT32", "shape": [100], "data": data}]}
    ).encode()
    flow = flow_of("/v2/models/m/infer", "application/json", request=body)
    assert shown(flow, flow.request) == [
        "inferbridge tensors",
        '"x" INT32 [100], 390 bytes in data',
        "  min 0, max 99, mean 49.5",
        "  first 8: 0, 1, 2, 3, 4, 5, 6, 7",
        "JSON:",
        '  {"id": "7", "inputs": [{"name": "x", "datatype": "INT32", "shape": [100], "data": [... 390 bytes ...]}]}',
    ]


def test_other_json_is_left_to_mitmproxy() -> None:
    """Only what is ours is taken from the views that mitmproxy has."""
    flow = flow_of("/v1/completions", "application/json", request=b"{}")
    assert shown(flow, flow.request)[0] == "JSON"


def test_a_translation_is_shown_on_request() -> None:
    """The view of the translation reads what the gateway has left in the flow, also once the flow was saved."""
    flow = flow_of("/v1/completions", "application/json", request=b"{}")
    name = "inferbridge translation"
    assert shown(flow, flow.request, name) == [name, "this exchange was not translated"]
    flow.metadata[views.FLOW_KEY] = {
        "client": {"api": "openai", "endpoint": "completions", "way": "rest", "body": {"prompt": "a", "min_p": 0.1}},
        "runtime": {"api": "tgis", "endpoint": "generate", "way": "grpc", "body": {"requests": [{"text": "a"}]}},
        "losses": ["min_p"],
    }
    saved = http.HTTPFlow.from_state(flow.get_state())
    assert shown(saved, saved.request, name)[1:] == [
        "openai completions over rest -> tgis generate over grpc",
        "           the client said  |  the runtime was sent",
        '  prompts  prompt = "a"     |  requests[].text = ["a"]',
        "  min_p    min_p = 0.1      |  (nothing)  ! lost",
    ]


def test_a_view_that_fails_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """What the gateway left may be of another version: the view then says that it failed, and does not raise."""
    flow = flow_of("/", "application/json", request=b"{}")
    flow.metadata[views.FLOW_KEY] = {"client": 5, "runtime": 5}
    (_, line) = shown(flow, flow.request, "inferbridge translation")
    assert line.startswith("! the view failed here (")
    assert "failed" in caplog.text


@settings(deadline=None)  # the first one reads the protos
@given(
    data=st.binary(max_size=200),
    content_type=st.sampled_from(["application/grpc", "text/event-stream", "application/json", "\ud800"]) | st.none(),
    path=st.sampled_from(["/v2/models/m/infer", "/inference.GRPCInferenceService/ModelInfer", "/"]),
    length=st.text(alphabet="0123456789-x", max_size=14),
    told=st.none() | st.dictionaries(st.sampled_from(["client", "runtime", "losses"]), st.none() | st.text(max_size=3)),
    has_flow=st.booleans(),
)
def test_no_view_ever_raises(
    data: bytes, content_type: str | None, path: str, length: str, told: Any, has_flow: bool
) -> None:
    """Random bytes under any content type, with or without a flow, give a page within its bound."""
    flow = flow_of(path, "x/y", reply=data, inference_header_content_length=length, grpc_encoding=length)
    flow.metadata[views.FLOW_KEY] = told
    metadata = Metadata(content_type=content_type, flow=flow, http_message=flow.response) if has_flow else Metadata()
    for view in VIEWS:
        view.render_priority(data, metadata)
        assert len(view.prettify(data, metadata).encode()) <= PAGE_BYTES
