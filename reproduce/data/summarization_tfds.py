"""CNN/DailyMail, or another dataset of articles, from tensorflow-datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reproduce.common.errors import InputError
from reproduce.common.tfds import open_prepared
from reproduce.data.corpora import Corpus
from reproduce.data.corpora import corpus_of
from reproduce.data.parallel_text import ParallelText
from reproduce.data.parallel_text import Report
from reproduce.data.parallel_text import clean_text
from reproduce.data.parallel_text import collect_pairs

# The names of the article and of the summary in tensorflow-datasets.
FEATURES = {
    "cnn_dailymail": ("article", "highlights"),
    "xsum": ("document", "summary"),
    "gigaword": ("document", "summary"),
}
DEFAULT = ("article", "highlights")


def load_tfds(name: str, directory: Path) -> Corpus:
    """Reads a dataset from the directory where it was prepared.

    Examples without text are skipped and reported.
    """
    features = FEATURES.get(name.split(":")[0].split("/")[0], DEFAULT)
    builder, splits = open_prepared(name, directory, features)
    missing = {"train", "valid"} - splits.keys()
    if missing:
        raise InputError(
            f"--tfds {name}: expected a training and a validation part, got "
            f"{', '.join(splits.values())}."
        )
    parts = {
        part: _read(builder.as_dataset(split=split), features, name, split)
        for part, split in splits.items()
    }
    return corpus_of(name, parts)


def _read(
    examples: Any, features: tuple[str, str], name: str, split: str
) -> tuple[ParallelText, Report]:
    def parse(number: int, example: dict[str, bytes]) -> tuple[str, str]:
        where = f"{name} {split}:{number}"
        article, summary = (
            # Highlights are separate lines in tensorflow-datasets.
            " ".join(clean_text(example[feature], where).split())
            for feature in features
        )
        return article, summary

    rows = examples.as_numpy_iterator()
    return collect_pairs(parse, rows, Path(f"{name} {split}"), skip=True)
