"""README and the pages that it leads to, as their readers see them."""

import re
from collections.abc import Iterator
from pathlib import Path

from packaging_sources import ROOT

README = ROOT / "README.md"
DOCS = ROOT / "docs"
_FENCED = re.compile(r"(?ms)^```(\w*).*?\n(.*?)^```$")
_HEADING = re.compile(r"(?m)^(#{1,6}) (.+)$")


def documents() -> list[Path]:
    """README and all pages of docs."""
    return [README, *sorted(DOCS.glob("*.md"))]


def read(page: Path) -> str:
    """The text of a page."""
    return page.read_text(encoding="utf-8")


def prose(text: str) -> str:
    """A text without its fenced blocks; what follows them stands where it stood."""
    return _FENCED.sub(lambda found: " " * len(found[0]), text)


def sections(text: str) -> Iterator[tuple[str, str]]:
    """The headings of a page, each with the text up to the next one."""
    found = list(_HEADING.finditer(prose(text)))
    for heading, after in zip(found, [*found[1:], None], strict=True):
        yield heading[2], text[heading.end() : after.start() if after else len(text)]


def section(page: str, heading: str) -> str:
    """What stands under a heading of a page of docs."""
    return dict(sections(read(DOCS / page)))[heading]


def blocks(text: str, *languages: str) -> list[str]:
    """The fenced blocks of a text in some languages; "" is that of blocks that say none."""
    return [block for language, block in _FENCED.findall(text) if language in languages]
