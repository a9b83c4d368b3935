"""Questions to whoever decides about credentials: key sets, token reviews, introspection. Over our own pools."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from inferbridge.auth.authenticator import CannotAuthenticate
from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.values import Buffer, Headers
from inferbridge.gateway.limits import MIB, Limits
from inferbridge.upstream.api import UpstreamRequest
from inferbridge.upstream.pool import open_pool
from inferbridge.upstream.tls import TlsSettings

ANSWER_BYTES = MIB


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, whatever its status; redirects are not followed."""

    status: int
    headers: Headers
    body: bytes

    @property
    def outcome(self) -> str:
        """How it ended, in words that follow who answered."""
        hint = "; redirects are not followed" if 300 <= self.status < 400 else ""
        return f"answered {self.status}{hint}"

    def json(self) -> dict[str, Any]:
        """The object in the body; CannotAuthenticate when it holds none."""
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise CannotAuthenticate(f"the answer is no JSON: {error}") from None
        if not isinstance(found, dict):
            raise CannotAuthenticate("the answer is no JSON object")
        return found


def path_of(parts: SplitResult) -> str:
    """What of a URL its origin is asked for."""
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


class Origin:
    """One server, connected to on the first question. ValueError for a URL or a TLS file that cannot be used."""

    def __init__(self, url: str, *, tls: TlsSettings | None = None, timeout: float = 5.0) -> None:
        """`url` names the origin, its path is left to the questions; `timeout` in seconds for a whole question."""
        parts = urlsplit(url)
        self.name = f"{parts.scheme}://{parts.netloc}"
        self._pool = open_pool(self.name, limits=Limits(reply_bytes=ANSWER_BYTES), tls=tls)
        self._timeout = timeout

    async def ask(
        self, method: str, path: str, headers: Headers = (), body: bytes = b"", *, idempotent: bool = True
    ) -> Answer:
        """The answer; CannotAuthenticate when there is none. A caller that is cancelled cancels the question."""
        waiting = _Waiting()
        request = UpstreamRequest(method, path, headers, (body,) if body else (), idempotent)
        call = self._pool.send(request, waiting, self._timeout)
        try:
            return await waiting.answer
        except BridgeError as error:
            raise CannotAuthenticate(f"{self.name}: {error.message}") from None
        except asyncio.CancelledError:
            call.cancel()
            raise

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.close()


class _Waiting:
    """Collects an answer."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._status = 0
        self._headers: Headers = ()
        self._chunks: list[bytes] = []

    def on_head(self, status: int, headers: Headers) -> None:
        """Status and headers."""
        self._status, self._headers = status, headers

    def on_data(self, data: Buffer) -> None:
        """A piece of the body; the pool bounds their sum."""
        self._chunks.append(bytes(data))

    def on_end(self, trailers: Headers) -> None:
        """The answer is complete."""
        if not self.answer.done():
            self.answer.set_result(Answer(self._status, self._headers, b"".join(self._chunks)))

    def on_failure(self, error: BridgeError) -> None:
        """There is none."""
        if not self.answer.done():
            self.answer.set_exception(error)
