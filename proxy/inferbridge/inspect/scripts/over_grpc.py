# needs: pip install grpcio protobuf
import base64
import os
import sys
import zlib
from collections.abc import Sequence

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToJson, Parse
from google.protobuf.message_factory import GetMessageClass

# credentials that the recording does not hold are taken from the environment
secret = os.environ.__getitem__


def rpc(
    is_tls: bool,
    address: str,
    path: str,
    protos: str,
    metadata: Sequence[tuple[str, str]],
    messages: Sequence[str],
    timeout: float | None = None,
) -> bool:
    """Make a call and write its answer, one line of JSON for each message, as it comes; False: it failed."""
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(zlib.decompress(base64.b64decode(protos))).file:
        pool.AddSerializedFile(file.SerializeToString())
    service, _, name = path.lstrip("/").rpartition("/")
    method = pool.FindServiceByName(service).methods_by_name[name]
    requests = [Parse(text, GetMessageClass(method.input_type)(), descriptor_pool=pool) for text in messages]
    channel = grpc.secure_channel(address, grpc.ssl_channel_credentials()) if is_tls else grpc.insecure_channel(address)
    fields = [(key, base64.b64decode(value + "==") if key.endswith("-bin") else value) for key, value in metadata]
    call = channel.stream_stream(
        path,
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    try:
        for message in call(iter(requests), metadata=fields, timeout=timeout):
            text = MessageToJson(message, preserving_proto_field_name=True, indent=None, descriptor_pool=pool)
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
    except grpc.RpcError as error:
        sys.stderr.write(f"{error.code().name}: {error.details()}\n")
        return False
    finally:
        channel.close()
    return True
