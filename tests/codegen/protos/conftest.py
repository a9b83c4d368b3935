"""The committed protos, compiled once a run, and a folder for protos of a test's own."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from inferbridge_codegen.problems import Mark, Problems
from inferbridge_codegen.protos.compile import compile_protos

SPECS = Path(__file__).parents[3] / "specs"
VARIANTS = ("triton", "mlserver", "kserve", "oip")
WHERE = Mark("apis/some.yaml", 3, 5)

type Compile = Callable[..., tuple[FileDescriptorSet | None, list[str]]]


@pytest.fixture(scope="session")
def variants() -> Mapping[str, FileDescriptorSet]:
    """Descriptor sets of the Open Inference protos by variant."""
    found = {}
    for variant in VARIANTS:
        folder = SPECS / "protos"
        names = sorted(
            path.relative_to(folder).as_posix() for path in (folder / "open_inference" / variant).glob("*.proto")
        )
        problems = Problems()
        descriptors = compile_protos(SPECS, names, problems, WHERE)
        assert descriptors is not None, problems.sorted()
        found[variant] = descriptors
    return found


@pytest.fixture
def compile_texts(tmp_path: Path) -> Compile:
    """Writes protos given by name and text below a spec folder and compiles some of them, or all."""

    def run(texts: Mapping[str, str], *names: str) -> tuple[FileDescriptorSet | None, list[str]]:
        for name, text in texts.items():
            path = tmp_path / "specs" / "protos" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        problems = Problems()
        descriptors = compile_protos(tmp_path / "specs", names or tuple(texts), problems, WHERE)
        return descriptors, [str(problem) for problem in problems.sorted()]

    return run
