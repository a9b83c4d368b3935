"""`inferbridge import`: where from, where to, and how it ends."""

import asyncio
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from inferbridge.cli import main
from inferbridge.mock.serving import Doors, mocking
from inferbridge_codegen.places import default_specs
from inferbridge_codegen.problems import Mark, Problems
from inferbridge_codegen.protos.compile import compile_folder

PROTO = 'syntax = "proto3";\npackage a;\nservice S { rpc Do(M) returns (M); }\nmessage M { string text = 1; }\n'
OPENAPI = {"openapi": "3.0.0", "paths": {"/ping": {"get": {"responses": {"200": {}}}}}}


def run(*arguments: str) -> Result:
    """The result of an import."""
    return CliRunner().invoke(main, ["import", *arguments])


def test_files_are_named_on_stdout_and_questions_on_stderr(tmp_path: Path) -> None:
    """What was written is data, what is to decide is talk; the name comes from the file unless it is given."""
    (tmp_path / "some_thing.proto").write_text(PROTO)
    out = tmp_path / "specs"
    result = run(str(tmp_path / "some_thing.proto"), "--out", str(out))
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        str(out / path) for path in ("protos/some_thing.proto", "apis/some-thing.yaml", "runtimes/some-thing.yaml")
    ]
    assert "3 things are left to decide" in result.stderr
    named = run(str(tmp_path / "some_thing.proto"), "--out", str(out), "--name", "Other", "--force")
    assert str(out / "apis/other.yaml") in named.stdout


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    """Where one file is in the way none is written; --force writes them all."""
    (tmp_path / "a.proto").write_text(PROTO)
    out = tmp_path / "specs"
    (out / "runtimes").mkdir(parents=True)
    (out / "runtimes" / "a.yaml").write_text("mine")
    result = run(str(tmp_path / "a.proto"), "--out", str(out))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "a.yaml would be overwritten" in result.stderr
    assert not (out / "apis").exists()
    assert run(str(tmp_path / "a.proto"), "--out", str(out), "--force").exit_code == 0
    assert "runtime: a" in (out / "runtimes" / "a.yaml").read_text()


@contextmanager
def web(body: bytes) -> Iterator[str]:
    """A server with one document."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/openapi.json" else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/openapi.json"
        finally:
            server.shutdown()
            thread.join()


def test_an_openapi_document_is_fetched(tmp_path: Path) -> None:
    """From a URL, as from a file; one that cannot be fetched is a failure."""
    with web(json.dumps(OPENAPI).encode()) as url:
        result = run(url, "--out", str(tmp_path), "--name", "web")
        assert result.exit_code == 0, result.stderr
        assert 'paths: ["/ping"]' in (tmp_path / "apis" / "web.yaml").read_text()
        result = run(url.replace("openapi", "nothing"))
        assert result.exit_code == 1
        assert "404" in result.stderr


async def test_a_server_tells_of_itself_by_reflection(tmp_path: Path) -> None:
    """All services of a server, with protos that mean the same as those that it was made of."""
    async with mocking("caikit-tgis", Doors(rest=0, grpc=0)) as urls:
        url = next(each for each in urls if each.startswith("grpc"))
        result = await asyncio.to_thread(run, url, "--out", str(tmp_path), "--name", "theirs")
    assert result.exit_code == 0, result.stderr
    text = (tmp_path / "apis" / "theirs.yaml").read_text()
    assert "method: caikit.runtime.Nlp.NlpService/ServerStreamingTextGenerationTaskPredict" in text
    assert 'operation: "??? generate?' in text
    assert f"grpc: {url.rpartition(':')[2]}" in (tmp_path / "runtimes" / "theirs.yaml").read_text()
    name = "caikit/nlp_service.proto"
    first, second = (
        compile_folder(folder / "protos", [name], Problems(), Mark("a", 1, 1)) for folder in (default_specs(), tmp_path)
    )
    assert first is not None
    assert second is not None
    for found in (*first.file, *second.file):
        found.ClearField("source_code_info")
    assert list(second.file) == list(first.file)


@pytest.mark.parametrize(
    ("name", "content", "code", "said"),
    [
        ("a.proto", b"message", 100, "a.proto:1:"),
        ("a.proto", b'syntax = "proto3";', 100, "has no endpoint"),
        ("a.json", b"[]", 100, "not an OpenAPI document"),
        ("a.json", None, 1, "cannot read"),
    ],
)
def test_what_cannot_be_imported(tmp_path: Path, name: str, content: bytes | None, code: int, said: str) -> None:
    """100 for input that is wrong, 1 for input that is not there."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    result = run(str(tmp_path / name), "--out", str(tmp_path / "specs"))
    assert result.exit_code == code
    assert said in result.stderr


def test_a_server_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    """Nobody listens."""
    result = run("grpc://127.0.0.1:1", "--out", str(tmp_path))
    assert result.exit_code == 1
    assert "connection refused" in result.stderr
