"""ROUGE, and the summaries that cost nothing."""

import re

import numpy as np
import pytest
from rouge_score import rouge_scorer
from rouge_score import scoring

from reproduce.common.errors import InputError
from reproduce.scores.rouge import KINDS
from reproduce.scores.rouge import lead
from reproduce.scores.rouge import names
from reproduce.scores.rouge import score

REFERENCES = [
    "The cats are running home. Dogs stay!",
    "Returns the shape of a tensor.",
    "Nothing at all in common",
    "One two three four five",
]
SUMMARIES = [
    "Dogs stay. A cat runs home.",
    "Return a tensor's shape.",
    "",
    "one Two three, four five",
]


def directly(kinds):
    scorer = rouge_scorer.RougeScorer(kinds, use_stemmer=True)
    return scorer, [
        scorer.score(
            # A line for each sentence, which only `rougeLsum` looks at.
            re.sub(r"([.!?]) ", r"\1\n", reference),
            re.sub(r"([.!?]) ", r"\1\n", summary),
        )
        for reference, summary in zip(REFERENCES, SUMMARIES)
    ]


def test_rouge_is_that_of_rouge_score():
    found = score(SUMMARIES, REFERENCES)
    _, rows = directly(list(KINDS))
    assert set(found.values()) == {"rouge1", "rouge2", "rougeL", "rougeLsum"}
    for kind, value in found.values().items():
        expected = 100 * np.mean([row[kind].fmeasure for row in rows])
        np.testing.assert_allclose(value, expected, rtol=1e-12)
    # Stemmed, without case; and sentences in any order for the last alone.
    assert found.rouge1 > 60
    assert found.rougeLsum > found.rougeL + 5
    assert next(iter(found.values())) == "rougeL"


def test_intervals_are_those_of_resampling():
    found = score(SUMMARIES * 20, REFERENCES * 20)
    aggregator = scoring.BootstrapAggregator()
    _, rows = directly(list(KINDS))
    for row in rows * 20:
        aggregator.add_scores(row)
    for kind, expected in aggregator.aggregate().items():
        low, high = found.intervals[kind]
        np.testing.assert_allclose(low, 100 * expected.low.fmeasure, atol=1.5)
        np.testing.assert_allclose(high, 100 * expected.high.fmeasure, atol=1.5)
        assert low < found.values()[kind] < high
    # Drawn by a generator of its own: the same again.
    assert score(SUMMARIES * 20, REFERENCES * 20) == found
    assert re.search(r"ROUGE-2 +\d+\.\d\d  \(95 % interval", str(found))


def test_unequal_or_no_texts_are_refused():
    with pytest.raises(InputError, match="Got 3 summaries and 4 references"):
        score(SUMMARIES[:3], REFERENCES)
    with pytest.raises(InputError, match="Got 0 summaries"):
        score([], [])


def test_baselines_are_taken_from_the_articles():
    articles = ["read file (path): It reads. Fast! Yes.", "class Big Cat: 1.5"]
    assert lead(articles, 1) == ["read file (path): It reads.", articles[1]]
    assert lead(articles, 2)[0] == "read file (path): It reads. Fast!"
    assert names(articles) == ["read file", "Big Cat"]
