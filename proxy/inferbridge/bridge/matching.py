"""Which endpoint of a runtime's API serves a client's call: the same one, or another of the same operation."""

from collections.abc import Iterator

from inferbridge.bridge.registry import Api, Endpoint, GrpcHalf, RestHalf


def half_of(api: Api, endpoint: str, protocol: str, variant: str) -> RestHalf | GrpcHalf | None:
    """How an API's variant speaks one endpoint over a protocol; None when it does not."""
    return api.endpoints[endpoint].rest if protocol == "rest" else api.grpc_half(endpoint, variant)


def protocols(api: Api) -> frozenset[str]:
    """The protocols that an API has bindings for."""
    rest = any(endpoint.rest is not None for endpoint in api.endpoints.values())
    grpc = any(endpoint.grpc is not None for endpoint in api.endpoints.values())
    return frozenset(name for name, spoken in (("rest", rest), ("grpc", grpc)) if spoken)


def serving(client_api: Api, client: Endpoint, runtime_api: Api, protocol: str, variant: str) -> tuple[Endpoint, ...]:
    """The runtime's endpoints that can serve `client`, the best for a unary call and the best for a stream.

    One endpoint when both are the same; none when the runtime has nothing of this operation.
    """
    if client_api is runtime_api and half_of(runtime_api, client.name, protocol, variant) is not None:
        return (client,)
    able = list(_same_operation(client, runtime_api, protocol, variant))
    if not able:
        return ()
    unary, stream = (max(able, key=lambda each: _fitness(client, each, mode)) for mode in ("unary", "stream"))
    if client.mode == "either" and unary is not stream:
        return unary, stream
    return (stream if client.mode == "stream" else unary,)


def _same_operation(client: Endpoint, api: Api, protocol: str, variant: str) -> Iterator[Endpoint]:
    for endpoint in api.endpoints.values():
        if endpoint.operation == client.operation and half_of(api, endpoint.name, protocol, variant) is not None:
            yield endpoint


def _fitness(client: Endpoint, runtime: Endpoint, mode: str) -> tuple[bool, int]:
    """An answer that need not be folded or unfolded first; then by how many fields both can say; then the first."""
    return runtime.mode in {mode, "either"}, len(_fields(client) & _fields(runtime))


def _fields(endpoint: Endpoint) -> frozenset[str]:
    halves = (endpoint.rest, endpoint.grpc)
    return frozenset().union(*(half.fields for half in halves if half is not None))
