"""What reflection can tell: files, by the names they declare, of several descriptor sets made one.

A client of reflection puts all files it gets into one pool, where each name is declared once. But sets of different
APIs, and of variants of one API, may declare the same names. So the first file to declare a name is served; a later
one that declares it too is left out whole, and so is what imports it: a pool could not take them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)


@dataclass(frozen=True, slots=True)
class Declared:
    """All that a file declares, by full names."""

    messages: frozenset[str]
    symbols: frozenset[str]
    """Messages, fields, oneofs, enums, their values, services, methods and extensions."""
    extensions: frozenset[tuple[str, int]]
    """The message that is extended, and the number."""


class DescriptorIndex:
    """Files by name, symbol and extension."""

    def __init__(self, descriptor_sets: Iterable[bytes]) -> None:
        self._files: dict[str, bytes] = {}
        self._imports: dict[str, tuple[str, ...]] = {}
        self._symbols: dict[str, str] = {}
        self._messages: set[str] = set()
        self._extensions: dict[tuple[str, int], str] = {}
        services: list[str] = []
        self.left_out: dict[str, str] = {}
        """Files that are not served, and why."""
        for descriptor_set in descriptor_sets:
            services += self._add_set(FileDescriptorSet.FromString(descriptor_set).file)
        self.services = tuple(sorted(services))
        """Full names of all services."""

    def _add_set(self, files: Sequence[FileDescriptorProto]) -> Iterator[str]:
        """Take the files of one set, imports first; the services they declare."""
        unusable: set[str] = set()
        for file in files:
            data, declared = file.SerializeToString(deterministic=True), _declared(file)
            if self._files.get(file.name) == data:
                continue
            fault = self._fault(file, declared, unusable)
            if fault:
                unusable.add(file.name)
                self.left_out[file.name] = fault
            else:
                self._add(file, data, declared)
                yield from (_full(file.package, service.name) for service in file.service)

    def _fault(self, file: FileDescriptorProto, declared: Declared, unusable: set[str]) -> str:
        """Why a file cannot be served, or an empty string."""
        if file.name in self._files:
            return "another file has its name"
        for name in file.dependency:
            if name in unusable or name not in self._files:
                return f"it imports {name}, which is not served"
        for symbol in sorted(declared.symbols & self._symbols.keys()):
            return f"{self._symbols[symbol]} declares {symbol} too"
        for message, number in sorted(declared.extensions & self._extensions.keys()):
            return f"{self._extensions[message, number]} extends {message} by {number} too"
        return ""

    def _add(self, file: FileDescriptorProto, data: bytes, declared: Declared) -> None:
        self._files[file.name] = data
        self._imports[file.name] = tuple(file.dependency)
        self._symbols.update(dict.fromkeys(declared.symbols, file.name))
        self._extensions.update(dict.fromkeys(declared.extensions, file.name))
        self._messages |= declared.messages

    def file_of_symbol(self, symbol: str) -> str | None:
        """The file that declares a full name."""
        return self._symbols.get(symbol)

    def file_of_extension(self, message: str, number: int) -> str | None:
        """The file that extends a message by a number."""
        return self._extensions.get((message, number))

    def extension_numbers(self, message: str) -> list[int] | None:
        """The numbers a message is extended by; None when it is not known."""
        if message not in self._messages:
            return None
        return sorted(number for extended, number in self._extensions if extended == message)

    def with_imports(self, name: str) -> list[bytes] | None:
        """A serialized file and all it imports; None when it is not known.

        The file itself comes first: clients such as grpcurl take the first for the answer, in whatever order they
        then need them.
        """
        if name not in self._files:
            return None
        names = {name: None}
        waiting = [name]
        for current in waiting:
            new = [imported for imported in self._imports[current] if imported not in names]
            names.update(dict.fromkeys(new))
            waiting += new
        return [self._files[found] for found in names]


def _full(scope: str, name: str) -> str:
    return f"{scope}.{name}" if scope else name


def _declared(file: FileDescriptorProto) -> Declared:
    messages = [found for top in file.message_type for found in _with_nested(file.package, top)]
    extensions = [(file.package, field) for field in file.extension]
    extensions += [(scope, field) for scope, message in messages for field in message.extension]
    symbols = {name for scope, message in messages for name in _of_message(scope, message)}
    symbols |= {name for enum in file.enum_type for name in _of_enum(file.package, enum)}
    symbols |= {_full(scope, field.name) for scope, field in extensions}
    for service in file.service:
        scope = _full(file.package, service.name)
        symbols |= {scope, *(_full(scope, method.name) for method in service.method)}
    return Declared(
        frozenset(scope for scope, _ in messages),
        frozenset(symbols),
        frozenset(_extension(field) for _, field in extensions),
    )


def _extension(field: FieldDescriptorProto) -> tuple[str, int]:
    return field.extendee.removeprefix("."), field.number


def _with_nested(scope: str, message: DescriptorProto) -> Iterator[tuple[str, DescriptorProto]]:
    """A message and those within it, each with its full name."""
    name = _full(scope, message.name)
    yield name, message
    for nested in message.nested_type:
        yield from _with_nested(name, nested)


def _of_message(scope: str, message: DescriptorProto) -> Iterator[str]:
    yield scope
    yield from (_full(scope, field.name) for field in message.field)
    yield from (_full(scope, oneof.name) for oneof in message.oneof_decl)
    for enum in message.enum_type:
        yield from _of_enum(scope, enum)


def _of_enum(scope: str, enum: EnumDescriptorProto) -> Iterator[str]:
    yield _full(scope, enum.name)
    # values are siblings of their enum, as in C++
    yield from (_full(scope, value.name) for value in enum.value)
