"""Exported models, shown in a process that has nothing else of ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from reproduce.data.parallel_text import ParallelText


def serve_samples(
    program: str, saved_model: Path, text: ParallelText, count: int
) -> None:
    """Prints what a SavedModel makes of some sources, and the references.

    Args:
        program: The example, whose `serve` is run.
        saved_model: What it exported.
        text: Sources and references.
        count: How many of them, evenly spread.
    """
    step = max(len(text) // count, 1)
    chosen = range(0, len(text), step)[:count]
    print(f"{saved_model}, in a process of its own:", flush=True)
    subprocess.run(
        [
            sys.executable,
            "-m",
            f"{program}.serve",
            str(saved_model),
            *(text.sources[index] for index in chosen),
        ],
        check=True,
    )
    print("references:")
    for index in chosen:
        print(f"  {text.targets[index]}")
