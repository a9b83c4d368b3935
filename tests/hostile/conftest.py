"""One proxy for all tests that leave it as it was, before runtimes that write down what reaches them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hostile.proxy import Proxy, proxy
from hostile.recorders import Seen, http1_recorder, http2_recorder


@dataclass(frozen=True)
class Scene:
    """A proxy and what is behind it."""

    proxy: Proxy
    rest: Seen
    grpc: Seen

    def clear(self) -> None:
        """Forget what has arrived."""
        self.rest.clear()
        self.grpc.clear()


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A proxy before a REST Triton and a gRPC TGIS."""
    folder: Path = tmp_path_factory.mktemp("hostile")
    with (
        http1_recorder() as (rest, rest_port),
        http2_recorder() as (grpc, grpc_port),
        proxy(folder, f"tgis=grpc://127.0.0.1:{grpc_port}", f"triton=http://127.0.0.1:{rest_port}") as started,
    ):
        yield Scene(started, rest, grpc)


@pytest.fixture
def scene(running: Scene) -> Scene:
    """The same, with nothing arrived yet."""
    running.clear()
    return running
