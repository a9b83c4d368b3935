"""What a client wants an answer to be, of the forms that a stream can have (`Accept`, RFC 9110)."""

from typing import Literal

type StreamForm = Literal["events", "lines", "array"]

_FORMS: dict[str, StreamForm] = {
    "text/event-stream": "events",
    "application/x-ndjson": "lines",
    "application/ndjson": "lines",
    "application/jsonl": "lines",
    "application/json": "array",
    "application/json;stream=array": "array",
}


def stream_form(accept: str, otherwise: StreamForm, *, arrays: bool = True) -> StreamForm:
    """The form that `accept` prefers; `otherwise` when it names none.

    Of equal wishes the first counts. Without `arrays`, plain `application/json` says nothing: OpenAI's SDKs and
    `curl --json` send it with every call, and read events. `application/json;stream=array` always means an array.
    """
    best, best_quality = otherwise, 0.0
    for wish in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in wish.split(";"))
        asked = "stream=array" in parameters
        form, quality = _FORMS.get(f"{kind};stream=array" if asked else kind), _quality(parameters)
        if form is not None and (arrays or asked or form != "array") and quality > best_quality:
            best, best_quality = form, quality
    return best


def quality(accept: str, kind: str) -> float:
    """How much `accept` wants a media type that it names, from 0 to 1; 0 when it does not name it."""
    wishes = ([part.strip().lower() for part in wish.split(";")] for wish in accept.split(","))
    return max((_quality(parameters) for named, *parameters in wishes if named == kind), default=0.0)


def rest_stream_form(accept: str) -> StreamForm:
    """The form of a streamed answer of a REST endpoint: its API's events, unless something else is asked for."""
    return stream_form(accept, "events", arrays=False)


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
