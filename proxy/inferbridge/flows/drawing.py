"""A call as a flow of mitmproxy: the client's own request and answer, and what `telling` tells beside them.

Nothing that is done to a flow has an effect on the call: it is a picture, drawn anew while the call is under way.

A None that mitmproxy checks as it makes a message costs an error, which keeps all frames up to there, and what is in
them, until the garbage collector comes. So messages are made without any, and those they are to have are set then.
"""

from http.client import responses

from mitmproxy.connection import Client, Server
from mitmproxy.flow import Error
from mitmproxy.http import Headers as Fields
from mitmproxy.http import HTTPFlow, Request, Response

from inferbridge.bridge.values import Headers
from inferbridge.flows.telling import labels, told
from inferbridge.gateway.application import RequestHead
from inferbridge.gateway.record import CallRecord
from inferbridge.gateway.transcript import Message, Transcript
from inferbridge.inspect.told import FLOW_KEY

_VERSIONS = {"1.0": b"HTTP/1.0", "1.1": b"HTTP/1.1", "2": b"HTTP/2.0"}
_PORTS = {"http": 80, "https": 443}


def new_flow(head: RequestHead, transcript: Transcript, record: CallRecord, client: Client, server: Server) -> HTTPFlow:
    """Of a call that has begun: its request without the body."""
    flow = HTTPFlow(client, server)
    scheme = "https" if head.tls else "http"
    host, port = _authority(head.authority, scheme)
    version = _VERSIONS.get(head.version, b"HTTP/1.1")
    own = () if head.version == "2" else (("host", head.authority),)
    flow.request = Request(
        host=host,
        port=port,
        method=_bytes(transcript.asked.method),
        scheme=scheme.encode(),
        authority=b"" if own else _bytes(head.authority),
        path=_bytes(transcript.asked.target),
        http_version=version,
        headers=_fields((*own, *transcript.asked.headers)),
        content=b"",
        trailers=Fields(),
        timestamp_start=record.began_at,
        timestamp_end=0.0,
    )
    flow.request.trailers = flow.request.timestamp_end = None
    return flow


def draw_request(flow: HTTPFlow, transcript: Transcript, record: CallRecord) -> None:
    """The request's body, as far as it is there."""
    flow.request.raw_content = transcript.asked.body
    flow.request.timestamp_end = _wall(record, transcript.asked.ended)


def draw_answer(flow: HTTPFlow, transcript: Transcript, record: CallRecord) -> None:
    """The answer as far as it is there; nothing before its status is known."""
    answer = transcript.told
    if not answer.status:
        return
    if flow.response is None:
        flow.response = _response(flow, answer, _wall(record, answer.began) or record.began_at)
    response = flow.response
    response.raw_content = answer.body
    response.trailers = _fields(answer.trailers) if answer.trailers else None
    response.timestamp_end = _wall(record, answer.ended)


def draw_rest(flow: HTTPFlow, transcript: Transcript, record: CallRecord) -> None:
    """What is told beside the messages."""
    flow.metadata[FLOW_KEY] = told(transcript, record)
    flow.metadata.update(labels(record))


def draw_failure(flow: HTTPFlow, record: CallRecord) -> None:
    """Why there is no whole answer."""
    reason = record.error or ("the client went away" if "DC" in record.flags else "the answer was cut off")
    flow.error = Error(reason, record.began_at + record.duration)


def _response(flow: HTTPFlow, answer: Message, began: float) -> Response:
    response = Response(
        http_version=flow.request.data.http_version,
        status_code=answer.status,
        reason=responses.get(answer.status, "").encode(),
        headers=_fields(answer.headers),
        content=b"",
        trailers=Fields(),
        timestamp_start=began,
        timestamp_end=0.0,
    )
    response.trailers = response.timestamp_end = None
    return response


def _wall(record: CallRecord, time: float) -> float | None:
    return record.began_at + time - record.began if time else None


def _authority(authority: str, scheme: str) -> tuple[str, int]:
    host, colon, port = authority.rpartition(":")
    if not colon or not port.isascii() or not port.isdecimal() or len(port) > 5:
        return authority.strip("[]"), _PORTS[scheme]
    return host.strip("[]"), int(port)


def _fields(headers: Headers) -> Fields:
    return Fields([(_bytes(name), _bytes(value)) for name, value in headers])


def _bytes(text: str) -> bytes:
    """As it stood on the wire: the codecs read ISO 8859-1."""
    return text.encode("latin-1", "replace")
