"""Planted secrets and the sinks of payload capture: no credential is captured, and no hidden field is seen anywhere."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from auth.canaries import Canaries
from auth.canary_lab import SECONDS, Proxy, proxy, request
from auth.key_files import PLAIN, PLAIN_HASH
from auth.test_canary import grpc_calls
from gateway.serving import talk
from inferbridge.mock.serving import Doors, mocking
from upstream.h1_server import Answer, h1_server

OKAY = Answer(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
HIDE = [
    "prompt", "messages[].content | requests[].text", "request.text", "text", "choices[].text", "responses[].text",
    "choices[].message.content",
]  # fmt: skip
DISCREET = {"fields": {"hide": HIDE}}


def config_of(folder: Path, urls: dict[str, str], canaries: Canaries, fields: dict[str, Any]) -> dict[str, Any]:
    """A proxy that captures everything, to every sink, with its own credentials for runtimes."""
    (folder / "keys.yaml").write_text(f"keys:\n  - {{id: batch, form: plain, hash: {PLAIN_HASH}}}\n")
    (folder / "template.jinja").write_text("{% for message in messages %}{{ message.content }}{% endfor %}")
    own = {"static": canaries["static"]}
    return {
        "listen": "127.0.0.1:0",
        "admin": {"listen": "127.0.0.1:0"},
        "log": {"level": "debug"},
        "access_log": {"enabled": True},
        "upstreams": [
            {"name": "one", "runtime": "vllm-nvidia", "url": urls["vllm"], "models": ["one"], "credentials": own},
            {"name": "tgis", "runtime": "tgis", "url": urls["tgis"], "models": ["tgis"], "credentials": own,
             "chat_template": str(folder / "template.jinja")},
            {"name": "closed", "runtime": "vllm-nvidia", "url": "http://127.0.0.1:1", "models": ["closed"]},
        ],
        "auth": {"headers": ["authorization", "x-api-key"],
                 "authenticators": [{"keys": {"file": str(folder / "keys.yaml")}}]},
        "capture": {
            "enabled": True,
            "sample": 1,
            "messages": True,
            "sinks": ["stdout", {"file": {"path": f"{folder}/capture.jsonl"}},
                      {"cloudevents": {"url": urls["ce"], "sides": "all"}}],
            **fields,
        },
    }  # fmt: skip


async def call_all(running: Proxy, canaries: Canaries) -> None:
    """Good calls, streams, refused ones and ones that fail, with credentials wherever clients put them."""
    query = "&".join(f"{name}={canaries[f'query {name}']}" for name in ("access_token", "api_key", "key", "token"))
    asked = f"/v1/completions?{query}&q={canaries['query q']}"
    others = [f"{name}: {canaries[name]}" for name in ("api-key", "cookie", "x-goog-api-key")]
    prompt = canaries["prompt"]
    chat = {"model": "tgis", "messages": [{"role": "user", "content": canaries["chat"]}], "temperature": 0}
    for body in (
        {"model": "one", "prompt": prompt},
        {"model": "one", "prompt": prompt, "stream": True},
        {"model": "tgis", "prompt": prompt, "temperature": 0},
        {"model": "tgis", "prompt": [prompt, canaries["batch"]], "temperature": 0, "stream": True},
        {"model": "closed", "prompt": prompt},
        {"model": "tgis", "prompt": prompt, "logit_bias": {prompt: 1}},
        f'{{"model": "tgis", "prompt": "{prompt}'.encode(),
    ):
        await talk(running.port, request(asked, body, *others))
    await talk(running.port, request("/v1/chat/completions", chat, *others))
    await talk(running.port, request(asked, {"prompt": prompt}, key=f"ib-{canaries['bad_key']}"))
    await grpc_calls(running.port, canaries)


async def captured(folder: Path, canaries: Canaries, fields: dict[str, Any]) -> tuple[str, str]:
    """All that was captured, by all sinks, and all else that can be seen."""
    canaries.add("plain", PLAIN)
    async with (
        asyncio.timeout(SECONDS),
        h1_server(lambda request: OKAY) as collector,
        mocking("vllm-nvidia", Doors(rest=0, grpc=0)) as (rest, *_),
        mocking("tgis", Doors(grpc=0)) as (tgis, *_),
    ):
        urls = {"vllm": rest, "tgis": tgis, "ce": f"{collector.url}/events"}
        async with proxy(folder, config_of(folder, urls, canaries, fields), {}) as running:
            await call_all(running, canaries)
            pages = await running.pages()
        seen = running.seen
        events = "\n".join(one.line + str(one.headers) + one.body.decode() for one in collector.requests)
        return (folder / "capture.jsonl").read_text("utf-8") + events, pages + seen


@pytest.mark.parametrize(("fields", "shows"), [({}, True), (DISCREET, False), ({"fields": {"only": ["model"]}}, False)])
async def test_no_credential_and_no_hidden_field_is_captured(
    tmp_path: Path, fields: dict[str, Any], shows: bool
) -> None:
    """Without rules prompts are captured and no credential is; with rules neither is, in a file, event, log or page."""
    canaries = Canaries()
    captures, others = await captured(tmp_path, canaries, fields)
    assert captures.count('"event":"capture"') >= 9
    assert captures.count("org.kubeflow.serving.inference.response") >= 9
    found = {hit.partition(" (")[0] for hit in canaries.hits(captures + others)}
    assert found == ({"prompt", "chat", "batch", "nonsense"} if shows else set())
