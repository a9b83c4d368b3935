"""Path templates parse into segments; the broken specs hold what they refuse."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferbridge_codegen.problems import Mark, Problems
from inferbridge_codegen.spec.path_template import PathTemplate, Segment, parse

_MARK = Mark("x.yaml", 3, 7)


def _parse(text: str) -> PathTemplate:
    problems = Problems()
    template = parse(text, _MARK, problems)
    assert not problems
    assert template is not None
    return template


def test_segments_and_variables() -> None:
    """Literals and variables keep their order."""
    template = _parse("/v2/models/{model}/versions/{version}/infer")
    assert template.segments == (
        Segment("v2", False),
        Segment("models", False),
        Segment("model", True),
        Segment("versions", False),
        Segment("version", True),
        Segment("infer", False),
    )
    assert template.variables == ("model", "version")


@pytest.mark.parametrize("text", ["/v1/chat:stream", "/a.b", "/...", "/~user/@me", "/A-Z_0.9"])
def test_literals(text: str) -> None:
    """All unreserved characters, colon and at sign are literals."""
    assert _parse(text).variables == ()


def test_shape_forgets_names() -> None:
    """Templates that match the same paths have the same shape, others have not."""
    assert _parse("/v2/{a}/x").shape == _parse("/v2/{b}/x").shape
    assert _parse("/v2/{a}/x").shape != _parse("/v2/a/x").shape


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=12), st.text(alphabet="/{}ab._?%A ", max_size=12).map("/{}".format)))
def test_any_text(text: str) -> None:
    """A text is either a template that says itself again, or one problem within the text."""
    problems = Problems()
    template = parse(text, _MARK, problems)
    if template is None:
        (problem,) = problems.sorted()
        assert problem.mark.line == _MARK.line
        assert 0 <= problem.mark.column - _MARK.column <= max(len(text) - 1, 0)
        return
    assert not problems
    written = [f"{{{segment.text}}}" if segment.is_variable else segment.text for segment in template.segments]
    assert "".join(f"/{segment}" for segment in written) == text
    assert re.fullmatch(r"(/([A-Za-z0-9._~:@-]+|\{[a-z][a-z0-9_]*\}))+", text)
    assert len(set(template.variables)) == len(template.variables)
