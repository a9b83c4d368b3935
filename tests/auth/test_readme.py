"""README's configurations of authentication, as they stand there."""

import re
from pathlib import Path

import pytest
import yaml

from auth.key_files import entry
from inferbridge.auth.settings import AuthSettings
from inferbridge.config import Flags
from inferbridge.gateway import build
from packaging_sources import ROOT

FIRST, LAST = "\n## Configuration\n", "\n## What is never lost\n"
UPSTREAMS = 'upstreams: [{runtime: vllm-nvidia, url: "http://127.0.0.1:8000"}]\n'
ABSOLUTE = re.compile(r"/(?:etc|run)/[\w./-]+")
RELATIVE = {"server.pem": "", "tokenizer_config.json": "{}", "keys.yaml": entry()}
"""Files that the examples name, beside the configuration."""


def examples() -> dict[str, str]:
    """The examples that are configurations, by the heading they stand under; fragments among them."""
    found: dict[str, str] = {}
    chapters = (ROOT / "README.md").read_text(encoding="utf-8").partition(FIRST)[2].partition(LAST)[0]
    for section in re.split(r"(?m)^#{2,3} ", f"Configuration\n{chapters}"):
        heading = section.partition("\n")[0]
        blocks = re.findall(r"(?ms)^```yaml\n(.*?)^```", section) + re.findall(r"`(auth: \{[^`]*\})`", section)
        for number, block in enumerate(blocks):
            document = next(iter(yaml.safe_load_all(block)))
            if not {"apiVersion", "keys"} & set(document):  # objects of a cluster, a file of keys
                found[f"{heading} {number}"] = block
    return found


EXAMPLES = examples()


def test_there_are_examples() -> None:
    """Each way to authenticate has one, so that the test below has something to load."""
    sections = {name.rpartition(" ")[0] for name in EXAMPLES}
    assert sections >= {
        "Configuration", "Who may call what", "Keys", "OpenID Connect and introspection",
        "Kubernetes and OpenShift AI", "Client certificates", "Rates",
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
