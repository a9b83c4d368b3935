"""Prints what it costs that calls can be shown as flows: with nobody who wants to see them, and with mitmweb's view.

Run with `PYTHONPATH=codegen:proxy:generated:tests python tests/perf/flows.py`. Costs are CPU microseconds, in this
process and in memory: a unary REST call to a gRPC runtime, and one message of a stream; then the memory of a finished
call. Exits 1 when a call that nobody wants to see costs more than 3 for it, or a finished one takes more memory than it
is charged with.
"""

import asyncio
import gc
import sys
import time
import tracemalloc
from collections.abc import Callable, Mapping
from typing import Any

from mitmproxy.addons import default_addons
from mitmproxy.addons.view import View
from mitmproxy.master import Master
from mitmproxy.options import Options

from inferbridge.bridge.context import Policy, Setting
from inferbridge.flows.keeping import FlowKeeper
from inferbridge.gateway.calls.targets import Target
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.records.recording import Recorder
from inferbridge.gateway.service import GatewayService
from inferbridge_generated import operations
from inferbridge_generated.registry import APIS
from inferbridge_generated.runtimes import PROFILES
from perf.record import INFER, MESSAGES, STREAM, Pool, calling, generate, infer

ROUNDS, CALLS, STREAMS = 30, 50, 2
MOST_UNWANTED = 3.0
MEMORY = 256 << 20
ALONE, UNWANTED = "its record alone", "nobody looks"


def keeper(*addons: Any) -> FlowKeeper:
    """In a mitmproxy with its usual addons and these."""
    master = Master(Options(), with_termlog=False)
    master._legacy_log_events.uninstall()
    master.addons.add(*default_addons(), *addons)
    return FlowKeeper(master.addons, master.options, memory=MEMORY)


type Way = tuple[Callable[[], None], FlowKeeper]


async def costs(ways: Mapping[str, Way], calls: int) -> dict[str, float]:
    """CPU microseconds of a call and all that is told of it; the ways take turns, the best round of each counts."""
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(ROUNDS):
        for name, (call, kept) in ways.items():
            started = time.process_time()
            for _ in range(calls):
                call()
            await kept.idle()
            best[name] = min(best[name], (time.process_time() - started) / calls * 1e6)
    return best


async def report(what: str, target: Target, path: str, body: bytes, calls: int, parts: int) -> float:
    """Print what each way costs; gives what is added where nobody wants to see the calls."""
    service = GatewayService([target], APIS, Policy(), Limits())

    def way(kept: FlowKeeper, *transcribers: FlowKeeper) -> Way:
        return calling(Recorder(service, [kept], transcribers), path, body), kept

    alone, unwanted, wanted = keeper(), keeper(), keeper(View())
    ways = {ALONE: way(alone), UNWANTED: way(unwanted, unwanted), "mitmweb's view": way(wanted, wanted)}
    found = await costs(ways, calls)
    for name, cost in found.items():
        sys.stdout.write(f"{what:<16} {name:<18} {cost:>10.2f} µs, {cost / parts:>8.2f} a piece\n")
    return found[UNWANTED] - found[ALONE]


async def memory(target: Target) -> tuple[float, float]:
    """Bytes that a finished small call takes, and with how many it is charged."""
    kept = keeper(view := View())
    call = calling(
        Recorder(GatewayService([target], APIS, Policy(), Limits()), [kept], [kept]), "/v2/models/m/infer", INFER
    )
    call()
    await kept.idle()
    gc.collect()
    tracemalloc.start()
    before, charged, shown = tracemalloc.get_traced_memory()[0], kept.held, len(view)
    for _ in range(500):
        call()
        await kept.idle()
    gc.collect()
    calls = len(view) - shown
    return (tracemalloc.get_traced_memory()[0] - before) / calls, (kept.held - charged) / calls


async def main() -> None:
    """Both kinds of calls."""
    setting = Setting(operations=operations)
    triton = Target("triton", PROFILES["triton"][0], "grpc", Pool(infer))
    runtime = Target("tgis", PROFILES["tgis"][0], "grpc", Pool(generate), setting=setting)
    unwanted = await report("unary call", triton, "/v2/models/m/infer", INFER, CALLS, 1)
    await report(f"stream of {MESSAGES}", runtime, "/v1/completions", STREAM, STREAMS, MESSAGES)
    taken, charged = await memory(triton)
    sys.stdout.write(f"a finished call takes {taken:.0f} bytes and is charged with {charged:.0f}\n")
    sys.exit(unwanted > MOST_UNWANTED or taken > charged)


if __name__ == "__main__":
    asyncio.run(main())
