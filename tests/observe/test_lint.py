"""/metrics after real traffic, read by the rules of Prometheus."""

import json

import pytest

from gateway.serving import curl
from inferbridge.bridge.errors import Code
from inferbridge.config import Upstream
from inferbridge.gateway.record import CallRecord
from inferbridge.mock.serving import Doors, mocking
from inferbridge.observe.metrics import METRICS, Metrics
from inferbridge.upstream.address import parse_address
from observe.lint import complaints
from observe.test_metrics import VERSIONS, counted
from observe.test_port import LOSSY, no_home, proxy

__all__ = ["no_home"]
SERIES = 10_000
"""Most lines of samples, whatever clients send."""
BAD = {
    "no end": "# HELP a_total A.\n# TYPE a_total counter\na_total 1.0",
    "no help": "# TYPE a_total counter\na_total 1.0\n",
    "no kind": "# HELP a A.\na 1.0\n",
    "wrong ending": "# HELP a A.\n# TYPE a counter\na 1.0\n",
    "an ending of counters": "# HELP a_total A.\n# TYPE a_total gauge\na_total 1.0\n",
    "not a base unit": "# HELP a_milliseconds A.\n# TYPE a_milliseconds gauge\na_milliseconds 1.0\n",
    "camel case": "# HELP aB A.\n# TYPE aB gauge\naB 1.0\n",
    "a label in camel case": '# HELP a A.\n# TYPE a gauge\na{aB="x"} 1.0\n',
    "twice": '# HELP a A.\n# TYPE a gauge\na{b="x"} 1.0\na{b="x"} 2.0\n',
    "torn": "# HELP a A.\n# TYPE a gauge\na 1.0\n# HELP b B.\n# TYPE b gauge\nb 1.0\n# HELP a A.\n# TYPE a gauge\n",
    "a raw line end": '# HELP a A.\n# TYPE a gauge\na{b="x\ny"} 1.0\n',
    "a raw quote": '# HELP a A.\n# TYPE a gauge\na{b="x"y"} 1.0\n',
    "different labels": '# HELP a A.\n# TYPE a gauge\na{b="x"} 1.0\na{c="x"} 2.0\n',
    "no +Inf": '# HELP a A.\n# TYPE a histogram\na_bucket{le="1.0"} 1.0\na_count 1.0\na_sum 1.0\n',
    "shrinking buckets": (
        '# HELP a A.\n# TYPE a histogram\na_bucket{le="1.0"} 2.0\na_bucket{le="+Inf"} 1.0\na_count 1.0\na_sum 1.0\n'
    ),
    "wrong count": '# HELP a A.\n# TYPE a histogram\na_bucket{le="+Inf"} 1.0\na_count 2.0\na_sum 1.0\n',
    "le elsewhere": '# HELP a A.\n# TYPE a gauge\na{le="1.0"} 1.0\n',
    "an end that is none": "# HELP a A.\n# TYPE a gauge\na 1.0\n# EOF\n",
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_the_rules_find_what_is_wrong(text: str) -> None:
    """Each rule fires on an exposition that breaks it, or its silence would mean nothing."""
    assert complaints(text, openmetrics=False)


@pytest.mark.parametrize("openmetrics", [False, True])
def test_every_metric_keeps_the_rules(openmetrics: bool) -> None:
    """With a value in each metric of the table, and a label that holds a quote and a line end."""
    made = counted()
    text = (made.openmetrics() if openmetrics else made.text()).decode()
    assert complaints(text, openmetrics=openmetrics) == []


async def test_a_scrape_after_real_traffic_keeps_the_rules() -> None:
    """Unary, streamed, lossy, refused and unknown calls, then both formats over a socket."""
    async with (
        mocking("tgis", Doors(grpc=0)) as urls,
        proxy(Upstream("one", "tgis", parse_address(urls[0]))) as (gateway, admin),
    ):
        stream = json.dumps({"model": "m", "prompt": "a", "max_tokens": 3, "stream": True})
        for body in (LOSSY, stream, '{"model": 1}', "{"):
            await curl("--json", body, f"{gateway}/v1/completions")
        await curl(f"{gateway}/nothing/{'x' * 100}")
        plain = await curl(f"{admin}/metrics")
        typed = await curl("-H", "accept: application/openmetrics-text; version=1.0.0", f"{admin}/metrics")
    assert b"inferbridge_ttft_seconds_bucket" in plain
    assert complaints(plain.decode(), openmetrics=False) == []
    assert complaints(typed.decode(), openmetrics=True) == []


def test_clients_cannot_make_series_without_end() -> None:
    """10 000 model names, half of them served, every status and flag: the scrape stays within its budget."""
    made = Metrics(VERSIONS)
    for number in range(10_000):
        call = CallRecord(protocol="gRPC" if number % 3 else "HTTP/2", operation=f"operation {number % 30}")
        call.runtime, call.model, call.upstream_protocol = f"runtime {number % 5}", f"model {number}", "grpc"
        call.status, call.grpc_status = (200, 0) if number % 2 else (400 + number % 100, number % 17)
        call.streamed, call.messages_in, call.messages_out, call.gaps = True, 2, 3, [0] * 15 + [1]
        call.began, call.received, call.upstream_began, call.first_byte = 1.0, 1.5, 1.5, 2.0
        call.upstream_ended, call.ended = 3.0, 3.5
        call.use(1, 2)
        if not number % 4:
            call.code, call.flags = Code.INVALID_ARGUMENT, ("TE", "RL")
        made.calls.began(call)
        made.calls.ended(call)
        made.lost_fields(call.operation, "openai", call.runtime, 1)
    text = made.text().decode()
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(samples) < SERIES
    assert sum(one.series for one in METRICS if one.kind == "counter") < SERIES
    assert complaints(text, openmetrics=False) == []
