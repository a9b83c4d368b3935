"""What the proxy says at start about who may come in."""

from dataclasses import replace

import pytest

from inferbridge.auth.anonymous import Anonymous
from inferbridge.auth.settings import AuthSettings, Callers, MtlsSettings, NoneSettings, UpstreamCredentials
from inferbridge.capture.settings import CaptureSettings, CloudEventsSink, Fields, StdoutSink
from inferbridge.config import Listener, ListenerTls, Settings, Upstream
from inferbridge.posture import posture
from inferbridge.secret import Secret
from inferbridge.upstream.address import parse_address
from inferbridge.upstream.tls import TlsSettings

UPSTREAM = Upstream("vllm", "vllm-nvidia", parse_address("https://runtime:8000"))
PLAIN = replace(UPSTREAM, url=parse_address("http://runtime:8000"))
EXPOSED = (Listener("0.0.0.0", 80),)
MTLS = AuthSettings((MtlsSettings(),))


class Certificates(Anonymous):
    """Stands for an authenticator that has something to say."""

    method = "mtls"

    def posture(self) -> list[str]:
        return ["certificates of ca.pem"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Settings(), ["OPEN: nobody is authenticated, whoever can connect may call everything"]),
        (Settings(capture=CaptureSettings(sinks=(StdoutSink(),))), []),
        (
            Settings(capture=CaptureSettings(enabled=True, sinks=(CloudEventsSink("http://broker/ml"),))),
            [
                "PAYLOADS of 1 % of all calls, and those that fail are captured; NO FIELD IS HIDDEN",
                "NOT ENCRYPTED: captured payloads travel in the clear to broker",
            ],
        ),
        (
            Settings(capture=CaptureSettings(enabled=True, errors=False, fields=Fields(only=("model",)))),
            ["PAYLOADS of 1 % of all calls are captured; fields are hidden"],
        ),
        (
            Settings(capture=CaptureSettings(enabled=True, errors=False, on_demand=(Callers(subjects=("ann",)),))),
            ["PAYLOADS of 1 % of all calls, and those that callers of capture.on_demand ask for are captured; NO"],
        ),
        (Settings(auth=AuthSettings((NoneSettings(),))), ["OPEN: nobody is authenticated"]),
        (
            Settings(auth=MTLS),
            ["callers are recognised by mtls; no rules", "OPEN to everybody: health", "certificates of ca.pem"],
        ),
        (
            Settings(auth=MTLS, listen=EXPOSED),
            ["NOT ENCRYPTED: credentials of clients travel in the clear to 0.0.0.0:80"],
        ),
        (
            Settings(auth=MTLS, tls=ListenerTls(client_certificate="request", client_ca=__file__)),  # type: ignore[arg-type]  # any path
            ["clients may connect without a certificate"],
        ),
        (
            Settings(upstreams=(replace(UPSTREAM, tls=TlsSettings(verify=False)),)),
            ["NOT VERIFIED: the certificate of the upstream vllm"],
        ),
        (
            Settings(upstreams=(replace(PLAIN, credentials=UpstreamCredentials(passthrough=True)),)),
            [
                "the upstream vllm gets the clients' own credentials",
                "NOT ENCRYPTED: credentials for the upstream vllm travel in the clear",
            ],
        ),
        (
            Settings(upstreams=(replace(PLAIN, credentials=UpstreamCredentials(static=Secret("x"))),)),
            ["NOT ENCRYPTED: credentials for the upstream vllm"],
        ),
    ],
)
def test_what_is_open_and_what_is_not_verified_is_said(settings: Settings, expected: list[str]) -> None:
    """Each weak place has a line of its own."""
    authenticators = [Certificates(whatever=False)] if settings.auth is MTLS else [Anonymous(whatever=True)]
    lines = posture(settings, authenticators)
    for line in expected:
        assert any(found.startswith(line) for found in lines), lines


def test_what_is_safe_raises_no_alarm() -> None:
    """Nothing is called open or unverified that is not."""
    safe = replace(UPSTREAM, credentials=UpstreamCredentials(static=Secret("x")))
    auth = replace(MTLS, public=())
    lines = posture(Settings(auth=auth, upstreams=(safe,)), [Certificates(whatever=False)])
    assert not [line for line in lines if line.split(":")[0].isupper() or "OPEN" in line]
