"""What happens to each field between a client's binding and a runtime's, read off the linked model."""

from collections.abc import Iterator
from dataclasses import dataclass

from inferbridge_codegen.model.types import Api, Endpoint, GrpcBinding, Model, RestBinding, Side, Struct
from inferbridge_codegen.problems import suggestion

PROTOCOLS = ("rest", "grpc")


@dataclass(frozen=True, slots=True)
class End:
    """One end of a pair: an API, or a runtime speaking it."""

    name: str
    api: Api
    variant: str
    protocol: str

    def binding(self, endpoint: Endpoint) -> RestBinding | GrpcBinding | None:
        """How this end speaks an endpoint."""
        if self.protocol == "rest":
            return endpoint.rest
        for variant in self.api.variants:
            for other in variant.endpoints:
                if variant.name == self.variant and other.name == endpoint.name:
                    return other.grpc
        return endpoint.grpc


@dataclass(frozen=True, slots=True)
class Row:
    """One field of an operation on its way: an empty place means that this end has none for it."""

    field: str
    client: str
    runtime: str
    loss: str


@dataclass(frozen=True, slots=True)
class Passage:
    """One endpoint between two ends; `rows` of the request, then of the reply."""

    endpoint: str
    same_binding: bool
    request: tuple[Row, ...]
    reply: tuple[Row, ...]

    @property
    def lost(self) -> list[str]:
        """Fields that one side can say and the other cannot."""
        request = [row.field for row in self.request if row.client and not row.runtime and row.loss != "ignore"]
        reply = [f"reply {row.field}" for row in self.reply if row.runtime and not row.client and row.loss != "ignore"]
        return request + reply


def ends(model: Model) -> dict[str, End]:
    """Every end by its name: `API/protocol` and `runtime/protocol`."""
    found: dict[str, End] = {}
    apis = {api.name: api for api in model.apis}
    for protocol in PROTOCOLS:
        for api in model.apis:
            found[f"{api.name}/{protocol}"] = End(f"{api.name}/{protocol}", api, "", protocol)
        for runtime in model.runtimes:
            for use in runtime.apis[:1]:
                name = f"{runtime.name}/{protocol}"
                found[name] = End(name, apis[use.api], use.variant, protocol)
    return found


def find(model: Model, name: str) -> End:
    """The end of this name; ValueError with the nearest one."""
    known = ends(model)
    if name not in known:
        raise ValueError(f"{name!r} is none of {', '.join(sorted(known))}{suggestion(name, known)}")
    return known[name]


def explain(client: End, runtime: End) -> Iterator[Passage]:
    """All endpoints that both ends speak."""
    for endpoint in client.api.own.endpoints if client.api is runtime.api else ():
        here, there = client.binding(endpoint), runtime.binding(endpoint)
        if here is not None and there is not None:
            operation = endpoint.operation
            yield Passage(
                endpoint.name,
                here == there,
                _rows(here.request, there.request, operation.request),
                _rows(here.reply, there.reply, operation.reply),
            )


def _rows(client: Side, runtime: Side, struct: Struct) -> tuple[Row, ...]:
    here, there = _places(client), _places(runtime)
    losses = {field.name: field.loss for field in struct.fields} | _item_losses(client) | _item_losses(runtime)
    names = dict.fromkeys([*here, *there])
    return tuple(Row(name, here.get(name, ""), there.get(name, ""), losses.get(name, "warn")) for name in names)


def _item_losses(side: Side) -> dict[str, str]:
    pairs = ((group.field.name, leaf.field) for group in side.groups for leaf in group.leaves)
    return {f"{group}[].{field.name}": field.loss for group, field in pairs}


def _places(side: Side) -> dict[str, str]:
    """Place on the wire by field of the operation."""
    places: dict[str, str] = {}
    if side.status_field:
        places[side.status_field] = "the status"
    for leaf in side.leaves:
        if leaf.alias or leaf.echo or leaf.kind == "constant":
            continue
        place = f"path.{leaf.key}" if leaf.kind == "variable" else f"{leaf.wire}.{leaf.key}" if leaf.key else leaf.wire
        places.setdefault(leaf.field.name, place)
    for group in side.groups:
        for leaf in group.leaves:
            tail = f"{leaf.wire}.{leaf.key}" if leaf.key else leaf.wire
            places[f"{group.field.name}[].{leaf.field.name}"] = f"{group.wire}[].{tail}"
    return places
