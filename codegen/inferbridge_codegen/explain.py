"""What happens to each field between a client's binding and a runtime's, read off the linked model."""

from collections.abc import Iterator
from dataclasses import dataclass

from inferbridge_codegen.model.tree import Message, Tree
from inferbridge_codegen.model.types import Api, Endpoint, GrpcBinding, Model, RestBinding, Side, Struct
from inferbridge_codegen.problems import suggestion
from inferbridge_codegen.spec.documents import Constant, RuntimeApiDocument

PROTOCOLS = ("rest", "grpc")


@dataclass(frozen=True, slots=True)
class End:
    """One end of a pair: an API, or a runtime speaking it."""

    name: str
    api: Api
    variant: str
    protocol: str
    lacks: frozenset[str] = frozenset()
    """Fields of requests that a runtime's older dialect has no place for."""

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
    default: Constant = None
    """What the client's API does when a request leaves the field out, where the runtime's would do something else."""

    settled: bool = False
    """The runtime has no place for it, but the rule of its API or the gateway sees to it."""

    @property
    def is_lost(self) -> bool:
        """The client can say it, and it has a meaning that does not reach the runtime."""
        return bool(self.client) and not self.runtime and not self.settled and self.loss != "ignore"

    @property
    def fate(self) -> str:
        """What becomes of the field where the sender sets it, and of a request that leaves it out."""
        if self.client and self.runtime:
            return "carried" if self.default is None else f"carried; left out, {_plain(self.default)} is written out"
        if not self.client:
            return "the client cannot say it"
        if self.settled:
            return "carried by rule"
        return {"reject": "refused by name", "warn": "dropped and named", "ignore": "dropped"}[self.loss]


@dataclass(frozen=True, slots=True)
class Passage:
    """One endpoint between two ends; `rows` of the request, then of the reply."""

    endpoint: Endpoint
    other: Endpoint
    mode: str
    """`unary` or `stream`, for the client."""
    same_binding: bool
    request: tuple[Row, ...]
    reply: tuple[Row, ...]

    @property
    def name(self) -> str:
        """The client's endpoint, and where they differ the runtime's."""
        same = self.other is self.endpoint
        return self.endpoint.name if same else f"{self.endpoint.name} -> {self.other.name} ({self.mode})"

    @property
    def lost(self) -> list[str]:
        """Fields that one side can say and the other cannot."""
        request = [row.field for row in self.request if row.is_lost]
        reply = [f"reply {row.field}" for row in self.reply if row.runtime and not row.client and row.loss != "ignore"]
        return request + reply


