"""Skeletons: what is read off an interface, what is asked, and that a decided one is a spec."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from inferbridge_codegen.importing.sources import Imported, from_openapi, from_proto
from inferbridge_codegen.model.link import load_model
from inferbridge_codegen.places import default_specs
from inferbridge_codegen.problems import SpecError

PROTO = """\
syntax = "proto3";
package acme;
import "acme/parts.proto";
service Writer {
  rpc Write(Ask) returns (Told);
  rpc WriteStream(Ask) returns (stream Told);
  rpc Talk(stream Ask) returns (Told);
}
message Ask {
  string model = 1;
  string prompt = 2;
  Limits limits = 3;
  map<string, string> labels = 4;
  Ask again = 5;
  sint32 odd = 6;
}
message Told {
  string text = 1;
  repeated Part parts = 2;
  Reason stop_reason = 3;
}
enum Reason {
  NOT_FINISHED = 0;
  MAX_TOKENS = 1;
}
"""
PARTS = """\
syntax = "proto3";
package acme;
message Limits { int32 max_tokens = 1; repeated string stop_sequences = 2; }
message Part { string piece = 1; }
"""
OPENAPI: dict[str, Any] = {
    "openapi": "3.1.0",
    "servers": [{"url": "http://localhost:9000"}],
    "paths": {
        "/v1/write/{model}": {
            "parameters": [{"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}],
            "post": {
                "operationId": "writeText",
                "parameters": [
                    {"name": "trace", "in": "query"},
                    {"name": "X-Tenant", "in": "header"},
                    {"name": "session", "in": "cookie"},
                ],
                "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Ask"}}}},
                "responses": {
                    "200": {
                        "content": {
                            "application/json": {"schema": {"$ref": "#/components/schemas/Told"}},
                            "text/event-stream": {"schema": {"$ref": "#/components/schemas/Told"}},
                        }
                    }
                },
            },
        },
        "/health": {"get": {"responses": {"200": {"content": {"application/json": {}}}}}},
        "/files/{name}.txt": {"get": {"responses": {"200": {}}}},
    },
    "components": {
        "schemas": {
            "Ask": {
                "type": "object",
                "required": ["prompt"],
                "properties": {
                    "prompt": {"type": "string"},
                    "stream": {"type": ["boolean", "null"]},
                    "max_tokens": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                    "temperature": {"type": "number", "nullable": True},
                    "stop": {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
                    "mode": {"type": "string", "enum": ["greedy", "sample"]},
                    "options": {"type": "object", "properties": {"top-k": {}, "n": {"type": "integer"}}},
                    "extra": {"type": "object", "additionalProperties": True},
                },
            },
            "Told": {
                "type": "object",
                "properties": {"texts": {"type": "array", "items": {"$ref": "#/components/schemas/Piece"}}},
            },
            "Piece": {
                "type": "object",
                "properties": {
                    "text": {"type": "string"},
                    "scores": {"type": "array", "items": {"type": "number"}},
                    "inner": {"$ref": "#/components/schemas/Piece"},
                },
            },
        }
    },
}


@pytest.fixture
def of_proto(tmp_path: Path) -> Imported:
    """The skeleton of a proto that imports another."""
    folder = tmp_path / "acme"
    folder.mkdir()
    (folder / "writer.proto").write_text(PROTO)
    (folder / "parts.proto").write_text(PARTS)
    return from_proto(folder / "writer.proto", tmp_path, "acme")


def openapi(document: Any = OPENAPI) -> str:
    """The API file of a document."""
    return from_openapi(json.dumps(document).encode(), "openapi.json", "acme").files["apis/acme.yaml"]


def test_a_proto_brings_what_it_imports(of_proto: Imported) -> None:
    """All files that the API needs are in the folder, each once, and the runtime is named."""
    assert list(of_proto.files) == [
        "protos/acme/parts.proto",
        "protos/acme/writer.proto",
        "apis/acme.yaml",
        "runtimes/acme.yaml",
    ]
    assert "protos: [acme/writer.proto]" in of_proto.files["apis/acme.yaml"]
    assert "- api: acme" in of_proto.files["runtimes/acme.yaml"]


def test_every_place_of_a_message_is_asked_for(of_proto: Imported) -> None:
    """Nested and repeated fields have places, with the guess of how others map such a name; enums have tables."""
    text = of_proto.files["apis/acme.yaml"]
    for line in (
        '    operation: "??? generate? which of the operations?"',
        "    mode: stream",
        '        prompt: "??? prompts[0]? (string)"',
        '        limits.max_tokens: "??? max_tokens? (int32)"',
        '        limits.stop_sequences: "??? stop_sequences? (list<string>)"',
        '        text: "??? choices[0].text? (string)"',
        '        "parts[].piece": "??? which field of the operation? (string)"',
        '        stop_reason: {field: "??? choices[0].finish_reason? (Reason)", enum: reason}',
        '    of: "??? finish_reason? which enum of the operations?"',
        '      MAX_TOKENS: "??? max_tokens? a value of that enum"',
    ):
        assert line in text.splitlines()


def test_what_the_language_cannot_say_is_named(of_proto: Imported) -> None:
    """Streaming clients, maps, messages in themselves and rare numbers are comments, not silence."""
    notes = re.findall(r"# Left out: (.*)", of_proto.files["apis/acme.yaml"])
    assert notes[0] == "acme.Writer/Talk, whose client streams"
    assert {"labels, a map", "again, acme.Ask within itself"} <= set(notes)
    assert "odd, of a number type that no mapping line takes" in notes


def test_a_skeleton_is_refused_and_a_decided_one_is_a_spec(of_proto: Imported, tmp_path: Path) -> None:
    """Lint names each question with its place and nothing else; with guesses taken and the rest cut it is content."""
    own = tmp_path / "own"
    for path, text in of_proto.files.items():
        (own / path).parent.mkdir(parents=True, exist_ok=True)
        (own / path).write_text(text)
    with pytest.raises(SpecError) as caught:
        load_model(default_specs(), own)
    assert len(caught.value.problems) == of_proto.questions
    assert all("is still to decide" in problem.message for problem in caught.value.problems)
    assert caught.value.problems[0].mark.file == f"{own}/apis/acme.yaml"
    lines = (own / "apis/acme.yaml").read_text().splitlines()
    kept = [line for line in lines if "which field of" not in line]
    (own / "apis/acme.yaml").write_text("\n".join(re.sub(r'"\?\?\? (\S+)\? .*?"', r'"\1"', line) for line in kept))
    model = load_model(default_specs(), own)
    assert "acme" in [api.name for api in model.apis]
    assert "acme" in [runtime.name for runtime in model.runtimes]


def test_a_broken_proto_is_told_with_its_place(tmp_path: Path) -> None:
    """What protoc says is said, with line and column."""
    (tmp_path / "bad.proto").write_text('syntax = "proto3";\nmessage {}\n')
    with pytest.raises(SpecError, match=r"bad\.proto:2:9: "):
        from_proto(tmp_path / "bad.proto", tmp_path, "bad")


def test_an_openapi_document_gives_schemas_and_places() -> None:
    """Required and nullable fields, lists, objects and texts of some words; variables, queries and headers."""
    text = openapi()
    for line in (
        "  - name: write_text",
        "    mode: either",
        '      paths: ["/v1/write/{model}"]',
        '          path.model: "??? model? (string)"',
        '          header.x-tenant: "??? which field of the operation? (string)"',
        "    prompt: {type: string, required: true}",
        "    stream: {type: bool}",
        "    max_tokens: {type: int64}",
        "    temperature: {type: double}",
        "    stop: {type: any}",
        "    extra: {type: any}",
        "    texts: {type: list<Piece>}",
        "    scores: {type: list<double>}",
        '          mode: {field: "??? which field of the operation? (string)", enum: mode}',
        '          options.n: "??? n? (int64)"',
        '          "texts[].scores": "??? which field of the operation? (list<double>)"',
        '      greedy: "??? greedy? a value of that enum"',
        'errors: "??? how errors look: open-inference, openai or caikit"',
    ):
        assert line in text.splitlines(), text
    assert "texts[].inner" not in text


def test_what_openapi_cannot_be_carried_is_named() -> None:
    """Cookies, variables within a segment, names that are none."""
    notes = re.findall(r"# Left out: (.*)", openapi())
    assert "parameter 'session' in cookie" in notes
    assert any("/files/{name}.txt" in note for note in notes)
    assert any("top-k" in note for note in notes)


def test_an_openapi_skeleton_has_no_problem_but_its_questions(tmp_path: Path) -> None:
    """All that is wrong with it is what is left to decide."""
    imported = from_openapi(json.dumps(OPENAPI).encode(), "openapi.json", "acme")
    assert imported.files["runtimes/acme.yaml"].endswith("ports: {rest: 9000}\n")
    for path, text in imported.files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    with pytest.raises(SpecError) as caught:
        load_model(default_specs(), tmp_path)
    assert len(caught.value.problems) == imported.questions


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"{}", "not an OpenAPI document"),
        (b'{"openapi": "2.0", "paths": {}}', "not an OpenAPI document"),
        (b'{"openapi": "3.1.0"}', "has no endpoint"),
        (b"{", "neither JSON nor YAML"),
        (b"a: [", "neither JSON nor YAML"),
        (b"- a", "not an OpenAPI document"),
    ],
)
def test_what_is_no_document_is_refused(text: bytes, said: str) -> None:
    """With words that say what it is not."""
    with pytest.raises(ValueError, match=said):
        from_openapi(text, "x", "x")


def test_yaml_is_read_too() -> None:
    """An OpenAPI document in YAML."""
    text = b"openapi: 3.0.3\npaths: {/ping: {get: {responses: {200: {description: ok}}}}}\n"
    assert 'paths: ["/ping"]' in from_openapi(text, "x", "x").files["apis/x.yaml"]
