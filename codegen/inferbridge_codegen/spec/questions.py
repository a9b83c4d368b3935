"""What a spec leaves open: a value that begins with `???` asks a person to decide; `inferbridge import` writes such."""

from collections.abc import Iterator

from inferbridge_codegen.problems import Problems
from inferbridge_codegen.spec.yaml_tree import ListNode, MapNode, Node, Scalar

QUESTION = "???"


def has_questions(node: Node, problems: Problems) -> bool:
    """Whether something is still open; each question is a problem."""
    asked = [(scalar, key) for key, scalar in _scalars(node, "") if scalar.text.startswith(QUESTION)]
    for scalar, key in asked:
        problem = scalar.text.removeprefix(QUESTION).strip() or "a value is needed"
        problems.add(scalar.mark, f"{key} is still to decide: {problem}")
    return bool(asked)


def _scalars(node: Node, key: str) -> Iterator[tuple[str, Scalar]]:
    if isinstance(node, Scalar):
        yield key, node
    for name, _, child in node.entries if isinstance(node, MapNode) else ():
        yield from _scalars(child, name)
    for child in node.items if isinstance(node, ListNode) else ():
        yield from _scalars(child, key)