def _plain(value: Constant) -> str:
    """A constant as YAML writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def clients(model: Model) -> dict[str, End]:
    """What clients may speak, by name: `API/protocol`."""
    found = [End(f"{api.name}/{protocol}", api, "", protocol) for protocol in PROTOCOLS for api in model.apis]
    return {end.name: end for end in found if speaks(end.api, end.protocol)}


def runtimes(model: Model) -> dict[str, End]:
    """What runtimes speak, by name: `runtime/protocol`, further APIs over the same one `runtime/protocol/api`."""
    apis = {api.name: api for api in model.apis}
    found: dict[str, End] = {}
    for protocol in PROTOCOLS:
        for runtime in model.runtimes:
            name = f"{runtime.name}/{protocol}"
            for use in runtime.apis:
                if speaks(apis[use.api], protocol):
                    free = f"{name}/{use.api}" if name in found else name
                    found[free] = End(free, apis[use.api], use.variant, protocol, _lacks(use))
    return found


def _lacks(use: RuntimeApiDocument) -> frozenset[str]:
    lacks = use.quirks.get("lacks", ())
    assert isinstance(lacks, tuple)
    return frozenset(lacks)


def speaks(api: Api, protocol: str) -> bool:
    """Whether an API has a binding for a protocol."""
    return any((each.rest if protocol == "rest" else each.grpc) is not None for each in api.own.endpoints)


def find(model: Model, name: str) -> End:
    """The end of this name; ValueError with the nearest one."""
    known = clients(model) | runtimes(model)
    if name not in known:
        raise ValueError(f"{name!r} is none of {', '.join(sorted(known))}{suggestion(name, known)}")
    return known[name]


def explain(client: End, runtime: End) -> Iterator[Passage]:
    """All endpoints of the client that the runtime can serve."""
    for endpoint in client.api.own.endpoints:
        here = client.binding(endpoint)
        for other, mode in _serving(client, runtime, endpoint) if here is not None else ():
            there = runtime.binding(other)
            assert here is not None
            assert there is not None
            operation = endpoint.operation
            streamed = mode == "stream" and here.message is not None and there.message is not None
            reply_here, reply_there = (here.message, there.message) if streamed else (here.reply, there.reply)
            assert reply_here is not None
            assert reply_there is not None
            struct = operation.message if streamed and operation.message else operation.reply
            yield Passage(
                endpoint,
                other,
                mode,
                here == there,
                _rows(here.request, there.request, operation.request, other.settles, runtime.lacks),
                _rows(reply_here, reply_there, struct),
            )


def pairs(model: Model) -> list[dict[str, object]]:
    """All clients and runtimes with an operation in common, and by endpoint the fields that cannot cross."""
    return [
        {"client": client.name, "runtime": runtime.name, "endpoints": endpoints}
        for client in clients(model).values()
        for runtime in runtimes(model).values()
        if (endpoints := {passage.name: passage.lost for passage in explain(client, runtime)})
    ]


def _serving(client: End, runtime: End, endpoint: Endpoint) -> list[tuple[Endpoint, str]]:
    """The runtime's endpoints for one of the client's: the same, or the best of the operation for each mode."""
    if client.api is runtime.api:
        mode = "stream" if endpoint.mode == "stream" else "unary"
        return [(endpoint, mode)] if runtime.binding(endpoint) is not None else []
    able = [
        each
        for each in runtime.api.own.endpoints
        if each.operation is endpoint.operation and runtime.binding(each) is not None
    ]
    modes = ("unary", "stream") if endpoint.mode == "either" else (endpoint.mode,)
    return [
        (max(able, key=lambda each: _fitness(client, runtime, endpoint, each, mode)), mode) for mode in modes if able
    ]


def _fitness(client: End, runtime: End, endpoint: Endpoint, other: Endpoint, mode: str) -> tuple[bool, int]:
    here, there = client.binding(endpoint), runtime.binding(other)
    assert here is not None
    assert there is not None
    return other.mode in {mode, "either"}, len(set(_places(here.request)) & set(_places(there.request)))


def _rows(
    client: Side | Tree,
    runtime: Side | Tree,
    struct: Struct,
    settled: tuple[str, ...] = (),
    lacks: frozenset[str] = frozenset(),
) -> tuple[Row, ...]:
    here = _places(client)
    there = {field: place for field, place in _places(runtime).items() if field.partition(".")[0] not in lacks}
    losses = {field.name: field.loss for field in struct.fields} | _item_losses(client) | _item_losses(runtime)
    ours, theirs = _defaults(client), _defaults(runtime)
    return tuple(
        Row(
            name,
            here.get(name, ""),
            there.get(name, ""),
            losses.get(name) or losses.get(name.partition(".")[0], "warn"),
            ours.get(name) if ours.get(name) != theirs.get(name) else None,
            name in settled,
        )
        for name in dict.fromkeys([*here, *there])
    )


def _defaults(side: Side | Tree) -> dict[str, Constant]:
    return dict(side.defaults) if isinstance(side, Tree) else {}


def _item_losses(side: Side | Tree) -> dict[str, str]:
    if isinstance(side, Tree):
        return dict(_message_losses(side.body, "")) if side.body is not None else {}
    pairs = ((group.field.name, leaf.field) for group in side.groups for leaf in group.leaves)
    return {f"{group}[].{field.name}": field.loss for group, field in pairs}


def _places(side: Side | Tree) -> dict[str, str]:
    """Place on the wire by field of the operation; of a union's members the last."""
    return {field: found[-1] if isinstance(side, Tree) else found[0] for field, found in places(side).items()}


def places(side: Side | Tree, *, aliases: bool = False) -> dict[str, list[str]]:
    """All places on the wire by field of the operation, if wanted those too that are only read."""
    found: dict[str, list[str]] = {}
    for is_alias in (False, True) if aliases else (False,):
        for field, place in _tree_places(side, is_alias) if isinstance(side, Tree) else _side_places(side, is_alias):
            found.setdefault(field, []).append(place)
    return found


def _tree_places(tree: Tree, aliases: bool) -> Iterator[tuple[str, str]]:
    if not aliases:
        for special in tree.specials:
            yield special.target.name, f"{special.place}.{special.name}"
    if tree.body is not None:
        yield from _message_places(tree.body, "", "", aliases)


def _side_places(side: Side, aliases: bool) -> Iterator[tuple[str, str]]:
    if side.status_field and not aliases:
        yield side.status_field, "the status"
    for leaf in side.leaves:
        if bool(leaf.alias) is not aliases or leaf.echo or leaf.kind == "constant":
            continue
        place = f"path.{leaf.key}" if leaf.kind == "variable" else f"{leaf.wire}.{leaf.key}" if leaf.key else leaf.wire
        yield leaf.field.name, place
    for group in side.groups if not aliases else ():
        for leaf in group.leaves:
            tail = f"{leaf.wire}.{leaf.key}" if leaf.key else leaf.wire
            yield f"{group.field.name}[].{leaf.field.name}", f"{group.wire}[].{tail}"


def _message_losses(message: Message, field: str) -> Iterator[tuple[str, str]]:
    for inner in message.walk():
        for value in inner.values:
            if value.target is not None:
                yield f"{field}{value.target.name}", value.target.field.loss
        for items in inner.items:
            yield from _message_losses(items.message, f"{field}{items.target.name}[].")


def _message_places(message: Message, wire: str, field: str, aliases: bool) -> Iterator[tuple[str, str]]:
    for value in message.values:
        if value.target is not None and bool(value.alias) is aliases and not value.echo:
            yield f"{field}{value.target.name}", f"{wire}{value.label}"
    for inner in message.messages:
        yield from _message_places(inner, f"{wire}{inner.label}.", field, aliases)
    for items in message.items:
        label = items.label.strip("[]")
        if items.item_class:
            yield from _message_places(items.message, f"{wire}{label}[].", f"{field}{items.target.name}[].", aliases)
        elif not aliases:
            yield f"{field}{items.target.name}", f"{wire}{label}[].{items.message.values[0].label}"
