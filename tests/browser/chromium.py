"""A headless Chromium, told what to do over its DevTools protocol; Debian's package `chromium` is enough."""

import asyncio
import base64
import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tornado.websocket import WebSocketClientConnection, websocket_connect

from gateway.serving import curl

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 30.0
"""Seconds that anything on a page may take."""
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-port=0",
)


def found() -> str | None:
    """The program, or None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One tab."""

    def __init__(self, socket: WebSocketClientConnection) -> None:
        self._socket = socket
        self._number = 0

    async def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command; events are passed over."""
        self._number += 1
        await self._socket.write_message(json.dumps({"id": self._number, "method": method, "params": parameters}))
        async with asyncio.timeout(PATIENCE):
            while True:
                text = await self._socket.read_message()
                assert text is not None, "the browser has closed the page"
                answer = json.loads(text)
                if answer.get("id") == self._number:
                    assert "error" not in answer, answer
                    result: dict[str, Any] = answer["result"]
                    return result

    async def open(self, url: str) -> None:
        """Go there, and wait for the page."""
        await self.send("Page.enable")
        await self.send("Page.navigate", url=url)
        async with asyncio.timeout(PATIENCE):
            while json.loads(str(await self._socket.read_message())).get("method") != "Page.loadEventFired":
                pass
        await self.send("Page.disable")

    async def run(self, script: str) -> Any:
        """The value of an expression of JavaScript."""
        result = await self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    async def until(self, script: str) -> None:
        """Wait until an expression is true; the page itself looks again and again."""
        again = f"""new Promise((done, fail) => {{
            const end = Date.now() + {PATIENCE * 900};
            const look = () => {{
                if ({script}) done();
                else if (Date.now() > end) fail(new Error("not seen: " + document.body.innerText.slice(0, 2000)));
                else setTimeout(look, 20);
            }};
            look();
        }})"""
        await self.run(again)

    async def text(self) -> str:
        """All that can be read."""
        found: str = await self.run("document.body.innerText")
        return found

    async def click(self, selector: str, text: str = "") -> None:
        """On the first element of a kind that has this text, once there is one."""
        all_of = f"[...document.querySelectorAll({json.dumps(selector)})]"
        first = f"{all_of}.find(each => each.innerText.includes({json.dumps(text)}))"
        await self.until(f"(() => {{ const found = {first}; if (found) found.click(); return !!found; }})()")

    async def resize(self, width: int, height: int) -> None:
        """Of what is seen, in pixels."""
        await self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    async def picture(self) -> bytes:
        """A PNG of the page."""
        result = await self.send("Page.captureScreenshot", format="png")
        return base64.b64decode(result["data"])


@asynccontextmanager
async def browsing(folder: Path, url: str) -> AsyncIterator[Page]:
    """A page of a browser of its own, whose profile is kept in `folder`."""
    program = found()
    assert program is not None
    process = await asyncio.create_subprocess_exec(
        program, *_FLAGS, f"--user-data-dir={folder}", "about:blank", stdout=-3, stderr=-1
    )
    try:
        assert process.stderr is not None
        port = ""
        async with asyncio.timeout(PATIENCE):
            while not port:
                line = await process.stderr.readline()
                assert line, "the browser does not start"
                port = "".join(re.findall(r"DevTools listening on ws://127\.0\.0\.1:(\d+)/", line.decode()))
        target = json.loads(await curl("-X", "PUT", f"http://127.0.0.1:{port}/json/new"))
        socket = await websocket_connect(target["webSocketDebuggerUrl"], max_message_size=1 << 26)
        try:
            page = Page(socket)
            await page.resize(1280, 800)
            await page.open(url)
            yield page
        finally:
            socket.close()
    finally:
        process.kill()
        await process.communicate()
