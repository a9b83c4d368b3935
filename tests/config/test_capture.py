"""Settings of payload capture: what can be said, and what is refused."""

from pathlib import Path

import pytest

from config.test_load import load, problems
from documents import blocks, section
from inferbridge.auth.settings import Callers
from inferbridge.capture.settings import CaptureSettings, CloudEventsSink, Fields, FileSink, StdoutSink

UPSTREAMS = "upstreams: [triton=grpc://127.0.0.1:8001]\n"


def test_everything_can_be_said(tmp_path: Path) -> None:
    """Each key comes out as it is meant, paths start at the file, one value stands for a list of one."""
    settings = load(
        tmp_path,
        UPSTREAMS
        + """
capture:
  enabled: true
  sample: 0.5
  errors: false
  on_demand: [{subjects: "ann*", methods: jwt}, {groups: [debuggers], keys: [k1]}]
  max_bytes: 1MiB
  memory: 1GiB
  models: "llm-*"
  operations: [chat, generate]
  fields: {hide: ["messages[].content | prompt", user], only: model}
  messages: true
  sinks:
    - file: {path: logs/capture.jsonl, max_size: 1MiB, keep: 2}
    - stdout
    - cloudevents: {url: "https://broker/ml", send: response, sides: all, service: bert, queue: 5, timeout: 2s}
""",
    )
    assert settings.capture == CaptureSettings(
        enabled=True,
        sample=0.5,
        errors=False,
        on_demand=(Callers(subjects=("ann*",), methods=("jwt",)), Callers(groups=("debuggers",), keys=("k1",))),
        max_bytes=1 << 20,
        memory=1 << 30,
        models=("llm-*",),
        operations=("chat", "generate"),
        fields=Fields(("messages[].content | prompt", "user"), ("model",)),
        messages=True,
        sinks=(
            FileSink(tmp_path / "logs/capture.jsonl", 1 << 20, 2),
            StdoutSink(),
            CloudEventsSink("https://broker/ml", "response", "all", "bert", queue=5, timeout=2.0),
        ),
    )


def test_the_documented_example_loads(tmp_path: Path) -> None:
    """What docs/capture.md shows is a configuration."""
    (example,) = blocks(section("capture.md", "Payload capture"), "yaml")
    found = load(tmp_path, UPSTREAMS + example).capture
    assert (found.enabled, found.on_demand, len(found.sinks)) == (True, (Callers(subjects=("ann",)),), 2)


def test_it_is_off_unless_enabled(tmp_path: Path) -> None:
    """Without the section, and with one that does not say so, nothing is captured."""
    assert not load(tmp_path, UPSTREAMS).capture.enabled
    assert not load(tmp_path, UPSTREAMS + "capture: {sinks: stdout}").capture.enabled


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("{enabled: true}", "capture needs a sink"),
        ("{sample: 2}", "from 0 to 1"),
        ("{sample: -0.1}", "from 0 to 1"),
        ("{sampel: 1}", "did you mean"),
        ("{on_demand: {}}", "must name callers by subjects"),
        ("{on_demand: [{subjects: a}, {}]}", "must name callers by subjects"),
        ("{on_demand: {subject: a}}", "did you mean"),
        ("{on_demand: []}", "must not be empty"),
        ('{fields: {hide: ["a..b"]}}', "must be places such as messages[].content"),
        ("{fields: {hid: [a]}}", "did you mean"),
        ("{sinks: [{kafka: {}}]}", "known: file, stdout, cloudevents"),
        ("{sinks: [file]}", "path"),
        ('{sinks: [{cloudevents: {url: "ftp://a"}}]}', "must be a URL"),
        ('{sinks: [{cloudevents: {url: "http://canary:canary@a/"}}]}', "without user"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, section: str, said: str) -> None:
    """Each mistake has its line, a reason and what would be right, and secrets are not repeated."""
    (problem,) = problems(tmp_path, f"{UPSTREAMS}capture: {section}")
    assert problem.startswith("inferbridge.yaml:2:")
    assert said in problem
    assert "canary" not in problem
