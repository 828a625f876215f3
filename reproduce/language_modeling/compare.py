"""Arms trained on the same seeds, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reproduce.common.compare import compare_settings
from reproduce.common.comparison import Measure
from reproduce.data.language_corpus import Corpus
from reproduce.language_modeling.settings import Settings
from reproduce.language_modeling.train import PERPLEXITY
from reproduce.language_modeling.train import PROGRAM
from reproduce.language_modeling.train import train

MEASURES = [
    Measure("valid", "token_perplexity", "validation perplexity by token"),
    Measure("test", "word_perplexity", "test perplexity by word"),
    Measure("test", "token_perplexity", "test perplexity by token"),
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
        What `compare_arms` returns.
    """
    return compare_settings(
        train,
        PROGRAM,
        corpus,
        settings,
        arms,
        seeds,
        output,
        [m for m in MEASURES if m.part in corpus.parts()],
        f"{corpus.name}, alpha {settings.alpha:g}, dropout "
        f"{settings.configuration.dropout:g}",
        PERPLEXITY,
        resume,
    )
