"""Settings that differ between the outputs of one model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rdrop_keras.rdrop import RDrop


def of_output(setting: Any, name: str | None, default: Any = None) -> Any:
    """Returns the value of a setting for one output.

    Args:
        setting: One value for all outputs, or a dict from output names.
        name: The name of the output.
        default: The value for an output that the dict does not name.
    """
    if isinstance(setting, dict):
        return setting.get(name, default)
    return setting


def check_names(settings: RDrop, names: Sequence[str]) -> None:
    """Raises if settings by output do not fit the outputs that have a loss.

    Args:
        settings: The compiled settings.
        names: The names of the outputs that have a loss.
    """
    for setting in ("alpha", "divergence"):
        value = getattr(settings, setting)
        if not isinstance(value, dict):
            continue
        unknown = [name for name in value if name not in names]
        # Without its alpha an output would silently train without R-Drop.
        missing = [name for name in names if name not in value]
        if unknown or (missing and setting == "alpha"):
            raise ValueError(
                f"Expected `{setting}` by output to name the outputs that "
                f"have a loss: {list(names)}. Received: {list(value)}. "
                + (
                    f"There is no {', '.join(map(repr, unknown))}."
                    if unknown
                    else f"Missing: {', '.join(map(repr, missing))}; pass 0.0 "
                    "for an output without R-Drop."
                )
            )


def check_same_for_all(settings: RDrop) -> None:
    """Raises if settings are given by output but outputs have no names."""
    for setting in ("alpha", "divergence"):
        if isinstance(getattr(settings, setting), dict):
            raise ValueError(
                f"Expected one `{setting}` for all outputs, since the model "
                "computes its loss itself and no compiled loss names its "
                f"outputs. Received: {getattr(settings, setting)!r}."
            )
