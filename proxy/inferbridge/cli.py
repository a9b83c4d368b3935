"""The command line. Every command imports what it needs when it runs, so that `--help` is quick."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from inferbridge_codegen.model.types import Model

FAILURE = 1
BAD_INPUT = 100
"""Exit code for problems found in the user's input."""

specs_option = click.option(
    "--specs", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Spec folder; default: the one shipped."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="inferbridge")
def main() -> None:
    """Any client, any inference runtime: typed stubs and REST/gRPC bridges from specs."""


def _load(specs: Path | None) -> "Model":
    from inferbridge_codegen.model.link import load_model
    from inferbridge_codegen.places import default_specs
    from inferbridge_codegen.problems import SpecError

    try:
        return load_model(specs or default_specs())
    except SpecError as error:
        click.echo(str(error), err=True)
        sys.exit(BAD_INPUT)


@main.command()
@specs_option
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder of the generated package.")
@click.option("--check", is_flag=True, help="Write nothing; exit 1 when the folder is not up to date.")
@click.option("--diff", "show_diff", is_flag=True, help="Print the differences.")
def generate(specs: Path | None, out: Path | None, check: bool, show_diff: bool) -> None:
    """Generate the bridging package from specs."""
    from inferbridge_codegen import files
    from inferbridge_codegen.places import default_output
    from inferbridge_codegen.render.package import render_package

    folder = out or default_output()
    if folder is None:
        raise click.UsageError("name the folder to write with --out")
    rendered = render_package(_load(specs))
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
def lint(specs: Path | None) -> None:
    """Check specs: every problem with its place."""
    model = _load(specs)
    click.echo(f"{len(model.apis)} APIs, {len(model.operations)} operations, {len(model.runtimes)} runtimes: no problems", err=True)


if __name__ == "__main__":
    main()
