"""Markers of this folder."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Register what only these tests use."""
    config.addinivalue_line("markers", "network: installs packages from the package index")
