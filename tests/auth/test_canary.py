"""Secrets are planted wherever callers, runtimes and operators put them; nothing that anybody can see may hold one.

A real proxy at its most talkative meets good calls, refused ones, runtimes that misbehave and faults of its own.
"""

import asyncio
import base64
import json
import logging
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from auth.canaries import Canaries, forms
from auth.canary_lab import SECONDS, proxy, request
from auth.issuer import CLIENT, Issuer, running_issuer
from auth.key_files import HASH, KEY, PLAIN, PLAIN_HASH
from gateway.serving import talk
from inferbridge.mock.serving import Doors, mocking
from inferbridge.observe.logs import Discreet
from observe.collector import collecting
from upstream.h1_server import Answer, Request, h1_server

LINE = 5000
"""Characters that no line of a log exceeds: the message's 4 096 and what stands around it."""
_RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def runtime(canaries: Canaries) -> Any:
    """How a runtime behaves, by the model that is asked for; it repeats what it was sent."""
    held = asyncio.Event()

    def behave(request: Request) -> Answer:
        said = json.dumps({"request": str(request.headers), "body": request.body.decode(), "own": canaries["answer"]})
        body = json.dumps({"error": {"message": said}, "choices": [{"text": said, "index": 0}], "data": said}).encode()
        head = f"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        head += f"set-cookie: {canaries['set_cookie']}\r\nwww-authenticate: Basic realm={canaries['realm']}\r\n\r\n"
        if b'"garbage"' in request.body:
            return Answer(f"{canaries['garbage']} is no HTTP\r\n\r\n".encode(), "close")
        if b'"wrong"' in request.body:
            return Answer((head % 200).encode() + body)
        if b'"reset"' in request.body:
            return Answer((head % 200).encode() + body[:9], "reset")
        return Answer((head % 401).encode() + body, hold=held if b'"late"' in request.body else None)

    return behave


def config_of(
    folder: Path, canaries: Canaries, issuer: Issuer, upstreams: list[dict[str, Any]], form: str
) -> dict[str, Any]:
    """Every authenticator, credential and rule; secrets from text, environment and files."""
    (folder / "keys.yaml").write_text(
        f"keys:\n  - {{id: batch, form: plain, hash: {PLAIN_HASH}}}\n  - {{id: {KEY[3:20]}, hash: {HASH}}}\n"
    )
    (folder / "introspection.secret").write_text(CLIENT[1])
    trust = {"ca": issuer.tls.ca_file}
    return {
        "listen": "127.0.0.1:0",
        "admin": {"listen": "127.0.0.1:0"},
        "log": {"level": "debug", "format": form},
        "limits": {"call_timeout": "300ms", "body_size": "2MiB"},
        "upstreams": upstreams,
        "auth": {
            "headers": ["authorization", "x-api-key"],
            "authenticators": [
                {"keys": {"file": str(folder / "keys.yaml")}},
                {"jwt": {"issuer": issuer.url, "audience": "gateway", "tls": trust}},
                {
                    "introspection": {
                        "url": issuer.introspection,
                        "client_id": CLIENT[0],
                        "client_secret": f"${{file:{folder / 'introspection.secret'}}}",
                        "tls": trust,
                    }
                },
            ],
            "rules": [
                {"subjects": ["alice"], "rates": {"requests_per_minute": 1}},
                {"subjects": ["batch", "bob"]},
                {"keys": [KEY[3:20]], "allow": {"models": ["none-*"]}},
            ],
            "failures_per_minute": 60,
        },
    }  # fmt: skip


