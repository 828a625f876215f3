"""CNN/DailyMail: its published files, or a dataset of tensorflow-datasets.

The published form has one file per story:

    cnn/stories/*.story  dailymail/stories/*.story
    url_lists/all_train.txt  url_lists/all_val.txt  url_lists/all_test.txt

A story is an article, followed by the sentences of its summary, each after a
line `@highlight`. A list has the URL of one story per line, and the file of the
story is named by the SHA-1 of the URL. Texts are prepared as by BART's authors:
cased and not tokenized, with a period added to paragraphs and highlights that
end without punctuation.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

from reproduce.common.errors import InputError
from reproduce.common.tfds import open_prepared
from reproduce.data.corpora import PARTS
from reproduce.data.corpora import Corpus
from reproduce.data.corpora import corpus_of
from reproduce.data.parallel_text import Malformed
from reproduce.data.parallel_text import ParallelText
from reproduce.data.parallel_text import Report
from reproduce.data.parallel_text import clean_text
from reproduce.data.parallel_text import collect_pairs
from reproduce.data.parallel_text import read_sentences

# The names of the article and of the summary in tensorflow-datasets.
FEATURES = {
    "cnn_dailymail": ("article", "highlights"),
    "xsum": ("document", "summary"),
    "gigaword": ("document", "summary"),
}
DEFAULT_FEATURES = ("article", "highlights")
HIGHLIGHT = "@highlight"
LIST = "all_{}.txt"
# The sentence ends of the published preparation.
SENTENCE_ENDS = (
    *(".", "!", "?", "...", "'", "`", '"', "''", "``"),
    *("\u2019", "\u201d", ")"),
)


def is_stories(directory: Path) -> bool:
    """Returns whether a directory has the lists of the stories' parts."""
    return _list_of(directory, "train") is not None


def load_stories(directory: Path) -> Corpus:
    """Reads the stories of a directory, split by its lists.

    Stories that are missing, empty or not UTF-8, and stories without article or
    highlights, are skipped and reported.

    Args:
        directory: The directory of the lists, or of a folder `url_lists` with
            them. It contains the stories, in any folders.
    """
    lists = {part: _list_of(directory, part) for part in PARTS}
    missing = [LIST.format(PARTS[p]) for p, path in lists.items() if not path]
    if missing:
        raise InputError(
            f"--data {directory}: no {', '.join(missing)} in it or in its "
            "url_lists. Expected the lists of addresses that go with the "
            "stories."
        )
    names = {part: _story_names(path) for part, path in lists.items()}
    _check_distinct(directory, names)
    # One walk is faster than a search for every story in every folder.
    paths = {path.name: path for path in directory.rglob("*.story")}
    if not paths:
        raise InputError(
            f"--data {directory}: no *.story files in it. Expected "
            "cnn/stories and dailymail/stories."
        )
    return corpus_of(
        directory.name,
        {
            part: _read_part(lists[part], found, paths)
            for part, found in names.items()
        },
    )


def read_story(content: bytes, where: str) -> tuple[str, str]:
    """Returns the article and the summary of a story."""
    article, summary = [], []
    current = article
    for line in map(str.strip, clean_text(content, where).splitlines()):
        if line == HIGHLIGHT:
            current = summary
        elif line:
            current.append(line if line.endswith(SENTENCE_ENDS) else f"{line}.")
    if not article:
        raise Malformed(where, "no article")
    if not summary:
        raise Malformed(where, "no highlights")
    return " ".join(article), " ".join(summary)


def _list_of(directory: Path, part: str) -> Path | None:
    name = LIST.format(PARTS[part])
    for path in (directory / "url_lists" / name, directory / name):
        if path.is_file():
            return path
    return None


def _story_names(path: Path) -> list[str]:
    addresses = (line.strip() for line in read_sentences(path))
    return [
        hashlib.sha1(address.encode(), usedforsecurity=False).hexdigest()
        + ".story"
        for address in addresses
        if address
    ]


def _check_distinct(directory: Path, names: dict[str, list[str]]) -> None:
    counts = Counter(name for found in names.values() for name in found)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise InputError(
            f"--data {directory}: {len(twice)} stories are in the lists more "
            f"than once, {twice[0]} first. Expected each in one list, or the "
            "test would be trained on."
        )


def _read_part(
    path: Path, names: list[str], paths: dict[str, Path]
) -> tuple[ParallelText, Report]:
    def parse(number: int, name: str) -> tuple[str, str]:
        if name not in paths:
            raise Malformed(f"{path}:{number}: {name}", "no such story")
        try:
            content = paths[name].read_bytes()
        except OSError as error:
            raise Malformed(str(paths[name]), str(error.strerror)) from error
        return read_story(content, str(paths[name]))

    return collect_pairs(parse, names, path, skip=True)


def load_tfds(name: str, directory: Path) -> Corpus:
    """Reads a dataset from the directory where it was prepared.

    Examples without text are skipped and reported.
    """
    features = FEATURES.get(name.split(":")[0].split("/")[0], DEFAULT_FEATURES)
    builder, splits = open_prepared(name, directory, features)
    missing = {"train", "valid"} - splits.keys()
    if missing:
        raise InputError(
            f"--tfds {name}: expected a training and a validation part, got "
            f"{', '.join(splits.values())}."
        )
    parts = {
        part: _read_split(
            builder.as_dataset(split=split), features, name, split
        )
        for part, split in splits.items()
    }
    return corpus_of(name, parts)


def _read_split(
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
