"""Checks of a request against what the runtime can express, named by `quirk:` in the operation's fields."""

from inferbridge.bridge.context import Context


def model_versions(value: str, name: str, context: Context) -> str:
    """KServe's model server has no model versions; the field is dropped or refused."""
    if value and not context.profile.model_versions:
        context.lose(name, f"{context.profile.name} has no model versions")
        return ""
    return value


def ascii_ids(value: str, name: str, context: Context) -> str:
    """MLServer copies the id into a header and fails on anything but ASCII (HTTP 500 / INTERNAL)."""
    if context.profile.ascii_ids and not value.isascii():
        context.lose(name, f"{context.profile.name} takes ASCII ids only")
        return ""
    return value


def datatype(value: str, name: str, context: Context, *, in_json: bool = False) -> None:
    """Refuse a datatype that the runtime does not know, before it fails on it in its own way."""
    if value in context.profile.missing:
        raise context.inexpressible(f"{name}: {context.profile.name} does not support {value}")
    if in_json and value in context.profile.json_missing:
        raise context.inexpressible(f"{name}: {context.profile.name} does not take {value} as JSON")
