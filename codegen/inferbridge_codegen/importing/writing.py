"""Writes a skeleton as YAML. What begins with `???` is for a person to decide, and `lint` refuses the file so long."""

import json
import textwrap
from collections.abc import Iterator

from inferbridge_codegen.importing.guessing import Guesses, sides_of
from inferbridge_codegen.importing.skeleton import Endpoint, Place, Side, Skeleton
from inferbridge_codegen.spec.questions import QUESTION

_WIDTH = 118
_ERRORS = "open-inference, openai or caikit"
_HEADER = """\
# A skeleton, read off {source}.
# Values that begin with {question} are yours to decide. In a mapping line write the field of the operation instead, or
# delete the line: what has no line is refused by name when a client sets it. `inferbridge lint --specs FOLDER` lists
# what is left."""


def api_file(skeleton: Skeleton, guesses: Guesses) -> str:
    """The text of `apis/NAME.yaml`."""
    lines = [
        _HEADER.format(source=skeleton.source, question=QUESTION),
        *(f"# Left out: {note}" for note in skeleton.notes),
        f"api: {skeleton.name}",
        f"title: {skeleton.name}",
        f"protos: [{', '.join(skeleton.protos)}]",
        f"errors: {'grpc-status' if skeleton.protos else _question(f'how errors look: {_ERRORS}')}",
        *_enums(skeleton, guesses),
        *_schemas(skeleton),
        "",
        *_wrapped(f"# Operations: {', '.join(guesses.operations)}."),
        "endpoints:",
    ]
    for number, endpoint in enumerate(skeleton.endpoints):
        lines += [*([""] if number else []), *_endpoint(endpoint, guesses)]
    return "\n".join(lines) + "\n"


def runtime_file(skeleton: Skeleton) -> str:
    """The text of `runtimes/NAME.yaml`."""
    ports = ", ".join(f"{protocol}: {port}" for protocol, port in skeleton.ports.items())
    lines = [f"runtime: {skeleton.name}", f"title: {skeleton.name}", "apis:", f"  - api: {skeleton.name}"]
    return "\n".join([*lines, *([f"    ports: {{{ports}}}"] if ports else [])]) + "\n"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, subsequent_indent="# ", break_long_words=False)


def _question(text: str) -> str:
    return json.dumps(f"{QUESTION} {text}", ensure_ascii=False)


def _enums(skeleton: Skeleton, guesses: Guesses) -> Iterator[str]:
    if skeleton.enums:
        yield from ("", "enums:")
    for name, values in skeleton.enums.items():
        guess = guesses.enum(values)
        yield f"  {name}:"
        yield f"    of: {_question(f'{_maybe(guess)}which enum of the operations?')}"
        yield "    values:"
        for value in values:
            yield f"      {_key(value)}: {_question(f'{_maybe(guesses.value(value))}a value of that enum')}"


def _maybe(guess: str) -> str:
    return f"{guess}? " if guess else ""


def _key(text: str) -> str:
    """A key of YAML; what is not a plain word is quoted."""
    return text if text.replace("_", "a").isalnum() and not text[0].isdigit() else json.dumps(text)


def _schemas(skeleton: Skeleton) -> Iterator[str]:
    if skeleton.schemas:
        yield from ("", "schemas:")
    for name, fields in skeleton.schemas.items():
        yield f"  {name}:{'' if fields else ' {}'}"
        for field, place in fields.items():
            yield f"    {field}: {{type: {place.type}{', required: true' if place.required else ''}}}"


def _endpoint(endpoint: Endpoint, guesses: Guesses) -> Iterator[str]:
    guess = guesses.operation(endpoint)
    yield from (f"  # Left out: {note}" for note in endpoint.notes)
    yield f"  - name: {endpoint.name}"
    yield f"    operation: {_question(f'{_maybe(guess)}which of the operations?')}"
    if endpoint.mode != "unary":
        yield f"    mode: {endpoint.mode}"
    if endpoint.rpc:
        yield from ("    grpc:", f"      method: {endpoint.rpc}")
    else:
        yield from ("    rest:", f"      method: {endpoint.verb}", f"      paths: [{json.dumps(endpoint.path)}]")
    for name, side in sides_of(endpoint):
        yield from _side(
            name, side, [_line(place, guesses.field(guess, name, place)) for place in side.places], endpoint
        )


def _side(name: str, side: Side, lines: list[str], endpoint: Endpoint) -> Iterator[str]:
    if endpoint.rpc:
        if lines or name != "request":
            yield f"      {name}:{'' if lines else ' {}'}"
        yield from (f"        {line}" for line in lines)
    elif side.schema or lines:
        yield f"      {name}:"
        if side.schema:
            yield f"        schema: {side.schema}"
        if lines:
            yield "        map:"
        yield from (f"          {line}" for line in lines)
    elif name != "request":
        yield f"      {name}: {{}}"


def _line(place: Place, guess: str) -> str:
    question = _question(f"{_maybe(guess)}{'' if guess else 'which field of the operation? '}({place.type})")
    key = place.path if "[" not in place.path else json.dumps(place.path)
    return f"{key}: {{field: {question}, enum: {place.enum}}}" if place.enum else f"{key}: {question}"
