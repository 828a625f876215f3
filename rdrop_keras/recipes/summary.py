"""A recipe as a short text."""

from __future__ import annotations

import dataclasses
import textwrap
from typing import Any

WIDTH = 78
# Told elsewhere in the text, or not worth a line of it.
LEFT_OUT = ("source", "undecayed")


def summary(recipe: Any) -> str:
    """Returns a `Recipe` as lines of at most 78 characters."""
    smoothing = recipe.label_smoothing
    told = {
        "model": _told(recipe.model),
        "rdrop": f"alpha {recipe.alpha:g}, {recipe.divergence} divergence",
        "dropout": _told(recipe.dropout),
        "labels": f"smoothing {smoothing:g}" if smoothing else None,
        "optimizer": _told(recipe.optimizer_settings),
        "schedule": _told(recipe.schedule),
        "batch": _told(recipe.batch),
        "vocabulary": recipe.vocabulary and _told(recipe.vocabulary),
        "decoding": recipe.decoding and _told(recipe.decoding),
        "searched": "; ".join(
            f"{one.setting} in {{{', '.join(f'{v:g}' for v in one.values)}}}"
            for one in recipe.searched
        ),
        "results": "; ".join(_result(result) for result in recipe.results),
    }
    lines = [f"{recipe.name}: {recipe.dataset}, {recipe.task}"]
    lines += [_line(name, text) for name, text in told.items() if text]
    lines += [_line("but", text) for text in recipe.discrepancies]
    return "\n".join(lines)


def _told(group: Any) -> str:
    """Returns a group's values that are known, the name first."""
    parts = []
    for field in dataclasses.fields(group):
        value = getattr(group, field.name)
        if value is None or field.name in LEFT_OUT:
            continue
        words = field.name.replace("_", " ")
        if isinstance(value, bool):
            parts.append(words if value else f"not {words}")
        elif field.name in ("name", "kind"):
            parts.append(value)
        elif isinstance(value, float):
            parts.append(f"{words} {value:g}")
        else:
            parts.append(f"{words} {value}")
    return ", ".join(parts)


def _result(result: Any) -> str:
    baseline = "?" if result.baseline is None else str(result.baseline)
    return (
        f"{result.metric} ({result.split}) {baseline} -> {result.rdrop}, "
        f"{result.source}"
    )


def _line(name: str, text: str) -> str:
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=f"  {name:<12}",
        subsequent_indent=" " * 14,
        break_on_hyphens=False,
    )
