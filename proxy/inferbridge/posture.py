"""What an operator should know at start: who may come in, what is open, and what is not verified."""

from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from inferbridge.auth.authenticator import Authenticator
from inferbridge.auth.settings import AuthSettings
from inferbridge.capture.settings import CaptureSettings, CloudEventsSink
from inferbridge.config.values import Settings, Upstream
from inferbridge.upstream.address import LOOPBACK


def posture(settings: Settings, authenticators: Sequence[Authenticator]) -> list[str]:
    """A few lines, the worst not hidden among the good."""
    return [
        *_callers(settings.auth, authenticators),
        *_listeners(settings),
        *_capture(settings.capture),
        *(line for upstream in settings.upstreams for line in _upstream(upstream)),
    ]


def _callers(auth: AuthSettings | None, authenticators: Sequence[Authenticator]) -> Iterator[str]:
    methods = [one.method for one in authenticators]
    if auth is None or set(methods) == {"none"}:
        yield "OPEN: nobody is authenticated, whoever can connect may call everything"
        return
    rules = f"{len(auth.rules)} rules" if auth.rules else "no rules: whoever is recognised may call everything"
    yield f"callers are recognised by {', '.join(methods)}; {rules}"
    if auth.public:
        yield f"OPEN to everybody: {', '.join(auth.public)}"
    if "none" in methods:
        yield "OPEN: callers who show no credential are let in as anonymous"
    for one in authenticators:
        yield from one.posture()


def _listeners(settings: Settings) -> Iterator[str]:
    exposed = [str(listener) for listener in settings.listen if not listener.loopback]
    if exposed and settings.tls.certificate is None:
        yield f"NOT ENCRYPTED: credentials of clients travel in the clear to {', '.join(exposed)}"
    if settings.tls.client_ca is not None and settings.tls.client_certificate == "request":
        yield "clients may connect without a certificate"


def _capture(capture: CaptureSettings) -> Iterator[str]:
    if not capture.enabled:
        return
    errors = ", and those that fail" if capture.errors else ""
    asked = ", and those that callers of capture.on_demand ask for" if capture.on_demand else ""
    rules = "fields are hidden" if capture.fields.hide or capture.fields.only else "NO FIELD IS HIDDEN"
    yield f"PAYLOADS of {100 * capture.sample:.4g} % of all calls{errors}{asked} are captured; {rules}"
    for sink in capture.sinks:
        url = urlsplit(sink.url) if isinstance(sink, CloudEventsSink) else None
        if url is not None and url.scheme == "http" and url.hostname not in LOOPBACK:
            yield f"NOT ENCRYPTED: captured payloads travel in the clear to {url.netloc}"


def _upstream(upstream: Upstream) -> Iterator[str]:
    if upstream.tls is not None and not upstream.tls.verify:
        yield f"NOT VERIFIED: the certificate of the upstream {upstream.name}"
    credentials = upstream.credentials
    if credentials.passthrough:
        yield f"the upstream {upstream.name} gets the clients' own credentials"
    if credentials.is_set and not upstream.url.tls and upstream.url.host not in LOOPBACK:
        yield f"NOT ENCRYPTED: credentials for the upstream {upstream.name} travel in the clear"
