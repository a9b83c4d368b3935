"""The generated pages say what becomes of each field."""

import pytest

from inferbridge_codegen.model.link import load_model
from inferbridge_codegen.places import default_specs
from inferbridge_codegen.render.pages import render_pages


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """The pages of the repository's specs."""
    return render_pages(load_model(default_specs()))


def rows(page: str, title: str) -> set[tuple[str, ...]]:
    """The cells of the tables of one section."""
    section = page.partition(f"## {title}\n")[2].partition("\n## ")[0]
    return {tuple(cell.strip("` ") for cell in line.split("|")[1:-1]) for line in section.splitlines() if "|" in line}


def test_a_page_has_the_fate_of_each_field(pages: dict[str, str]) -> None:
    """Fields that cross, that are refused, and defaults that are written out stand in the pair's page."""
    found = rows(pages["openai-rest_to_tgis-grpc.md"], "completions -> generate (unary)")
    assert {
        ("top_k", "top_k", "params.sampling.top_k", "carried"),
        ("min_p", "min_p", "–", "refused by name"),
        ("max_tokens", "max_tokens", "params.stopping.max_new_tokens", "carried; left out, 16 is written out"),
        ("typical_p", "–", "params.sampling.typical_p", "the client cannot say it"),
        ("response_format", "response_format", "–", "carried by rule"),
    } <= found


def test_the_index_links_every_page(pages: dict[str, str]) -> None:
    """No page is beyond reach, and no link leads nowhere."""
    linked = {part.partition(")")[0] for part in pages["README.md"].split("](")[1:]}
    assert linked == set(pages) - {"README.md"}


def test_what_is_passed_through_needs_no_table(pages: dict[str, str]) -> None:
    """A client at a runtime of its own binding reads that its bytes arrive."""
    page = pages["tgis-grpc_to_tgis-grpc.md"]
    assert "Passed through" in page
    assert rows(page, "generate") == set()
