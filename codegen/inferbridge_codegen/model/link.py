"""Links the documents of a spec set into the model: names resolved, both ends of every mapping type-checked."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from google.protobuf.descriptor import Descriptor

from inferbridge_codegen.model.mapping import SideContext, link_side
from inferbridge_codegen.model.types import (
    Api,
    Dialect,
    Endpoint,
    Field,
    GrpcBinding,
    Model,
    Operation,
    RestBinding,
    Struct,
)
from inferbridge_codegen.model.wire_view import MessageView, SchemaView
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
    RuntimeDocument,
    SpecSet,
    TypeDocument,
    VariantDocument,
)
from inferbridge_codegen.spec.loader import load_specs

DIALECTS = ("open-inference",)
"""Forms of error answers that `inferbridge.bridge.dialects` knows."""


def load_model(root: Path) -> Model:
    """The model of the spec folder `root`; raises `SpecError` with all problems found."""
    problems = Problems()
    specs = load_specs(root, problems)
    model = Linker(root, specs, problems).link()
    problems.raise_any()
    return model


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _fields(documents: Iterable[FieldDocument]) -> tuple[Field, ...]:
    return tuple(Field.of(document) for document in documents)


class Linker:
    """Holds what every step needs; `link` runs the steps."""

    def __init__(self, root: Path, specs: SpecSet, problems: Problems) -> None:
        self._root = root
        self._specs = specs
        self._problems = problems
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
            tuple(self._types.values()),
            tuple(self._operations.values()),
            tuple(api for api in apis if api is not None),
            tuple(self._specs.runtimes.values()),
        )

    def _operation(self, document: OperationDocument) -> Operation:
        name = _camel(document.name)
        request = Struct(f"{name}Request", f"What `{document.name}` is asked with.", _fields(document.request.values()))
        reply = Struct(f"{name}Reply", f"What `{document.name}` answers.", _fields(document.reply.values()))
        return Operation(document.name, document.doc, document.idempotent, request, reply)

    def _check_types(self) -> None:
        known = (*SCALARS, PARAMETERS, *self._types)
        for type_document in self._specs.types.values():
            self._check_fields(type_document.fields, known)
        for operation in self._specs.operations.values():
            self._check_fields(operation.request, known)
            self._check_fields(operation.reply, known)
        for api in self._specs.apis.values():
            for schema in api.schemas.values():
                self._check_fields(schema.fields, (*SCALARS, PARAMETERS, *api.schemas))

    def _check_fields(self, fields: Mapping[str, FieldDocument], known: Iterable[str]) -> None:
        for field in fields.values():
            if field.type.base not in set(known):
                message = f"there is no type {field.type.base!r}{suggestion(field.type.base, known)}"
                self._problems.add(field.type.mark, message)

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

    def _api(self, document: ApiDocument) -> Api | None:
        if document.errors and document.errors not in DIALECTS:
            message = (
                f"errors {document.errors!r} is none of {', '.join(DIALECTS)}{suggestion(document.errors, DIALECTS)}"
            )
            self._problems.add(document.mark, message)
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
        )

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
        descriptors = compile_protos(self._root, protos, self._problems, api.mark)
        if descriptors is None:
            return None
        index = ProtoIndex(descriptors)
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
        rest = self._rest(document.rest, operation, api) if document.rest else None
        grpc = self._grpc(document.grpc, operation, index) if document.grpc else None
        return Endpoint(document.name, operation, rest, grpc)

    def _rest(self, document: RestDocument, operation: Operation, api: ApiDocument) -> RestBinding:
        variables = tuple(dict.fromkeys(name for path in document.paths for name in path.variables))
        sides = []
        for side, struct, names in (
            (document.request, operation.request, variables),
            (document.reply, operation.reply, ()),
        ):
            schema = self._schema(api.schemas, side.schema.base, side.schema.mark) if side.schema else None
            view = SchemaView(schema, api.schemas) if schema else None
            context = SideContext(view, struct, operation.request, self._types, names, self._problems)
            sides.append(link_side(side, context, bool(side.schema and side.schema.is_list)))
        return RestBinding(document.method, document.paths, sides[0], sides[1])

    def _schema(self, schemas: Mapping[str, TypeDocument], name: str, mark: Mark) -> TypeDocument | None:
        found = schemas.get(name)
        if found is None:
            self._problems.add(mark, f"there is no schema {name!r}{suggestion(name, schemas)}")
        return found

    def _grpc(self, document: GrpcDocument, operation: Operation, index: ProtoIndex) -> GrpcBinding | None:
        method = index.methods.get(document.method)
        if method is None:
            hint = suggestion(document.method, index.methods)
            self._problems.add(document.method_mark, f"the protos have no method {document.method!r}{hint}")
            return None
        sides = []
        for side, struct, message in (
            (document.request, operation.request, method.input_type),
            (document.reply, operation.reply, method.output_type),
        ):
            context = SideContext(MessageView(message), struct, operation.request, self._types, (), self._problems)
            sides.append(link_side(side, context, is_list=False))
        return GrpcBinding(f"/{document.method}", sides[0], sides[1])


def _roots(document: GrpcDocument | None, index: ProtoIndex) -> list[Descriptor]:
    method = index.methods.get(document.method) if document else None
    return [method.input_type, method.output_type] if method else []
