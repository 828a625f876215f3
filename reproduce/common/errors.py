"""The error for problems that the user can fix."""

from __future__ import annotations

from pathlib import Path


class InputError(ValueError):
    """A problem with a file, flag or directory that the user can fix.

    The program prints it as one line, without a traceback.
    """


def damaged(path: Path, expected: str, found: str = "") -> InputError:
    """Returns the error for a file or folder of a run that is damaged."""
    got = f", got {found}" if found else ""
    return InputError(
        f"{path}: damaged, expected {expected}{got}. Restore it, or start over "
        "with --overwrite."
    )
