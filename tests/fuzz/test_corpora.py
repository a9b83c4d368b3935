"""Each fuzz target over its committed corpus, so that no target and no mended failure rots."""

import json
import re

import pytest

from fuzz.openapi import document
from fuzz.targets import CORPUS, TARGETS
from inferbridge_generated.registry import APIS


def test_every_target_has_a_corpus() -> None:
    """There is a folder of inputs for each target, and none without."""
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)


def test_corpora_are_small() -> None:
    """The inputs of a target have some kilobytes together: what is found anew each night is not kept here."""
    for folder in CORPUS.iterdir():
        assert 0 < sum(path.stat().st_size for path in folder.iterdir()) <= 32 * 1024, folder.name


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_keeps_its_promise_over_its_corpus(name: str) -> None:
    """Every input of the corpus is taken as the target says, whole and with its last byte lost."""
    for path in sorted((CORPUS / name).iterdir()):
        data = path.read_bytes()
        TARGETS[name](data)
        TARGETS[name](data[:-1])


def test_the_document_of_the_rest_facade_is_whole() -> None:
    """Every endpoint with a REST binding is in the document that schemathesis reads, and every schema it refers to."""
    made = document()
    paths = {(path, method.upper()) for path, verbs in made["paths"].items() for method in verbs}
    halves = [endpoint.rest for api in APIS.values() for endpoint in api.endpoints.values() if endpoint.rest]
    assert {(path, half.method) for half in halves for path in half.paths} == paths
    referred = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(made)))
    assert referred
    assert referred <= set(made["components"]["schemas"])
