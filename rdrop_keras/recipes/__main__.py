"""Rewrites the generated part of docs/recipes.md.

python -m rdrop_keras.recipes docs/recipes.md
"""

from __future__ import annotations

import pathlib
import sys

from rdrop_keras.recipes.discrepancies import DISCREPANCIES
from rdrop_keras.recipes.recipe import Recipe
from rdrop_keras.recipes.table import RECIPES

HEADER = """\
| recipe | alpha | authors' code | dropout | updates | batch | baseline → R-Drop |
|---|---|---|---|---|---|---|"""  # noqa: E501


def rewritten(page: str) -> str:
    """Returns the page with its tables made anew from the recipes."""
    notes = [f"- {_code(names)}: {note}" for names, note in DISCREPANCIES]
    parts = {
        "table": "\n".join([HEADER, *map(_row, RECIPES.values())]),
        "discrepancies": "\n".join(notes),
    }
    for name, text in parts.items():
        begin, end = f"<!-- generated: {name} -->", "<!-- end -->"
        before, rest = page.split(f"{begin}\n", 1)
        after = rest.split(f"\n{end}", 1)[1]
        page = f"{before}{begin}\n{text}\n{end}{after}"
    return page


def _row(recipe: Recipe) -> str:
    theirs, batch = recipe.authors_alpha, recipe.batch
    updates, size = recipe.schedule.total_updates, batch.per_update
    unit = "tokens" if batch.tokens else "examples"
    cells = [
        f"`{recipe.name}`",
        f"{recipe.alpha:g}",
        "none" if theirs is None else f"{theirs.alpha:g}",
        f"{recipe.dropout.rate:g}",
        "not stated" if updates is None else f"{updates:,}",
        "not stated" if size is None else f"{size:,} {unit}",
        f"{recipe.results[0].baseline} → {recipe.results[0].rdrop}",
    ]
    return f"| {' | '.join(cells)} |"


def _code(names: str) -> str:
    return ", ".join(f"`{name}`" for name in names.split())


if __name__ == "__main__":
    path = pathlib.Path(sys.argv[1])
    path.write_text(rewritten(path.read_text("utf-8")), "utf-8")
