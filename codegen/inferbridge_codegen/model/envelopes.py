"""Links what a gRPC stream wraps its messages in."""

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from inferbridge_codegen.model.types import Envelope, Operation, Struct
from inferbridge_codegen.model.wire_view import attribute, class_name
from inferbridge_codegen.problems import Problems, suggestion
from inferbridge_codegen.spec.documents import EnvelopeDocument


def link_envelope(
    document: EnvelopeDocument, operation: Operation, answer: Descriptor, problems: Problems
) -> tuple[Envelope, Descriptor] | None:
    """The envelope and the message within; None where `answer` has no such fields."""
    message = _field(document.message, document, answer, problems)
    error = _field(document.error, document, answer, problems)
    if message is None or error is None:
        return None
    if message.message_type is None or message.is_repeated:
        problems.add(document.mark, f"{message.full_name} is no message")
        return None
    if error.type != FieldDescriptor.TYPE_STRING or error.is_repeated:
        problems.add(document.mark, f"{error.full_name} is no string, so it cannot hold the text of an error")
        return None
    for struct in (operation.request, operation.message):
        _check_echo(document, struct, problems)
    envelope = Envelope(class_name(answer), attribute(message), attribute(error), document.echo)
    return envelope, message.message_type


def _field(name: str, document: EnvelopeDocument, answer: Descriptor, problems: Problems) -> FieldDescriptor | None:
    found = answer.fields_by_name.get(name)
    if found is None and name:  # a name that is missing was said already
        hint = suggestion(name, answer.fields_by_name)
        problems.add(document.mark, f"message {answer.full_name} has no field {name!r}{hint}")
    return found


def _check_echo(document: EnvelopeDocument, struct: Struct | None, problems: Problems) -> None:
    names = [field.name for field in struct.fields] if struct is not None else []
    for name in document.echo:
        if struct is not None and name not in names:
            problems.add(document.mark, f"{struct.name} has no field {name!r} to echo{suggestion(name, names)}")
