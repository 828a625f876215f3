"""A recipe as a short text."""

from __future__ import annotations

import textwrap
from typing import Any


def summary(recipe: Any) -> str:
    """Returns a `Recipe` as lines of at most 78 characters."""
    theirs, smoothing = recipe.authors_alpha, recipe.label_smoothing
    rdrop = f"alpha {recipe.alpha:g}, {recipe.divergence} divergence"
    if theirs is not None:
        rdrop += (
            f"; the authors' code has {theirs.value:g}, "
            f"which is alpha {theirs.alpha:g} here"
        )
    searched = (
        f"{one.setting} in {{{', '.join(f'{v:g}' for v in one.values)}}}"
        for one in recipe.searched
    )
    results = (
        f"{r.metric} ({r.split}) {'?' if r.baseline is None else r.baseline} "
        f"-> {r.rdrop}, {r.source}"
        for r in recipe.results
    )
    lines = {
        "model": _listed(recipe.model),
        "rdrop": rdrop,
        "dropout": _listed(recipe.dropout),
        "labels": smoothing and f"smoothing {smoothing:g}",
        "optimizer": _listed(recipe.optimizer_settings),
        "schedule": _listed(recipe.schedule),
        "batch": _listed(recipe.batch),
        "vocabulary": recipe.vocabulary and _listed(recipe.vocabulary),
        "decoding": recipe.decoding and _listed(recipe.decoding),
        "searched": "; ".join(searched),
        "results": "; ".join(results),
    }
    return "\n".join(
        [f"{recipe.name}: {recipe.dataset}, {recipe.task}"]
        + [_line(name, text) for name, text in lines.items() if text]
        + [_line("but", text) for text in recipe.discrepancies]
    )


def _listed(group: Any) -> str:
    """Returns the known values of a group, separated by commas."""
    parts = []
    for name, value in vars(group).items():
        words = name.replace("_", " ")
        if value is None or name in ("source", "undecayed"):
            continue
        if name in ("name", "kind"):
            parts.insert(0, value)
        elif isinstance(value, bool):
            parts.append(words if value else f"not {words}")
        else:
            number = f"{value:g}" if isinstance(value, float) else str(value)
            parts.append(f"{words} {number}")
    return ", ".join(parts)


def _line(name: str, text: str) -> str:
    return textwrap.fill(
        text,
        78,
        initial_indent=f"  {name:<12}",
        subsequent_indent=" " * 14,
        break_on_hyphens=False,
    )
