"""`inferbridge call`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from inferbridge.commands import BAD_INPUT, FAILURE, own_specs

if TYPE_CHECKING:
    from inferbridge.calling.asking import Place, Spoken
    from inferbridge.calling.performing import Manner
    from inferbridge.upstream.api import UpstreamRequest


@click.command()
@own_specs
@click.argument("endpoint", metavar="API/ENDPOINT")
@click.option("-d", "--data", metavar="JSON", help="The request: JSON, @file, or - for stdin.")
@click.option("--to", "place", metavar="[RUNTIME=]URL", required=True, help="Where to: http(s):// or grpc(s)://.")
@click.option("-p", "--parameter", multiple=True, metavar="NAME=VALUE", help="Variable of the path, or of its query.")
@click.option("-H", "--header", "headers", multiple=True, metavar="NAME:VALUE", help="Header or metadata; repeatable.")
@click.option("--as", "protocol", type=click.Choice(["rest", "grpc"]), help="Speak this; default: what the URL says.")
@click.option("--lossy", is_flag=True, help="Drop and name what cannot be translated, instead of refusing the call.")
@click.option(
    "--chat-template",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Makes prompts of chats for a runtime that takes none.",
)
@click.option("--timeout", metavar="SECONDS", type=click.FloatRange(0, min_open=True), default=300, show_default=True)
@click.option("-v", "--verbose", is_flag=True, help="Show on stderr what client and runtime say, without credentials.")
@click.option("--show-credentials", is_flag=True, help="Show them too, with -v.")
def call(
    endpoint: str,
    data: str | None,
    place: str,
    parameter: tuple[str, ...],
    headers: tuple[str, ...],
    protocol: str | None,
    lossy: bool,
    chat_template: Path | None,
    timeout: float,
    verbose: bool,
    show_credentials: bool,
) -> None:
    """Call an endpoint and print its answer, a line of JSON for each message.

    With RUNTIME=URL the endpoint may be one that the runtime does not speak: the call is translated on its way, as the
    proxy would. Over gRPC, JSON becomes a message and back. The proxy itself takes every endpoint in either protocol.

    \b
    inferbridge call openai/chat -d '{"messages": [{"role": "user", "content": "hi"}]}' --to http://127.0.0.1:8000
    inferbridge call open-inference/infer -p model=m -d @request.json --to triton=grpc://127.0.0.1:8001 --as rest
    """
    from inferbridge.bridge.errors import BridgeError
    from inferbridge.calling import asking
    from inferbridge.calling.performing import Manner

    try:
        where = asking.parse_place(place)
        ask = asking.spoken(*asking.find_endpoint(endpoint), where, protocol)
        names = dict(pair(text, "=", "-p") for text in parameter)
        fields = tuple((name.lower(), value) for name, value in (pair(text, ":", "-H") for text in headers))
        request = asking.composed(ask, _body(data), fields, names)
        manner = Manner(timeout, lossy, chat_template)
    except BridgeError as problem:
        click.echo(f"-d: {problem.message}", err=True)
        sys.exit(BAD_INPUT)
    except ValueError as problem:
        raise click.UsageError(str(problem)) from None
    if not _performed(request, ask, where, manner, verbose=verbose, credentials=show_credentials):
        sys.exit(FAILURE)


def pair(text: str, between: str, option: str) -> tuple[str, str]:
    """A name and its value, of an option; ValueError for what is neither."""
    name, found, value = text.partition(between)
    if not name or not found or any(letter in value for letter in "\r\n\0"):
        raise ValueError(f"{option} must be name{between}value, on one line")
    return name.strip(), value.strip()


def _body(data: str | None) -> bytes | None:
    if data is None:
        return None
    if data == "-":
        return sys.stdin.buffer.read()
    if not data.startswith("@"):
        return data.encode()
    try:
        return Path(data[1:]).read_bytes()
    except OSError as error:
        raise ValueError(f"-d: cannot read {data[1:]}: {error.strerror}") from None


def _performed(
    request: "UpstreamRequest", ask: "Spoken", place: "Place", manner: "Manner", *, verbose: bool, credentials: bool
) -> bool:
    """Make the call; whether it ended well."""
    import asyncio

    from inferbridge.calling.performing import perform
    from inferbridge.calling.showing import Screen

    stdout = sys.stdout.buffer

    def out(line: bytes) -> None:
        stdout.write(line + b"\n")
        stdout.flush()

    screen = Screen(ask, out, lambda text: click.echo(text, err=True), verbose=verbose, credentials=credentials)
    asyncio.run(perform(request, ask, place, manner, screen.receiver(request), screen.watch(place)))
    return not screen.failed
