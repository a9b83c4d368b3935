"""gRPC bodies as editable JSON: what comes back is what was there, or what was made of it, or an error."""

from collections.abc import Iterator

import pytest
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st
from mitmproxy import contentviews
from mitmproxy.test import taddons

from inferbridge.bridge.framing import frame, unframe
from inferbridge.bridge.values import join
from inferbridge.inspect import views
from inferbridge.inspect.grpc_json import editable_text, edited_body
from inferbridge.inspect.known import find_method
from inferbridge.protos import methods
from recorded_flows import GRPC, flow_of, grpc_flow

TGIS = "/fmaas.GenerationService/Generate"
VIEW = "inferbridge gRPC as JSON"


@pytest.fixture(autouse=True)
def _mitmproxy() -> Iterator[None]:
    """mitmproxy with our views."""
    with taddons.context() as context:
        context.options.add_option("protobuf_definitions", str, "", "")
        views.register()
        yield


def test_an_edited_message_is_sent_as_it_was_edited() -> None:
    """mitmproxy's own way of editing: the text of the view, changed, is the new body of the request."""
    flow = grpc_flow(TGIS, "tgis", '{"model_id":"m","requests":[{"text":"a"}]}')
    text = contentviews.prettify_message(flow.request, flow, VIEW).text
    assert text == '{\n  "model_id": "m",\n  "requests": [\n    {\n      "text": "a"\n    }\n  ]\n}'
    flow.request.content = contentviews.reencode_message(text.replace('"a"', '"b"'), flow.request, flow, VIEW)
    (chunks,) = unframe(flow.request.content or b"", "identity", 1000)
    assert methods("tgis").request_to_json(TGIS, join(chunks)) == b'{"model_id":"m","requests":[{"text":"b"}]}'


def test_wrong_names_are_refused() -> None:
    """A field that the proto does not have, or what is no JSON, does not become a message."""
    flow = grpc_flow(TGIS, "tgis", "{}")
    for text, said in (('{"model":"m"}', "no such field"), ("{", "Expecting"), ('{"model_id":1}', "model_id")):
        with pytest.raises(ValueError, match=said):
            contentviews.reencode_message(text, flow.request, flow, VIEW)


def test_what_no_proto_names_is_read_only() -> None:
    """Neither shown as if it were all, nor turned back without it."""
    flow = flow_of("POST", TGIS, b"\0\0\0\0\x03\x98\x06\x01", GRPC)
    assert "read only" in contentviews.prettify_message(flow.request, flow, VIEW).text
    with pytest.raises(ValueError, match="read only"):
        contentviews.reencode_message("{}", flow.request, flow, VIEW)


def test_it_is_offered_for_known_methods_alone() -> None:
    """And never chosen unasked: the view of messages is."""
    flow = grpc_flow(TGIS, "tgis", "{}")
    assert contentviews.prettify_message(flow.request, flow).view_name == "inferbridge gRPC"
    unknown = flow_of("POST", "/a.B/C", b"", GRPC)
    metadata = contentviews.make_metadata(unknown.request, unknown)
    assert views.GrpcJsonView().render_priority(b"", metadata) < 0


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)


@given(texts=st.lists(TEXT, max_size=3))
@settings(max_examples=50, deadline=None)
def test_there_and_back_loses_nothing(texts: list[str]) -> None:
    """Any text, any number of messages: the same body, over a text in which an interface has nothing to replace."""
    method = find_method(TGIS)
    assert method is not None
    kind = GetMessageClass(method.input_type)
    wires = [kind(model_id=text, requests=[{"text": text}]).SerializeToString(deterministic=True) for text in texts]
    body = bytes(join(frame((wire,) for wire in wires))) if wires else b""
    text = editable_text(body, method.input_type, "identity")
    assert all(letter.isprintable() or letter == "\n" for letter in text)
    assert edited_body(text, method.input_type) == body


@given(body=st.binary(max_size=40))
@settings(max_examples=100, deadline=None)
def test_broken_bodies_are_refused(body: bytes) -> None:
    """Either a body comes back with the same meaning, or there is nothing to edit."""
    method = find_method(TGIS)
    assert method is not None
    try:
        text = editable_text(body, method.input_type, "identity")
    except ValueError:
        return
    again = edited_body(text, method.input_type)
    kind = GetMessageClass(method.input_type)
    for side in zip(*(unframe(each, "identity", 1000) for each in (body, again)), strict=True):
        one, other = (kind.FromString(bytes(join(chunks)) if chunks else b"") for chunks in side)
        assert one == other
