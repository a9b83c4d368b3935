"""What counts as a difference of two answers, and what does not."""

from typing import Any

import pytest

from inferbridge.recorded.answers import answers
from inferbridge.recorded.differences import differences
from recorded_flows import exchange, flow_of, grpc_flow

EVENTS = (("content-type", "text/event-stream"),)


@pytest.mark.parametrize(
    ("recorded", "new", "tolerance", "paths"),
    [
        ({"a": 1, "id": "x"}, {"a": 1.0, "id": "y"}, 0.0, []),
        ({"a": 1}, {"a": True}, 0.0, ["a"]),
        ({"a": [1, 2]}, {"a": [1, 3, 4]}, 0.0, ["a[1]", "a[2]"]),
        ({"a": None}, {}, 0.0, ["a"]),
        ({}, {"b": {"c": 1}}, 0.0, ["b"]),
        ({"a": 100.0}, {"a": 100.5}, 0.01, []),
        ({"a": 100.0}, {"a": 102.0}, 0.01, ["a"]),
        ({"a": "x"}, {"a": "y"}, 1.0, ["a"]),
        ([{"a": {"created": 1}}], [{"a": {"created": 2}}], 0.0, []),
    ],
)
def test_values_are_compared_field_by_field(recorded: Any, new: Any, tolerance: float, paths: list[str]) -> None:
    """The paths of what differs; ids and times do not count, and numbers as far apart as is allowed."""
    assert [each.path for each in differences(recorded, new, tolerance=tolerance)] == paths


def stream(*texts: str) -> bytes:
    """A stream of completions in these pieces."""
    pieces = [f'data: {{"choices":[{{"index":0,"text":"{text}","finish_reason":null}}]}}\n\n' for text in texts]
    last = 'data: {"choices":[{"index":0,"text":"","finish_reason":"stop"}]}\n\n'
    return "".join([*pieces, last, "data: [DONE]\n\n"]).encode()


def test_how_a_stream_was_cut_is_no_difference() -> None:
    """Two streams of one text are the same answer, and two texts are not."""
    asked = b'{"model":"m","prompt":"p","stream":true}'
    one, other, third = (
        exchange(flow_of(body=asked, reply=stream(*pieces), reply_headers=EVENTS)).client
        for pieces in (("a", "b", "c"), ("abc",), ("abd",))
    )
    recorded, new = answers(one, other)
    assert recorded.is_folded
    assert recorded.fields == new.fields
    assert [each.path for each in differences(*(each.fields for each in answers(one, third)))] == [
        "answer.choices[0].text"
    ]


def test_a_stream_that_broke_off_is_compared_as_it_is() -> None:
    """Message by message, where no whole answer can be made of it."""
    asked = b'{"model":"m","prompt":"p","stream":true}'
    whole = exchange(flow_of(body=asked, reply=stream("a"), reply_headers=EVENTS)).client
    broken = exchange(flow_of(body=asked, reply=stream("a")[:60], reply_headers=EVENTS)).client
    recorded, new = answers(whole, broken)
    assert not recorded.is_folded
    assert recorded.fields != new.fields


def test_statuses_are_part_of_the_answer() -> None:
    """Those of HTTP and of gRPC, with the words of the error."""
    rpc = "/fmaas.GenerationService/Generate"
    good = exchange(grpc_flow(rpc, "tgis", '{"model_id":"m"}')).client
    bad = exchange(
        grpc_flow(rpc, "tgis", '{"model_id":"m"}', trailers=(("grpc-status", "5"), ("grpc-message", "no%20model")))
    ).client
    assert [each.status for each in answers(good, bad)] == ["OK", "NOT_FOUND: no model"]
    assert answers(exchange(flow_of()).client, exchange(flow_of(status=500)).client)[1].status == "HTTP 500"
