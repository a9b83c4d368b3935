"""Prints what the tensor kernels cost, in CPU microseconds and MB of JSON per second, for 16, 1024 and 65536 FP32.

Run with `PYTHONPATH=proxy:tests python tests/perf/kernels.py`.
"""

import random
import struct
import sys
from collections.abc import Callable

from bridge.tensor_bodies import body, read_all, tensor, write_all
from inferbridge.bridge import json_arrays
from perf.cost import cost

COUNTS = (16, 1024, 65_536)


def report(what: str, count: int, text: bytes, call: Callable[[], object]) -> None:
    """One line of the table."""
    micros = cost(call)
    sys.stdout.write(
        f"{what:<34} {count:>6} FP32 {len(text):>9} bytes {micros:>9.1f} µs {len(text) / micros:>6.0f} MB/s\n"
    )


def measure(count: int) -> None:
    """Both directions for one size."""
    source = random.Random(count)
    raw = struct.pack(f"<{count}f", *(source.random() for _ in range(count)))
    values = struct.unpack(f"<{count}f", raw)
    short = body(tensor("[" + ",".join(f"{value:.9g}" for value in values) + "]", "FP32", [count]))
    rows = [",".join(map(repr, values[at : at + 16])) for at in range(0, count, 16)]
    nested = body(tensor("[[" + "],[".join(rows) + "]]", "FP32", [count // 16, 16]))
    wide, _ = write_all([(raw, "FP32", [count], False)])
    report("JSON (9 digits) to raw", count, short, lambda: read_all(short))
    report("JSON (widened) to raw", count, wide, lambda: read_all(wide))
    report("nested JSON (widened) to raw", count, nested, lambda: read_all(nested))
    report("raw to JSON (widened)", count, wide, lambda: write_all([(raw, "FP32", [count], False)]))


def main() -> None:
    """The whole table, with and without the extra `simd`."""
    sys.stdout.write(f"arrays parsed by {'orjson' if json_arrays.simdjson is None else 'simdjson'}\n")
    for count in COUNTS:
        measure(count)
    if json_arrays.simdjson is not None:
        json_arrays.simdjson = None
        sys.stdout.write("arrays parsed by orjson\n")
        for count in COUNTS:
            measure(count)


if __name__ == "__main__":
    main()
