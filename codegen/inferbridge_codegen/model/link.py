"""Links the documents of a spec set into the model: names resolved, both ends of every mapping type-checked."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from google.protobuf.descriptor import Descriptor

from inferbridge_codegen.model.checks import check_endpoint, check_method, check_off
from inferbridge_codegen.model.envelopes import link_envelope
from inferbridge_codegen.model.mapping import SideContext, link_side
from inferbridge_codegen.model.structured import TreeContext, link_tree
from inferbridge_codegen.model.tree import Tree
from inferbridge_codegen.model.types import (
    Api,
    Dialect,
    Endpoint,
    Envelope,
    Field,
    GrpcBinding,
    Model,
    Operation,
    RestBinding,
    Side,
    Struct,
    class_name,
)
from inferbridge_codegen.model.wire_view import JSON_MESSAGES, MessageView, SchemaView, WireView
from inferbridge_codegen.numbering import check_numbers
from inferbridge_codegen.problems import Mark, Problems, suggestion
from inferbridge_codegen.protos.compile import compile_protos
from inferbridge_codegen.protos.index import ProtoIndex
from inferbridge_codegen.spec.documents import (
    PARAMETERS,
    SCALARS,
    ApiDocument,
    EndpointDocument,
    FieldDocument,
    GrpcDocument,
    OperationDocument,
    RestDocument,
    RuntimeApiDocument,
    RuntimeDocument,
    SideDocument,
    SpecSet,
    TypeDocument,
    VariantDocument,
)
from inferbridge_codegen.spec.loader import load_specs

DIALECTS = ("open-inference", "openai", "caikit", "grpc-status")
"""Forms of error answers that `inferbridge.bridge.dialects` knows."""


def load_model(root: Path, *more: Path) -> Model:
    """The model of the spec folder `root` and of those that stand on it; raises `SpecError` with all problems found."""
    problems = Problems()
    specs = load_specs(root, problems, more)
    if specs.undecided:
        problems.raise_any()  # what follows from a question is no problem of its own
    model = Linker(specs, problems).link()
    problems.raise_any()
    return model


def _fields(documents: Iterable[FieldDocument]) -> tuple[Field, ...]:
    return tuple(Field.of(document) for document in documents)


class Linker:
    """Holds what every step needs; `link` runs the steps."""

    def __init__(self, specs: SpecSet, problems: Problems) -> None:
        self._specs = specs
        self._problems = problems
        self._enums = {name: enum.values for name, enum in specs.enums.items()}
        self._types = {
            name: Struct(name, document.doc, _fields(document.fields.values()))
            for name, document in specs.types.items()
        }
        self._operations = {name: self._operation(document) for name, document in specs.operations.items()}

    def link(self) -> Model:
        """The model; incomplete when there are problems."""
        self._check_types()
        apis = [self._api(document) for document in self._specs.apis.values()]
        for runtime in self._specs.runtimes.values():
            self._check_runtime(runtime)
        return Model(
            tuple(self._specs.enums.values()),
            tuple(self._types.values()),
            tuple(self._operations.values()),
            tuple(api for api in apis if api is not None),
            tuple(self._specs.runtimes.values()),
        )

    def _operation(self, document: OperationDocument) -> Operation:
        name = class_name(document.name)
        request = Struct(f"{name}Request", f"What `{document.name}` is asked with.", _fields(document.request.values()))
        reply = Struct(f"{name}Reply", f"What `{document.name}` answers.", _fields(document.reply.values()))
        message = None
        if document.message is not None:
            message = Struct(
                f"{name}Message", f"One message of what `{document.name}` answers.", _fields(document.message.values())
            )
        return Operation(document.name, document.doc, document.idempotent, request, reply, message)

    def _check_types(self) -> None:
        known = (*SCALARS, PARAMETERS, *self._types, *self._specs.enums)
        for type_document in self._specs.types.values():
            self._check_fields(type_document.fields, known)
        for operation in self._specs.operations.values():
            self._check_fields(operation.request, known)
            self._check_fields(operation.reply, known)
            self._check_fields(operation.message or {}, known)
        for api in self._specs.apis.values():
            for schema in api.schemas.values():
                self._check_fields(schema.fields, (*SCALARS, PARAMETERS, *api.schemas))
                check_numbers(schema, self._problems)

    def _check_fields(self, fields: Mapping[str, FieldDocument], known: Iterable[str]) -> None:
        for field in fields.values():
            if field.type.base not in set(known):
                message = f"there is no type {field.type.base!r}{suggestion(field.type.base, known)}"
                self._problems.add(field.type.mark, message)
            check_off(field, self._enums, self._problems)

    def _check_runtime(self, runtime: RuntimeDocument) -> None:
        for use in runtime.apis:
            api = self._specs.apis.get(use.api)
            if api is None:
                self._problems.add(use.api_mark, f"there is no API {use.api!r}{suggestion(use.api, self._specs.apis)}")
                continue
            variants = [variant.name for variant in api.variants]
            if use.variant and use.variant not in variants:
                hint = suggestion(use.variant, variants)
                self._problems.add(use.variant_mark, f"API {api.name} has no variant {use.variant!r}{hint}")
            self._check_lacks(use, api)

    def _check_lacks(self, use: RuntimeApiDocument, api: ApiDocument) -> None:
        """What a runtime's dialect lacks is a field of an operation that the API serves."""
        served = {each.operation for each in api.endpoints} & set(self._specs.operations)
        known = {field for name in served for field in self._specs.operations[name].request}
        lacks = use.quirks.get("lacks", ())
        assert isinstance(lacks, tuple)
        for field in lacks:
            if field not in known:
                message = f"lacks: no operation of {api.name} has a field {field!r}{suggestion(field, known)}"
                self._problems.add(use.api_mark, message)

    def _api(self, document: ApiDocument) -> Api | None:
        if document.errors and document.errors not in DIALECTS:
            message = (
                f"errors {document.errors!r} is none of {', '.join(DIALECTS)}{suggestion(document.errors, DIALECTS)}"
            )
            self._problems.add(document.mark, message)
        self._check_tables(document)
        own = self._dialect(document, "", document.protos, document.endpoints)
        variants = [self._variant(document, variant) for variant in document.variants]
        if own is None:
            return None
        schemas = [Struct(name, item.doc, _fields(item.fields.values())) for name, item in document.schemas.items()]
        return Api(
            document.name,
            document.title,
            document.errors,
            tuple(schemas),
            own,
            tuple(variant for variant in variants if variant is not None),
            tuple(document.enums.values()),
            document.lenient_json,
        )

    def _check_tables(self, api: ApiDocument) -> None:
        for table in api.enums.values():
            enum = self._specs.enums.get(table.of)
            if enum is None:
                self._problems.add(
                    table.of_mark, f"there is no enum {table.of!r}{suggestion(table.of, self._specs.enums)}"
                )
                continue
            for _, neutral, mark in table.values:
                if neutral not in enum.values:
                    hint = suggestion(neutral, enum.values)
                    self._problems.add(mark, f"enum {enum.name} has no value {neutral!r}{hint}")

    def _variant(self, api: ApiDocument, variant: VariantDocument) -> Dialect | None:
        names = [endpoint.name for endpoint in api.endpoints]
        for endpoint in variant.endpoints:
            if endpoint.name not in names:
                hint = suggestion(endpoint.name, names)
                self._problems.add(endpoint.mark, f"API {api.name} has no endpoint {endpoint.name!r} to vary{hint}")
        return self._dialect(api, variant.name, variant.protos, variant.endpoints)

    def _dialect(
        self, api: ApiDocument, name: str, protos: tuple[str, ...], endpoints: tuple[EndpointDocument, ...]
    ) -> Dialect | None:
        root = self._specs.roots[api.name]
        descriptors = compile_protos(root.path, protos, self._problems, api.mark, root.shown)
        if descriptors is None:
            return None
        index = ProtoIndex(descriptors, JSON_MESSAGES)
        linked = [self._endpoint(endpoint, api, index) for endpoint in endpoints]
        reached = [message for endpoint in endpoints for message in _roots(endpoint.grpc, index)]
        return Dialect(
            name,
            tuple(endpoint for endpoint in linked if endpoint is not None),
            protos,
            descriptors,
            index.reachable(reached),
        )

    def _endpoint(self, document: EndpointDocument, api: ApiDocument, index: ProtoIndex) -> Endpoint | None:
        operation = self._operations.get(document.operation)
        if operation is None:
            hint = suggestion(document.operation, self._operations)
            self._problems.add(document.operation_mark, f"there is no operation {document.operation!r}{hint}")
            return None
        if document.mode != "unary" and operation.message is None:
            message = f"operation {operation.name} does not stream: it has no message"
            self._problems.add(document.mark, message)
            return None
        check_endpoint(document, operation, self._problems)
        rest = self._rest(document.rest, operation, api) if document.rest else None
        grpc = self._grpc(document.grpc, operation, api, index) if document.grpc else None
        settles = tuple(name for name, _ in document.settles)
        return Endpoint(document.name, operation, rest, grpc, document.mode, document.rule, document.fan_out, settles)

    def _rest(self, document: RestDocument, operation: Operation, api: ApiDocument) -> RestBinding:
        paths = (*document.paths, *document.aliases)
        variables = tuple(dict.fromkeys(name for path in paths for name in path.variables))

        def side(part: SideDocument, struct: Struct, names: tuple[str, ...]) -> Side | Tree:
            schema = self._schema(api.schemas, part.schema.base, part.schema.mark) if part.schema else None
            view = SchemaView(schema, api.schemas) if schema else None
            is_list = bool(part.schema and part.schema.is_list)
            specials = ("path", "query", "header") if struct is operation.request else ()
            return self._side(part, view, struct, operation, api, names, specials, is_list)

        return RestBinding(
            document.method,
            document.paths,
            side(document.request, operation.request, variables),
            side(document.reply, operation.reply, ()),
            self._message(document.message, operation, lambda part, struct: side(part, struct, ())),
            document.framing,
            document.aliases,
        )

    def _message(
        self, part: SideDocument | None, operation: Operation, link: Callable[[SideDocument, Struct], Side | Tree]
    ) -> Side | Tree | None:
        return None if part is None or operation.message is None else link(part, operation.message)

    def _side(
        self,
        part: SideDocument,
        view: WireView | None,
        struct: Struct,
        operation: Operation,
        api: ApiDocument,
        variables: tuple[str, ...],
        specials: tuple[str, ...],
        is_list: bool,
    ) -> Side | Tree:
        if self._is_flat(part, view):
            flat = SideContext(view, struct, operation.request, self._types, variables, self._problems)
            return link_side(part, flat, is_list)
        context = TreeContext(
            view, struct, operation.request, self._types, self._enums, api.enums, variables, specials, self._problems
        )
        return link_tree(part, context, is_list)

    def _is_flat(self, part: SideDocument, view: WireView | None) -> bool:
        """Tensors, parameter maps and answers by status have a form of their own."""
        if part.status_field or any(line.raw for line in part.lines):
            return True
        return any(_reaches_flat(view, line.wire) for line in part.lines)

    def _schema(self, schemas: Mapping[str, TypeDocument], name: str, mark: Mark) -> TypeDocument | None:
        found = schemas.get(name)
        if found is None:
            self._problems.add(mark, f"there is no schema {name!r}{suggestion(name, schemas)}")
        return found

    def _grpc(
        self, document: GrpcDocument, operation: Operation, api: ApiDocument, index: ProtoIndex
    ) -> GrpcBinding | None:
        method = index.methods.get(document.method)
        if method is None:
            hint = suggestion(document.method, index.methods)
            self._problems.add(document.method_mark, f"the protos have no method {document.method!r}{hint}")
            return None
        check_method(document, method.client_streaming, method.server_streaming, self._problems)

        def side(part: SideDocument, struct: Struct, message: Descriptor) -> Side | Tree:
            specials = ("metadata",) if struct is operation.request else ()
            view = MessageView(message)
            return self._side(part, view, struct, operation, api, (), specials, False)

        answer = method.output_type
        envelope: Envelope | None = None
        if document.envelope is not None:
            linked = link_envelope(document.envelope, operation, answer, self._problems)
            if linked is None:
                return None
            envelope, answer = linked
        message = self._message(document.message, operation, lambda part, struct: side(part, struct, answer))
        if envelope is not None and isinstance(message, Tree):
            self._problems.add(document.mark, "an envelope is for messages with tensors")
        return GrpcBinding(
            f"/{document.method}",
            side(document.request, operation.request, method.input_type),
            side(document.reply, operation.reply, answer) if document.message is None else Tree(None, False, (), ()),
            message,
            method.client_streaming,
            envelope,
        )


def _reaches_flat(view: WireView | None, wire: str) -> bool:
    """Whether a place on the wire is a tensor or a parameter map, or lies in one."""
    for step in wire.split("."):
        place = view.places().get(step.removesuffix("[]")) if view is not None else None
        if place is None:
            return False
        if place.kind in {PARAMETERS, "tensor"}:
            return True
        view = place.item
    return False


def _roots(document: GrpcDocument | None, index: ProtoIndex) -> list[Descriptor]:
    method = index.methods.get(document.method) if document else None
    return [method.input_type, method.output_type] if method else []
