"""`python -m tests.perf` measures the gateway beside Envoy; see gateway.py."""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).with_name("gateway.py")), run_name="__main__")
