"""One setting of glibc's allocator that makes bodies of many megabytes several times cheaper.

By default glibc returns every big block to the kernel and pays for fresh pages the next time.
"""

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_GIB, _MIB = 1 << 30, 1 << 20


def tune() -> bool:
    """Keep big blocks for reuse; False where the allocator has no such setting."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all([mallopt(_MMAP_THRESHOLD, _GIB), mallopt(_TRIM_THRESHOLD, _GIB), mallopt(_TOP_PAD, 64 * _MIB)])
