"""Stands in for grpcurl, which no package index has: takes its command lines word for word.

Of its options those that the documentation of the runtimes and our exports use: -d (@ is stdin), -H, -proto, -protoset,
-max-time, -cacert, -insecure and -plaintext. Messages come from the .proto file or the descriptor set, else from server
reflection; they go in and out as protobuf's JSON. gRPC's Python library cannot leave a certificate unverified, and the
system trusts none of the tests': unless -cacert names one, the certificate that the server shows is trusted. A refused
call raises grpc.RpcError.
"""

import json
import shlex
import ssl
from importlib.resources import files
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_tools import protoc

FLAGS = ("-insecure", "-plaintext")


def run(command: str, folder: Path, stdin: str = "") -> list[Any]:
    """The messages of the answer as JSON; files are found in `folder`."""
    program, *words = shlex.split(command)
    if program != "grpcurl":
        raise ValueError(f"{program} is not grpcurl")
    options, headers, (address, method) = _parsed(words)
    data = options.get("-d", "{}")
    with _channel(address, options, folder) as channel:
        pool = _pool(channel, options, folder)
        service, _, name = method.rpartition("/")
        found = pool.FindServiceByName(service).FindMethodByName(name)
        request = json_format.Parse(stdin if data == "@" else data, GetMessageClass(found.input_type)(), True, pool)
        call = channel.unary_stream if found.server_streaming else channel.unary_unary
        answer = call(
            f"/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(found.output_type).FromString,
        )(request, timeout=float(options.get("-max-time", "60")), metadata=headers)
        messages = list(answer) if found.server_streaming else [answer]
        return [json.loads(json_format.MessageToJson(each, descriptor_pool=pool)) for each in messages]


def shown_certificate(address: str) -> str:
    """The certificate of the server at host:port, as PEM."""
    host, _, port = address.rpartition(":")
    return ssl.get_server_certificate((host, int(port)))


def _parsed(words: list[str]) -> tuple[dict[str, str], list[tuple[str, str]], list[str]]:
    """Options, headers and the other words; options may come last, too."""
    options, headers, others = {}, [], []
    rest = iter(words)
    for word in rest:
        if word == "-H":
            name, _, value = next(rest).partition(":")
            headers.append((name.strip().lower(), value.strip()))
        elif word.startswith("-"):
            options[word] = "" if word in FLAGS else next(rest)
        else:
            others.append(word)
    return options, headers, others


def _channel(address: str, options: dict[str, str], folder: Path) -> grpc.Channel:
    if "-plaintext" in options:
        return grpc.insecure_channel(address)
    if "-cacert" in options:
        trusted = (folder / options["-cacert"]).read_bytes()
    else:
        trusted = shown_certificate(address).encode()
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(trusted))


def _pool(channel: grpc.Channel, options: dict[str, str], folder: Path) -> DescriptorPool:
    if "-protoset" in options:
        return _of_set((folder / options["-protoset"]).read_bytes())
    return _from_proto(folder / options["-proto"]) if "-proto" in options else _by_reflection(channel)


def _by_reflection(channel: grpc.Channel) -> DescriptorPool:
    return DescriptorPool(ProtoReflectionDescriptorDatabase(channel))


def _from_proto(proto: Path) -> DescriptorPool:
    out = proto.with_suffix(".binpb")
    include = [f"-I{proto.parent}", f"-I{files('grpc_tools') / '_proto'}"]
    if protoc.main(["protoc", *include, "--include_imports", f"--descriptor_set_out={out}", proto.name]):
        raise ValueError(f"protoc does not take {proto}")
    return _of_set(out.read_bytes())


def _of_set(content: bytes) -> DescriptorPool:
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(content).file:
        pool.Add(file)
    return pool
