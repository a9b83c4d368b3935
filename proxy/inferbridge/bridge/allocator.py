"""One call that makes large bodies cheap: keep big blocks in the heap instead of mapping and clearing fresh pages."""

import ctypes
import platform

_TRIM_THRESHOLD = -1
_TOP_PAD = -2
_MMAP_THRESHOLD = -3
_GIB = 1 << 30


def tune() -> bool:
    """Tell glibc to reuse freed blocks up to 1 GiB; False, and nothing done, where the C library is another.

    Its default gives every block above 32 MiB back to the kernel and pays a page fault for each 4 KiB of the next
    one. The price is memory kept after a large body; call it at process start.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_MMAP_THRESHOLD, _GIB), (_TRIM_THRESHOLD, _GIB), (_TOP_PAD, 64 << 20))
    return all([mallopt(option, value) for option, value in settings])
