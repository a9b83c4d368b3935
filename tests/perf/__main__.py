"""`python -m tests.perf` measures what docs/performance.md and docs/streams.md say, and writes these pages."""

import runpy
import sys
from pathlib import Path

here = Path(__file__).parent
for program, page in {"table.py": "performance.md", "streams.py": "streams.md"}.items():
    sys.argv[1:] = ["--write", str(here.parents[1] / "docs" / page)]
    try:
        runpy.run_path(str(here / program), run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
