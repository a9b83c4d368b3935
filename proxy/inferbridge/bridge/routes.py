"""Finds the endpoint of a call by verb and path, or by service and method.

Two APIs may have the same path (`GET /health`): then there is a match for each, and who knows the runtimes chooses.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from inferbridge.bridge.errors import BridgeError, Code, invalid
from inferbridge.bridge.registry import Api, Endpoint, RestHalf

_VALUE = re.compile(r"\w[\w\u0300-\u036f.:@+=,~ -]{0,255}")
"""Letters and digits of any script, with their accents, and marks that no reader takes for a separator."""


@dataclass(frozen=True, slots=True)
class Match:
    """An endpoint, and the decoded variables of the path that led there."""

    api: Api
    endpoint: Endpoint
    variables: dict[str, str]
    is_alias: bool = False
    """The path is one that only clients use."""


@dataclass(frozen=True, slots=True)
class _Leaf:
    api: Api
    endpoint: Endpoint
    names: tuple[str, ...]
    """Of the path's variables."""
    is_alias: bool


@dataclass(slots=True)
class _Node:
    literals: dict[str, "_Node"] = field(default_factory=dict)
    variable: "_Node | None" = None
    methods: dict[str, list[_Leaf]] = field(default_factory=dict)


class Routes:
    """Route tables of some APIs: a tree of path segments, and a table of methods."""

    def __init__(self, apis: Iterable[Api]) -> None:
        self._root = _Node()
        self._rpcs: dict[str, tuple[Api, Endpoint]] = {}
        for api in apis:
            for endpoint in api.endpoints.values():
                if endpoint.rest:
                    self._add_rest(api, endpoint, endpoint.rest)
                if endpoint.grpc:
                    self._rpcs[endpoint.grpc.rpc] = (api, endpoint)

    def _add_rest(self, api: Api, endpoint: Endpoint, half: RestHalf) -> None:
        for path in half.paths:
            self._add(api, endpoint, path, half.method)
        for path in half.aliases:
            self._add(api, endpoint, path, half.method, is_alias=True)

    def _add(self, api: Api, endpoint: Endpoint, path: str, method: str, *, is_alias: bool = False) -> None:
        node, names = self._root, []
        for segment in path.split("/")[1:]:
            if segment.startswith("{"):
                names.append(segment[1:-1])
                node.variable = node.variable or _Node()
                node = node.variable
            else:
                node = node.literals.setdefault(segment, _Node())
        node.methods.setdefault(method, []).append(_Leaf(api, endpoint, tuple(names), is_alias))

    def rpc(self, path: str) -> Match:
        """The endpoint of `/package.Service/Method`; raises UNIMPLEMENTED."""
        found = self._rpcs.get(path)
        if found is None:
            raise BridgeError(Code.UNIMPLEMENTED, f"no endpoint for the method {path}")
        return Match(*found, {})

    def rest(self, method: str, target: str) -> tuple[Match, ...]:
        """The endpoints of a verb and request target, one for each API; raises NOT_FOUND, or 405 for a wrong verb."""
        path = target.partition("?")[0]
        values: list[str] = []
        node: _Node | None = self._root
        for segment in path.split("/")[1:]:
            text = decode_segment(segment)
            following = node.literals.get(text) if node else None
            if following is None and node is not None and node.variable is not None:
                following = node.variable
                values.append(path_value(text))
            node = following
        if node is None or not node.methods:
            raise BridgeError(Code.NOT_FOUND, f"no endpoint for {method} {path}")
        if method not in node.methods:
            allowed = ", ".join(sorted(node.methods))
            raise BridgeError(Code.UNIMPLEMENTED, f"{method} is not allowed here; use {allowed}", status=405)
        return tuple(
            Match(leaf.api, leaf.endpoint, dict(zip(leaf.names, values, strict=True)), leaf.is_alias)
            for leaf in node.methods[method]
        )


def path_value(text: str) -> str:
    """A variable of a path; refused unless every reader takes it for one name, however often it decodes."""
    if not _VALUE.fullmatch(text):
        raise invalid(f"{text[:64]!r} in the path is not a name: letters, digits and ._:@+=,~ -, at most 256")
    return text


def decode_segment(segment: str) -> str:
    """A path segment percent-decoded once; what could change the path's structure when decoded is refused."""
    if "%" not in segment:
        text = segment
    else:
        try:
            text = unquote_to_bytes(segment).decode()
        except UnicodeDecodeError:
            raise invalid(f"path segment {segment!r} is not UTF-8") from None
    if text in {".", ".."} or any(letter in text for letter in "/\\\0\r\n"):
        raise invalid(f"path segment {segment!r} is not allowed")
    return text
