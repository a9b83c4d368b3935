"""Starts caikit's runtime on the loopback interface; by itself it listens on every one and cannot be told otherwise."""

import grpc
import uvicorn
from caikit.runtime.__main__ import main

HOST = "127.0.0.1"


class LoopbackConfig(uvicorn.Config):
    """The REST side's settings."""

    def __init__(self, *arguments: object, **settings: object) -> None:
        super().__init__(*arguments, **{**settings, "host": HOST})


def loopback_server(*arguments: object, **settings: object) -> grpc.Server:
    """The gRPC side."""
    server = make_server(*arguments, **settings)
    add_port = server.add_insecure_port
    server.add_insecure_port = lambda address: add_port(address.replace("[::]", HOST))
    return server


make_server = grpc.server
uvicorn.Config = LoopbackConfig
grpc.server = loopback_server
main()
