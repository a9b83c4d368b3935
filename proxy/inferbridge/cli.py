"""The command line. Every command imports what it needs when it runs, so that `--help` is quick."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from inferbridge.commands import BAD_INPUT, FAILURE, SPECS_VARIABLE, gateway_options, own_specs
from inferbridge.commands.call import call
from inferbridge.commands.export import export
from inferbridge.commands.importing import import_spec
from inferbridge.commands.inspecting import inspect
from inferbridge.commands.keys import keys
from inferbridge.commands.mock import mock
from inferbridge.commands.replay import replay

if TYPE_CHECKING:
    from inferbridge_codegen.model.types import Model


def specs_option[F: Callable[..., None]](command: F) -> F:
    """Which specs a command is about."""
    folder = click.Path(path_type=Path, exists=True, file_okay=False)
    command = click.option("--alone", is_flag=True, help="Leave the shipped specs out; the first --specs is complete.")(
        command
    )
    return click.option(
        "--specs",
        multiple=True,
        type=folder,
        envvar=SPECS_VARIABLE,
        help="Spec folder beside the shipped ones; repeatable.",
    )(command)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="inferbridge")
def main() -> None:
    """Any client, any inference runtime: typed stubs and REST/gRPC bridges from specs."""


def _load(specs: tuple[Path, ...], alone: bool) -> "Model":
    from inferbridge_codegen.model.link import load_model
    from inferbridge_codegen.places import default_specs
    from inferbridge_codegen.problems import SpecError

    try:
        return load_model(*(specs if alone and specs else (default_specs(), *specs)))
    except SpecError as error:
        click.echo(str(error), err=True)
        sys.exit(BAD_INPUT)


@main.command()
@specs_option
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder of the generated package.")
@click.option("--check", is_flag=True, help="Write nothing; exit 1 when the folder is not up to date.")
@click.option("--diff", "show_diff", is_flag=True, help="Print the differences.")
def generate(specs: tuple[Path, ...], alone: bool, out: Path | None, check: bool, show_diff: bool) -> None:
    """Generate the bridging package from specs."""
    from inferbridge_codegen import files, numbering
    from inferbridge_codegen.places import default_output
    from inferbridge_codegen.render.package import render_package

    folder = out or (None if specs else default_output())
    if folder is None:
        raise click.UsageError("name the folder to write with --out")
    rendered = render_package(_load(specs, alone))
    if faults := numbering.renumbered(rendered, folder):
        click.echo("\n".join(faults), err=True)
        click.echo(f"give these fields a `number`, or remove {numbering.SET} to begin anew", err=True)
        sys.exit(FAILURE)
    drifts = files.compare(rendered, folder) if check or show_diff else files.write(rendered, folder)
    for drift in drifts:
        click.echo(f"{drift.kind}: {drift.path}", err=True)
        if drift.diff and (check or show_diff):
            click.echo(drift.diff, nl=False)
    if check and drifts:
        click.echo("generated code is not what the specs say; run: inferbridge generate", err=True)
        sys.exit(FAILURE)


@main.command()
@specs_option
def lint(specs: tuple[Path, ...], alone: bool) -> None:
    """Check specs: every problem with its place."""
    model = _load(specs, alone)
    click.echo(
        f"{len(model.apis)} APIs, {len(model.operations)} operations, {len(model.runtimes)} runtimes: no problems",
        err=True,
    )


@main.command()
@specs_option
@click.argument("client")
@click.argument("runtime")
def explain(specs: tuple[Path, ...], alone: bool, client: str, runtime: str) -> None:
    """Show what becomes of each field between CLIENT and RUNTIME, such as open-inference/rest and triton/grpc."""
    from inferbridge_codegen import explain as explaining

    model = _load(specs, alone)
    try:
        passages = explaining.explain(explaining.find(model, client), explaining.find(model, runtime))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    for passage in passages:
        click.echo(f"{passage.name}{' (passed through)' if passage.same_binding else ''}")
        for title, rows in (("request", passage.request), ("reply", passage.reply)):
            for row in rows:
                fate = "" if row.client and row.runtime and row.default is None else f"  [{row.fate}]"
                click.echo(f"  {title:8}{row.field:24} {row.client or '-':36} {row.runtime or '-'}{fate}")


@main.command()
@specs_option
@click.option("--format", "form", type=click.Choice(["text", "markdown", "json"]), default="text", show_default=True)
@click.option("--into", type=click.Path(path_type=Path, exists=True), help="Put the Markdown into this file's block.")
def matrix(specs: tuple[Path, ...], alone: bool, form: str, into: Path | None) -> None:
    """Show what clients of each API find at each runtime; as JSON with the fields that cannot cross."""
    import json

    from inferbridge_codegen import explain as explaining
    from inferbridge_codegen import files
    from inferbridge_codegen.render import pages

    model = _load(specs, alone)
    if into is not None:
        try:
            files.replace_block(into, "matrix", pages.matrix_table(model))
        except ValueError as error:
            raise click.UsageError(str(error)) from None
    elif form == "markdown":
        click.echo(pages.matrix_table(model), nl=False)
    elif form == "json":
        click.echo(json.dumps(explaining.pairs(model), indent=2))
    else:
        for runtime, cells in pages.matrix(model).items():
            for api, operations in cells.items():
                click.echo(f"{runtime:20} {api:16} {', '.join(operations) or '-'}")


@main.command()
@own_specs
@click.option("--client", required=True, help="What the client speaks: API/rest or API/grpc.")
@click.option("--runtime", required=True, help="What the runtime speaks: API or runtime, then /rest or /grpc.")
@click.option("--reply", is_flag=True, help='Lines are {"request": …, "reply": …}; translate the reply for the client.')
@click.option("--lossy", is_flag=True, help="Drop and name what cannot be carried, instead of refusing the call.")
@click.option("--nan", type=click.Choice(["reject", "null", "literal"]), default="reject", show_default=True)
def translate(client: str, runtime: str, reply: bool, lossy: bool, nan: str) -> None:
    """Translate calls offline: JSON lines on stdin, JSON lines on stdout, one call a line."""
    import json

    from inferbridge.bridge.context import Policy
    from inferbridge.translate import Translator

    try:
        translator = Translator(client, runtime, Policy(lossy, nan))  # type: ignore[arg-type]  # click checked the words
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    for number, line in enumerate(sys.stdin, 1):
        if not line.strip():
            continue
        try:
            form = json.loads(line)
            result = translator.reply(form) if reply else translator.call(form)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            click.echo(f"<stdin>:{number}:1: not a call in JSON form: {error}", err=True)
            sys.exit(BAD_INPUT)
        click.echo(json.dumps(result, ensure_ascii=False))


@main.command()
@own_specs
@gateway_options
@click.option("--access-log", is_flag=True, default=None, help="Write a JSON line for each call to stdout.")
@click.option("--admin", metavar="HOST:PORT", help="Where to serve health and metrics; nowhere unless given.")
@click.option("--workers", metavar="NUMBER", help="Processes that share the listeners; one unless given.")
@click.option("--event-loop", metavar="auto|asyncio|uvloop", help="What serves; auto: uvloop where it is installed.")
@click.option("--check", is_flag=True, help="Check the configuration and exit.")
def proxy(config: Path | None, check: bool, **flags: Any) -> None:
    """Run the gateway in front of runtimes."""
    from inferbridge.config import Flags
    from inferbridge.run import load, serve

    settings = load(config, **flags)
    if check:
        click.echo("the configuration is valid", err=True)
        return
    serve(settings, config, Flags(**flags))


@main.command("config-schema")
def config_schema() -> None:
    """Print the JSON Schema of the configuration file."""
    import json

    from inferbridge.config.schema import settings_schema

    click.echo(json.dumps(settings_schema(), indent=2))


@main.command("dashboard")
def grafana_dashboard() -> None:
    """Print a Grafana dashboard of the proxy's metrics."""
    import json

    from inferbridge.observe.dashboard import dashboard

    click.echo(json.dumps(dashboard(), indent=2))


@main.command()
@click.option("--serve", "keep", is_flag=True, help="Keep everything running after the tour, until Ctrl-C.")
@click.option("--listen", metavar="HOST:PORT", help="Where the proxy listens; default: any free port of 127.0.0.1.")
def demo(keep: bool, listen: str | None) -> None:
    """Take a tour: embedded demo runtimes, the proxy in front, real calls each way, both sides shown."""
    from inferbridge.run import run_tour

    sys.exit(run_tour(listen, keep=keep))


main.add_command(call)
main.add_command(export)
main.add_command(import_spec)
main.add_command(inspect)
main.add_command(keys)
main.add_command(mock)
main.add_command(replay)

if __name__ == "__main__":
    main()
