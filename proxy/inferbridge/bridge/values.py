"""What crosses the bridge: requests and replies of either protocol, as plain values.

Bodies and messages are sequences of buffers ("chunks"), so a large tensor travels as a view of the bytes it
arrived in and is never joined unless a parser needs it contiguous. The values are msgspec structs because every call
makes four of them, and a frozen dataclass costs several times as much to make.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct

type Buffer = bytes | bytearray | memoryview
type Chunks = Sequence[Buffer]
type Headers = tuple[tuple[str, str], ...]

HOP_BY_HOP = frozenset(
    {
        "connection",
        "http2-settings",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Fields about one connection; they never cross from one to another."""


def join(chunks: Chunks) -> Buffer:
    """One contiguous buffer; no copy when there is only one chunk."""
    if len(chunks) == 1:
        return chunks[0]
    return b"".join(chunks)


def size(chunks: Iterable[Buffer]) -> int:
    """Bytes in all chunks together."""
    return sum(map(len, chunks))


def header(headers: Headers, name: str) -> str | None:
    """The first value of `name`, or None. Names are lower case everywhere behind the codecs."""
    for key, value in headers:
        if key == name:
            return value
    return None


def media_type(headers: Headers) -> str:
    """What `content-type` says, without parameters and in lower case; empty where it says nothing."""
    return (header(headers, "content-type") or "").partition(";")[0].strip().lower()


class HttpRequest(Struct, frozen=True):
    """A REST call. `path` is the raw request target, query included; `variables` are the decoded path variables."""

    method: str
    path: str
    headers: Headers = ()
    chunks: Chunks = ()
    variables: dict[str, str] = {}


class HttpReply(Struct, frozen=True):
    """A REST answer."""

    status: int
    headers: Headers = ()
    chunks: Chunks = ()


class GrpcRequest(Struct, frozen=True):
    """A gRPC call. `rpc` is `/package.Service/Method`; each message is unframed protobuf wire data in chunks."""

    rpc: str
    metadata: Headers = ()
    messages: tuple[Chunks, ...] = ()


class GrpcReply(Struct, frozen=True):
    """A gRPC answer: `code` 0 is OK; `metadata` is the initial, `trailers` the trailing metadata without grpc-*."""

    code: int = 0
    details: str = ""
    metadata: Headers = ()
    messages: tuple[Chunks, ...] = ()
    trailers: Headers = ()
