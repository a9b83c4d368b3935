"""Settings as they are shown: in the words of the file, complete, without secrets."""

import json
from dataclasses import dataclass
from pathlib import Path

from config.test_load import RUNTIMES, TRITON, load
from inferbridge.config import Flags, load_settings
from inferbridge.config.showing import _plain, shown
from inferbridge.secret import Secret
from upstream.certificates import make_certificates

EVERYTHING = """
listen: ["127.0.0.1:8080", "[::1]:0"]
upstreams:
  - triton=grpc://127.0.0.1:8001
  - {name: big, runtime: mlserver, url: "https://models:8443", models: ["llm-*", embed], default_model: m,
     tls: {ca: ca.crt, server_name: models.example, verify: true}, chat_template: chat.jinja,
     credentials: {static: canary-4711, header: x-api-key}}
  - {name: many, runtime: mlserver, url: "http://models:8080", addresses: ["10.0.0.1:8080", "[fd00::1]:8080"],
     sticky: X-Session-Id, health_check: {interval: 5s}, connection_age: 2m}
  - {name: named, runtime: mlserver, url: "http://models:8080", resolve: 30s}
limits: {body_size: 64MiB, header_size: 1000, call_timeout: 1.5m, idle_timeout: 500ms, streams: 7}
lossy: allow
nan: literal
tls: {certificate: server.crt, passphrase: canary-4711}
allow_unauthenticated: true
log: {level: debug, format: json}
admin: {listen: "127.0.0.1:9901"}
capture:
  enabled: true
  sample: 0.5
  errors: false
  max_bytes: 1KiB
  models: ["llm-*"]
  fields: {hide: ["messages[].content | prompt"], only: [model]}
  sinks:
    - stdout
    - file: {path: capture.jsonl, max_size: 1MiB, keep: 0}
    - cloudevents: {url: "http://broker/ml", service: bert, timeout: 2s, tls: {verify: true}}
auth:
  authenticators:
    - keys: {file: chat.jinja}
    - jwt: {issuer: "https://issuer.example", audience: [a, b], leeway: 30s}
    - kubernetes: {access: {namespace: team, name: llama}, cache: 10s}
    - introspection: {url: "https://issuer.example/introspect", client_id: us, client_secret: canary-4711}
    - none
  public: [health, reflection]
  rules:
    - {groups: [team], allow: {models: ["llama-*"], max_tokens: 5, max_body: 1KiB}, rates: {requests_per_minute: 6}}
  forward: {subject: x-remote-user}
"""


def test_what_is_shown_is_a_configuration(tmp_path: Path) -> None:
    """Read again, what is shown makes the same settings in every part, but for the secret."""
    make_certificates(tmp_path)
    (tmp_path / "chat.jinja").write_text("{{ messages }}")
    settings = load(tmp_path, EVERYTHING)
    text = json.dumps(shown(settings))
    assert "canary" not in text
    again = load(tmp_path, text.replace("***", "canary-4711"))
    assert again == settings


def test_defaults_are_shown() -> None:
    """What nobody has set is shown as it is in force; what is off is left out."""
    found = shown(load_settings(None, {}, TRITON, RUNTIMES))
    assert (found["listen"], found["lossy"], found["admin"]) == (["127.0.0.1:8080"], "reject", {"tokens": "translated"})
    limits = found["limits"]
    assert isinstance(limits, dict)
    assert (limits["body_size"], limits["call_timeout"]) == (32 << 20, "300s")


def test_what_is_not_known_to_be_harmless_is_hidden() -> None:
    """A secret is hidden at any depth, and so is a value of a kind that nobody has thought of."""

    @dataclass
    class Key:
        name: str
        secret: Secret
        odd: object

    value = {"keys": (Key("a", Secret("canary"), b"canary"), [Secret("canary")])}
    assert _plain(value) == {"keys": [{"name": "a", "secret": "***", "odd": "***"}, ["***"]]}


def test_a_short_time_keeps_its_digits() -> None:
    """A duration is shown so that reading it gives the same number."""
    flags = Flags(upstream=TRITON.upstream, limit=("call_timeout=86400s", "idle_timeout=1ms"))
    limits = shown(load_settings(None, {}, flags, RUNTIMES))["limits"]
    assert isinstance(limits, dict)
    assert (limits["call_timeout"], limits["idle_timeout"]) == ("86400s", "0.001s")
