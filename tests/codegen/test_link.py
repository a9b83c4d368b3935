"""The linker refuses what does not fit, at its place and with the nearest right name."""

import shutil
from pathlib import Path

import pytest

from codegen.broken_specs import BASE
from inferbridge_codegen.model.link import load_model
from inferbridge_codegen.problems import SpecError

API = "apis/base.yaml"
OPERATION = "operations/base.yaml"
CASES = {
    "wrong wire field in REST": (
        API, "map: {name: name}", "map: {nane: name}",
        "apis/base.yaml:15:41: schema Question has no field 'nane'; did you mean 'name'?",
    ),
    "wrong wire field in gRPC": (
        API, "      request: {name: name}\n      reply: {answer", "      request: {nam: name}\n      reply: {answer",
        "apis/base.yaml:19:17: message base.Question has no field 'nam'; did you mean 'name'?",
    ),
    "wrong operation field": (
        API, "answer: answer, sure: sure}\n", "answer: anser, sure: sure}\n",
        "apis/base.yaml:20:23: AskReply has no field 'anser'; did you mean 'answer'?",
    ),
    "wrong type": (
        API, "      reply: {answer: answer, sure: sure}", "      reply: {answer: answer, sure: answer}",
        "apis/base.yaml:20:31: sure is bool but answer is string",
    ),
    "wrong method": (
        API, "method: base.Service/Ask", "method: base.Service/Ash",
        "apis/base.yaml:18:15: the protos have no method 'base.Service/Ash'; did you mean 'base.Service/Ask'?",
    ),
    "wrong schema": (
        API, "schema: Question", "schema: Questoin",
        "apis/base.yaml:15:25: there is no schema 'Questoin'; did you mean 'Question'?",
    ),
    "wrong operation": (
        API, "  - name: ask", "  - name: ask\n    operation: asks",
        "apis/base.yaml:12:16: there is no operation 'asks'; did you mean 'ask'?",
    ),
    "wrong dialect": (
        API, "errors: open-inference", "errors: open-interference",
        "apis/base.yaml:1:1: errors 'open-interference' is none of open-inference, openai, caikit, grpc-status; "
        "did you mean 'open-inference'?",
    ),
    "missing proto": (
        API, "base/service.proto", "base/servise.proto",
        "apis/base.yaml:1:1: there is no proto protos/base/servise.proto",
    ),
    "wrong type of a field": (
        OPERATION, "name: {type: string,", "name: {type: Strin,",
        "operations/base.yaml:5:20: there is no type 'Strin'; did you mean 'string'?",
    ),
    "wrong API of a runtime": (
        "runtimes/base.yaml", "- api: base", "- api: bass",
        "runtimes/base.yaml:4:10: there is no API 'bass'; did you mean 'base'?",
    ),
    "wrong field that a runtime lacks": (
        "runtimes/base.yaml", "- api: base", "- api: base\n    quirks: {lacks: [nam]}",
        "runtimes/base.yaml:4:10: lacks: no operation of base has a field 'nam'; did you mean 'name'?",
    ),
    "wrong variant of a runtime": (
        "runtimes/base.yaml", "- api: base", "- api: base\n    variant: other",
        "runtimes/base.yaml:5:14: API base has no variant 'other'",
    ),
    "broken proto": (
        "protos/base/service.proto", "string name = 1;", "strin name = 1;",
        'protos/base/service.proto:10:3: "strin" is not defined.',
    ),
    "mapped twice": (
        API, "      reply: {answer: answer, sure", "      reply: {answer: answer, answer.x: answer, sure",
        "apis/base.yaml:20:31: answer is string, not a message",
    ),
    "path variable not mapped": (
        API, "paths: [/ask]", "paths: ['/ask/{who}']",
        "apis/base.yaml:15:16: path variable 'who' is not mapped; add a line path.who: …",
    ),
    "status of a string": (
        API, "reply: {schema: Answer,", "reply: {schema: Answer, status: {field: answer},",
        "apis/base.yaml:16:47: status needs a bool field, answer is string",
    ),
    "unknown converter": (
        API, "      reply: {answer: answer,", "      reply: {answer: {field: answer, converter: model_stat},",
        "apis/base.yaml:20:15: no converter 'model_stat' for string; did you mean 'model_state'?",
    ),
    "constant of a string": (
        API, "      reply: {answer: answer, sure: sure}", "      reply: {answer: {constant: true}, sure: sure}",
        "apis/base.yaml:20:15: answer is string, the constant True is not",
    ),
}  # fmt: skip


def lines_of(root: Path) -> list[str]:
    """What loading the spec folder says is wrong."""
    try:
        load_model(root)
    except SpecError as error:
        return [str(problem) for problem in error.problems]
    return []


@pytest.mark.parametrize("case", CASES)
def test_what_does_not_fit_is_named_with_its_place(case: str, tmp_path: Path) -> None:
    """One edit of a valid spec set gives exactly this line among the problems."""
    file, old, new, expected = CASES[case]
    root = Path(shutil.copytree(BASE, tmp_path / "specs"))
    text = (root / file).read_text()
    assert old in text
    (root / file).write_text(text.replace(old, new))
    assert expected in lines_of(root)


def test_the_base_set_links() -> None:
    """The set that the cases break is valid."""
    assert lines_of(BASE) == []
