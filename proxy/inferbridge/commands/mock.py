"""`inferbridge mock`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from inferbridge.commands import BAD_INPUT, FAILURE, own_specs

if TYPE_CHECKING:
    from inferbridge.mock.script import Scenario
    from inferbridge.mock.serving import Doors

_PORT = click.IntRange(0, 65535)


@click.command()
@own_specs
@click.argument("runtime")
@click.option("--listen", metavar="HOST", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--rest", metavar="PORT", type=_PORT, help="Port of REST; default: the spec's, 0 is any free one.")
@click.option("--grpc", metavar="PORT", type=_PORT, help="Port of gRPC; default: the spec's, 0 is any free one.")
@click.option("--error", metavar="CODE[:N]", help="Fail every call, after N messages of a stream.")
@click.option("--delay", metavar="TIME", help="Wait so long before each message, such as 50ms.")
@click.option(
    "--scenario", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Scripts of endpoints (YAML)."
)
def mock(
    runtime: str,
    listen: str,
    rest: int | None,
    grpc: int | None,
    error: str | None,
    delay: str | None,
    scenario: Path | None,
) -> None:
    """Serve RUNTIME as its spec describes it: every endpoint answers what follows from the request.

    Generated text repeats the prompt, inferred tensors come back, numbers follow from the texts they are about. Prints
    RUNTIME=URL for each port, as --upstream of `proxy` and --to of `call` take it.
    """
    from inferbridge.mock.serving import Doors
    from inferbridge_codegen.problems import suggestion
    from inferbridge_generated.runtimes import PROFILES

    if runtime not in PROFILES:
        near = suggestion(runtime, PROFILES) or f": it is none of {', '.join(sorted(PROFILES))}"
        raise click.UsageError(f"there is no runtime {runtime!r}{near}")
    _serve(runtime, Doors(listen, rest, grpc), _scenario(runtime, scenario, error, delay))


def _scenario(runtime: str, file: Path | None, error: str | None, delay: str | None) -> "Scenario":
    """What file and flags say; a flag counts more."""
    from inferbridge.config.load import SettingsError
    from inferbridge.mock.runtime import endpoints_of
    from inferbridge.mock.script import scenario_of
    from inferbridge_generated.runtimes import PROFILES

    flags = {name: text for name, text in (("error", error), ("delay", delay)) if text is not None}
    try:
        return scenario_of(file, flags, endpoints_of(PROFILES[runtime]))
    except SettingsError as problem:
        click.echo(str(problem), err=True)
        sys.exit(BAD_INPUT)


def _serve(runtime: str, doors: "Doors", scenario: "Scenario") -> None:
    import asyncio
    import signal

    from inferbridge.mock.serving import mocking

    async def serve() -> None:
        ended = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        async with mocking(runtime, doors, scenario) as urls:
            for url in urls:
                click.echo(f"{runtime}={url}")
            await ended.wait()

    try:
        asyncio.run(serve())
    except OSError as problem:
        click.echo(f"cannot listen: {problem.strerror or problem}", err=True)
        sys.exit(FAILURE)
