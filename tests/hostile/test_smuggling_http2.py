"""What a runtime that speaks HTTP/1.1 gets of HTTP/2 that would split or change on the way."""

import time
from collections.abc import Sequence
from contextlib import closing

import h2.config
import h2.connection
import h2.events
import pytest
from hyperframe.frame import Frame, SettingsFrame

from gateway.http2_client import REQUEST, headers_frame
from hostile.conftest import Scene
from hostile.http2_cases import CASES, GET, GOAWAY, ONE_OR_NONE, RESET, Case
from hostile.proxy import Proxy

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame(0).serialize()
END = headers_frame(3, [(name, b"/end-of-case" if name == b":path" else value) for name, value in GET])


def outcomes(proxy: Proxy, frames: Sequence[Frame], awaited: set[int]) -> dict[int, int]:
    """Statuses by stream, as `Case` has them, once the awaited streams are answered or the connection ends."""
    reader = h2.connection.H2Connection(h2.config.H2Configuration())
    reader.initiate_connection()
    for _ in range(2):
        reader.send_headers(reader.get_next_available_stream_id(), REQUEST, end_stream=True)
    found: dict[int, int] = {}
    with closing(proxy.connect()) as client:
        client.sendall(PREFACE + b"".join(frame.serialize() for frame in (*frames, END)))
        while not awaited <= found.keys() and GOAWAY not in found.values() and (data := client.recv(1 << 16)):
            for event in reader.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    found[event.stream_id] = int(dict(event.headers)[b":status"])
                elif isinstance(event, h2.events.ConnectionTerminated):
                    found[1] = GOAWAY
    return found


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_runtime_gets_whole_requests_or_none(scene: Scene, case: Case) -> None:
    """Each stream ends as pinned, the next one is served, and the runtime sees exactly what it is to see."""
    found = outcomes(scene.proxy, case.frames, {3} if case.status == RESET else {1, 3})
    assert found.get(1, RESET) == case.status
    assert found.get(3, 404) == 404
    assert (scene.rest.malformed, scene.grpc.requests) == ([], [])
    if case.upstream == ONE_OR_NONE:
        time.sleep(0.5)  # one may still be on its way, and would be taken for the next case's
    assert len(scene.rest.requests) in ((0, 1) if case.upstream == ONE_OR_NONE else (case.upstream,))
    for line, fields, content in scene.rest.requests:
        assert line in ("POST /v2/models/m/infer HTTP/1.1", "GET /v2/models/m/ready HTTP/1.1")
        assert int(fields.get("content-length", "0")) == len(content)
