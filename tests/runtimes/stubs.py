"""gRPC stubs as a user makes them: grpcio-tools on a .proto file of this project."""

import importlib.util
import sys
from importlib.resources import files
from pathlib import Path
from types import ModuleType

from grpc_tools import protoc

PROTOS = Path(__file__).parents[2] / "specs" / "protos"


def make_stubs(proto: str, folder: Path) -> tuple[ModuleType, ModuleType]:
    """The modules of messages and of stubs for `proto`, such as fmaas/generation.proto, made in `folder`."""
    include = PROTOS / Path(proto).parent
    name = Path(proto).name
    arguments = ["protoc", f"-I{include}", f"-I{files('grpc_tools') / '_proto'}"]
    if protoc.main([*arguments, f"--python_out={folder}", f"--grpc_python_out={folder}", name]):
        raise ValueError(f"protoc does not take {proto}")
    stem = name.removesuffix(".proto")
    return _load(f"{stem}_pb2", folder), _load(f"{stem}_pb2_grpc", folder)


def _load(name: str, folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # the stubs import the messages by this name
    spec.loader.exec_module(module)
    return module
