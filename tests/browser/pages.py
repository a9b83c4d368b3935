"""mitmweb's pages in front of a gateway with two runtimes: a slow TGIS and a Triton, both mocks on sockets."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from browser.chromium import Page, browsing
from flows.running import inspecting
from gateway.serving import curl
from inferbridge.mock.runtime import endpoints_of
from inferbridge.mock.script import scenario_of
from inferbridge.mock.serving import Doors, mocking
from inferbridge_generated.runtimes import PROFILES

TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"
CHAT = {
    "model": "tiny",
    "messages": [{"role": "user", "content": " ".join(f"word{number}" for number in range(60))}],
    "max_tokens": 200,
    "temperature": 0.7,
    "stream": True,
}
INFER = {
    "inputs": [
        {"name": "pixels", "shape": [2, 3], "datatype": "FP32", "data": [0.5, 1, 1.5, -2, 2.5, 3]},
        {"name": "label", "shape": [2], "datatype": "BYTES", "data": ["cat", "dog"]},
    ]
}


@dataclass
class Pages:
    """What is open."""

    page: Page
    port: int
    """Of the gateway."""

    async def call(self, path: str, body: object) -> bytes:
        """The answer to a client's call."""
        url = f"http://127.0.0.1:{self.port}{path}"
        return await curl("-N", "-H", "content-type: application/json", "-d", json.dumps(body), url)

    async def choose(self, path: str) -> None:
        """Open a call by the end of its path."""
        await self.page.click(".flow-table tbody tr td.col-path", path)

    async def tab(self, name: str) -> None:
        """One of the tabs of a call."""
        await self.page.click(".flow-detail nav a", name)

    async def view(self, name: str) -> None:
        """Show the message in one of our views."""
        await self.page.click(".contentview .controls a", "View:")
        await self.page.click(".dropdown-menu a", name)
        await self.page.until(f"document.querySelector('.contentview h5').innerText.includes({json.dumps(name)})")

    async def message(self) -> str:
        """What the view shows."""
        found: str = await self.page.run("document.querySelector('.contentview pre').innerText")
        return found


@asynccontextmanager
async def opened(folder: Path, delay: str = "100ms") -> AsyncIterator[Pages]:
    """A gateway under inspection, and a browser with its pages."""
    (folder / "chat.jinja").write_text(TEMPLATE)
    slow = scenario_of(None, {"delay": delay}, endpoints_of(PROFILES["tgis"]))
    async with mocking("tgis", Doors(grpc=0), slow) as (tgis,), mocking("triton", Doors(rest=0, grpc=0)) as tritons:
        triton = next(url for url in tritons if url.startswith("grpc"))
        upstreams = [
            {"runtime": "tgis", "url": tgis, "chat_template": "chat.jinja", "models": ["tiny"]},
            {"runtime": "triton", "url": triton},
        ]
        config = folder / "inferbridge.yaml"
        config.write_text(json.dumps({"upstreams": upstreams}))
        async with (
            inspecting(folder / "state", "-c", str(config)) as running,
            browsing(folder / "profile", running.url) as page,
        ):
            yield Pages(page, running.port)


@asynccontextmanager
async def streaming(pages: Pages) -> AsyncIterator[asyncio.Task[bytes]]:
    """A chat under way."""
    call = asyncio.create_task(pages.call("/v1/chat/completions", CHAT))
    try:
        yield call
    finally:
        await call
