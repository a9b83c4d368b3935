"""The JSON Schema of a configuration file, from the same table that reads it."""

from inferbridge.config.kinds import Schema
from inferbridge.config.table import SETTINGS


def settings_schema() -> Schema:
    """JSON Schema 2020-12, for editors and CI."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "inferbridge configuration",
        **SETTINGS.schema(),
    }
