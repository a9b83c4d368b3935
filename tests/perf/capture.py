"""Prints what payload capture costs: a call that is only kept in case it fails, and one whose line is made.

Run with `PYTHONPATH=codegen:proxy:generated:tests python tests/perf/capture.py`. Costs are CPU microseconds in this
process and in memory, for a unary REST call to a gRPC runtime and for each message of a stream, on top of the same call
with the access log and the metrics. A line is made in a thread of its own, after the call. Exits 1 when keeping costs
more than 60 for a call or 6 for a message.
"""

import asyncio
import gc
import sys
from collections.abc import Callable

from inferbridge.bridge.context import Policy, Setting
from inferbridge.capture.build import NoCounters
from inferbridge.capture.capturer import Capturer
from inferbridge.capture.rendering import Renderer
from inferbridge.capture.settings import CaptureSettings, Fields
from inferbridge.gateway.application import RequestHead
from inferbridge.gateway.calls.targets import Target
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.record import CallRecord
from inferbridge.gateway.records.recording import Recorder
from inferbridge.gateway.service import GatewayService
from inferbridge.gateway.transcript import Transcript
from inferbridge_generated import operations
from inferbridge_generated.registry import APIS
from inferbridge_generated.runtimes import PROFILES
from perf.record import CALLS, INFER, MESSAGES, STREAM, Pool, calling, cheapest, generate, infer, observers

MOST_CALL, MOST_MESSAGE = 60.0, 6.0
KEEPING = CaptureSettings(enabled=True, sample=0.0, errors=True)
RULES = CaptureSettings(fields=Fields(hide=("prompt", "inputs[].data", "choices[].text | text")))


class Last:
    """Keeps the last call that ended, with its transcript."""

    def __init__(self) -> None:
        self.record = CallRecord()
        self.transcript: Transcript | None = None

    def begin(self, head: RequestHead, record: CallRecord) -> Transcript:
        """A transcript of every call."""
        return Transcript.of(head.method, head.target, head.headers)

    def began(self, record: CallRecord) -> None:
        """Nothing yet."""

    def ended(self, record: CallRecord) -> None:
        """It is the last one."""
        self.record, self.transcript = record, record.transcript


def rendering(target: Target, path: str, body: bytes, settings: CaptureSettings) -> Callable[[], None]:
    """Makes the line of one call again and again."""
    last = Last()
    calling(Recorder(GatewayService([target], APIS, Policy(), Limits()), [last], [last]), path, body)()
    renderer, transcript = Renderer(settings), last.transcript
    assert transcript is not None
    return lambda: (renderer.line(last.record, transcript, "sample"), None)[1]


def report(what: str, target: Target, path: str, body: bytes, calls: int, parts: int) -> float:
    """Print what keeping and rendering cost; gives the former."""
    service = GatewayService([target], APIS, Policy(), Limits())
    both = observers()["both"]
    capturer = Capturer(KEEPING, [], NoCounters())
    ways = {
        "without capture": calling(Recorder(service, both), path, body),
        "kept": calling(Recorder(service, [*both, capturer], [capturer]), path, body),
        "a line": rendering(target, path, body, CaptureSettings()),
        "a line with rules": rendering(target, path, body, RULES),
    }
    found = cheapest(ways, calls)
    added = (found["kept"] - found["without capture"]) / parts
    for name, cost in found.items():
        sys.stdout.write(f"{what:<16} {name:<18} {cost:>10.2f} µs\n")
    return added


async def main() -> None:
    """Both kinds of calls, in an event loop: streams set timers."""
    gc.disable()
    setting = Setting(operations=operations)
    triton = Target("triton", PROFILES["triton"][0], "grpc", Pool(infer))
    runtime = Target("tgis", PROFILES["tgis"][0], "grpc", Pool(generate), setting=setting)
    call = report("unary call", triton, "/v2/models/m/infer", INFER, CALLS, 1)
    message = report(f"stream of {MESSAGES}", runtime, "/v1/completions", STREAM, 1, MESSAGES)
    sys.stdout.write(f"keeping costs {call:.1f} µs a call of {MOST_CALL:.0f}, ")
    sys.stdout.write(f"{message:.2f} a message of {MOST_MESSAGE:.0f}\n")
    sys.exit(call > MOST_CALL or message > MOST_MESSAGE)


if __name__ == "__main__":
    asyncio.run(main())
