"""Recorded calls as a Python script: REST with the standard library, gRPC with grpcio and protobuf alone.

What comes from the recording stands in the script as literals and nothing else. Messages of gRPC are JSON by the names
of the proto, which the script carries along.
"""

import base64
import textwrap
import zlib
from collections.abc import Iterable
from importlib.resources import files

from inferbridge.bridge.visible import visible
from inferbridge.recorded.calls import (
    Place,
    described,
    encoded,
    grpc_metadata,
    method_word,
    refuse_cut,
    rest_headers,
    timeout_of,
)
from inferbridge.recorded.credentials import Text, merged, target_text
from inferbridge.recorded.exchanges import Side
from inferbridge.recorded.protosets import descriptor_set

_WIDTH = 100


class Script:
    """A script that makes calls one after the other, and fails when one of them did."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._preludes: set[str] = set()
        self._protos: dict[bytes, str] = {}
        self._calls: list[str] = []

    def add(self, side: Side, title: str) -> None:
        """One more call; raises `Unfit`."""
        refuse_cut(side)
        call = self._rpc(side) if side.protocol == "grpc" else self._rest(side)
        self._calls.append(f"# {visible(title)}\nis_good &= {call}\n")

    def text(self) -> str:
        """All of it."""
        preludes = [files("inferbridge.recorded").joinpath(name).read_text() for name in sorted(self._preludes)]
        protos = [f"{name} = {_literal_lines(content)}\n" for content, name in self._protos.items()]
        return "\n\n".join(["#!/usr/bin/env python3", *preludes, *protos, "is_good = True", *self._calls, _END])

    def _rest(self, side: Side) -> str:
        address = self._place.address(side)
        reveal = self._place.reveal
        target = encoded(target_text(side.asked.target, reveal=reveal))
        self._preludes.add("over_rest.py.txt")
        return _call(
            "rest",
            repr(address.tls),
            repr(address.host),
            repr(address.port),
            repr(method_word(side)),
            _expression(target),
            _pairs(rest_headers(side, reveal=reveal)),
            *([repr(side.asked.body)] if side.asked.body else []),
        )

    def _rpc(self, side: Side) -> str:
        method, messages = described(side)
        address = self._place.address(side)
        protos = self._protos.setdefault(descriptor_set(method), f"PROTOS_{len(self._protos) + 1}")
        timeout = timeout_of(side)
        self._preludes.add("over_grpc.py.txt")
        return _call(
            "rpc",
            repr(address.tls),
            repr(str(address).partition("://")[2]),
            repr(side.asked.target),
            protos,
            _pairs(grpc_metadata(side, reveal=self._place.reveal)),
            _list(repr(text) for text in messages),
            *([f"timeout={timeout!r}"] if timeout is not None else []),
        )


_END = "sys.exit(0 if is_good else 1)\n"


def _call(name: str, *arguments: str) -> str:
    return f"{name}(\n" + "".join(textwrap.indent(f"{each},\n", "    ") for each in arguments) + ")"


def _pairs(headers: Iterable[tuple[str, Text]]) -> str:
    return _list(f"({name!r}, {_expression(text)})" for name, text in headers)


def _list(items: Iterable[str]) -> str:
    lines = [f"    {item},\n" for item in items]
    return f"[\n{''.join(lines)}]" if lines else "[]"


def _expression(text: Text) -> str:
    pieces = [repr(piece) if isinstance(piece, str) else f"secret({piece.name!r})" for piece in merged(text)]
    return " + ".join(pieces) or "''"


def _literal_lines(content: bytes) -> str:
    text = base64.b64encode(zlib.compress(content, 9)).decode()
    return "(\n" + "".join(f"    {text[at : at + _WIDTH]!r}\n" for at in range(0, len(text), _WIDTH)) + ")"
