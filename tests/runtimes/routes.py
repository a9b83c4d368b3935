"""The ways from a client library to a runtime that the tests try."""

from dataclasses import dataclass

REST_CLIENTS = ("tritonclient_http", "tritonclient_http_aio", "kserve_rest")
GRPC_CLIENTS = ("tritonclient_grpc", "tritonclient_grpc_aio", "kserve_grpc")
RUNTIMES = ("triton", "mlserver")


@dataclass(frozen=True)
class Route:
    """A client program, a runtime, and the protocol the runtime is spoken to in."""

    client: str
    runtime: str
    upstream: str  # "rest" or "grpc"
    direct: bool = False  # without the proxy: what the checks themselves are checked with

    def __str__(self) -> str:
        return f"{self.client}-{'direct' if self.direct else 'proxy'}-{self.runtime}_{self.upstream}"

    @property
    def environment(self) -> str:
        """The environment the client lives in."""
        return self.client.split("_")[0]

    @property
    def rest_client(self) -> bool:
        """Whether the client speaks REST."""
        return self.client in REST_CLIENTS

    @property
    def translated(self) -> bool:
        """Whether the proxy translates between protocols on the way, instead of passing calls on or being absent."""
        return not self.direct and self.rest_client != (self.upstream == "rest")

    @property
    def kserve_client(self) -> bool:
        """Whether the client is one of kserve's, which know fewer calls."""
        return self.environment == "kserve"


TRANSLATED = tuple(
    Route(client, runtime, upstream)
    for clients, upstream in ((REST_CLIENTS, "grpc"), (GRPC_CLIENTS, "rest"))
    for client in clients
    for runtime in RUNTIMES
)
PASSED_ON = (
    Route("tritonclient_http", "triton", "rest"),
    Route("tritonclient_grpc", "triton", "grpc"),
    Route("tritonclient_grpc", "mlserver", "grpc"),
)
DIRECT = (
    Route("tritonclient_http", "triton", "rest", direct=True),
    Route("tritonclient_grpc", "triton", "grpc", direct=True),
    Route("tritonclient_grpc", "mlserver", "grpc", direct=True),
)


def routes(runtime: str | None = None) -> list[Route]:
    """The routes to one runtime or to all."""
    return [each for each in (*TRANSLATED, *PASSED_ON, *DIRECT) if runtime in (None, each.runtime)]
