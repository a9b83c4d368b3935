"""The two columns of the demo."""

import io

import pytest

from inferbridge.demo.view import Screen, field_lines, rows
from inferbridge_generated.open_inference import wire


def columns(left: list[tuple[str, str]], right: list[tuple[str, str]], width: int) -> list[str]:
    """What a screen of a width shows below the titles."""
    out = io.StringIO()
    Screen(out, width).columns(("left", "right"), left, right)
    return out.getvalue().splitlines()[2:]


def test_fields_of_a_message_are_flat_and_unset_ones_left_out() -> None:
    """A message becomes one line a field; nested messages have dotted names, bytes are shown shortened."""
    tensor = wire.ModelInferRequest_InferInputTensor(name="x", datatype="FP32", shape=[2, -1])
    message = wire.ModelInferRequest(model_name="m", inputs=[tensor], raw_input_contents=[bytes(range(9))])
    assert field_lines(message) == [
        ("model_name", '"m"'),
        ("inputs[0].name", '"x"'),
        ("inputs[0].datatype", '"FP32"'),
        ("inputs[0].shape", "[2, -1]"),
        ("raw_input_contents[0]", "9 bytes: 00 01 02 03 04 05 06 07 …"),
    ]


def test_fields_of_json_keep_empty_values() -> None:
    """JSON shows what is in it, empty and null values too."""
    assert field_lines({"a": [], "b": None, "c": [[1.5, 2], [True]], "d": {"e": 'q"'}}) == [
        ("a", "[]"),
        ("b", "null"),
        ("c", "[[1.5, 2], [true]]"),
        ("d.e", '"q\\""'),
    ]


def test_equal_names_stand_on_one_row() -> None:
    """The order of fields does not matter, what only one side has stands alone."""
    left = [("id", "1"), ("shape", "[2]"), ("type", "A"), ("data", "x")]
    right = [("model", "m"), ("id", "1"), ("type", "A"), ("shape", "[2]")]
    assert rows(left, right) == [
        ("", "model: m"),
        ("id: 1", "id: 1"),
        ("shape: [2]", "shape: [2]"),
        ("type: A", "type: A"),
        ("data: x", ""),
    ]


@pytest.mark.parametrize("width", [40, 41, 80, 200])
def test_rows_fit_the_terminal(width: int) -> None:
    """No row is wider than the terminal, however long a value is; nothing of a short value is lost."""
    shown = columns([("message", "word " * 20)], [("x", "y" * 300)], width)
    assert max(map(len, shown)) <= width
    assert columns([("a", "b")], [("c", "d")], width)[0].split("│") == ["a: b".ljust((width - 3) // 2) + " ", " c: d"]


def test_control_characters_do_not_reach_the_terminal() -> None:
    """A remote side cannot steer the terminal through what it sends."""
    (row,) = columns([("a", "\x1b[2Jb\x07\u202ec")], [], 80)
    assert "\x1b" not in row
    assert "\x07" not in row
    assert "\u202e" not in row


def test_no_colour_without_a_terminal() -> None:
    """Output into a pipe has no escape sequences."""
    out = io.StringIO()
    Screen(out, 80).title("A title")
    assert out.getvalue() == "\nA title\n"
