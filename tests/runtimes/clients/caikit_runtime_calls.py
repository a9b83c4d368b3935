"""caikit.runtime.client: a model that lives in a remote runtime, used like a local one."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aconfig

sys.path.insert(0, str(Path(__file__).parents[1] / "models" / "caikit"))

import caikit
import caikit_nlp
import grpc
from caikit.runtime.client import RemoteModelFinder, RemoteModelInitializer
from caikit.runtime.service_factory import ServicePackageFactory
from caikit.runtime.types.caikit_runtime_exception import CaikitRuntimeException
from jobs import ServerError

caikit.configure(config_dict={"runtime": {"library": "caikit_nlp"}})
# the client takes the messages of its calls from a library's service
ServicePackageFactory.get_service_package(ServicePackageFactory.ServiceType.INFERENCE)


def perform_with(protocol: str, address: str) -> Callable[[dict[str, Any]], Any]:
    """The calls of one client; `found` asks the runtime for its models and gives the module of one of them."""
    host, _, port = address.rpartition(":")
    connection = {"hostname": host, "port": int(port)}
    models: dict[str, Any] = {}
    initializer = RemoteModelInitializer(aconfig.Config({}), "initializer")

    def finder_of(discover: bool, name: str) -> RemoteModelFinder:
        known = {} if discover else {name: caikit_nlp.Parrot.MODULE_ID}
        settings = {"connection": connection, "protocol": protocol, "discover_models": discover}
        return RemoteModelFinder(aconfig.Config({**settings, "supported_models": known}), "finder")

    def perform(call: dict[str, Any]) -> Any:
        name = call["model"]
        if call["call"] == "found":
            return finder_of(True, name).find_model(name).module_id
        if name not in models:
            models[name] = initializer.init(finder_of(False, name).find_model(name))
        try:
            return calls[call["call"]](models[name], call["input"], **call.get("fields", {}))
        except CaikitRuntimeException as error:  # the server's words stand in its cause
            cause = error.__cause__
            told = cause.details() if isinstance(cause, grpc.RpcError) else error.message
            raise ServerError(error.status_code.name, told) from None

    return perform


def _generate(model: Any, text: str, **fields: Any) -> dict[str, Any]:
    return model.run(text, **fields).to_dict()


def _stream(model: Any, text: str, **fields: Any) -> list[dict[str, Any]]:
    return [piece.to_dict() for piece in model.run_stream_out(text, **fields)]


calls = {"generate": _generate, "stream": _stream}
