"""Exchanges recorded from real servers, and the text that the views make of them: one folder for each feature.

`case.json` says where the exchange is in `tests/golden`, `view.txt` is the text. After a change of the views that is
meant, write the texts again with `PYTHONPATH=proxy:generated:tests python tests/inspect/test_golden.py` and read them.
"""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import http
from mitmproxy.contentviews import Metadata
from mitmproxy.test import tflow, tutils

from inferbridge.bridge.framing import frame, quote_message
from inferbridge.inspect.views import EventsView, GrpcView, TensorsView

FOLDERS = sorted(path.parent for path in Path(__file__).parent.glob("golden/*/case.json"))
RECORDED = Path(__file__).parents[1] / "golden"
VIEWS = (GrpcView(), EventsView(), TensorsView())


def recorded(folder: Path) -> Any:
    """The exchange of a case; a list is searched by name."""
    case = json.loads((folder / "case.json").read_text())
    found = json.loads((RECORDED / case["recorded"]).read_text())
    for key in case["keys"]:
        found = next(each for each in found if each["name"] == key) if isinstance(found, list) else found[key]
    return found


def content_of(form: Mapping[str, Any]) -> bytes:
    """The body of one side."""
    if "messages_base64" in form:
        return b"".join(frame((base64.b64decode(text),) for text in form["messages_base64"]))
    return base64.b64decode(form["body_base64"]) if "body_base64" in form else form.get("body", "").encode()


def flow_of(exchange: Mapping[str, Any]) -> http.HTTPFlow:
    """The exchange as mitmproxy has it."""
    request, reply = exchange["request"], exchange["reply"]
    flow = tflow.tflow(resp=tutils.tresp())
    assert flow.response is not None
    flow.request.path = request.get("rpc") or request["path"]
    for message, form in ((flow.request, request), (flow.response, reply)):
        kind = {"content-type": "application/grpc"} if "rpc" in request else {"content-type": "application/json"}
        message.headers = http.Headers()
        for name, value in [*kind.items(), *form.get("headers", ())]:
            message.headers[name] = value
        message.content = content_of(form)
    if "rpc" in request:
        status = [("grpc-status", str(reply["code"])), ("grpc-message", quote_message(reply["details"]))]
        pairs = [(name.encode(), value.encode()) for name, value in [*status, *reply["trailers"]] if value]
        flow.response.trailers = http.Headers(pairs)
    return flow


def shown(folder: Path) -> str:
    """Both messages in the best of our views, or as JSON where none takes them."""
    flow, parts = flow_of(recorded(folder)), []
    assert flow.response is not None
    for name, message in (("request", flow.request), ("reply", flow.response)):
        metadata = Metadata(flow=flow, http_message=message, content_type=message.headers["content-type"])
        content = message.content or b""
        view = max(VIEWS, key=lambda view: view.render_priority(content, metadata))
        taken = view.render_priority(content, metadata) > 0
        parts.append(f"--- {name}: {view.name if taken else 'not ours'}\n")
        parts.append(view.prettify(content, metadata) if taken else "")
    return "".join(parts)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_recorded_exchange_is_shown_as_ever(folder: Path) -> None:
    """What real servers said is shown as the text beside the case says."""
    assert shown(folder) == (folder / "view.txt").read_text()


if __name__ == "__main__":
    for each in FOLDERS:
        (each / "view.txt").write_text(shown(each))
