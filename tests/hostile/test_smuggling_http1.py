"""What the runtime gets of HTTP/1.1 that two readers may understand differently."""

import re

import pytest

from hostile.conftest import Scene
from hostile.http1_cases import CASES, END, Case
from hostile.proxy import read_some, send_all

_STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) [^\r\n]*\r\n")
_WAITING = 0.3
"""Seconds after which a proxy that has said nothing more is taken to wait for the rest of a body."""


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_runtime_gets_whole_requests_or_none(scene: Scene, case: Case) -> None:
    """Each conversation ends as pinned, and the runtime sees exactly the well-formed requests it is to see."""
    with scene.proxy.connect() as client:
        send_all(client, case.sent + END)
        answer, _ = read_some(client, _WAITING if not case.statuses else 10)
    assert tuple(int(status) for status in _STATUS.findall(answer) if status != b"100") == case.statuses
    assert (len(scene.rest.requests), scene.rest.malformed, scene.grpc.requests) == (case.upstream, [], [])
    for line, fields, _ in scene.rest.requests:
        assert line.split(" ")[1].startswith("/v2/models/")
        assert fields["host"].startswith("127.0.0.1:")
        assert not {"transfer-encoding", "connection", "upgrade", "expect"} & fields.keys()
