"""Settings of payload capture."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from inferbridge.auth.settings import Callers
from inferbridge.upstream.tls import TlsSettings

KIB, MIB = 1 << 10, 1 << 20


@dataclass(frozen=True, slots=True)
class Fields:
    """What of messages is written; see `redaction` for the grammar of places."""

    hide: tuple[str, ...] = ()
    """Places whose values become `***`."""
    only: tuple[str, ...] = ()
    """The only places that are kept; () keeps all."""


@dataclass(frozen=True, slots=True)
class FileSink:
    """A file of JSON lines, readable by its owner alone."""

    path: Path
    max_bytes: int = 100 * MIB
    """Beyond it the file becomes `PATH.1`."""
    keep: int = 5
    """Files before the present one."""


@dataclass(frozen=True, slots=True)
class StdoutSink:
    """JSON lines on stdout, among those of the access log."""


@dataclass(frozen=True, slots=True)
class CloudEventsSink:
    """A collector of the events that KServe's payload logger sends."""

    url: str
    send: Literal["all", "request", "response"] = "all"
    sides: Literal["client", "runtime", "all"] = "client"
    """What the client said and was told, what runtimes were asked and answered, or both."""
    service: str = ""
    """Name of the InferenceService; empty: the model's."""
    namespace: str = ""
    component: str = "predictor"
    endpoint: str = "default"
    source: str = "inferbridge"
    queue: int = 1000
    """Events that wait at most; further ones are dropped and counted."""
    timeout: float = 5.0
    """Seconds for one attempt."""
    tls: TlsSettings | None = None


type SinkSettings = FileSink | StdoutSink | CloudEventsSink


@dataclass(frozen=True, slots=True)
class CaptureSettings:
    """Which calls are captured, what of them, and where it goes."""

    enabled: bool = False
    sample: float = 0.01
    """Share of all calls, from 0 to 1."""
    errors: bool = True
    """Calls that failed always, but for callers who were not let in."""
    on_demand: tuple[Callers, ...] = ()
    """Those whose calls are captured when they ask for it; () is nobody."""
    max_bytes: int = 64 * KIB
    """Of each message; a stream is one."""
    memory: int = 64 * MIB
    """Of calls under way and calls that wait to be written."""
    models: tuple[str, ...] = ()
    """Globs; () is every model."""
    operations: tuple[str, ...] = ()
    """Globs; () is every operation."""
    fields: Fields = Fields()
    messages: bool = False
    """All messages of a stream, beside what they make together."""
    sinks: tuple[SinkSettings, ...] = ()
