"""The event loop of the tests, and of the programs that they start: that which `INFERBRIDGE_TEST_LOOP` names."""

import os
from collections.abc import Mapping

import pytest

from inferbridge import event_loop

LOOP: event_loop.Name = "uvloop" if os.environ.get("INFERBRIDGE_TEST_LOOP") == "uvloop" else "asyncio"
os.environ["INFERBRIDGE_EVENT_LOOP"] = LOOP


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, event_loop.Factory]:
    """The one that asynchronous tests and fixtures run in."""
    return {LOOP: event_loop.factory(LOOP)}


def pytest_report_header() -> str:
    """Says which."""
    return f"event loop: {LOOP}"
