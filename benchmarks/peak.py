"""How much memory this process takes at most while it does something."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

STATUS = Path("/proc/self/status")
# The least there is. What the kernel counts lags behind by some pages, and
# would come out as less than nothing.
PAGE = 4096


def peak_above(work: Callable[[], Any]) -> int:
    """Returns the peak of resident memory above what it was before, in bytes.

    Linux forgets earlier peaks on demand. Elsewhere the peak is that of the
    life of the process: too high if more had been in use before.

    Args:
        work: What takes the memory.
    """
    gc.collect()
    if not STATUS.exists():
        before = _life_peak()
        work()
        return max(_life_peak() - before, PAGE)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    work()
    return max(_status("VmHWM") - before, PAGE)


def _status(name: str) -> int:
    for line in STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"{STATUS} of {os.uname().sysname} has no {name}.")


def _life_peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
