"""`inferbridge keys`."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from inferbridge.commands import BAD_INPUT, FAILURE

if TYPE_CHECKING:
    from inferbridge.auth.identity import Identity
    from inferbridge.auth.key_file import KeyEntry

_DAY = 86400
_MOST_DAYS = 36_500
_MOST_BYTES = 65_536


def _file_option[F: Callable[..., None]](command: F) -> F:
    path = click.Path(path_type=Path, dir_okay=False)
    return click.option("-f", "--file", required=True, type=path, help="The file of keys (YAML).")(command)


@click.group()
def keys() -> None:
    """Make, list and revoke keys that clients show to the gateway.

    The file holds digests alone. A running gateway reads it again when it changes.
    """


@keys.command()
@_file_option
@click.option("--name", required=True, help="Who will use it: the subject in rules and logs.")
@click.option("--group", "groups", multiple=True, help="A group of its user; repeatable.")
@click.option("--model", "models", multiple=True, metavar="GLOB", help="A model it may call; repeatable.")
@click.option("--operation", "operations", multiple=True, help="generate, embed, infer …; repeatable.")
@click.option("--endpoint", "endpoints", multiple=True, metavar="GLOB", help="API/ENDPOINT, caikit/*; repeatable.")
@click.option("--max-tokens", type=click.IntRange(1, 1 << 31), help="The most new tokens that a call may ask for.")
@click.option("--expires", default="90d", show_default=True, metavar="DAYSd|DATE|never", help="When it ends.")
def new(
    file: Path,
    name: str,
    groups: tuple[str, ...],
    models: tuple[str, ...],
    operations: tuple[str, ...],
    endpoints: tuple[str, ...],
    max_tokens: int | None,
    expires: str,
) -> None:
    """Make a key, print it once, and add its digest to the file.

    DATE is the last day in UTC, 2027-02-24, or a time, 2027-02-24T18:00:00Z. What a key may call is everything unless
    --model, --operation or --endpoint say less; rules of the gateway's configuration may say less still.

    \b
    inferbridge keys new -f keys.yaml --name search --model 'llama-*' --expires 30d > search.key
    """
    from inferbridge.auth import key_edit, key_form
    from inferbridge.auth.identity import Grant
    from inferbridge.auth.key_file import KeyEntry

    key_id, secret = key_form.new_key()
    grant = Grant(models, operations, endpoints, max_tokens)
    entry = KeyEntry(
        key_id,
        key_form.digest_of(key_id, secret),
        name=name,
        groups=groups,
        grant=None if grant == Grant() else grant,
        expires_at=_expiry(expires),
    )
    with _problems_shown(file):
        key_edit.change(file, lambda text: key_edit.with_entry(text, entry, str(file)), create=True)
        _warn(file)
    click.echo(f"{_introduced(entry.identity)}; the key is shown this once:", err=True)
    click.echo(key_form.written(key_id, secret))


def _expiry(text: str) -> float | None:
    """Seconds since 1970; None is never."""
    import re
    import time

    from inferbridge.auth.key_file import parse_expiry

    if text == "never":
        return None
    now = int(time.time())
    if days := re.fullmatch(r"([0-9]{1,5})d", text):
        seconds: float = now + int(days[1]) * _DAY
    else:
        try:
            seconds = float(int(parse_expiry(text)))  # the file has whole seconds
        except ValueError as error:
            raise click.UsageError(f"--expires {text!r} {error}; or say never, or a number of days: 90d") from None
    if not now < seconds <= now + _MOST_DAYS * _DAY:
        raise click.UsageError(f"--expires {text!r} must be in the future, and at most {_MOST_DAYS} days away")
    return seconds


@keys.command("list")
@_file_option
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def list_keys(file: Path, form: str) -> None:
    """List the keys of a file, without their digests."""
    import json
    import time

    from inferbridge.auth.key_file import read_keys

    with _problems_shown(file):
        entries = read_keys(file.read_bytes(), str(file))
        _warn(file)
    rows = [_row(entry, time.time()) for entry in entries]
    if form == "json":
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        click.echo("".join(map(_line, rows)), nl=False)


_LIMITS = ("models", "operations", "endpoints", "max_tokens", "max_body")


def _row(entry: "KeyEntry", now: float) -> dict[str, object]:
    from inferbridge.auth.key_file import show_expiry

    return {
        "id": entry.key_id,
        "name": entry.name or entry.key_id,
        "form": entry.form,
        "state": "disabled" if entry.disabled else "expired" if entry.expired(now) else "good",
        "not_after": None if entry.expires_at is None else show_expiry(entry.expires_at),
        "groups": entry.groups,
        **{limit: getattr(entry.grant, limit, None) for limit in _LIMITS},
    }


def _line(row: dict[str, object]) -> str:
    limits = " ".join(f"{key}={_shown(row[key])}" for key in ("groups", *_LIMITS) if row[key])
    until = row["not_after"] or "never ends"
    return f"{row['id']:20} {row['state']:9} {until:21} {row['name']:20} {limits}".rstrip() + "\n"


def _shown(value: object) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


@keys.command()
@_file_option
@click.argument("key_id", metavar="ID")
def revoke(file: Path, key_id: str) -> None:
    """Disable the key with this ID. Its entry stays, so that logs can still be read."""
    from inferbridge.auth import key_edit
    from inferbridge.auth.key_file import read_keys
    from inferbridge_codegen.problems import suggestion

    with _problems_shown(file):
        try:
            key_edit.change(file, lambda text: key_edit.with_disabled(text, key_id, str(file)))
        except LookupError:
            near = suggestion(key_id, [one.key_id for one in read_keys(file.read_bytes(), str(file))])
            raise click.UsageError(f"{file} has no key with this id{near}") from None
    click.echo(f"key {key_id} is disabled; a gateway that reads {file} refuses it within two seconds", err=True)


@keys.command()
@_file_option
def verify(file: Path) -> None:
    """Read a key from stdin and say whose it is; exit 1 when the gateway would refuse it."""
    from inferbridge.auth.authenticator import Unauthenticated
    from inferbridge.auth.identity import Presented, Token
    from inferbridge.auth.keys import KeysAuthenticator
    from inferbridge.auth.settings import KeysSettings

    text = _key_from_stdin()
    with _problems_shown(file):
        authenticator = KeysAuthenticator(KeysSettings(file))
    try:
        identity = authenticator.authenticate(Presented(Token.of(text)))
    except Unauthenticated as refusal:
        click.echo(f"refused, {refusal.reason}: {refusal.detail}", err=True)
        sys.exit(FAILURE)
    if identity is None:
        click.echo(f"refused: {file} does not know this key", err=True)
        sys.exit(FAILURE)
    click.echo(_introduced(identity))


@keys.command("hash")
def hash_key() -> None:
    """Read a key of another system from stdin and print what its entry says: `form: plain` and this `hash`.

    \b
    inferbridge keys hash < vllm-api-key
    """
    from inferbridge.auth import key_form

    try:
        digest = key_form.plain_digest(_key_from_stdin())
    except ValueError as error:
        click.echo(f"the key {error}", err=True)
        sys.exit(BAD_INPUT)
    click.echo("an entry of it has an id of your choice, `form: plain`, and as `hash`:", err=True)
    click.echo(key_form.show_digest(digest))


def _key_from_stdin() -> str:
    """A key, which never stands in an argument: everybody on the machine can list these."""
    if sys.stdin.isatty():
        return str(click.prompt("key", hide_input=True, err=True))
    text = sys.stdin.buffer.read(_MOST_BYTES).decode("utf-8", "surrogateescape")
    return text.removesuffix("\n").removesuffix("\r")


def _introduced(identity: "Identity") -> str:
    from inferbridge.auth.key_file import show_expiry

    until = "never ends" if identity.expires_at is None else f"until {show_expiry(identity.expires_at)}"
    groups = f", groups {', '.join(identity.groups)}" if identity.groups else ""
    return f"{identity.subject}: key {identity.key_id}, {until}{groups}"


@contextmanager
def _problems_shown(file: Path) -> Iterator[None]:
    """Ends the command with what is wrong with the file."""
    try:
        yield
    except ValueError as error:  # all of the file's problems with their places, or what to write by hand
        click.echo(str(error), err=True)
        sys.exit(BAD_INPUT)
    except OSError as error:
        click.echo(f"{file}: {error.strerror or error}", err=True)
        sys.exit(FAILURE)


def _warn(file: Path) -> None:
    from inferbridge.auth.key_file import writable_by_others

    if warning := writable_by_others(file):
        click.echo(f"warning: {warning}", err=True)
