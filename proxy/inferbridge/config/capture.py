"""Reads what is captured of calls, and where it goes."""

from urllib.parse import urlsplit

from inferbridge.auth.settings import Callers
from inferbridge.capture.places import rule_of
from inferbridge.capture.settings import CaptureSettings, CloudEventsSink, Fields, FileSink, StdoutSink
from inferbridge.config.auth import CALLERS, PlainPath
from inferbridge.config.kinds import (
    Choice,
    Count,
    Field,
    ListOf,
    Record,
    Share,
    Switch,
    Tagged,
    Text,
    duration,
    name,
    size,
)
from inferbridge.config.upstream_tls import UPSTREAM_TLS

_MOST = 1 << 40


def collector(text: str) -> str:
    """A URL of a collector, without user and query."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in text or parts.query or parts.fragment:
        raise ValueError("must be a URL such as https://collector.example/events, without user, query and fragment")
    return text


def places(text: str) -> str:
    """Names that a thing has in messages."""
    rule_of(text)
    return text


_GLOBS = ListOf(Text(name))
_PLACES = ListOf(Text(places))
SINK = Tagged(
    {
        "file": Record(
            FileSink,
            {
                "path": Field(PlainPath(), "The file; only its owner may read it.", required=True),
                "max_size": Field(size(_MOST), "Beyond it a new file begins.", "max_bytes"),
                "keep": Field(Count(0, 1000), "Files that are kept beside it: PATH.1, PATH.2 …"),
            },
            "file",
        ),
        "stdout": Record(StdoutSink, {}, "stdout"),
        "cloudevents": Record(
            CloudEventsSink,
            {
                "url": Field(Text(collector, "^https?://"), "Where the events are sent.", required=True),
                "send": Field(Choice(("all", "request", "response")), "Which events."),
                "sides": Field(
                    Choice(("client", "runtime", "all")), "Of the client's messages, the runtimes' or both."
                ),
                "service": Field(Text(name), "Name of the InferenceService; the model's unless given."),
                "namespace": Field(Text(name), "Its namespace."),
                "component": Field(Text(name), "Its component."),
                "endpoint": Field(Text(name), "Its endpoint: default or canary."),
                "source": Field(Text(name), "The events' source."),
                "queue": Field(Count(1, 1_000_000), "Events that wait at most; further ones are dropped and counted."),
                "timeout": Field(duration(60.0), "How long the collector may take."),
                "tls": Field(UPSTREAM_TLS, "Whom to trust there."),
            },
            "cloudevents",
        ),
    }
)
CAPTURE = Record(
    CaptureSettings,
    {
        "enabled": Field(Switch(), "Whether payloads are captured."),
        "sample": Field(Share(), "Share of all calls."),
        "errors": Field(Switch(), "Calls that fail always; costs every call a copy of what it says."),
        "on_demand": Field(
            ListOf(Record(Callers, CALLERS, "on_demand")),
            "Who has calls captured with `x-inferbridge-capture: 1`; nobody unless given.",
        ),
        "max_bytes": Field(size(1 << 30), "What is kept of each message."),
        "memory": Field(size(_MOST), "For all calls under way and those that wait; further ones are not captured."),
        "models": Field(_GLOBS, "Globs of models; all unless given."),
        "operations": Field(_GLOBS, "Globs of operations; all unless given."),
        "fields": Field(
            Record(
                Fields,
                {
                    "hide": Field(_PLACES, "Fields that become ***, such as messages[].content."),
                    "only": Field(_PLACES, "The only fields that are kept."),
                },
                "fields",
            ),
            "What of messages is written.",
        ),
        "messages": Field(Switch(), "All messages of streams, beside what they make together."),
        "sinks": Field(ListOf(SINK), "Where it goes: file, stdout, cloudevents; one or a list."),
    },
    "capture",
)
