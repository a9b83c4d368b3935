"""The form that a client's `Accept` asks for."""

import pytest

from inferbridge.bridge.accept import StreamForm, stream_form


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", "lines"),
        ("*/*", "lines"),
        ("text/plain", "lines"),
        ("text/event-stream", "events"),
        ("application/x-ndjson; charset=utf-8", "lines"),
        ("application/jsonl", "lines"),
        ("Application/JSON", "array"),
        ("application/json, text/plain, */*", "array"),
        ("application/json;q=0.5, text/event-stream", "events"),
        ("application/json;q=0.5, text/event-stream;q=0.4", "array"),
        ("text/event-stream, application/json", "events"),
        ("application/json;q=0", "lines"),
        ("text/event-stream;q=high", "lines"),
    ],
)
def test_the_best_liked_form_counts(accept: str, form: StreamForm) -> None:
    """The highest quality wins, of equals the first; q=0, nonsense and other types wish for nothing."""
    assert stream_form(accept, "lines") == form


def test_json_means_no_array_where_it_says_nothing() -> None:
    """OpenAI's SDKs and curl send `application/json` and read events; who wants an array or lines says so."""
    assert stream_form("application/json", "events", arrays=False) == "events"
    assert stream_form("application/json; stream=array", "events", arrays=False) == "array"
    assert stream_form("application/json, application/x-ndjson;q=0.1", "events", arrays=False) == "lines"
