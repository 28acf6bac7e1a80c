"""How much memory a reading process may take, so that one document cannot take the machine's."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

# Of the machine's memory: what all reading processes may take together. The rest is for the embedder and the store.
_SHARE = 0.75
# Bytes. Python with an OCR engine takes about one GiB, a picture of the largest size that is allowed about as much.
_LEAST = 3 << 30


def default_limit(workers: int) -> int:
    """Bytes that each of so many reading processes may take."""
    return max(_LEAST, int(_SHARE * _machine_memory()) // max(1, workers))


def limit_memory(bytes_: int | None) -> None:
    """Let this process, and each that it starts, take no more than this; None: any amount."""
    if bytes_ is None:
        return
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    # Data, not address space: browsers and engines reserve addresses by the terabyte that they never fill.
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        bytes_ = min(bytes_, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (bytes_, hard))


def peak_memory() -> int:
    """Bytes that this process has taken at most; 0 where the system does not say."""
    # Linux counts in `ru_maxrss` what the parent held when it started this process, which may be gigabytes of models.
    with contextlib.suppress(OSError, ValueError, IndexError):
        said = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(said.partition("VmHWM:")[2].split()[0]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


def _machine_memory() -> int:
    """Bytes of memory of the machine, or of the container where that has less."""
    try:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 4 * _LEAST
    for place in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError), open(place, encoding="ascii") as file:
            found = min(found, int(file.read()))
    return found
