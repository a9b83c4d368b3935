"""The views as mitmproxy shows them: chosen by content type, bounded, and never failing.

All that a view knows of its exchange comes from mitmproxy's `Metadata`, where anything may be missing. What the gateway
has told of a call is in `flow.metadata["inferbridge"]`, see `told`.
"""

import logging
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor
from mitmproxy import contentviews, http
from mitmproxy.contentviews import Contentview, InteractiveContentview, Metadata

from inferbridge.bridge.json_cut import cut
from inferbridge.bridge.rest import HEADER_LENGTH
from inferbridge.inspect.events import add_events
from inferbridge.inspect.grpc_bodies import add_body
from inferbridge.inspect.grpc_json import editable_text, edited_body
from inferbridge.inspect.grpc_status import DETAILS, MESSAGE, STATUS, add_trailers
from inferbridge.inspect.known import find_method
from inferbridge.inspect.legs import add_asked, add_legs
from inferbridge.inspect.page import TEXT_LENGTH, Page, shorten
from inferbridge.inspect.tensor_places import body_tensors, json_length
from inferbridge.inspect.tensors import MAX_TENSORS, tensor_lines
from inferbridge.inspect.timeline import add_timing
from inferbridge.inspect.told import FLOW_KEY, asked
from inferbridge.inspect.translation import add_translation

_log = logging.getLogger(__name__)

_OURS = 10.0
"""Priority: mitmproxy's own views have at most 2."""
_NOT_OURS = -1.0
_LONG_ARRAY = 64
"""Bytes of a JSON array from which the rest of the body is shown without it."""


class _View(Contentview):
    """What the views share."""

    def prettify(self, data: bytes, metadata: Metadata) -> str:
        """The page; what goes wrong in making it is a line of it."""
        page = Page()
        try:
            self._fill(page, data, metadata)
        except Exception as error:
            _log.warning("view %r failed", self.name, exc_info=True)
            page.add(f"! the view failed here ({type(error).__name__}), which is a bug of inferbridge")
        return page.text()

    @abstractmethod
    def _fill(self, page: Page, data: bytes, metadata: Metadata) -> None: ...


class GrpcView(_View):
    """Messages by name, and the trailers of an answer."""

    name = "inferbridge gRPC"

    def render_priority(self, data: bytes, metadata: Metadata) -> float:
        """For application/grpc and gRPC-Web in binary form."""
        kind = _content_type(metadata)
        is_grpc = kind.startswith("application/grpc") and not kind.startswith("application/grpc-web-text")
        return _OURS if is_grpc else _NOT_OURS

    def _fill(self, page: Page, data: bytes, metadata: Metadata) -> None:
        message, descriptor = metadata.http_message, _descriptor(metadata)
        if descriptor is None:
            page.add("no proto has this method: fields go by their numbers")
        add_body(page, data, descriptor, _encoding(metadata))
        if isinstance(message, http.Response):
            _add_trailers(page, message)


class GrpcJsonView(InteractiveContentview):
    """Messages as JSON by the names of the proto, to be edited; chosen by hand."""

    name = "inferbridge gRPC as JSON"
    syntax_highlight = "javascript"

    def render_priority(self, data: bytes, metadata: Metadata) -> float:
        """As the view of messages, behind it."""
        is_known = _content_type(metadata).startswith("application/grpc") and _descriptor(metadata) is not None
        return 0.0 if is_known else _NOT_OURS

    def prettify(self, data: bytes, metadata: Metadata) -> str:
        """The messages; ValueError for what could not be turned back without a loss."""
        return editable_text(data, _known(metadata), _encoding(metadata))

    def reencode(self, prettified: str, metadata: Metadata) -> bytes:
        """The body of an edited text; ValueError says what is wrong in it, and where."""
        original = metadata.http_message
        if original is not None and original.raw_content:
            editable_text(original.raw_content, _known(metadata), _encoding(metadata))  # may it be edited at all?
        return edited_body(prettified, _known(metadata))


class EventsView(_View):
    """A stream put together, and its events."""

    name = "inferbridge events"

    def render_priority(self, data: bytes, metadata: Metadata) -> float:
        """For text/event-stream."""
        return _OURS if _content_type(metadata) == "text/event-stream" else _NOT_OURS

    def _fill(self, page: Page, data: bytes, metadata: Metadata) -> None:
        add_events(page, data)


class TensorsView(_View):
    """Tensors of a V2 REST body, and the rest of it."""

    name = "inferbridge tensors"

    def render_priority(self, data: bytes, metadata: Metadata) -> float:
        """For JSON, with or without bytes behind it, of a path that ends with `/infer`."""
        flow = metadata.flow
        is_infer = isinstance(flow, http.HTTPFlow) and flow.request.path.partition("?")[0].endswith("/infer")
        has_json = _content_type(metadata) in {"application/json", "application/octet-stream", ""}
        return _OURS if is_infer and has_json and data else _NOT_OURS

    def _fill(self, page: Page, data: bytes, metadata: Metadata) -> None:
        length = _json_length(metadata.http_message)
        try:
            tensors = body_tensors(data, length)
            page.add_all(["! this is no body of tensors"] if tensors is None else tensor_lines(tensors))
        except ValueError as error:
            page.add(f"! {error}; it begins:")
            page.add(_beginning(data), 1)
            return
        page.add("JSON:")
        page.add(_without_arrays(data if length is None else data[:length]), 1)


