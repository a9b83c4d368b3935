"""`inferbridge call` against mocked runtimes: straight and translated, whole and streamed."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from inferbridge.bridge.errors import Code
from inferbridge.cli import main
from inferbridge.config.values import Listener, Settings, Upstream
from inferbridge.mock.exchange import Seen
from inferbridge.mock.runtime import NO_SCENARIO
from inferbridge.mock.script import Failure, Scenario, Script
from inferbridge.mock.serving import Doors, mocking
from inferbridge.run import running
from inferbridge.upstream.address import parse_address

CHAT = {"model": "m", "messages": [{"role": "user", "content": "to be or"}]}
TGIS = {"model_id": "m", "request": {"text": "to be or"}}
PROMPT = {"model": "m", "prompt": "to be or"}


async def run(
    runtime: str, protocol: str, *arguments: str, named: bool = True, stdin: str = "", scenario: Scenario = NO_SCENARIO
) -> tuple[int, list[Any], str, list[Seen]]:
    """Exit code, messages, stderr and what the mock saw of a call to one of its ports."""
    seen: list[Seen] = []
    async with mocking(runtime, Doors(rest=0, grpc=0), scenario, seen.append) as urls:
        url = next(each for each in urls if each.startswith("http" if protocol == "rest" else "grpc"))
        place = f"{runtime}={url}" if named else url
        command = ["call", *arguments, "--to", place]
        result = await asyncio.to_thread(CliRunner().invoke, main, command, input=stdin)
    assert not result.exception or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, [json.loads(line) for line in result.stdout.splitlines()], result.stderr, seen


async def test_the_answer_of_a_rest_endpoint_is_printed() -> None:
    """The body as it came; headers reach the runtime, credentials too."""
    code, (answer,), err, seen = await run(
        "vllm-amd", "rest", "openai/chat", "-d", json.dumps(CHAT), "-H", "Authorization: Bearer x", named=False
    )
    assert (code, err) == (0, "")
    assert answer["choices"][0]["message"]["content"] == "to be or"
    call = seen[0].call
    assert ("authorization", "Bearer x") in getattr(call, "headers", ())


async def test_each_message_of_a_stream_is_a_line() -> None:
    """Over gRPC messages become JSON; events lose their frames, and the mark of the end is no message."""
    code, messages, err, _ = await run("tgis", "grpc", "tgis/generate_stream", "-d", json.dumps(TGIS), named=False)
    assert (code, err) == (0, "")
    assert [message.get("text", "") for message in messages] == ["", "to", " be", " or", ""]
    assert messages[-1]["stop_reason"] == "EOS_TOKEN"
    code, messages, err, _ = await run(
        "vllm-amd", "rest", "openai/completions", "-d", json.dumps({**PROMPT, "stream": True})
    )
    assert (code, err) == (0, "")
    assert [message["choices"][0]["text"] for message in messages] == ["to", " be", " or", ""]


async def test_a_call_is_translated_for_a_runtime_that_speaks_something_else() -> None:
    """A stream of OpenAI's from a gRPC runtime, a TGIS stream from a REST runtime: same words, the client's form."""
    code, messages, err, seen = await run(
        "tgis", "grpc", "openai/completions", "-d", json.dumps({**PROMPT, "stream": True}), "-H", "Authorization: k"
    )
    assert (code, err) == (0, "")
    assert [message["choices"][0]["text"] for message in messages] == ["to", " be", " or", ""]
    assert seen[0].match.endpoint.name == "generate_stream"
    assert ("authorization", "k") in getattr(seen[0].call, "metadata", ())
    code, messages, _, seen = await run("vllm-amd", "rest", "tgis/generate_stream", "-d", json.dumps(TGIS))
    assert code == 0
    assert "".join(message.get("text", "") for message in messages) == "to be or"
    assert seen[0].match.endpoint.name == "completions"


async def test_a_gateway_is_called_in_the_other_protocol_of_any_endpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A REST endpoint over gRPC, a gRPC endpoint as plain JSON, whole and streamed: a gateway offers both of each."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    async with mocking("vllm-amd", Doors(rest=0, grpc=0)) as urls:
        upstreams = tuple(Upstream(f"u{at}", "vllm-amd", parse_address(url)) for at, url in enumerate(urls))
        async with running(Settings(listen=(Listener("127.0.0.1", 0),), upstreams=upstreams)) as address:
            found = []
            for endpoint, scheme, data in (
                ("openai/completions", "grpc", PROMPT),
                ("openai/completions", "grpc", {**PROMPT, "stream": True}),
                ("tgis/generate", "http", {"model_id": "m", "requests": [{"text": "to be or"}]}),
                ("tgis/generate_stream", "http", TGIS),
            ):
                command = ["call", endpoint, "-d", json.dumps(data), "--to", f"{scheme}://{address}"]
                result = await asyncio.to_thread(CliRunner().invoke, main, command)
                assert result.exit_code == 0, result.stderr
                found.append([json.loads(line) for line in result.stdout.splitlines()])
    whole, streamed, replies, messages = found
    assert whole[0]["choices"][0]["text"] == "to be or"
    assert "".join(chunk["choices"][0].get("text", "") for chunk in streamed) == "to be or"
    assert replies[0]["responses"][0]["text"] == "to be or"
    assert "".join(message.get("text", "") for message in messages) == "to be or"
    assert min(len(streamed), len(messages)) > 3


async def test_verbose_shows_both_sides() -> None:
    """What the client says and gets, and what the runtime gets and says; stdout stays the answer alone."""
    code, (answer,), err, _ = await run(
        "mlserver",
        "grpc",
        *("open-inference/infer", "-p", "model=m", "--as", "rest", "-v"),
        *("-d", '{"inputs":[{"name":"x","shape":[1],"datatype":"INT64","data":[7]}]}'),
    )
    assert code == 0
    assert answer["outputs"][0]["data"] == [7]
    lines = err.splitlines()
    assert "client  > POST /v2/models/m/infer" in lines
    assert "runtime > POST /inference.GRPCInferenceService/ModelInfer" in lines
    assert any(line.startswith('runtime > {"model_name":"m"') for line in lines)
    assert any(line.startswith('runtime < {"model_name":"m"') for line in lines)
    assert "client  < 200" in lines


async def test_a_chat_needs_a_template_where_the_runtime_takes_prompts(tmp_path: Path) -> None:
    """Without one the call is refused as the proxy would; with one the runtime gets the prompt."""
    code, messages, err, _ = await run("tgis", "grpc", "openai/chat", "-d", json.dumps(CHAT))
    assert (code, messages) == (1, [])
    assert "HTTP 400" in err
    assert "chat template" in err
    template = tmp_path / "chat.jinja"
    template.write_text("{% for message in messages %}{{ message.role }}: {{ message.content }}{% endfor %}")
    code, messages, err, _ = await run(
        "tgis", "grpc", "openai/chat", "-d", json.dumps(CHAT), "--chat-template", str(template)
    )
    assert (code, err) == (0, "")
    assert messages[0]["choices"][0]["message"]["content"] == "user: to be or"


async def test_what_cannot_cross_is_refused_or_dropped() -> None:
    """A field that the runtime cannot express is an error that names it; with --lossy it is dropped."""
    data = json.dumps({**PROMPT, "logit_bias": {"1": 1}})
    code, _, err, seen = await run("tgis", "grpc", "openai/completions", "-d", data)
    assert (code, seen) == (1, [])
    assert "logit_bias" in err
    code, messages, err, _ = await run("tgis", "grpc", "openai/completions", "-d", data, "--lossy", "-v")
    assert code == 0
    assert messages[0]["choices"][0]["text"] == "to be or"
    assert "client  < x-inferbridge-lost: logit_bias" in err


@pytest.mark.parametrize("after", [0, 2])
async def test_errors_of_the_runtime_are_failures(after: int) -> None:
    """An error answer, and one in the middle of a stream: on stderr, exit code 1, and what came before on stdout."""
    scenario = Scenario(Script(error=Failure(Code.UNAVAILABLE, after)))
    for runtime, protocol, endpoint, data in (
        ("vllm-amd", "rest", "openai/completions", {**PROMPT, "stream": True}),
        ("tgis", "grpc", "tgis/generate_stream", TGIS),
        ("tgis", "grpc", "openai/completions", {**PROMPT, "stream": True}),
        ("caikit-tgis", "rest", "caikit/server_streaming_text_generation", {"inputs": "to be or", "model_id": "m"}),
    ):
        code, messages, err, _ = await run(runtime, protocol, endpoint, "-d", json.dumps(data), scenario=scenario)
        assert code == 1, (endpoint, err)
        assert bool(messages) == bool(after)
        assert "UNAVAILABLE, as the mock was told" in err


async def test_data_comes_from_a_file_or_from_stdin(tmp_path: Path) -> None:
    """`@file` and `-` stand for what is in them."""
    file = tmp_path / "request.json"
    file.write_text(json.dumps(PROMPT))
    for data, stdin in ((f"@{file}", ""), ("-", json.dumps(PROMPT))):
        code, (answer,), _, _ = await run("vllm-amd", "rest", "openai/completions", "-d", data, stdin=stdin)
        assert (code, answer["choices"][0]["text"]) == (0, "to be or")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("openai/nothing", "--to", "http://127.0.0.1:1"), 2, "there is no endpoint"),
        (("openai/chat", "--to", "tgi=http://127.0.0.1:1"), 2, "did you mean 'tgis'?"),
        (("openai/chat", "--to", "http://127.0.0.1:1", "-d", "@/no/such"), 2, "cannot read /no/such"),
        (("openai/chat", "--to", "http://127.0.0.1:1", "-H", "x"), 2, "must be name:value"),
        (("openai/chat", "--to", "http://127.0.0.1:1", "-H", "x: a\r\ny: b"), 2, "must be name:value"),
        (("tgis/generate", "--to", "grpc://127.0.0.1:1", "-d", "{"), 100, "not valid JSON"),
        (("tgis/generate", "--to", "grpc://127.0.0.1:1", "-d", '{"x":1}'), 100, "no such field"),
        (("tgis/generate", "--to", "grpc://127.0.0.1:1"), 1, "connection refused"),
    ],
)
def test_exit_codes(arguments: tuple[str, ...], code: int, said: str) -> None:
    """2 for a command that makes no sense, 100 for a request that is wrong, 1 for a call that failed."""
    result = CliRunner().invoke(main, ["call", *arguments])
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr
