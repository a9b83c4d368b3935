"""Pages are bounded, and nothing on them acts on a terminal."""

from hypothesis import given
from hypothesis import strategies as st

from inferbridge.inspect.page import PAGE_BYTES, Page, quoted_bytes


@given(lines=st.lists(st.text(max_size=300), max_size=20), limit=st.integers(100, 2000))
def test_no_page_is_longer_than_its_limit(lines: list[str], limit: int) -> None:
    """Whatever is written, a page has at most its limit of bytes and one line for each that was kept."""
    page = Page(limit)
    page.add_all(lines, depth=1)
    text = page.text()
    assert len(text.encode()) <= limit
    assert page.is_full == text.endswith("there is more\n")
    assert page.is_full or text.count("\n") == len(lines)


def test_what_is_left_out_is_told() -> None:
    """A page that is full says that there is more, and asks for no more lines."""
    page = Page()
    endless = iter(lambda: "x" * 1000, "")
    page.add_all(endless)
    assert PAGE_BYTES - 1100 < len(page.text()) <= PAGE_BYTES
    assert page.text().endswith("… the page ends here, there is more\n")


def test_control_characters_are_escapes() -> None:
    """Escape sequences, line ends, marks of direction and lone surrogates cannot act where a page is shown."""
    page = Page()
    page.add("a\x1b[31m\nb\u202ec\ud800d")
    assert page.text() == "a\\x1b[31m\\nb\\u202ec\\ud800d\n"


@given(st.binary(max_size=100), st.integers(1, 50))
def test_any_bytes_have_a_form(data: bytes, length: int) -> None:
    """Bytes are shown as text where they are some, also where the cut splits a letter, else in hexadecimal."""
    shown = quoted_bytes(data, length)
    assert shown.startswith(('"', f"{len(data)} bytes"))


def test_a_cut_letter_is_no_binary_data() -> None:
    """Long text in letters of several bytes is still shown as text."""
    assert quoted_bytes("ü€😀".encode() * 100, 3) == '"ü€😀"… (+891 bytes)'
    assert quoted_bytes(b"\xff\x00") == "2 bytes: ff 00"
