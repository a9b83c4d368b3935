"""protoc behind `compile_protos`: what it gives, and how its complaints reach the user."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from inferbridge_codegen.problems import Mark, Problems
from inferbridge_codegen.protos.compile import compile_protos

type Compile = Callable[..., tuple[FileDescriptorSet | None, list[str]]]

HEAD = 'syntax = "proto3";\npackage demo;\n'
WHERE = "apis/some.yaml:3:5"


def _problems(root: Path, *names: str) -> list[str]:
    problems = Problems()
    assert compile_protos(root, names, problems, Mark("apis/some.yaml", 3, 5)) is None
    return [str(problem) for problem in problems.sorted()]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A spec folder with one good proto, beside a folder with another."""
    for folder in ("specs/protos", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "good.proto").write_text(HEAD + "message Good {}\n", encoding="utf-8")
    return tmp_path / "specs"


def test_imports_come_before_what_imports_them(compile_texts: Compile) -> None:
    """A set holds all that its files import, protoc's own protos too, in an order a pool can take."""
    top = HEAD + 'import "below.proto";\nimport "google/protobuf/struct.proto";\n'
    top += "message Top { Below below = 1; google.protobuf.Struct struct = 2; }\n"
    descriptors, problems = compile_texts({"top.proto": top, "below.proto": HEAD + "message Below {}\n"}, "top.proto")
    assert problems == []
    assert descriptors is not None
    assert [file.name for file in descriptors.file] == ["below.proto", "google/protobuf/struct.proto", "top.proto"]


def test_comments_are_kept(compile_texts: Compile) -> None:
    """Comments survive: they become docstrings."""
    descriptors, _ = compile_texts({"a.proto": HEAD + "// Says what it is.\nmessage A {}\n"})
    assert descriptors is not None
    comments = [spot.leading_comments for spot in descriptors.file[0].source_code_info.location]
    assert " Says what it is.\n" in comments


def test_no_protos_is_an_empty_set(compile_texts: Compile) -> None:
    """An API without protos has an empty set and no problem."""
    assert compile_texts({}) == (FileDescriptorSet(), [])


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("message A { string name = 1 }\n", 'protos/a.proto:3:29: Expected ";".'),
        ("message A {\n  Strin name = 1;\n}\n", 'protos/a.proto:4:3: "Strin" is not defined.'),
        (
            "message A {\n  string a = 1;\n  string b = 1;\n}\n",
            'protos/a.proto:5:14: Field number 1 has already been used in "demo.A" by field "a". '
            "Next available field number is 2.",
        ),
    ],
)
def test_errors_of_protoc_are_at_their_place(compile_texts: Compile, body: str, expected: str) -> None:
    """What protoc says of a proto is reported at the line and column it names."""
    assert compile_texts({"a.proto": HEAD + body}) == (None, [expected])


def test_all_errors_are_reported_together(compile_texts: Compile) -> None:
    """One run reports every error of every file, and no warnings among them."""
    texts = {
        "a.proto": HEAD + 'import "good.proto";\nmessage A { Nope x = 1; Never y = 2; }\n',
        "b.proto": HEAD + "message B { Nowhere z = 1; }\n",
        "good.proto": HEAD + "message Good {}\n",
    }
    assert compile_texts(texts) == (
        None,
        [
            'protos/a.proto:4:13: "Nope" is not defined.',
            'protos/a.proto:4:25: "Never" is not defined.',
            'protos/b.proto:3:13: "Nowhere" is not defined.',
        ],
    )


def test_a_missing_import_is_reported_where_it_is_imported(compile_texts: Compile) -> None:
    """An import of nothing is reported at the import line."""
    assert compile_texts({"a.proto": HEAD + 'import "nothing.proto";\n'}) == (
        None,
        ['protos/a.proto:3:1: Import "nothing.proto" was not found or had errors.'],
    )


def test_warnings_are_no_problems(compile_texts: Compile) -> None:
    """An unused import, of which protoc warns, does not fail the run."""
    descriptors, problems = compile_texts(
        {"a.proto": HEAD + 'import "b.proto";\n', "b.proto": HEAD + "message B {}\n"}, "a.proto"
    )
    assert problems == []
    assert descriptors is not None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nothing.proto", "there is no proto protos/nothing.proto"),
        ("../protos/good.proto", "proto '../protos/good.proto' leads outside the spec folder"),
        ("down/../good.proto", "proto 'down/../good.proto' leads outside the spec folder"),
        ("/etc/passwd", "proto '/etc/passwd' leads outside the spec folder"),
        ("--version", "'--version' is no name for a proto"),
        ("@good.proto", "'@good.proto' is no name for a proto"),
        ("a:good.proto", "'a:good.proto' is no name for a proto"),
        ("", "there is no proto protos/"),
    ],
)
def test_names_that_lead_elsewhere_are_refused(root: Path, name: str, expected: str) -> None:
    """A name that is missing, leaves the folder or means something else to protoc is reported where it is used."""
    assert _problems(root, "good.proto", name) == [f"{WHERE}: {expected}"]


def test_a_link_out_of_the_folder_is_refused(root: Path) -> None:
    """A file that is a link to the outside is not read, neither by name nor through a linked folder."""
    (root / "protos" / "link.proto").symlink_to(root.parent / "elsewhere" / "good.proto")
    (root / "protos" / "linked").symlink_to(root.parent / "elsewhere")
    assert _problems(root, "link.proto", "linked/good.proto") == [
        f"{WHERE}: proto 'link.proto' leads outside the spec folder",
        f"{WHERE}: proto 'linked/good.proto' leads outside the spec folder",
    ]


def test_an_import_through_a_link_is_refused(root: Path) -> None:
    """A link to the outside is refused when only an import reaches it."""
    (root / "protos" / "link.proto").symlink_to(root.parent / "elsewhere" / "good.proto")
    (root / "protos" / "a.proto").write_text(HEAD + 'import public "link.proto";\n', encoding="utf-8")
    assert _problems(root, "a.proto") == [f"{WHERE}: proto 'link.proto' leads outside the spec folder"]


def test_python_files_beside_protos_are_not_run(root: Path) -> None:
    """A module in the proto folder cannot take the place of one that the compiler imports."""
    (root / "protos" / "grpc_tools").mkdir()
    (root / "protos" / "grpc_tools" / "__init__.py").write_text("raise SystemExit('taken over')\n", encoding="utf-8")
    descriptors = compile_protos(root, ["good.proto"], Problems(), Mark("a", 1, 1))
    assert descriptors is not None


def test_the_place_of_the_folder_leaves_no_trace(
    variants: Mapping[str, FileDescriptorSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same protos give the same bytes wherever they lie, even below a name with a colon, and name no folder."""
    there = tmp_path / "spec: set"
    shutil.copytree(Path(__file__).parents[3] / "specs" / "protos", there / "protos")
    monkeypatch.chdir(tmp_path)
    names = [file.name for file in variants["triton"].file]
    descriptors = compile_protos(Path("spec: set"), names, Problems(), Mark("a", 1, 1))
    assert descriptors is not None
    data = descriptors.SerializeToString(deterministic=True)
    assert data == variants["triton"].SerializeToString(deterministic=True)
    assert str(tmp_path).encode() not in data
