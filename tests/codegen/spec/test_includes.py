"""Includes merge what they should, and no text whatever makes loading raise."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferbridge_codegen.problems import Problems
from inferbridge_codegen.spec.includes import load_with_includes
from inferbridge_codegen.spec.yaml_tree import ListNode, MapNode, Node, Scalar


def _load(folder: Path, **files: str) -> tuple[Node | None, list[str]]:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    problems = Problems()
    node = load_with_includes(folder / "top.yaml", folder, problems)
    return node, [str(problem) for problem in problems.sorted()]


def _plain(node: Node | None) -> object:
    if isinstance(node, MapNode):
        return {key: _plain(child) for key, _, child in node.entries}
    if isinstance(node, ListNode):
        return [_plain(item) for item in node.items]
    return node.value if isinstance(node, Scalar) else None


def test_maps_merge_and_lists_append(tmp_path: Path) -> None:
    """Maps of several files become one, key by key; lists are joined in the order of the includes."""
    node, problems = _load(
        tmp_path,
        top="include: [one.yaml, two.yaml]\nmap: {a: 1}\nlist: [a]\n",
        one="map: {b: 2, deep: {x: 1}}\nlist: [b]\n",
        two="map: {deep: {y: 2}}\nlist: [c]\nother: true\n",
    )
    assert problems == []
    assert _plain(node) == {
        "include": ["one.yaml", "two.yaml"],
        "map": {"a": 1, "b": 2, "deep": {"x": 1, "y": 2}},
        "list": ["a", "b", "c"],
        "other": True,
    }


def test_included_nodes_keep_their_own_place(tmp_path: Path) -> None:
    """A node that came by an include is marked with the file it was written in."""
    node, _ = _load(tmp_path, top="include: [one.yaml]\nmap: {}\n", one="\nmap:\n  a: 5\n")
    assert isinstance(node, MapNode)
    inner = {key: child for key, _, child in node.entries}["map"]
    assert isinstance(inner, MapNode)
    _, key_mark, child = inner.entries[0]
    assert (str(key_mark), str(child.mark)) == ("one.yaml:3:3", "one.yaml:3:6")


def test_good_includes_survive_a_bad_one(tmp_path: Path) -> None:
    """One file that cannot be read does not hide what is in the others, nor their problems."""
    node, problems = _load(
        tmp_path,
        top="include: [none.yaml, one.yaml, two.yaml]\nmap: {}\n",
        one="map: {a: 1}\n",
        two="map: &x {}\n",
    )
    assert problems == [
        "top.yaml:1:11: cannot read none.yaml: No such file or directory",
        "two.yaml:1:6: an anchor (&…) is not allowed; write the value out, or quote a text that begins with &",
    ]
    assert _plain(node) == {"include": ["none.yaml", "one.yaml", "two.yaml"], "map": {"a": 1}}


def test_includes_cannot_grow_without_bound(tmp_path: Path) -> None:
    """Files that each include the next one twice are read once each, not twice as often at every step."""
    files = {f"f{index}": f"include: [f{index + 1}.yaml, ./f{index + 1}.yaml]\n" for index in range(20)}
    _, problems = _load(tmp_path, top="include: [f0.yaml]\n", f20="list: [a]\n", **files)
    assert len(problems) == 20
    assert "f0.yaml:1:20: f1.yaml is included twice" in problems


def test_missing_top_file_is_a_problem(tmp_path: Path) -> None:
    """A top file that does not exist gives None and a problem, as any other."""
    assert _load(tmp_path) == (None, ["top.yaml:1:1: cannot read top.yaml: No such file or directory"])


_PIECES = st.sampled_from(
    ["a", "key", ": ", ":", "- ", "\n", "\n  ", "\n    ", "[", "]", "{", "}", ", ", "? ", "|\n", ">-\n", "'", '"', "\\",
     "&x ", "*x", "!!str ", "!", "%YAML 1.1\n", "%TAG ! !\n", "---\n", "...\n", "<<: ", "# c", "\t", "~", "0x1F", "1.5",
     "include", "include: [", "include: [top.yaml]\n", "other.yaml", "../", "/", "\\U0011FFFF", "\\uD800", "\\0",
     "\x00", "\x85", "\u2028", "\ufeff", "é", "\ud7ff", "\U0001f600", "999999999999999999999", "@", "`", " "]
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(text=st.one_of(st.lists(_PIECES, max_size=40).map("".join).map(str.encode), st.binary(max_size=60)))
@pytest.mark.filterwarnings("error")
def test_no_text_makes_loading_raise(tmp_path_factory: pytest.TempPathFactory, text: bytes) -> None:
    """Whatever is in a file, loading answers a tree or records a problem, in printable one-line messages."""
    folder = tmp_path_factory.getbasetemp() / "any_text"
    folder.mkdir(exist_ok=True)
    (folder / "top.yaml").write_bytes(text)
    problems = Problems()
    node = load_with_includes(folder / "top.yaml", folder, problems)
    lines = [str(problem) for problem in problems.sorted()]
    assert node is not None or lines
    assert all(line.isprintable() and line.startswith("top.yaml:") for line in lines)
    assert all(problem.mark.line >= 1 and problem.mark.column >= 1 for problem in problems.sorted())
