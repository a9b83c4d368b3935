"""`inferbridge replay` against a gateway and against runtimes of another protocol: same answers, and what differs."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from mitmproxy import contentviews

from inferbridge.cli import main
from inferbridge.inspect.views import GrpcJsonView
from inferbridge.mock.serving import Doors, mocking
from recorded_flows import JSON, flow_of, recorded, recorded_rpc, written
from recorded_gateway import gateway

PROMPT = {"model": "m", "prompt": "to be or", "stream": True}
TGIS = "/fmaas.GenerationService/Generate"
ASKED = '{"model_id":"m","requests":[{"text":"to be or"}]}'


async def replay(*arguments: str) -> Result:
    """What `inferbridge replay` did."""
    result = await asyncio.to_thread(CliRunner().invoke, main, ["replay", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


async def test_a_gateway_answers_again_as_it_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """REST streamed and gRPC, each with the same answer, in either direction of the comparison."""
    async with gateway(tmp_path, monkeypatch) as address:
        flows = [
            await recorded(f"http://{address}", "POST", "/v1/completions", json.dumps(PROMPT).encode()),
            await recorded_rpc(f"grpc://{address}", "tgis", TGIS, ASKED),
        ]
        file = str(written(tmp_path / "x.flows", flows))
        for arguments in ((), ("--to", f"http://{address}")):
            same = await replay(file, "--diff", *arguments)
            assert (same.exit_code, same.stderr) == (0, "")
            assert same.stdout == f"call 1: POST /v1/completions: the same\ncall 2: POST {TGIS}: the same\n"
        both = await replay(file, "--filter", "op:generate api:tgis")
    assert both.exit_code == 0
    title, before, now = both.stdout.splitlines()
    assert title == f"call 2: POST {TGIS}"
    assert before.removeprefix("  recorded  ") == now.removeprefix("  now       ")
    assert before.startswith('  recorded  OK  {"responses": [{"')


async def test_another_runtime_is_asked_the_same_over_its_own_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a gRPC runtime answered, a REST one answers with the same text; --diff names what is not the same."""
    async with gateway(tmp_path, monkeypatch) as address:
        flow = await recorded(f"http://{address}", "POST", "/v1/completions", json.dumps(PROMPT).encode())
        rpc = await recorded_rpc(f"grpc://{address}", "tgis", TGIS, ASKED)
    file = str(written(tmp_path / "x.flows", [flow, rpc]))
    for runtime, scheme in (("vllm-amd", "http"), ("tgis", "grpc")):
        async with mocking(runtime, Doors(rest=0, grpc=0)) as urls:
            place = f"{runtime}={next(url for url in urls if url.startswith(scheme))}"
            same = await replay(file, "--to", place, "--diff", "--lossy")
            assert same.stderr == ""
            assert same.stdout.startswith("call 1: POST /v1/completions: ")
            assert "text" not in same.stdout
            assert "status" not in same.stdout
            other = await replay(file, "--to", place, "--diff", "--filter", "api:openai", "--edit", 'prompt="not"')
            assert other.exit_code == 1
            assert 'answer.choices[0].text: "to be or" -> "not"' in other.stdout


async def test_edits_reach_the_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed prompt has another answer, over REST and gRPC; a wrong name is an error before anything is sent."""
    async with gateway(tmp_path, monkeypatch) as address:
        flow = await recorded(f"http://{address}", "POST", "/v1/completions", json.dumps(PROMPT).encode())
        rpc = await recorded_rpc(f"grpc://{address}", "tgis", TGIS, ASKED)
        for one, edit in ((flow, 'prompt="question"'), (rpc, 'requests[0].text="question"')):
            file = str(written(tmp_path / "x.flows", [one]))
            changed = await replay(file, "--edit", edit, "--diff")
            assert changed.exit_code == 1
            assert '"to be or" -> "question"' in changed.stdout
    wrong = await replay(file, "--edit", "requests[0].txt=1")
    assert (wrong.exit_code, wrong.stdout) == (100, "")
    assert "requests[0] has no field 'txt'; did you mean 'text'?" in wrong.stderr


async def test_what_was_edited_in_mitmproxy_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that somebody has changed in a view, and saved, is answered as it now stands."""
    async with gateway(tmp_path, monkeypatch) as address:
        flow = await recorded_rpc(f"grpc://{address}", "tgis", TGIS, ASKED)
        view, metadata = GrpcJsonView(), contentviews.make_metadata(flow.request, flow)
        text = view.prettify(flow.request.content or b"", metadata)
        flow.backup()
        flow.request.content = view.reencode(text.replace("to be or", "edited"), metadata)
        result = await replay(str(written(tmp_path / "x.flows", [flow])), "--diff")
    assert 'answer.responses[0].text: "to be or" -> "edited"' in result.stdout


async def test_hidden_credentials_are_given_or_told_of(tmp_path: Path) -> None:
    """`***` is never sent as a credential."""
    seen = []
    async with mocking("vllm-amd", Doors(rest=0, grpc=0), observer=seen.append) as urls:
        url = next(each for each in urls if each.startswith("http"))
        body = json.dumps({**PROMPT, "stream": False}).encode()
        headers = (*JSON, ("authorization", "Bearer ***"))
        file = str(
            written(tmp_path / "x.flows", [flow_of("POST", "/v1/completions?key=***&a=1", body, headers, url=url)])
        )
        without = await replay(file)
        assert "sent without authorization: its value was not recorded" in without.stderr
        assert "sent without key: its value was not recorded" in without.stderr
        await replay(file, "-H", "Authorization: Bearer mine")
    found = [[value for name, value in one.call.headers if name == "authorization"] for one in seen]
    assert found == [[], ["Bearer mine"]]
    assert {one.call.path for one in seen} == {"/v1/completions?a=1"}


async def test_a_runtime_that_does_not_answer_is_a_failure(tmp_path: Path) -> None:
    """The recorded answer, why there is no new one, and exit code 1."""
    file = str(written(tmp_path / "x.flows", [flow_of(reply=b"{}")]))
    result = await replay(file, "--to", "http://127.0.0.1:1")
    assert result.exit_code == 1
    assert "connection refused" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--to", "grpc://127.0.0.1:1"), 100, "it is a REST call; say which runtime is there"),
        (("--to", "trtn=http://127.0.0.1:1"), 2, "there is no such runtime"),
        (("--edit", "x"), 2, "expected PATH=JSON"),
        (("--filter", "x:1"), 2, "column 1"),
        (("--side", "runtime"), 1, "no call of it could be used"),
    ],
)
async def test_exit_codes(tmp_path: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    """2 for a command that makes no sense, 100 for calls that cannot be sent, 1 when there is nothing to do."""
    result = await replay(str(written(tmp_path / "x.flows", [flow_of(body=b"{}")])), *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr
