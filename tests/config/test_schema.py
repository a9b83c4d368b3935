"""The JSON Schema of the configuration."""

import json
import re

import pytest

from inferbridge.config import environment_names
from inferbridge.config.schema import settings_schema
from inferbridge.config.table import SETTINGS

SCHEMA = settings_schema()


def test_the_schema_is_json_with_every_key() -> None:
    """The schema lists the keys of the table, refuses others and describes each."""
    properties = json.loads(json.dumps(SCHEMA))["properties"]
    assert set(properties) == set(SETTINGS.fields)
    assert SCHEMA["additionalProperties"] is False
    assert all(entry["description"] for entry in properties.values())


def patterns(schema: object) -> list[str]:
    """All patterns of the strings that a schema allows."""
    if isinstance(schema, dict):
        own = [schema["pattern"]] if "pattern" in schema else []
        return own + [found for entry in schema.values() for found in patterns(entry)]
    return [found for entry in schema for found in patterns(entry)] if isinstance(schema, list) else []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("body_size", "4MiB"),
        ("body_size", "1 GB"),
        ("call_timeout", "1.5m"),
        ("call_timeout", "500ms"),
        ("call_timeout", "${SECONDS}"),
    ],
)
def test_patterns_accept_what_the_reader_accepts(key: str, value: str) -> None:
    """A size, a duration and a variable match the schema's patterns."""
    limits = SCHEMA["properties"]["limits"]["properties"]  # type: ignore[index]
    assert any(re.search(pattern, value) for pattern in patterns(limits[key]))


@pytest.mark.parametrize("value", ["4", "4 parsecs", "-1s", "4MiBs"])
def test_patterns_refuse_what_the_reader_refuses(value: str) -> None:
    """A duration without its unit does not match."""
    limits = SCHEMA["properties"]["limits"]["properties"]  # type: ignore[index]
    assert not any(re.search(pattern, value) for pattern in patterns(limits["call_timeout"]))


def test_environment_names_follow_the_keys() -> None:
    """Every setting has one environment variable, named after its place in the file."""
    names = environment_names()
    assert names["INFERBRIDGE_LISTEN"] == ("listen",)
    assert names["INFERBRIDGE_LIMITS_BODY_SIZE"] == ("limits", "body_size")
    assert len(set(names)) == len(set(names.values()))
