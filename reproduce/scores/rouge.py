"""ROUGE, computed by the package rouge-score, and trivial summaries."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rouge_score import rouge_scorer

from reproduce.common.errors import InputError

# The first one selects checkpoints.
KINDS = ("rougeL", "rouge1", "rouge2", "rougeLsum")
# Splits sentences for `rougeLsum`. The splitter of rouge-score itself needs a
# download.
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
RESAMPLES = 1000


@dataclass(frozen=True)
class Scores:
    """Mean F1 over summaries, from 0 to 100, with 95 % bootstrap intervals.

    `rougeL` compares whole summaries. `rougeLsum` compares sentences; papers on
    CNN/DailyMail call it ROUGE-L.
    """

    rougeL: float
    rouge1: float
    rouge2: float
    rougeLsum: float
    intervals: dict[str, list[float]]

    def values(self) -> dict[str, float]:
        """Returns the scores by name. The first one selects checkpoints."""
        return {kind: getattr(self, kind) for kind in KINDS}

    def __str__(self) -> str:
        names = {
            "rouge1": "ROUGE-1",
            "rouge2": "ROUGE-2",
            "rougeL": "ROUGE-L",
            "rougeLsum": "ROUGE-Lsum",
        }
        return "\n".join(
            f"{title:<10} {getattr(self, kind):.2f}  "
            "(95 % interval {:.2f} to {:.2f})".format(*self.intervals[kind])
            for kind, title in names.items()
        )


def score(summaries: Sequence[str], references: Sequence[str]) -> Scores:
    """Scores summaries against one reference each, with stemmed words."""
    if len(summaries) != len(references) or not references:
        raise InputError(
            "Expected one reference for each summary. Got "
            f"{len(summaries)} summaries and {len(references)} references."
        )
    scorer = rouge_scorer.RougeScorer(KINDS, use_stemmer=True)
    table = []
    for summary, reference in zip(summaries, references):
        found = scorer.score(sentences(reference), sentences(summary))
        table.append([found[kind].fmeasure for kind in KINDS])
    table = np.array(table)
    means = 100 * table.mean(axis=0)
    # A fixed seed makes the intervals reproducible.
    generator = np.random.default_rng(0)
    resampled = [
        100 * table[generator.integers(0, len(table), len(table))].mean(axis=0)
        for _ in range(RESAMPLES)
    ]
    low, high = np.percentile(resampled, [2.5, 97.5], axis=0)
    return Scores(
        **{kind: float(mean) for kind, mean in zip(KINDS, means)},
        intervals={
            kind: [float(low[place]), float(high[place])]
            for place, kind in enumerate(KINDS)
        },
    )


def sentences(text: str) -> str:
    """Returns a text with one sentence per line, the form of rouge-score."""
    return SENTENCE_END.sub("\n", text.strip())


def lead(articles: Sequence[str], sentences: int = 3) -> list[str]:
    """Returns the first sentences of each article, a strong news baseline."""
    return [
        " ".join(SENTENCE_END.split(article)[:sentences])
        for article in articles
    ]


def names(articles: Sequence[str]) -> list[str]:
    """Returns the name, in words, with which each docstring article begins."""
    return [
        re.split(r" ?[(:]", article, maxsplit=1)[0].removeprefix("class ")
        for article in articles
    ]
