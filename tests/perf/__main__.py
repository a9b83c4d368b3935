"""`python -m tests.perf` measures the gateway beside Envoy, then its streams; see gateway.py and streams.py."""

import runpy
from pathlib import Path

for name in ("gateway", "streams"):
    try:
        runpy.run_path(str(Path(__file__).with_name(f"{name}.py")), run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