def calls(canaries: Canaries, issuer: Issuer) -> dict[str, tuple[bytes, str]]:
    """Calls and how they end."""
    prompt, asked = canaries["prompt"], "/v1/completions"
    query = "&".join(f"{name}={canaries[f'query {name}']}" for name in ("access_token", "api_key", "key", "token", "q"))
    basic = base64.b64encode(f"user:{canaries['basic']}".encode()).decode()
    good = {"model": "one", "prompt": prompt}
    told = {"error": {"message": prompt}}
    others = [f"{name}: {canaries[name]}" for name in ("api-key", "cookie", "x-custom", "user-agent")]
    others.append(f"proxy-authorization: Basic {canaries['proxy_authorization']}")
    jwt, opaque = canaries.add("jwt", issuer.token()), canaries["opaque_token"]
    issuer.answers[opaque] = {"active": True, "sub": "bob", "token_type": "Bearer"}
    expired = canaries.add("expired", issuer.token(exp=1))
    tampered = canaries.add("tampered", f"{jwt[:-6]}AAAAAA")
    sends = lambda body, *fields, key=PLAIN, path=asked: request(path, body, *fields, key=key)  # noqa: E731
    return {
        "good": (sends(good, *others, path=f"{asked}?{query}"), "200"),
        "streamed": (sends({**good, "stream": True}, *others), "200"),
        "translated": (sends({**good, "model": "tgis"}, *others), "200"),
        "translated stream": (sends({**good, "model": "tgis", "stream": True}), "200"),
        "unknown model": (sends({**good, "model": canaries["model"]}), "404"),
        "unknown field": (sends({**good, "model": "tgis", "logit_bias": told}), "400"),
        "broken JSON": (sends(f'{{"model": "tgis", "prompt": "{prompt}'.encode()), "400"),
        "no such path": (sends(good, path=f"/nothing?{query}"), "404"),
        "too large": (sends(prompt.encode() * 100_000), "413"),
        "bad key": (sends(good, key=f"ib-{canaries['bad_key']}"), "401"),
        "unknown key": (sends(good, key=KEY[:-1] + "x"), "401"),
        "malformed": (sends(good, f"Authorization: {canaries['malformed']}", key=""), "401"),
        "Basic": (sends(good, f"Authorization: Basic {basic}", key=""), "401"),
        "two": (sends(good, f"x-api-key: {canaries['x_api_key']}"), "400"),
        "other header": (sends(good, f"x-api-key: {canaries['x_api_key']}", key=""), "401"),
        "none": (sends(good, *others, key="", path=f"{asked}?{query}"), "401"),
        "forbidden": (sends(good, key=KEY), "403"),
        "JWT": (sends(good, key=jwt), "200"),
        "too often": (sends(good, key=jwt), "429"),
        "expired": (sends(good, key=expired), "401"),
        "tampered": (sends(good, key=tampered), "401"),
        "opaque": (sends(good, key=opaque), "200"),
        "unknown opaque": (sends(good, key=canaries["unknown_opaque"]), "401"),
        "list of models": (request("/v1/models", b"", *others).replace(b"POST", b"GET", 1), "200"),
        "refused": (sends({**good, "model": "closed"}), "503"),
        "garbage": (sends({**good, "model": "garbage"}), "50"),
        "wrong": (sends({**good, "model": "wrong"}), "200"),
        "wrong, translated": (tgis_rest(prompt, "wrong"), "50"),
        "runtime's error": (sends({**good, "model": "echo"}), "401"),
        "reset": (sends({**good, "model": "reset"}), "200"),
        "late": (sends({**good, "model": "late"}), "504"),
        "fault while reading": (sends(good, "x-fault: explode-reading", *others, path=f"{asked}?{query}"), "500"),
        "fault while opening": (sends(good, "x-fault: explode-opening", *others, path=f"{asked}?{query}"), "500"),
        "fault while crossing": (sends({"model": "tgis", "prompt": f"explode-crossing {prompt}"}), "500"),
        "fault while replying": (sends({"model": "tgis", "prompt": f"explode-replying {prompt}"}), "500"),
    }


def telemetry(url: str, canaries: Canaries) -> dict[str, str]:
    """Traces and metrics of everything, with a credential for the collector and one that cannot be read."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "OTEL_EXPORTER_OTLP_HEADERS": f"x-own={canaries['collector']},{canaries['no pair']}",
        "OTEL_TRACES_SAMPLER": "always_on",
    }


def tgis_rest(prompt: str, model: str) -> bytes:
    """A call of TGIS's API as JSON."""
    body = {"modelId": model, "requests": [{"text": prompt}]}
    return request("/fmaas.GenerationService/Generate", body, "content-type: application/json")


async def grpc_calls(port: int, canaries: Canaries) -> list[grpc.StatusCode]:
    """How calls over gRPC end: a good one, one without credential, a good stream, one of nonsense."""
    from inferbridge_generated.tgis import wire

    metadata = tuple((name, canaries[f"metadata_{name}"]) for name in ("cookie", "x-custom", "api-key"))
    good = (*metadata, ("authorization", f"Bearer {PLAIN}"))
    single = wire.encode_SingleGenerationRequest(
        wire.SingleGenerationRequest(model_id="tgis", request=wire.GenerationRequest(text=canaries["prompt"]))
    )
    ends = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stream = channel.unary_stream("/fmaas.GenerationService/GenerateStream")
        for body, sent in (
            (b"".join(single), good),
            (b"".join(single), metadata),
            (canaries["nonsense"].encode(), good),
        ):
            call = stream(body, metadata=sent, timeout=SECONDS)
            with suppress(grpc.aio.AioRpcError):
                _ = [message async for message in call]
            ends.append(await call.code())
    return ends


HOSTILE = "\r\nFORGED \x1b[31m\u202e\u2028\x85\x00"


