"""A .proto written from descriptors is the .proto they came from, as far as the wire and its clients can tell."""

from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from inferbridge_codegen.importing.proto_text import proto_text
from inferbridge_codegen.places import default_specs
from inferbridge_codegen.problems import Mark, Problems
from inferbridge_codegen.protos.compile import compile_folder

WHERE = Mark("a", 1, 1)
SHIPPED = sorted(
    path.relative_to(default_specs() / "protos").as_posix() for path in (default_specs() / "protos").rglob("*.proto")
)
OLDER = """\
syntax = "proto2";
package older;
message M {
  required string name = 1;
  optional int32 count = 2 [default = 7];
  optional string text = 3 [default = "a\\"b"];
  repeated int64 packed = 4 [packed = true];
  optional double old = 5 [deprecated = true];
  reserved 8, 10 to 12;
  reserved "gone";
  enum Kind { option allow_alias = true; A = 0; B = 1; C = 1; }
  optional Kind kind = 6;
}
"""


def compiled(folder: Path, name: str) -> FileDescriptorSet:
    """The descriptors of a file and what it imports, without places and comments."""
    problems = Problems()
    found = compile_folder(folder, [name], problems, WHERE)
    assert found is not None, problems.sorted()
    for file in found.file:
        file.ClearField("source_code_info")
    return found


def rewritten(found: FileDescriptorSet, folder: Path) -> None:
    """Write all files of a set as text."""
    for file in found.file:
        place = folder / file.name
        place.parent.mkdir(parents=True, exist_ok=True)
        if not file.name.startswith("google/protobuf/"):
            place.write_text(proto_text(file))


@pytest.mark.parametrize("name", SHIPPED)
def test_text_of_descriptors_compiles_to_the_same(name: str, tmp_path: Path) -> None:
    """Each shipped proto, compiled, written as text and compiled again, has the same descriptors."""
    first = compiled(default_specs() / "protos", name)
    rewritten(first, tmp_path)
    second = compiled(tmp_path, name)
    for file in (*first.file, *second.file):
        file.ClearField("options")  # of languages
    assert second == first


def test_proto2_keeps_labels_defaults_and_reserved_numbers(tmp_path: Path) -> None:
    """What only proto2 has is written too."""
    folder = tmp_path / "first"
    folder.mkdir()
    (folder / "older.proto").write_text(OLDER)
    first = compiled(folder, "older.proto")
    rewritten(first, tmp_path)
    assert compiled(tmp_path, "older.proto") == first


def test_other_syntaxes_are_refused() -> None:
    """An edition is not guessed at."""
    with pytest.raises(ValueError, match="editions, which cannot be imported"):
        proto_text(FileDescriptorProto(name="a.proto", syntax="editions"))
