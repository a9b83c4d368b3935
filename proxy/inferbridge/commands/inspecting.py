"""`inferbridge inspect`."""

from pathlib import Path
from typing import Any, Literal

import click

from inferbridge.commands import gateway_options, own_specs

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@own_specs
@gateway_options
@click.option("--console", "tool", flag_value="console", help="Show calls in mitmproxy's console.")
@click.option("--dump", "tool", flag_value="dump", help="Print calls, as mitmdump does.")
@click.option("--web-port", type=click.IntRange(1, 65535), default=8081, show_default=True, help="Port of the pages.")
@click.option("--open", "open_browser", is_flag=True, help="Open a browser with the pages.")
@click.option("--detail", type=click.IntRange(0, 4), default=1, show_default=True, help="How much --dump prints.")
@click.option("--read", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Show recorded calls.")
@click.option("--save", type=_FILE, help="Write calls to this file; mitmproxy's tools and --read read it.")
@click.option("--filter", "expression", metavar="EXPR", default="", help="Which calls: 'model:llama* ttft:>500ms' …")
@click.option("--memory", metavar="SIZE", default="64MiB", show_default=True, help="Of all calls; the oldest go first.")
@click.option("--message", metavar="SIZE", default="1MiB", show_default=True, help="What is kept of each message.")
def inspect(
    config: Path | None, tool: Literal["console", "dump"] | None, read: Path | None, expression: str, **others: Any
) -> None:
    """Run the gateway and show its calls in a browser (mitmweb): both sides, field by field, streams while they run.

    With --read it shows recorded calls and needs no gateway. Nobody but this machine reaches the pages, and nobody
    without the token of the URL. They are for debugging: they show prompts and answers of everybody who calls.
    """
    from inferbridge.commands.export import parsed
    from inferbridge.flows.tools import Look, show
    from inferbridge.run import load

    names = ("web_port", "open_browser", "detail", "save", "memory", "message")
    only = parsed(expression) if expression else None
    look = Look(tool or "web", read=read, only=only, **{name: others.pop(name) for name in names})
    alone = read is not None and config is None and not others["upstream"]
    show(None if alone else load(config, **others), look)
