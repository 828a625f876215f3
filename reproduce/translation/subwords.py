"""The subwords of the two sides of a corpus."""

from __future__ import annotations

from reproduce.data.parallel_text import ParallelText
from reproduce.data.subwords import Subwords
from reproduce.data.subwords import train_subwords


def subwords_of(
    text: ParallelText, vocabulary_size: int, joint: bool = True
) -> tuple[Subwords, Subwords]:
    """Trains the subwords of both sides.

    Args:
        text: The training part of a corpus.
        vocabulary_size: How many ids.
        joint: Whether both sides share one model, or have one each, of this
            size each.

    Returns:
        Those of the sources and those of the targets; the same twice if joint.
    """
    if joint:
        proto = train_subwords(text.sources + text.targets, vocabulary_size)
        shared = Subwords(proto)
        return shared, shared
    return (
        Subwords(train_subwords(text.sources, vocabulary_size)),
        Subwords(train_subwords(text.targets, vocabulary_size)),
    )
