"""Predictions for GLUE's test parts, in the files that its server takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from reproduce.text_classification.glue_tasks import GlueTask

# What the server calls a part where a task has several.
PARTS = {"matched": "MNLI-m", "mismatched": "MNLI-mm"}


def prediction_file(task: GlueTask, part: str) -> str:
    """Returns what the server calls the predictions of a test part."""
    return f"{PARTS.get(part, task.folder)}.tsv"


def write_predictions(task: GlueTask, outputs: np.ndarray, path: Path) -> None:
    """Writes a line for each example: its number from 0 on and what it is.

    Args:
        task: The task.
        outputs: Logits of shape `(examples, classes)`, or scores of shape
            `(examples, 1)`, which are brought into the range of the labels.
        path: The file to write. Labels are those of GLUE's own files.
    """
    if task.range is not None:
        scores = np.clip(outputs[:, 0], *task.range)
        predictions = [f"{score:.3f}" for score in scores]
    else:
        labels = list(task.labels)
        predictions = [labels[index] for index in outputs.argmax(axis=-1)]
    lines = [
        "index\tprediction",
        *(f"{number}\t{text}" for number, text in enumerate(predictions)),
    ]
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
