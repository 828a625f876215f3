"""The output directory of a run in several processes.

All processes do the same. The chief writes to `--output`, the others to
temporary directories: saving and evaluating involve all of them.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reproduce import outputs
from reproduce.common import runs
from reproduce.common.errors import InputError
from reproduce.common.strategies import Strategy


@contextlib.contextmanager
def claimed(
    strategy: Strategy, directory: Path, *arguments: Any
) -> Iterator[Path]:
    """Claims the output directory once for all processes.

    The context is the directory that this process writes. If the directory is
    refused, all processes raise an error.
    """
    with contextlib.ExitStack() as stack:
        fault = None
        if strategy.is_chief:
            try:
                stack.enter_context(outputs.claimed(directory, *arguments))
            except Exception as error:
                # The others wait for an answer.
                fault = error
        if strategy.gathered(fault is not None)[0]:
            raise fault or InputError(
                f"--output {directory}: refused by process 0, which says why."
            )
        if len(set(strategy.gathered(_state(directory)))) > 1:
            raise InputError(
                f"--output {directory}: expected one directory that all "
                "processes share, got different files."
            )
        own = directory
        if not strategy.is_chief:
            own = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            _copy(directory, own)
        # Training deletes checkpoints that are copied here.
        strategy.gathered(0)
        yield own
        # TensorFlow may end all processes with the first that ends.
        strategy.gathered(0)


def _state(directory: Path) -> int:
    """Returns a number that tells the states of a run apart."""
    if not (directory / runs.MARKER).exists():
        return -2
    if outputs.is_finished(directory):
        return -1
    return outputs.last_backup(directory)


def _copy(directory: Path, own: Path) -> None:
    """Copies the files with which an interrupted run goes on."""
    if (directory / runs.HISTORY).exists():
        shutil.copy(directory / runs.HISTORY, own)
    if (directory / runs.CHECKPOINTS).exists():
        shutil.copytree(directory / runs.CHECKPOINTS, own / runs.CHECKPOINTS)
