"""`python -m tests.perf` measures the table of docs/performance.md and writes that page; see table.py."""

import runpy
import sys
from pathlib import Path

here = Path(__file__).parent
sys.argv += ["--write", str(here.parents[1] / "docs" / "performance.md")]
runpy.run_path(str(here / "table.py"), run_name="__main__")
