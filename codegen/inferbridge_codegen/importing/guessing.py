"""Guesses at what an endpoint is and what its fields mean: as the specs that there are map fields of the same name."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

from inferbridge_codegen.importing.skeleton import Endpoint, Place, Side
from inferbridge_codegen.spec.documents import EndpointDocument, FieldDocument, SideDocument, SpecSet

SIDES = ("request", "reply", "message")
type _Key = tuple[str, str, str, int, bool]
"""Operation, side, last name of a place, lists around it, and whether a table translates its value."""


class Guesses:
    """What is known from finished specs."""

    def __init__(self, specs: SpecSet) -> None:
        self.operations = tuple(sorted(specs.operations))
        self.enums = {name: enum.values for name, enum in specs.enums.items()}
        self._lists = {
            (operation.name, side, name)
            for operation in specs.operations.values()
            for side, fields in zip(SIDES, (operation.request, operation.reply, operation.message or {}), strict=True)
            for name, field in fields.items()
            if field.type.is_list
        }
        self._fields: dict[_Key, Counter[str]] = defaultdict(Counter)
        for operation in specs.operations.values():
            for side, fields in zip(SIDES, (operation.request, operation.reply, operation.message or {}), strict=True):
                self._own(operation.name, side, fields)
        for api in specs.apis.values():
            for endpoint in api.endpoints:
                self._mapped(endpoint)
        tables = [table for api in specs.apis.values() for table in api.enums.values()]
        self._values = {wire.lower(): neutral for table in tables for wire, neutral, _ in table.values}

    def _own(self, operation: str, side: str, fields: Mapping[str, FieldDocument]) -> None:
        for name in fields:
            self._fields[operation, side, name, 0, False][name] += 1

    def _mapped(self, endpoint: EndpointDocument) -> None:
        for side, document in _sides(endpoint):
            for line in document.lines if document is not None else ():
                if line.field and not line.alias and line.constant is None:
                    key = endpoint.operation, side, _word(line.wire), line.wire.count("[]"), bool(line.enum)
                    self._fields[key][line.field] += 1

    def operation(self, endpoint: Endpoint) -> str:
        """The likeliest operation, empty when nothing speaks for one."""
        scores = {operation: self._score(operation, endpoint) for operation in self.operations}
        best = max(scores, key=lambda operation: scores[operation], default="")
        return best if best and scores[best] > 1 else ""

    def _score(self, operation: str, endpoint: Endpoint) -> int:
        words = set(endpoint.name.split("_"))
        named = 2 if operation in words or set(operation.split("_")) <= words else 0
        return named + sum(
            bool(self.field(operation, side, place)) for side, sketch in sides_of(endpoint) for place in sketch.places
        )

    def field(self, operation: str, side: str, place: Place) -> str:
        """The field that such a place has elsewhere, empty for none; a single value may be the only one of a list."""
        depth, enum = place.path.count("[]"), bool(place.enum)
        found = self._shortest((operation, side, _word(place.path), depth, enum))
        if not found:
            found = self._shortest((operation, side, _word(place.path), depth + 1, enum)).replace("[]", "[0]", 1)
        is_list = (operation, side, found) in self._lists and not place.type.startswith(("list<", "any"))
        return f"{found}[0]" if is_list else found

    def _shortest(self, key: "_Key") -> str:
        return min(self._fields.get(key, ()), key=lambda field: (field.count("."), len(field)), default="")

    def enum(self, values: Iterable[str]) -> str:
        """The enum whose values these may be."""
        neutral = {self.value(value) for value in values} - {""}
        scores = {name: len(neutral & set(known)) for name, known in self.enums.items()}
        best = max(scores, key=lambda name: scores[name], default="")
        return best if best and scores[best] else ""

    def value(self, wire: str) -> str:
        """What a value of an enum means elsewhere."""
        known = {value for values in self.enums.values() for value in values}
        return wire.lower() if wire.lower() in known else self._values.get(wire.lower(), "")


def sides_of(endpoint: Endpoint) -> Iterator[tuple[str, Side]]:
    """What there is of request, reply and message."""
    for name, side in zip(SIDES, (endpoint.request, endpoint.reply, endpoint.message), strict=True):
        if side is not None:
            yield name, side


def _sides(endpoint: EndpointDocument) -> Iterator[tuple[str, SideDocument | None]]:
    for binding in (endpoint.rest, endpoint.grpc):
        if binding is not None:
            yield from zip(SIDES, (binding.request, binding.reply, binding.message), strict=True)


def _word(path: str) -> str:
    """The name at the end of a place."""
    return path.rpartition(".")[2].replace("[]", "").replace("[0]", "")
