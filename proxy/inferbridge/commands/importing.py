"""`inferbridge import`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from inferbridge.commands import BAD_INPUT, FAILURE

if TYPE_CHECKING:
    from inferbridge_codegen.importing.sources import Imported


@click.command("import")
@click.argument("source")
@click.option("--name", help="Name of the API and of the runtime; default: from SOURCE.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default="specs",
    show_default=True,
    help="Spec folder to write to.",
)
@click.option(
    "--proto-path",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="What imports are relative to; default: the folder of SOURCE.",
)
@click.option("--force", is_flag=True, help="Overwrite files.")
def import_spec(source: str, name: str | None, out: Path, proto_path: Path | None, force: bool) -> None:
    """Write a new runtime's skeleton spec, with what a person must still decide marked by ???.

    SOURCE is a .proto file, a server that answers reflection (grpc://host:port), or an OpenAPI document (file or URL).
    """
    from inferbridge.bridge.errors import BridgeError
    from inferbridge_codegen.problems import SpecError

    try:
        imported = _imported(source, name, proto_path)
    except SpecError as error:
        click.echo(str(error), err=True)
        sys.exit(BAD_INPUT)
    except ValueError as error:
        click.echo(f"{source}: {error}", err=True)
        sys.exit(BAD_INPUT)
    except (OSError, BridgeError) as error:
        click.echo(f"cannot read {source}: {error}", err=True)
        sys.exit(FAILURE)
    write_spec(imported, out, force)


def write_spec(imported: "Imported", out: Path, force: bool) -> None:
    """Write the files of a skeleton, all or none, and say what is left to do."""
    _write(imported, out, force)
    click.echo(
        f"{imported.questions} things are left to decide, marked ???; to list them: inferbridge lint --specs {out}",
        err=True,
    )


def _imported(source: str, name: str | None, proto_path: Path | None) -> "Imported":
    from urllib.parse import urlsplit

    from inferbridge_codegen.importing import sources
    from inferbridge_codegen.importing.skeleton import spec_name

    if source.startswith(("grpc://", "grpcs://")):
        from inferbridge.calling.reflecting import reflected

        found = spec_name(name or urlsplit(source).hostname or "")
        return sources.from_descriptors(reflected(source), source, found, urlsplit(source).port or 443)
    if source.endswith(".proto"):
        path = Path(source)
        return sources.from_proto(path, proto_path or path.parent, spec_name(name or path.stem))
    if source.startswith(("http://", "https://")):
        return sources.from_openapi(_fetched(source), source, spec_name(name or urlsplit(source).hostname or ""))
    return sources.from_openapi(Path(source).read_bytes(), Path(source).name, spec_name(name or Path(source).stem))


def _fetched(url: str) -> bytes:
    from urllib.error import HTTPError
    from urllib.request import urlopen

    from inferbridge_codegen.importing.sources import MAX_DOCUMENT

    try:
        with urlopen(url, timeout=30) as answer:
            content: bytes = answer.read(MAX_DOCUMENT + 1)
            return content
    except HTTPError as error:
        error.close()  # it holds the connection
        raise


def _write(imported: "Imported", out: Path, force: bool) -> None:
    """Write all files or none."""
    present = [path for path in imported.files if (out / path).exists()]
    if present and not force:
        names = ", ".join(str(out / path) for path in present)
        raise click.UsageError(f"{names} would be overwritten; --force does so")
    for path, text in imported.files.items():
        place = out / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
        click.echo(str(place))
