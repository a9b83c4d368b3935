"""A gateway before a mock, to record calls of and to make them again."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from inferbridge.config.values import Listener, Settings, Upstream
from inferbridge.mock.serving import Doors, mocking
from inferbridge.run import running
from inferbridge.upstream.address import parse_address


@asynccontextmanager
async def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str = "tgis") -> AsyncIterator[str]:
    """The value is its host and port."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    async with mocking(runtime, Doors(rest=0, grpc=0)) as urls:
        upstreams = tuple(Upstream(f"u{at}", runtime, parse_address(url)) for at, url in enumerate(urls))
        async with running(Settings(listen=(Listener("127.0.0.1", 0),), upstreams=upstreams)) as address:
            yield str(address)
