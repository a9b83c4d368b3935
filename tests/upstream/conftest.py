"""Pools that must leave nothing behind."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable

import pytest

from inferbridge.gateway.limits import Limits
from inferbridge.upstream.api import Pool
from inferbridge.upstream.pool import open_pool
from inferbridge.upstream.tls import TlsSettings

type OpenPool = Callable[..., Pool]


@pytest.fixture
async def opened() -> AsyncIterator[OpenPool]:
    """Open pools that are closed after the test; then no task and no transport of theirs may remain."""
    pools: list[Pool] = []
    before = asyncio.all_tasks()

    def open_one(url: str, limits: Limits | None = None, tls: TlsSettings | None = None) -> Pool:
        pools.append(open_pool(url, limits=limits or Limits(), tls=tls))
        return pools[-1]

    yield open_one
    for pool in pools:
        await pool.close()
    pools.clear()
    left = {task for task in asyncio.all_tasks() - before if "upstream" in repr(task.get_coro())}
    assert not left
    gc.collect()  # a transport left open warns when it is collected, and warnings are errors
