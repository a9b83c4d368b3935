"""What a mock is told to do, read from flags and a file."""

from pathlib import Path

import pytest

from inferbridge.bridge.errors import Code
from inferbridge.config.load import SettingsError
from inferbridge.mock.script import Failure, Script, parse_failure, scenario_of

KNOWN = ("openai/chat", "tgis/generate")


def test_an_endpoints_script_stands_on_the_default(tmp_path: Path) -> None:
    """What an endpoint's script leaves open, the default says; a flag replaces the file's default."""
    file = tmp_path / "scenario.yaml"
    file.write_text(
        "delay: 20ms\n"
        "error: UNAVAILABLE\n"
        "endpoints:\n"
        "  openai/chat: {error: DEADLINE_EXCEEDED:2}\n"
        "  tgis/generate: {answer: {responses: [{text: hi}]}, delay: 1s}\n"
    )
    scenario = scenario_of(file, {"delay": "50ms"}, KNOWN)
    assert scenario.of("openai/chat") == Script(0.05, Failure(Code.DEADLINE_EXCEEDED, 2))
    assert scenario.of("tgis/generate") == Script(1.0, Failure(Code.UNAVAILABLE), {"responses": [{"text": "hi"}]})
    assert scenario.of("openai/completions") == Script(0.05, Failure(Code.UNAVAILABLE))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "endpoints: {openai/chta: {}}",
            "1:13: the runtime has no endpoint 'openai/chta'; did you",
        ),
        ("endpoints: {tgis/generate: {delya: 1s}}", "the script of tgis/generate has no key 'delya'"),
        ("delay: soon", "1:8: delay must be like 30s"),
        ("error: OK", "1:8: error must begin with a gRPC code"),
        ("- a", "a scenario must be a map"),
    ],
)
def test_a_wrong_scenario_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    """All that is wrong is told with file, line and column."""
    file = tmp_path / "scenario.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        scenario_of(file, {}, KNOWN)
    assert said in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("text", ["", "UNAVAILABEL", "OK", "UNAVAILABLE:", "UNAVAILABLE:-1", "UNAVAILABLE:x", "14"])
def test_wrong_failures_are_refused(text: str) -> None:
    """A failure is a gRPC code by its name, and maybe a number."""
    with pytest.raises(ValueError, match="must be"):
        parse_failure(text)
