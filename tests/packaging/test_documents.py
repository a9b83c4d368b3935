"""README and docs: short first, every link leads somewhere, every command exists."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from documents import DOCS, README, blocks, documents, prose, read, sections
from inferbridge.cli import main
from packaging_sources import ROOT

LINK = re.compile(r"\]\(([^)\s]+)\)")
MOST_LINES = 260
TUTORIAL = ROOT / "specs" / "adding-a-runtime.md"
PAGES = [*documents(), TUTORIAL, ROOT / "CHANGELOG.md"]


def links(page: Path) -> list[str]:
    """Where a page leads, in the repository."""
    return [link for link in LINK.findall(prose(read(page))) if not re.match(r"[a-z]+:", link)]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading, _ in sections(read(page)))
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link is that of a file in the repository, and of a heading in it where it names one."""
    broken = []
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not (target.is_relative_to(ROOT) and target.exists()) or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_a_link_that_leads_nowhere_is_seen(tmp_path: Path) -> None:
    """Anchors are those of headings, not of comments in examples."""
    page = tmp_path / "page.md"
    page.write_text(
        "# A page\n\n```\n# no heading [x](in.md)\n```\n\n[a](there.md#x) [b](http://x)\n\n## Keys, `--x`\n"
    )
    assert (links(page), anchors(page)) == (["there.md#x"], {"a-page", "keys---x"})


def test_readme_leads_to_every_page() -> None:
    """No page can be found by chance alone: README links all of docs, and the tutorial."""
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in links(README)}
    assert linked >= {*DOCS.glob("*.md"), TUTORIAL}


def test_readme_is_short() -> None:
    """README is what one reads first; the rest is in docs."""
    assert read(README).count("\n") <= MOST_LINES


def commands() -> Iterator[tuple[str, str]]:
    """Each call of inferbridge in an example, with the page it is on."""
    for page in documents():
        text = "\n".join(blocks(read(page), "", "console", "sh", "bash")).replace("\\\n", " ")
        for line in text.splitlines():
            if found := re.match(r"(?:\$ )?(?:[A-Z_]+=\S+ )*inferbridge (.*)", line):
                yield page.name, found[1]


COMMANDS = list(commands())


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=[f"{page}: {line[:40]}" for page, line in COMMANDS])
def test_documented_commands_exist(page: str, line: str) -> None:
    """Every documented call is one of a command that there is, with options that it takes."""
    words = shlex.split(re.split(r"\s[|<>]\s", line)[0], comments=True)
    command: click.Command = main
    context = click.Context(main)
    while isinstance(command, click.Group):
        found = command.get_command(context, words[0])
        assert found is not None, f"{page}: there is no {words[0]}"
        command, words, context = found, words[1:], click.Context(found, parent=context)
    command.make_parser(context).parse_args(words)


def test_readme_names_every_command() -> None:
    """The table of commands has all of them."""
    table = dict(sections(read(README)))["Commands"]
    assert set(re.findall(r"`inferbridge ([a-z-]+)", table)) == set(main.commands)
