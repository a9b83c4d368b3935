"""The commands: what they print, and how they end."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from inferbridge.cli import main
from packaging_sources import ROOT

INFER = {
    "method": "POST",
    "path": "/v2/models/m/infer",
    "headers": [],
    "body": '{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[0.1]}]}',
}


def run(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    result = CliRunner().invoke(main, arguments, input=stdin)
    return result.exit_code, result.stdout, result.stderr


def test_lint_finds_nothing_in_the_shipped_specs() -> None:
    """The repository's own specs are valid."""
    code, out, err = run("lint")
    assert (code, out) == (0, "")
    assert "no problems" in err


def test_lint_reports_problems_with_100(tmp_path_factory: pytest.TempPathFactory) -> None:
    """An empty spec folder is the user's input gone wrong, not a traceback."""
    code, _, err = run("lint", "--specs", str(tmp_path_factory.mktemp("specs")))
    assert code == 100
    assert "no operations, apis or runtimes with *.yaml" in err


def test_translate_takes_and_gives_json_lines() -> None:
    """One call a line in, one a line out."""
    line = json.dumps(INFER)
    code, out, _ = run(
        "translate", "--client", "open-inference/rest", "--runtime", "triton/grpc", stdin=f"{line}\n\n{line}\n"
    )
    assert code == 0
    calls = [json.loads(text) for text in out.splitlines()]
    assert len(calls) == 2
    assert calls[0]["rpc"] == "/inference.GRPCInferenceService/ModelInfer"


def test_translate_gives_errors_in_the_clients_dialect() -> None:
    """An unknown JSON field is a 400 that names its place."""
    call = {**INFER, "body": '{"inputs":[],\n "oops":1}'}
    _, out, _ = run("translate", "--client", "open-inference/rest", "--runtime", "triton/grpc", stdin=json.dumps(call))
    error = json.loads(out)["error"]
    assert error["status"] == 400
    assert "`oops`" in error["body"]
    assert "line 2, column 2" in error["body"]


def test_translate_refuses_unknown_sides_with_2() -> None:
    """A name that does not exist is a usage error that lists what does."""
    code, _, err = run("translate", "--client", "open-inference/rest", "--runtime", "tritonn/grpc")
    assert code == 2
    assert "triton" in err


def test_translate_refuses_lines_that_are_no_calls_with_100() -> None:
    """Input that is not JSON is named with its line."""
    code, _, err = run("translate", "--client", "open-inference/rest", "--runtime", "triton/grpc", stdin="\n{")
    assert code == 100
    assert "<stdin>:2:1" in err


def test_explain_shows_both_ends_of_each_field() -> None:
    """A field's place on either wire stands in one row; one that cannot cross is marked."""
    code, out, _ = run("explain", "open-inference/grpc", "kserve/grpc")
    assert code == 0
    rows = [line.split(maxsplit=4) for line in out.splitlines()]
    assert ["request", "model", "model_name", "model_name"] in rows
    assert ["request", "repository", "repository_name", "-", "[refused by name]"] in rows


def test_explain_knows_what_a_runtime_lacks() -> None:
    """What an older dialect has no place for is refused by name there, and carried to a runtime of the newer one."""
    for runtime, place in (("tgis/grpc", "-  [refused by name]"), ("vllm-nvidia/grpc", "params.decoding.regex")):
        _, out, _ = run("explain", "openai/rest", runtime)
        (line, *_) = [line for line in out.splitlines() if "request guided_regex" in line]
        assert line.split(maxsplit=3)[3] == place


def test_explain_suggests_the_nearest_name() -> None:
    """A misspelt end is a usage error with a suggestion."""
    code, _, err = run("explain", "open-inference/rest", "trition/grpc")
    assert code == 2
    assert "did you mean 'triton/grpc'?" in err


def test_matrix_says_what_clients_find_at_runtimes() -> None:
    """Text has a line for each runtime and client API with the operations that cross."""
    _, text, _ = run("matrix")
    cells = {tuple(line.split()[:2]): line.split(maxsplit=2)[2] for line in text.splitlines()}
    assert "generate" in cells["tgis", "openai"].split(", ")
    assert "infer" in cells["triton", "open-inference"].split(", ")


def test_matrix_as_json_has_all_pairs() -> None:
    """JSON has the pairs of one API and those across APIs, and the fields that are lost."""
    _, form, _ = run("matrix", "--format", "json")
    pairs = json.loads(form)
    assert all(pair["endpoints"] for pair in pairs)
    crossing = {(pair["client"], pair["runtime"]) for pair in pairs}
    assert {
        ("openai/rest", "tgis/grpc"),
        ("tgis/grpc", "vllm-amd/rest"),
        ("open-inference/grpc", "ovms/rest"),
    } <= crossing
    kserve = next(pair for pair in pairs if (pair["client"], pair["runtime"]) == ("open-inference/rest", "kserve/grpc"))
    assert kserve["endpoints"]["model_load"] == ["parameters"]


def test_the_readme_shows_the_matrix_of_the_specs() -> None:
    """README's table is what `make generate` writes there."""
    _, table, _ = run("matrix", "--format", "markdown")
    block = (ROOT / "README.md").read_text().partition("<!-- matrix -->\n")[2].partition("<!-- /matrix -->")[0]
    assert block == table, "run: make generate"


def test_matrix_refuses_a_file_without_a_block(tmp_path: Path) -> None:
    """A file without the two marking lines stays as it is."""
    place = tmp_path / "text.md"
    place.write_text("nothing\n")
    code, _, err = run("matrix", "--into", str(place))
    assert (code, place.read_text()) == (2, "nothing\n")
    assert "<!-- matrix -->" in err


def test_proxy_check_refuses_an_open_listener() -> None:
    """Other machines may connect only when the user says that nobody is authenticated."""
    code, _, err = run("proxy", "--check", "--listen", "0.0.0.0:0", "--upstream", "triton=grpc://127.0.0.1:8001")
    assert code == 100
    assert "--allow-unauthenticated" in err


def test_proxy_check_accepts_the_simple_case() -> None:
    """One listener and one upstream need no file."""
    code, _, _ = run("proxy", "--check", "--listen", "127.0.0.1:0", "--upstream", "triton=grpc://127.0.0.1:8001")
    assert code == 0


@pytest.mark.parametrize("count", [1, 5000])
def test_places_are_those_of_the_body_as_sent(count: int) -> None:
    """Where an unknown field stands does not depend on how large the tensor before it is."""
    data = ",".join(["0.5"] * count)
    text = f'{{"inputs":[{{"name":"x","shape":[{count}],"datatype":"FP32","data":[{data}],"oops":1}}]}}'
    result = json.dumps({**INFER, "body": text})
    _, out, _ = run("translate", "--client", "open-inference/rest", "--runtime", "triton/grpc", stdin=result)
    assert f"line 1, column {text.index('oops')}" in json.loads(out)["error"]["body"]
