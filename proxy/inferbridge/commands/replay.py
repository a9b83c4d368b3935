"""`inferbridge replay`."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from inferbridge.commands import BAD_INPUT, FAILURE, own_specs

if TYPE_CHECKING:
    from inferbridge.bridge.values import Headers
    from inferbridge.calling.asking import Place
    from inferbridge.calling.performing import Manner
    from inferbridge.calling.replaying import Again
    from inferbridge.commands.export import Calls
    from inferbridge.recorded.answers import Answer
    from inferbridge.recorded.editing import Edit
    from inferbridge.recorded.exchanges import Side


@click.command()
@own_specs
@click.argument("file", metavar="FILE.flows", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--filter", "expression", metavar="EXPR", default="", help="Which calls: 'model:llama* -status:2xx' …")
@click.option("--side", type=click.Choice(["client", "runtime"]), default="client", show_default=True, help="Whose.")
@click.option("--to", "place", metavar="[RUNTIME=]URL", help="Where to; default: where the call went.")
@click.option("--edit", "edits", multiple=True, metavar="PATH=JSON", help="Change a field of the request; repeatable.")
@click.option("-H", "--header", "headers", multiple=True, metavar="NAME:VALUE", help="Set a header, as a credential.")
@click.option("--diff", is_flag=True, help="Show what differs alone; exit 1 when something does.")
@click.option("--tolerance", type=click.FloatRange(0), default=0.0, help="Numbers may be apart by this part of them.")
@click.option("--ignore", multiple=True, metavar="NAME", help="A field that may differ, besides ids and times.")
@click.option("--exact", is_flag=True, help="Compare ids and times too.")
@click.option("--lossy", is_flag=True, help="Drop and name what cannot be translated, instead of refusing the call.")
@click.option("--timeout", metavar="SECONDS", type=click.FloatRange(0, min_open=True), default=300, show_default=True)
def replay(
    file: Path,
    expression: str,
    side: str,
    place: str | None,
    edits: tuple[str, ...],
    headers: tuple[str, ...],
    diff: bool,
    tolerance: float,
    ignore: tuple[str, ...],
    exact: bool,
    lossy: bool,
    timeout: float,
) -> None:
    """Make recorded calls again, and show the recorded answer beside the new one.

    With RUNTIME=URL a call is translated where that runtime does not speak it, as the proxy would. Streams are compared
    by the text they make, not by how it was cut. Credentials that were not recorded are given with -H.

    \b
    inferbridge replay calls.flows --to http://127.0.0.1:8080 --diff
    inferbridge replay calls.flows --to triton=grpc://127.0.0.1:8001 --edit max_tokens=5
    """
    from inferbridge.calling.asking import parse_place
    from inferbridge.calling.performing import Manner
    from inferbridge.commands.call import pair
    from inferbridge.commands.export import Calls, parsed
    from inferbridge.recorded.differences import ALWAYS_NEW
    from inferbridge.recorded.editing import parse_edit

    wanted = parsed(expression)
    try:
        where = parse_place(place) if place is not None else None
        changes = [parse_edit(text) for text in edits]
        fields = tuple((name.lower(), value) for name, value in (pair(text, ":", "-H") for text in headers))
    except ValueError as problem:
        raise click.UsageError(str(problem)) from None
    calls, refused = Calls(file, wanted), False
    show = _Shown(diff, tolerance, frozenset(ignore) | (frozenset() if exact else ALWAYS_NEW))
    for call in calls:
        for each in call.sides(side):
            title = f"call {call.number}: {each.asked.method} {each.asked.target.partition('?')[0]}"
            again = _prepared(each, where, fields, changes, partial(_tell, calls, title))
            refused |= again is None
            if again is not None:
                calls.used += 1
                show.add(title, each, again, Manner(timeout, lossy))
    if refused:
        sys.exit(BAD_INPUT)
    calls.end()
    if show.failed:
        sys.exit(FAILURE)


def _tell(calls: "Calls", title: str, text: str) -> None:
    calls.tell(f"{title}: {text}")


def _prepared(
    side: "Side", place: "Place | None", headers: "Headers", edits: "list[Edit]", tell: Callable[[str], None]
) -> "Again | None":
    """The call as it will be sent; None, and why on stderr, for one that cannot be."""
    from inferbridge.bridge.errors import BridgeError
    from inferbridge.calling.asking import Place
    from inferbridge.calling.replaying import prepared

    try:
        if place is None and not side.url:
            raise ValueError(f"where {side.upstream or 'the runtime'} is was not recorded; say it with --to")
        again = prepared(side, place or Place(side.url), headers, edits)
    except BridgeError as problem:
        tell(problem.message)
        return None
    except ValueError as problem:
        tell(str(problem))
        return None
    for name in again.missing:
        tell(f"sent without {name}: its value was not recorded, or cannot be sent; -H gives one for a header")
    return again


class _Shown:
    """Makes calls and shows their answers; `failed` once something differs, or an answer did not come."""

    def __init__(self, diff: bool, tolerance: float, ignored: frozenset[str]) -> None:
        self.failed = False
        self._diff = diff
        self._tolerance = tolerance
        self._ignored = ignored

    def add(self, title: str, side: "Side", again: "Again", manner: "Manner") -> None:
        """One call."""
        from inferbridge.calling.replaying import replayed
        from inferbridge.recorded.answers import answers

        new = replayed(side, again, manner)
        recorded, now = answers(side, new)
        self.failed |= new.told is None
        if self._diff:
            self._differences(title, recorded, now, is_cut=side.told is not None and side.told.is_cut)
        else:
            _out(title)
            for name, answer in (("recorded", recorded), ("now", now)):
                _out(f"  {name:8}  {answer.status}  {_json(answer.value)}")

    def _differences(self, title: str, recorded: "Answer", now: "Answer", *, is_cut: bool) -> None:
        from inferbridge.recorded.differences import differences

        found = list(differences(recorded.fields, now.fields, tolerance=self._tolerance, ignored=self._ignored))
        self.failed |= bool(found)
        note = " (the recorded answer was not kept whole)" if is_cut else ""
        _out(f"{title}: {_count(len(found))}{note}")
        for each in found:
            _out(f"  {each.path}: {_json(each.recorded)} -> {_json(each.new)}")


def _count(number: int) -> str:
    return "the same" if not number else f"{number} difference{'s' if number > 1 else ''}"


def _json(value: object) -> str:
    import json

    from inferbridge.recorded.differences import MISSING

    return repr(value) if value is MISSING else json.dumps(value, ensure_ascii=False, default=repr)


def _out(line: str) -> None:
    from inferbridge.bridge.visible import visible

    click.echo(visible(line))
