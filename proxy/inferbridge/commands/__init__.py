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


def gateway_options[F: Callable[..., None]](command: F) -> F:
    """The settings of a gateway as options, all named as `Flags` names them, and `config`."""
    file = click.Path(path_type=Path, dir_okay=False)
    options = (
        click.option("-c", "--config", type=file, help="Configuration file (YAML)."),
        click.option("--listen", multiple=True, metavar="HOST:PORT", help="Where to listen; repeatable."),
        click.option(
            "--upstream", multiple=True, metavar="RUNTIME=URL", help="A runtime: triton=grpc://127.0.0.1:8001 …"
        ),
        click.option(
            "--limit", multiple=True, metavar="NAME=VALUE", help="A limit, such as body_size=64MiB; repeatable."
        ),
        click.option("--lossy", metavar="reject|allow", help="What to do with fields that the runtime cannot express."),
        click.option("--nan", metavar="reject|null|literal", help="How NaN and Infinity stand in JSON."),
        click.option("--tls-certificate", metavar="PEM", help="Private key and certificate chain of the listeners."),
        click.option(
            "--allow-unauthenticated",
            is_flag=True,
            default=None,
            help="Let other machines connect, unauthenticated.",
        ),
        click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error."),
        click.option("--log-format", metavar="FORMAT", help="text or json."),
    )
    for option in reversed(options):
        command = option(command)
    return command


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
