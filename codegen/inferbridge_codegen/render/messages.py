"""Renders typed messages, async clients and server bases of protos with betterproto2's protoc plugin.

The plugin calls `ruff` by that name and heeds whatever ruff configuration it finds from its working directory upwards.
So that output depends on the input alone it runs as a process in a scratch folder with a configuration of its own,
the ruff that was installed along with the plugin first on PATH, and a fixed hash seed.
"""

import keyword
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import DecodeError
from ruff import find_ruff_bin  # type: ignore[import-untyped]  # it publishes no types

_PLUGIN = "betterproto2_compiler.plugin"
_OPTIONS = "client_generation=async,server_generation=async"
_RUFF_CONFIGURATION = 'line-length = 120\ntarget-version = "py312"\n[format]\nline-ending = "lf"\n'
_PLUGIN_HEADER = re.compile(r"\A(?:#.*\n)+\n?")
_COMPILER_VERSION = re.compile(r'^(_COMPILER_VERSION = "\d+\.\d+)\.[^"]*"$', re.MULTILINE)
_COLLISIONS = "[WARNING]: Generated code has collisions"
_MESSAGE_POOL = """\
# mypy: disable-error-code="no-untyped-call"
# (betterproto2 leaves MessagePool's constructor without annotations)
\"""The messages of this package by name, for `google.protobuf.Any`.\"""

import betterproto2

default_message_pool = betterproto2.MessagePool()
"""
_WELL_KNOWN = """\
# mypy: disable-error-code="no-untyped-def, misc, unused-ignore"
# (betterproto2 mixes hand-written methods into these, not all of them annotated)
"""
type Sources = Mapping[str, list[str]]
"""Proto files by package."""


def render_messages(descriptors: FileDescriptorSet) -> dict[str, str]:
    """Python sources by path, one module a proto package: `inference/__init__.py`, `message_pool.py` …

    The paths are relative to one Python package, which may stand anywhere: modules import each other relatively.
    Comments in `descriptors` become docstrings. What it renders imports betterproto2 and grpclib. Raises ValueError,
    with the reason, when the plugin cannot render the protos or two names become the same in Python.
    """
    sources = _sources(descriptors)
    response = _run_plugin(_request(descriptors))
    files = {file.name: file.content for file in response.file if file.name.endswith(".py")}
    return {path: _finished(path, files[path], sources) for path in sorted(files)}


def _sources(descriptors: FileDescriptorSet) -> Sources:
    sources = defaultdict(list)
    for file in descriptors.file:
        words = file.package.split(".") if file.package else []
        if reserved := [word for word in words if keyword.iskeyword(word)]:
            raise ValueError(f"package {file.package!r} of {file.name} holds {reserved[0]!r}, a keyword of Python")
        sources[file.package].append(file.name)
    return sources


def _request(descriptors: FileDescriptorSet) -> bytes:
    names = [file.name for file in descriptors.file]
    request = CodeGeneratorRequest(file_to_generate=names, parameter=_OPTIONS, proto_file=descriptors.file)
    for file in request.proto_file:
        file.source_code_info.SetInParent()  # the plugin fails on a file that has none
    return request.SerializeToString(deterministic=True)


def _run_plugin(request: bytes) -> CodeGeneratorResponse:
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "ruff.toml").write_text(_RUFF_CONFIGURATION, encoding="utf-8")
        command = [sys.executable, "-P", "-m", _PLUGIN]
        run = subprocess.run(command, input=request, cwd=scratch, env=_environment(), capture_output=True, check=False)
    talk = run.stderr.decode("utf-8", "replace").strip()
    if run.returncode != 0:
        raise ValueError(f"betterproto2 cannot render these protos: {talk.rpartition('\n')[2]}")
    if _COLLISIONS in talk:
        raise ValueError(f"names that become the same in Python: {', '.join(_collisions(talk))}")
    try:
        return CodeGeneratorResponse.FromString(run.stdout)
    except DecodeError:
        raise ValueError("betterproto2 cannot render these protos: its answer is no CodeGeneratorResponse") from None


def _environment() -> dict[str, str]:
    """The plugin's environment, without what would steer it or ruff."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RUFF_", "BETTERPROTO_"))}
    path = os.pathsep.join([str(Path(find_ruff_bin()).parent), os.environ.get("PATH", os.defpath)])
    return kept | {"PATH": path, "PYTHONHASHSEED": "0", "PYTHONUTF8": "1"}


def _collisions(talk: str) -> Iterable[str]:
    return re.findall(r'^  "(.+)" on lines:$', talk, re.MULTILINE)


def _finished(path: str, code: str, sources: Sources) -> str:
    """The plugin's code under our header, without its version: a patch release must not change every file."""
    if path == "message_pool.py":
        names = [name for package in sources.values() for name in package]
        return _header(names) + _MESSAGE_POOL
    package = ".".join(PurePosixPath(path).parts[:-1])
    if package not in sources:
        below = sorted(other for other in sources if not package or other.startswith(f"{package}."))
        return _header(name for other in below for name in sources[other]) + f'"""Messages of {", ".join(below)}."""\n'
    doc = f'"""Messages, async clients and server bases of `{package}`, of betterproto2."""\n\n'
    untyped = _WELL_KNOWN if package == "google.protobuf" else ""
    return _header(sources[package]) + untyped + doc + _COMPILER_VERSION.sub(r'\1.0"', _PLUGIN_HEADER.sub("", code))


def _header(names: Iterable[str]) -> str:
    lines = [
        f"# Generated by inferbridge generate from {', '.join(sorted(names))}. Do not edit.",
        "# ruff: noqa",
        "# (names and layout are those of betterproto2's plugin)",
    ]
    return "\n".join(lines) + "\n"
