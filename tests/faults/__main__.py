"""Writes docs/faults.md."""

from faults.page import PAGE, page

PAGE.write_text(page())
