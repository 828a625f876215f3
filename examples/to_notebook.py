"""Turns an example into a notebook: its text and code blocks become cells.

    python examples/to_notebook.py examples/translation.py translation.ipynb

Top-level strings are text, and what stands between them is code, unchanged.
"""

import ast
import json
import pathlib
import sys


def cells_of(source):
    """Yields the type, "markdown" or "code", and the text of each cell."""
    lines = source.splitlines(keepends=True)
    end = 0
    for node in ast.parse(source).body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield "code", "".join(lines[end : node.lineno - 1])
            yield "markdown", node.value.value
            end = node.end_lineno
    yield "code", "".join(lines[end:])


def to_notebook(source):
    """Returns the notebook of an example, as its file holds it."""
    cells = []
    for number, (kind, text) in enumerate(cells_of(source)):
        text = text.strip("\n")
        if text:
            cell = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}}
            if kind == "code":
                cell.update(execution_count=None, outputs=[])
            cells.append({**cell, "source": text.splitlines(keepends=True)})
    notebook = {
        "cells": cells,
        "metadata": {},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(notebook, indent=1)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(
            "Usage: python examples/to_notebook.py EXAMPLE.py NOTEBOOK.ipynb"
        )
    text = pathlib.Path(sys.argv[1]).read_text("utf-8")
    pathlib.Path(sys.argv[2]).write_text(to_notebook(text), "utf-8")
