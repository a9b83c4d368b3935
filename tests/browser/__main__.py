"""Makes the pictures of README.md and docs/inspecting.md: `make screenshots`.

`python -m browser` with the PYTHONPATH of the tests does the same. Each is a page of mitmweb on live traffic, of
at most 150 KB. Needs a Chromium.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from browser.chromium import found
from browser.pages import INFER, Pages, opened, streaming
from packaging_sources import ROOT

IMAGES = ROOT / "docs" / "images"
MOST = 150_000
"""Bytes of a picture."""


async def shoot(pages: Pages, name: str, width: int = 1280) -> None:
    """Keep a picture of the page as it is now."""
    await pages.page.resize(width, 640)
    picture = await pages.page.picture()
    if len(picture) > MOST:
        raise ValueError(f"{name}.png has {len(picture)} bytes, more than {MOST}")
    await asyncio.to_thread((IMAGES / f"{name}.png").write_bytes, picture)
    sys.stdout.write(f"{name}.png: {len(picture)} bytes\n")


async def make(folder: Path) -> None:
    """All of them: a stream under way, both sides of it, its times, and tensors."""
    async with opened(folder) as pages:
        await pages.call("/v2/models/resnet/infer", INFER)
        async with streaming(pages) as call:
            await pages.choose("/v1/chat/completions")
            await pages.tab("Response")
            await pages.page.until("(document.body.innerText.match(/word\\d+/g) || []).length >= 20")
            await shoot(pages, "inspect-stream")
            await call
        for view, width in (("translation", 1900), ("timing", 1280)):
            await pages.view(f"inferbridge {view}")
            await shoot(pages, f"inspect-{view}", width)
        await pages.choose("/v2/models/resnet/infer")
        await pages.view("inferbridge upstream")
        await pages.page.run("document.querySelector('.contentview').scrollIntoView()")
        await shoot(pages, "inspect-tensors")


def main() -> None:
    """Exits 1 where there is no browser."""
    if found() is None:
        sys.exit("needs a Chromium: apt-get install chromium")
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(make(Path(folder)))


if __name__ == "__main__":
    main()
