"""Numbers of the fields of messages that are made of REST schemas: clients have compiled them, so they never change.

A field has the number that its declaration gives it (`number`), or its place among those that give none. So a field at
the end changes nothing; one that belongs elsewhere, or stands where one was taken out, says its number.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorSet

from inferbridge_codegen.problems import Problems
from inferbridge_codegen.spec.documents import TypeDocument
from inferbridge_codegen.spec.fields import HIGHEST

SET = "rest_service.binpb"
"""Name of the files that record the numbers, one an API."""


def numbers_of(given: Iterable[int]) -> list[int]:
    """The number of each field from those that the declarations give, 0 for none."""
    counted = iter(range(1, HIGHEST + 1))
    return [number or next(counted) for number in given]


def check_numbers(schema: TypeDocument, problems: Problems) -> None:
    """No two fields have the same number."""
    taken: dict[int, str] = {}
    fields = list(schema.fields.values())
    for number, field in zip(numbers_of(field.number for field in fields), fields, strict=True):
        first = taken.setdefault(number, field.name)
        if first != field.name:
            problems.add(field.mark, f"{field.name} has the number {number}, which is that of {first}")


def renumbered(files: Mapping[str, bytes], folder: Path) -> list[str]:
    """What the messages recorded in `folder` say of a number and the rendered ones say otherwise."""
    faults: list[str] = []
    for path, content in files.items():
        recorded = folder / path
        if path.endswith(SET) and recorded.is_file():
            before, after = _messages(recorded.read_bytes()), _messages(content)
            shared = [name for name in before if name in after]
            faults += [fault for name in shared for fault in _changes(before[name], after[name])]
    return faults


def _messages(data: bytes) -> dict[str, DescriptorProto]:
    """The messages of the last file, which is the service's own."""
    return {message.name: message for message in FileDescriptorSet.FromString(data).file[-1].message_type}


def _changes(before: DescriptorProto, after: DescriptorProto) -> Iterator[str]:
    names = {field.name: field for field in after.field}
    numbers = {field.number: field for field in after.field}
    for field in before.field:
        place = f"{before.name}.{field.name}"
        same, other = names.get(field.name), numbers.get(field.number)
        if same is not None and same.number != field.number:
            yield f"{place} has the number {field.number} and would get {same.number}"
        elif same is not None and _kind(same) != _kind(field):
            yield f"{place} would be of another type under the same number"
        elif same is None and other is not None:
            yield f"{place} was removed, and its number {field.number} would be that of {other.name}"


def _kind(field: FieldDescriptorProto) -> tuple[int, int, str]:
    return field.type, field.label, field.type_name