@pytest.mark.parametrize("form", ["text", "json"])
async def test_no_secret_is_seen_anywhere(tmp_path: Path, form: str) -> None:
    """Neither output nor pages hold a secret, a prompt or an answer in any form, whatever becomes of calls."""
    canaries = Canaries()
    for name, secret in (("key", KEY), ("plain", PLAIN), ("client_secret", CLIENT[1])):
        canaries.add(name, secret)
    (tmp_path / "token").write_text(canaries["token_file"])
    async with (
        running_issuer(tmp_path) as issuer,
        collecting() as collector,
        h1_server(runtime(canaries)) as odd,
        mocking("vllm-nvidia", Doors(rest=0, grpc=0)) as (rest, *_),
        mocking("tgis", Doors(grpc=0)) as (tgis, *_),
    ):
        static = {"static": canaries["static"]}
        upstreams = [
            {"name": "one", "runtime": "vllm-nvidia", "url": rest, "models": ["one"],
             "credentials": {"static": "${env:UP}"}},
            {"name": "tgis", "runtime": "tgis", "url": tgis, "models": ["tgis"]},
            {"name": "odd", "runtime": "vllm-nvidia", "url": odd.url, "credentials": static,
             "models": ["garbage", "wrong", "echo", "reset", "late"]},
            {"name": "closed", "runtime": "vllm-nvidia", "url": "http://127.0.0.1:1", "models": ["closed"],
             "credentials": {"service_account_token": str(tmp_path / "token"), "header": "x-own"}},
        ]  # fmt: skip
        config = config_of(tmp_path, canaries, issuer, upstreams, form)
        environment = {"UP": canaries["environment"], "OTHER": canaries["other"]}
        environment |= telemetry(collector.url, canaries)
        async with proxy(tmp_path, config, environment) as running:
            wrong = {}
            for name, (sent, status) in calls(canaries, issuer).items():
                answer = await talk(running.port, sent)
                if not answer.startswith(f"HTTP/1.1 {status}".encode()):
                    wrong[name] = (status, answer[:500])
            assert not wrong, "\n".join(f"{name}: {said}" for name, said in wrong.items())
            codes = await grpc_calls(running.port, canaries)
            seen = await running.pages()
        seen += running.seen
    exported = "".join(map(str, collector.requests))
    assert len(collector.spans) > 2 * len(codes)
    assert canaries.hits(str(collector.headers)), "the collector gets its own credential, and nobody else"
    assert canaries.hits(exported) == []
    assert codes == [grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.INVALID_ARGUMENT]
    assert canaries.hits(str(odd.requests)), "the runtime must have been called with a secret, or nothing is shown here"
    assert seen.count("Traceback") >= 4
    assert "refused 127.0.0.1" in seen
    assert canaries.hits(seen) == []
    assert_tidy(running.seen)


async def test_what_clients_write_is_one_bounded_line_of_a_log(tmp_path: Path) -> None:
    """Line ends, escape sequences and a million signs in paths, models and headers neither forge nor flood lines."""
    config = {
        "listen": "127.0.0.1:0",
        "admin": {"listen": "127.0.0.1:0"},
        "log": {"level": "debug"},
        "lossy": "allow",
        "limits": {"header_size": "4MiB", "target_size": "4MiB"},
        "upstreams": [
            "tgis=grpc://127.0.0.1:1",
            {"runtime": "vllm-nvidia", "url": "http://127.0.0.1:1", "models": ["m"]},
        ],
    }
    long = "A" * 1_000_000
    async with proxy(tmp_path, config, {}) as running:
        for word in (HOSTILE, long):
            quoted = "".join(f"%{byte:02x}" for byte in word.encode()) if word is HOSTILE else long
            for body in ({"model": word, "prompt": "explode-crossing", "stop": []}, {"prompt": "p", word: 1}):
                await talk(running.port, request("/v1/completions", body))
            fault = "x-fault: explode-opening"
            await talk(running.port, request(f"/v2/models/{quoted}/infer", {}, fault))
            await talk(running.port, request(f"/{word if word is long else 'x'}", {}, fault, f"user-agent: {quoted}"))
            await talk(running.port, request("/x", {}, fault).replace(b"POST", word.strip().encode() or b"G", 1))
        seen = running.seen
    assert seen.count("call failed: POST /") >= 6
    assert "(1000" in seen
    assert_tidy(seen)


def test_names_of_fields_that_are_dropped_are_one_line() -> None:
    """The names that a client gives are told where they are dropped, so they are made harmless."""
    record = logging.makeLogRecord({"msg": "dropped %s", "args": (HOSTILE + "A" * 1_000_000,)})
    assert Discreet().filter(record)
    assert_tidy(record.getMessage())
    assert "\\r\\nFORGED" in record.getMessage()


def assert_tidy(log: str) -> None:
    """No raw control character, no long line, and none that a client has begun."""
    assert _RAW.findall(log) == []
    assert max(map(len, log.split("\n"))) < LINE
    assert not re.search(r"^\s*FORGED", log, re.MULTILINE)


def test_every_form_of_a_secret_is_found() -> None:
    """The search finds a secret in all its forms, or finding none would mean nothing."""
    canaries = Canaries()
    secret = canaries["place"]
    for form, text in forms(secret).items():
        assert any(form in hit for hit in canaries.hits(f"before {text} after")), form
    assert canaries.hits(base64.b64encode(f"user:{secret}".encode()).decode())
    assert canaries.hits("nothing here") == []
