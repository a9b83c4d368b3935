"""`inferbridge export`."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from inferbridge.commands import BAD_INPUT, FAILURE, own_specs

if TYPE_CHECKING:
    from inferbridge.inspect.filters import Filter
    from inferbridge.recorded.calls import Place
    from inferbridge.recorded.exchanges import Exchange, Side

FORMATS = ("curl", "grpcurl", "python", "har", "jsonl", "spec")


@click.command()
@own_specs
@click.argument("form", metavar="FORMAT", type=click.Choice(FORMATS))
@click.argument("file", metavar="FILE.flows", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--filter", "expression", metavar="EXPR", default="", help="Which calls: 'model:llama* -status:2xx' …")
@click.option("--side", type=click.Choice(["client", "runtime"]), default="client", show_default=True, help="Whose.")
@click.option("--to", "url", metavar="URL", default="", help="Make the calls there: http(s):// or grpc(s)://.")
@click.option("--with-secrets", is_flag=True, help="Show credentials that the file holds; else they are hidden.")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="Write there; for spec, the folder (default: specs)."
)
@click.option("--name", help="With spec: name of the API and of the runtime; default: from FILE.")
@click.option("--force", is_flag=True, help="Overwrite files.")
def export(
    form: str,
    file: Path,
    expression: str,
    side: str,
    url: str,
    with_secrets: bool,
    out: Path | None,
    name: str | None,
    force: bool,
) -> None:
    """Turn recorded calls into commands, a script, HAR, JSON lines or the skeleton of a spec.

    \b
    FORMAT is one of:
      curl      a shell command for each call, REST or gRPC, byte for byte
      grpcurl   the same for gRPC, with messages as JSON by the names of the proto
      python    a script that needs the standard library, for gRPC grpcio and protobuf
      har       HTTP Archive 1.2
      jsonl     a line of JSON for each call, with both sides of it
      spec      a spec folder for an API that none knows, what is to be decided marked ???
    FILE.flows is a file of mitmproxy's flows. A credential that is not shown is a variable of the command: $TOKEN.

    \b
    inferbridge export curl calls.flows --filter 'status:5xx' --to http://127.0.0.1:8080
    """
    from inferbridge.recorded.calls import Place

    wanted = parsed(expression)
    place = Place(url, with_secrets, out.name if out is not None else "")
    if out is not None and form != "spec" and out.exists() and not force:
        raise click.UsageError(f"{out} would be overwritten; --force does so")
    calls = Calls(file, wanted)
    if form == "spec":
        from inferbridge.commands.importing import write_spec
        from inferbridge.recorded.skeletons import imported

        try:
            write_spec(imported(calls, side, file.name, name or file.stem, calls.tell), out or Path("specs"), force)
            calls.used += 1
        except ValueError as problem:
            click.echo(f"{file}: {problem}", err=True)
            sys.exit(BAD_INPUT)
    else:
        _write(_text(form, [(call, each) for call in calls for each in call.sides(side)], place, calls), out, place)
    calls.end()


def parsed(expression: str) -> "Filter":
    """The filter of the option `--filter`."""
    from inferbridge.inspect.filters import parse_filter

    try:
        return parse_filter(expression)
    except ValueError as problem:
        raise click.UsageError(f"--filter: {problem}") from None


class Calls:
    """The calls of a file that a filter lets through; tells on stderr of all that is not exported."""

    def __init__(self, file: Path, wanted: "Filter") -> None:
        self._file = file
        self._wanted = wanted
        self.used = 0
        """How many calls were of use."""
        self._is_broken = False

    def __iter__(self) -> "Iterator[Exchange]":
        from inferbridge.recorded.exchanges import Unreadable, read_exchanges

        try:
            for found in read_exchanges(self._file):
                if isinstance(found, str):
                    self.tell(f"left out: {found}")
                elif self._wanted.matches(found.record, found.losses):
                    yield found
        except Unreadable as problem:
            self.tell(str(problem))
            self._is_broken = True

    def tell(self, text: str) -> None:
        """Say something about the file."""
        from inferbridge.bridge.visible import visible

        click.echo(visible(f"{self._file}: {text}"), err=True)

    def end(self) -> None:
        """End the program with the code that tells how it went."""
        if self._is_broken:
            sys.exit(BAD_INPUT)
        if not self.used:
            self.tell("no call of it could be used")
            sys.exit(FAILURE)


def _text(form: str, chosen: "list[tuple[Exchange, Side]]", place: "Place", calls: Calls) -> bytes:
    if form == "jsonl":
        return _lines(chosen, place, calls)
    if form == "har":
        return _har(chosen, place, calls)
    return (_script if form == "python" else _commands)(form, chosen, place, calls).encode(errors="surrogateescape")


def _lines(chosen: "list[tuple[Exchange, Side]]", place: "Place", calls: Calls) -> bytes:
    from inferbridge.recorded.lines import json_text, line_of

    found = {call.number: call for call, _ in chosen}
    calls.used = len(found)
    return b"".join(json_text(line_of(call, reveal=place.reveal)) + b"\n" for call in found.values())


def _har(chosen: "list[tuple[Exchange, Side]]", place: "Place", calls: Calls) -> bytes:
    from inferbridge.recorded.har import har_entry, har_log
    from inferbridge.recorded.lines import json_text

    calls.used = len(chosen)
    return json_text(har_log([har_entry(call, side, place) for call, side in chosen])) + b"\n"


def _commands(form: str, chosen: "list[tuple[Exchange, Side]]", place: "Place", calls: Calls) -> str:
    from inferbridge.recorded import commands

    make = commands.curl if form == "curl" else commands.grpcurl
    made = list(_made(chosen, calls, lambda side, title, number: f"# {title}\n{make(side, place, number)}\n"))
    top = "#!/bin/sh\n" + ('cd "$(dirname "$0")" || exit\n' if place.files else "")
    return "\n".join([top, *made]) if place.beside else "\n".join(made)


def _script(form: str, chosen: "list[tuple[Exchange, Side]]", place: "Place", calls: Calls) -> str:
    from inferbridge.recorded.scripting import Script

    script = Script(place)
    list(_made(chosen, calls, lambda side, title, _: script.add(side, title)))
    return script.text()


def _made[T](chosen: "list[tuple[Exchange, Side]]", calls: Calls, make: "Callable[[Side, str, int], T]") -> Iterator[T]:
    """What is made of each call that can be said in this form; the others are told of."""
    from inferbridge.bridge.visible import visible
    from inferbridge.recorded.calls import Unfit, left_out

    for number, (call, side) in enumerate(chosen, 1):
        title = visible(f"call {call.number}: {side.asked.method} {side.asked.target.partition('?')[0]}")
        try:
            yield make(side, title, number)
            calls.used += 1
        except Unfit as reason:
            calls.tell(f"{title} is left out: {reason}")
        for name in left_out(side):
            calls.tell(f"{title} is without the header {name!r}, which nothing can send")


def _write(text: bytes, out: Path | None, place: "Place") -> None:
    if out is None:
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()
        return
    try:
        for name, content in place.files.items():
            out.with_name(name).write_bytes(content)
        out.write_bytes(text)
    except OSError as problem:
        click.echo(f"cannot write {problem.filename}: {problem.strerror}", err=True)
        sys.exit(FAILURE)
