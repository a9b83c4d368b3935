"""The calls of runtimes that one call was made of: what each was sent and what it answered, in the form of its kind."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from inferbridge.bridge.rest import HEADER_LENGTH
from inferbridge.bridge.values import header, media_type
from inferbridge.inspect.events import add_events
from inferbridge.inspect.grpc_bodies import add_body
from inferbridge.inspect.grpc_status import add_trailers
from inferbridge.inspect.known import find_method
from inferbridge.inspect.page import Page, quoted_bytes, shorten
from inferbridge.inspect.tensor_places import body_tensors, json_length
from inferbridge.inspect.tensors import tensor_lines
from inferbridge.secret import is_credential_header

_EVENTS = "text/event-stream"


def add_legs(page: Page, legs: Sequence[Mapping[str, Any]], told: int) -> None:
    """All of them; `told` is how many there were."""
    for number, leg in enumerate(legs, 1):
        page.add(f"{number}: {leg['upstream']} ({leg['runtime']}, {leg['protocol']})")
        with page.indented():
            add_asked(page, leg)
            _add_told(page, leg)
    if told > len(legs):
        page.add(f"! {told - len(legs)} further calls of runtimes are not kept")
    if not legs:
        page.add("no runtime was asked")


def add_asked(page: Page, leg: Mapping[str, Any]) -> None:
    """What a runtime was sent."""
    page.add(f"asked: {leg['method']} {leg['target']}")
    with page.indented():
        _add_headers(page, leg["asked"])
        _add_body(page, leg, "asked")


def _add_told(page: Page, leg: Mapping[str, Any]) -> None:
    told = leg["told"]
    if not leg["status"]:
        page.add(f"! no answer: {leg['error']}" if leg["error"] else "told: nothing yet")
        return
    page.add(f"told: {leg['status']} {_times(told)}".rstrip())
    with page.indented():
        _add_headers(page, told)
        _add_body(page, leg, "told")
        if told["trailers"]:
            page.add("trailers:")
            add_trailers(page, [(name, value) for name, value in told["trailers"]], 1)
        if leg["error"]:
            page.add(f"! failed: {leg['error']}")


def _times(message: Mapping[str, Any]) -> str:
    began, ended = message["began_ms"], message["ended_ms"]
    return ", ".join(
        f"{word} {time:.1f} ms" for word, time in (("headers after", began), ("complete after", ended)) if time
    )


def _add_headers(page: Page, message: Mapping[str, Any]) -> None:
    for name, value in message["headers"]:
        page.add(f"{name}: {'***' if is_credential_header(name) and '***' not in value else shorten(value, 200)}")


def _add_body(page: Page, leg: Mapping[str, Any], side: str) -> None:
    """As the view of its kind shows it."""
    message = leg[side]
    body, headers = message["body"], tuple((name, value) for name, value in message["headers"])
    if message["size"] > len(body):
        page.add(f"! {message['size']} bytes, of which {len(body)} are kept")
    if not body:
        return
    kind = media_type(headers)
    path = leg["target"].partition("?")[0]
    if leg["protocol"] == "grpc":
        method = find_method(path, leg["api"], leg["variant"])
        descriptor = None if method is None else method.input_type if side == "asked" else method.output_type
        add_body(page, memoryview(body), descriptor, header(headers, "grpc-encoding") or "identity")
    elif kind == _EVENTS:
        add_events(page, body)
    elif path.endswith("/infer"):
        _add_tensors(page, body, json_length(header(headers, HEADER_LENGTH)))
    else:
        _add_json(page, body)


def _add_tensors(page: Page, body: bytes, size: int | None) -> None:
    try:
        tensors = body_tensors(body, size)
    except ValueError as error:
        page.add(f"! {error}")
        tensors = None
    if tensors is None:
        page.add(quoted_bytes(body, is_text=True))
    else:
        page.add_all(tensor_lines(tensors))


def _add_json(page: Page, body: bytes) -> None:
    try:
        page.add_all(json.dumps(json.loads(body), indent=2, ensure_ascii=False).splitlines())
    except (ValueError, RecursionError):
        page.add(quoted_bytes(body, is_text=True))
