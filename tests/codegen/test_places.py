"""The table of places agrees with the half-bridges that are generated of the same specs."""

import json
from importlib.resources import files

import pytest

from inferbridge_generated.registry import APIS

TABLE = json.loads(files("inferbridge_generated").joinpath("places.json").read_bytes())
BINDINGS = [
    (api.name, endpoint.name, way, half.fields)
    for api in APIS.values()
    for endpoint in api.endpoints.values()
    for way, half in (
        ("rest", endpoint.rest),
        ("grpc", endpoint.grpc),
        *((f"grpc/{name}", halves.get(endpoint.name)) for name, halves in api.variants.items()),
    )
    if half is not None
]


@pytest.mark.parametrize(
    ("api", "endpoint", "way", "fields"), BINDINGS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_field_that_a_binding_says_has_a_place(api: str, endpoint: str, way: str, fields: frozenset[str]) -> None:
    """The table has all bindings, and of each all fields of its requests."""
    named = {name.partition(".")[0].removesuffix("[]") for name in TABLE[api][endpoint][way]}
    assert named >= fields
