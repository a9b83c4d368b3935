"""The configurations of README and docs, as they stand there."""

import re
from pathlib import Path

import pytest
import yaml

from auth.key_files import entry
from documents import DOCS, blocks, documents, read, section, sections
from inferbridge.auth.settings import AuthSettings
from inferbridge.config import Flags
from inferbridge.config.table import LIMITS, SETTINGS
from inferbridge.config.upstreams import Upstreams
from inferbridge.gateway import build

UPSTREAMS = 'upstreams: [{runtime: vllm-nvidia, url: "http://127.0.0.1:8000"}]\n'
ABSOLUTE = re.compile(r"/(?:etc|run)/[\w./-]+")
RELATIVE = {"server.pem": "", "tokenizer_config.json": "{}", "keys.yaml": entry()}
"""Files that the examples name, beside the configuration."""


def examples() -> dict[str, str]:
    """The examples that are configurations, by the page and heading they stand under; fragments among them."""
    found: dict[str, str] = {}
    for page in documents():
        for heading, text in sections(read(page)):
            written = blocks(text, "yaml") + re.findall(r"`(auth: \{[^`]*\})`", text)
            for number, block in enumerate(written):
                document = next(iter(yaml.safe_load_all(block)))
                if not {"apiVersion", "keys"} & set(document):  # objects of a cluster, a file of keys
                    found[f"{page.name} {heading} {number}"] = block
    return found


EXAMPLES = examples()


def test_there_are_examples() -> None:
    """Each page about configuration has one, so that the test below has something to load."""
    places = {name.rpartition(" ")[0] for name in EXAMPLES}
    assert places >= {
        "README.md Configuration", "configuration.md Configuration", "upstreams.md Replicas",
        "access.md Who may call what", "access.md Keys", "access.md OpenID Connect and introspection",
        "access.md Kubernetes and OpenShift AI", "access.md Client certificates", "access.md Rates",
        "capture.md Payload capture", "operating.md Redirected clients",
    }  # fmt: skip


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_the_documented_configurations_load(example: str, tmp_path: Path) -> None:
    """Whoever copies an example, adds upstreams where it has none, and has the files it names can start with it."""
    for name in ABSOLUTE.findall(example):
        file = tmp_path / name[1:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("content")
    for name, content in RELATIVE.items():
        (tmp_path / name).write_text(content)
    text = ABSOLUTE.sub(lambda found: f"{tmp_path}{found[0]}", example)
    whole = text if "\nupstreams:" in f"\n{text}" else f"{text.rstrip()}\n{UPSTREAMS}"
    (tmp_path / "inferbridge.yaml").write_text(whole)
    settings = build.settings(tmp_path / "inferbridge.yaml", {"VLLM_API_KEY": "secret"}, Flags())
    assert settings.upstreams
    assert isinstance(settings.auth, AuthSettings) == ("auth" in yaml.safe_load(example))


def test_every_section_of_the_file_is_explained() -> None:
    """The table of docs/configuration.md names all that a file may hold at its top, and nothing else."""
    assert named(read(DOCS / "configuration.md"), "key") == set(SETTINGS.fields)


def test_every_limit_is_explained() -> None:
    """docs/security.md names each limit, and nothing in its table that is none."""
    text = section("security.md", "Limits")
    others = {"stream_window", "connection_window"}
    assert all(f"`{name}`" in text for name in others)
    assert named(text, "limit") == set(LIMITS.fields) - others


def test_every_key_of_an_upstream_is_explained() -> None:
    """The table of docs/upstreams.md names all that an upstream may say, and nothing else."""
    branches = Upstreams().schema()["items"]["anyOf"]
    assert named(section("upstreams.md", "Runtime and URL"), "key") == set(branches[-1]["properties"])


def named(text: str, title: str) -> set[str]:
    """The words in backquotes in the first column of the table whose first title begins so, up to a colon."""
    rows = re.search(rf"(?m)^\| {title}\b.*\n\|[-|]+\|\n((?:\|.*\n)+)", text)
    assert rows, f"there is no table of {title}"
    first = [row.split(" | ")[0].partition(":")[0] for row in rows[1].splitlines()]
    return {name for cell in first for name in re.findall(r"`([a-z_]+)`", cell)}