def _without_arrays(body: bytes) -> str:
    """The JSON with the sizes of its long arrays of numbers in their place."""
    rest, arrays = cut(body, _LONG_ARRAY)
    for marker, region in arrays.items() if len(arrays) <= MAX_TENSORS else ():
        rest = rest.replace(marker, b"[... %d bytes ...]" % (region.end - region.start), 1)
    return _beginning(rest)


def _beginning(text: bytes) -> str:
    # four bytes are the most that a letter has
    return shorten(text[: 4 * TEXT_LENGTH].decode(errors="replace"))


class TranslationView(_View):
    """What the client asked, what the runtime was asked, and how the one became the other."""

    name = "inferbridge translation"

    def render_priority(self, data: bytes, metadata: Metadata) -> float:
        """To be chosen where there was a translation; never shown unasked."""
        return 0.0 if _told(metadata) is not None else _NOT_OURS

    def _fill(self, page: Page, data: bytes, metadata: Metadata) -> None:
        told, flow = _told(metadata), metadata.flow
        if told is None or not isinstance(flow, http.HTTPFlow) or "client" not in told or "runtime" not in told:
            page.add("this exchange was not translated")
            return
        (client, one), (runtime, other) = asked(flow, told, "client"), asked(flow, told, "runtime")
        page.add_all(f"! {trouble}" for trouble in (one, other) if trouble)
        add_translation(page, client, runtime, [str(name) for name in told.get("losses", [])])
        if told.get("upstream"):
            page.add("the runtime")
            with page.indented():
                add_asked(page, told["upstream"][0])


class UpstreamView(_View):
    """What runtimes were sent, and what they answered."""

    name = "inferbridge upstream"

    def render_priority(self, data: bytes, metadata: Metadata) -> float:
        """To be chosen where the gateway tells of it; never shown unasked."""
        return 0.0 if _told(metadata) is not None else _NOT_OURS

    def _fill(self, page: Page, data: bytes, metadata: Metadata) -> None:
        told = _told(metadata) or {}
        legs = told.get("upstream", [])
        add_legs(page, legs, told.get("call", {}).get("legs", len(legs)))


class TimingView(_View):
    """Where the time went."""

    name = "inferbridge timing"

    def render_priority(self, data: bytes, metadata: Metadata) -> float:
        """To be chosen where the gateway tells of it; never shown unasked."""
        return 0.0 if _told(metadata) is not None else _NOT_OURS

    def _fill(self, page: Page, data: bytes, metadata: Metadata) -> None:
        told, flow = _told(metadata), metadata.flow
        if told is None or "timing" not in told or not isinstance(flow, http.HTTPFlow):
            page.add("the gateway tells nothing of the times of this exchange")
            return
        opened, secured = flow.client_conn.timestamp_start, flow.client_conn.timestamp_tls_setup
        began = flow.request.timestamp_start
        age = 1000 * (began - opened) if opened and began >= opened else None
        add_timing(page, told["timing"], 1000 * (secured - opened) if opened and secured else None, age)


def register() -> None:
    """Add the views to those of mitmproxy; doing so again changes nothing."""
    for view in (GrpcView, GrpcJsonView, EventsView, TensorsView, TranslationView, UpstreamView, TimingView):
        contentviews.add(view())


def _descriptor(metadata: Metadata) -> Descriptor | None:
    """Of the messages of a gRPC body, where a proto has its method."""
    flow = metadata.flow
    if not isinstance(flow, http.HTTPFlow):
        return None
    method = find_method(flow.request.path.partition("?")[0], *_dialect(flow))
    if method is None:
        return None
    return method.output_type if isinstance(metadata.http_message, http.Response) else method.input_type


def _known(metadata: Metadata) -> Descriptor:
    descriptor = _descriptor(metadata)
    if descriptor is None:
        raise ValueError("no proto has this method")
    return descriptor


def _encoding(metadata: Metadata) -> str:
    message = metadata.http_message
    return "identity" if message is None else str(message.headers.get("grpc-encoding", "identity"))


def _content_type(metadata: Metadata) -> str:
    return (metadata.content_type or "").partition(";")[0].strip().lower()


def _told(metadata: Metadata) -> Mapping[str, Any] | None:
    told = metadata.flow.metadata.get(FLOW_KEY) if metadata.flow is not None else None
    return told if isinstance(told, dict) else None


def _dialect(flow: http.HTTPFlow) -> tuple[str, str]:
    """API and variant of the client, where the gateway has told."""
    told = flow.metadata.get(FLOW_KEY)
    client = told.get("client") if isinstance(told, dict) else None
    if not isinstance(client, dict):
        return "", ""
    return str(client.get("api", "")), str(client.get("way", "")).partition("/")[2]


def _add_trailers(page: Page, reply: http.Response) -> None:
    """Those behind the body, or in the head where there is no body."""
    if reply.trailers is not None:
        found = list(reply.trailers.items(multi=True))
    else:
        found = [pair for pair in reply.headers.items(multi=True) if pair[0].lower() in (STATUS, MESSAGE, DETAILS)]
    if found:
        page.add("trailers:")
        add_trailers(page, found, 1)


def _json_length(message: http.Message | None) -> int | None:
    return None if message is None else json_length(message.headers.get(HEADER_LENGTH))
