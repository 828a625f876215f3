"""Arms trained on the same seeds, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reproduce.common.compare import compare_settings
from reproduce.common.comparison import Measure
from reproduce.data.translation_corpus import Corpus
from reproduce.translation.train import BLEU
from reproduce.translation.train import PROGRAM
from reproduce.translation.train import Settings
from reproduce.translation.train import train

MEASURES = [
    Measure("valid", "bleu", "validation BLEU"),
    Measure("test", "bleu", "test BLEU"),
    Measure("test", "chrf", "test chrF"),
    Measure("test", "loss", "test loss, nats", digits=3),
]


def compare(
    corpus: Corpus,
    settings: Settings,
    arms: tuple[str, ...],
    seeds: tuple[int, ...],
    output: Path,
    resume: bool = False,
) -> dict[str, Any]:
    """Trains every arm on every seed, then writes and prints what came out.

    Args:
        corpus: What to learn.
        settings: How to, but for arm and seed.
        arms: The arms; the first is what the others are compared with.
        seeds: The seeds.
        output: The directory to write.
        resume: Whether to go on with what is there.

    Returns:
        What `compare_settings` returns.
    """
    direction = f"{corpus.source_language}-{corpus.target_language}"
    measures = [m for m in MEASURES if corpus.test or m.part != "test"]
    return compare_settings(
        train,
        PROGRAM,
        corpus,
        settings,
        arms,
        seeds,
        output,
        measures,
        f"{corpus.name} {direction}, alpha {settings.alpha:g}, dropout "
        f"{settings.configuration.dropout:g}",
        BLEU,
        resume,
    )
