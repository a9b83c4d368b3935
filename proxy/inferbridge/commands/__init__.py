"""Commands that have a module of their own; like all commands they import what they need when they run."""

import sys
from collections.abc import Callable
from pathlib import Path

import click

FAILURE = 1
BAD_INPUT = 100
"""Exit code for problems found in the user's input."""
SPECS_VARIABLE = "INFERBRIDGE_SPECS"
"""Environment variable that names own spec folders, as `--specs` does; several are separated as in PATH."""


def own_specs[F: Callable[..., None]](command: F) -> F:
    """The option `--specs` of a command that runs generated code."""
    return click.option(
        "--specs",
        multiple=True,
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        envvar=SPECS_VARIABLE,
        expose_value=False,
        is_eager=True,  # before anything imports the generated package
        callback=_use,
        help="Spec folder beside the shipped ones; repeatable.",
    )(command)


def _use(context: click.Context, parameter: click.Parameter, folders: tuple[Path, ...]) -> None:
    if not folders or context.resilient_parsing:
        return
    from inferbridge.own_specs import use
    from inferbridge_codegen.problems import SpecError

    try:
        use(folders)
    except SpecError as error:
        click.echo(str(error), err=True)
        sys.exit(BAD_INPUT)
