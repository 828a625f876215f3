"""The peak memory of this process during a function call."""

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
# The minimum result. The kernel's counters lag by some pages, so that small
# differences could be negative.
PAGE = 4096


def peak_above(work: Callable[[], Any]) -> int:
    """Returns the peak of resident memory above its previous level, in bytes.

    Linux can reset the peak. On other systems it is the peak of the whole life
    of the process, which is too high if more memory was in use before.

    Args:
        work: The function to measure.
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
