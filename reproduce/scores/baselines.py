"""Trivial summaries, as a baseline for those of a model."""

from __future__ import annotations

import re
from collections.abc import Sequence

from reproduce.scores.rouge import SENTENCE_END


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
