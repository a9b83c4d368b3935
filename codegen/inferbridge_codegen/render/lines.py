"""Lines of Python source, in the layout that formatters leave alone."""

import subprocess
from collections.abc import Iterable, Sequence

from ruff import find_ruff_bin  # type: ignore[import-untyped]  # it publishes no types

WIDTH = 120
"""Columns of generated source."""
type Lines = list[str]


def indented(lines: Iterable[str]) -> Lines:
    """One level deeper."""
    return [f"    {line}" for line in lines]


def call(function: str, arguments: Sequence[Lines]) -> Lines:
    """A call with one argument a line, or an empty one."""
    if not arguments:
        return [f"{function}()"]
    inner = [line for argument in arguments for line in (*argument[:-1], f"{argument[-1]},")]
    return [f"{function}(", *indented(inner), ")"]


def wrapped(statement: str, indent: int) -> Lines:
    """A statement ending in a call, its arguments on a line of their own when it is too long."""
    if indent + len(statement) <= WIDTH:
        return [statement]
    head, _, arguments = statement[:-1].partition("(")
    return [f"{head}(", f"    {arguments}", ")"]


def wrapped_head(name: str, arguments: Sequence[str], returns: str) -> Lines:
    """A `def` line."""
    inside = ", ".join(arguments)
    line = f"def {name}({inside}) -> {returns}:"
    if len(line) <= WIDTH:
        return [line]
    return [f"def {name}(", f"    {inside}", f") -> {returns}:"]


def literal(value: object) -> str:
    """A plain value; a string in the quotes that need fewer escapes, double ones if in doubt."""
    if not isinstance(value, str):
        return repr(value)
    quote = "'" if value.count('"') > value.count("'") else '"'
    return quote + "".join(f"\\{sign}" if sign == quote else repr(sign)[1:-1] for sign in value) + quote


def formatted(source: str) -> str:
    """Source as the formatter leaves it, where the statements are too long to lay out by hand."""
    command = [find_ruff_bin(), "format", "--isolated", "--line-length", str(WIDTH), "--target-version", "py312", "-"]
    run = subprocess.run(command, input=source.encode(), capture_output=True, check=True)
    return run.stdout.decode().replace("\r\n", "\n")
