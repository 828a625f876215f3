"""ROUGE, as the package rouge-score computes it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rouge_score import rouge_scorer

from reproduce.common.errors import InputError

# The one by which checkpoints are chosen first.
KINDS = ("rougeL", "rouge1", "rouge2", "rougeLsum")
# After which a sentence ends, for `rougeLsum`. The splitter of rouge-score
# itself needs data that has to be downloaded.
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
RESAMPLES = 1000


@dataclass(frozen=True)
class Scores:
    """Mean F1 over summaries, from 0 to 100.

    Attributes:
        rougeL: By the longest common subsequence of the whole summary.
        rouge1: By words.
        rouge2: By pairs of words.
        rougeLsum: By the longest common subsequences of sentences, which is
            what papers on CNN/DailyMail call ROUGE-L.
        intervals: By the names above, where 95 % of the means of resampled
            test sets lie.
    """

    rougeL: float
    rouge1: float
    rouge2: float
    rougeLsum: float
    intervals: dict[str, list[float]]

    def values(self) -> dict[str, float]:
        """Returns the scores by name, the one to choose by first."""
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
    """Scores summaries against one reference each, words stemmed.

    Args:
        summaries: The summaries.
        references: The references, one for each.

    Raises:
        InputError: If there are not as many references, or none at all.
    """
    if len(summaries) != len(references) or not references:
        raise InputError(
            "Expected one reference for each summary. Got "
            f"{len(summaries)} summaries and {len(references)} references."
        )
    scorer = rouge_scorer.RougeScorer(KINDS, use_stemmer=True)
    table = np.array(
        [
            [found[kind].fmeasure for kind in KINDS]
            for found in (
                scorer.score(sentences(reference), sentences(summary))
                for summary, reference in zip(summaries, references)
            )
        ]
    )
    means = 100 * table.mean(axis=0)
    # The same for the same scores, whatever else draws numbers.
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
    """Returns a text with a line for each sentence, as rouge-score wants it."""
    return SENTENCE_END.sub("\n", text.strip())
