"""Both parsers of large arrays."""

import pytest

from inferbridge.bridge import json_arrays


@pytest.fixture(params=["simdjson", "orjson"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a test with the extra `simd`, and as if it were not installed."""
    if request.param == "simdjson":
        pytest.importorskip("simdjson")
    else:
        monkeypatch.setattr(json_arrays, "simdjson", None)
    return str(request.param)
