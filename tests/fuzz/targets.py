"""All targets by name. A target takes any bytes, and raises when a promise is broken."""

from collections.abc import Callable
from pathlib import Path

from fuzz import http1_targets, http2_targets, message_targets, text_targets

CORPUS = Path(__file__).parent / "corpus"
"""A folder for each target, with small inputs that together reach most of its parser."""

TARGETS: dict[str, Callable[[bytes], None]] = {
    "chat_template": text_targets.chat_template,
    "client_connection": http2_targets.client_connection,
    "configuration": text_targets.configuration,
    "event_stream": message_targets.event_stream,
    "grpc_messages": message_targets.grpc_messages,
    "grpc_timeout": message_targets.grpc_timeout,
    "http1_chunked": http1_targets.http1_chunked,
    "http1_head": http1_targets.http1_head,
    "http2": http2_targets.http2,
    "json_lines": message_targets.json_lines,
    "json_tensors": message_targets.json_tensors_,
    "jwt": text_targets.jwt,
    "key_file": text_targets.key_file,
    "protobuf": message_targets.protobuf,
    "specs": text_targets.specs,
    "transcode": message_targets.transcode,
    "transcode_back": message_targets.transcode_back,
    "upstream_http1": http1_targets.upstream_http1,
    "upstream_http2": http2_targets.upstream_http2,
}
