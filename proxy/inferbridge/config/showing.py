"""Settings as they are in force, in the words of the configuration file and without secrets."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path

from inferbridge.auth.settings import UpstreamCredentials
from inferbridge.config.auth import Credentials
from inferbridge.config.kinds import Each, ListOf, Measure, Record, Tagged
from inferbridge.config.table import SETTINGS
from inferbridge.config.upstreams import UPSTREAM, Upstreams
from inferbridge.config.values import Listener, Settings
from inferbridge.upstream.address import Address, Endpoint


def shown(settings: Settings) -> dict[str, object]:
    """All settings but those that nobody has set and that have no default, for JSON; a secret is `***`."""
    return _record(SETTINGS, settings)


def _record[T](record: Record[T], value: T) -> dict[str, object]:
    set_ones = ((key, field.kind, getattr(value, field.attribute or key)) for key, field in record.fields.items())
    found = ((key, _shown(kind, item)) for key, kind, item in set_ones if item not in (None, ""))
    return {key: item for key, item in found if item is not None}


def _shown(kind: object, value: object) -> object:
    match kind, value:
        case Record(), _:
            return _record(kind, value)
        case Upstreams(), tuple():
            return [_record(UPSTREAM, upstream) for upstream in value]
        case Credentials(), UpstreamCredentials():
            return _record(kind.record, value) if value.is_set else None
        case Tagged(), _:
            return {name: _record(one, value) for name, one in kind.options.items() if one.build is type(value)}
        case ListOf(), ():
            return None
        case ListOf() | Each(), tuple():
            return [_shown(kind.item, item) for item in value]
        case Measure(), int() | float():
            return kind.written(value)
    return _plain(value)


def _plain(value: object) -> object:
    """Only what is known to be harmless is shown; of anything else, a `Secret` too, not even the length."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Listener(transparent=True):
            return {"address": str(value), "transparent": True}
        case Path() | Listener() | Address() | Endpoint():
            return str(value)
        case tuple() | list() | frozenset():
            return [_plain(item) for item in value]
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return "***"
