"""Articles and their summaries, from files with one text per line.

Malformed pairs (see `reproduce.data.parallel_text`) are skipped in every part
and reported, because CNN/DailyMail itself has empty articles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

from reproduce.common.errors import InputError
from reproduce.data.parallel_text import ParallelText
from reproduce.data.parallel_text import Report
from reproduce.data.parallel_text import read_parallel

# The names of the parts in published files.
PARTS = {"train": "train", "valid": "val", "test": "test"}


@dataclass(frozen=True)
class Corpus:
    """A training part, a validation part and an optional test part.

    Attributes:
        name: The name of the corpus.
        train: The training part.
        valid: The validation part.
        test: The test part, or None.
        reports: The report of skipped pairs for each part.
    """

    name: str
    train: ParallelText
    valid: ParallelText
    test: ParallelText | None = None
    reports: Mapping[str, Report] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """Returns the name and the sizes of the corpus."""
        return {
            "name": self.name,
            "train": len(self.train),
            "valid": len(self.valid),
            "test": len(self.test) if self.test else 0,
            "skipped": {
                part: report.skipped
                for part, report in self.reports.items()
                if report.skipped
            },
        }


def corpus_of(
    name: str, parts: Mapping[str, tuple[ParallelText, Report]]
) -> Corpus:
    """Returns a corpus of parts with their reports."""
    return Corpus(
        name,
        **{part: text for part, (text, _) in parts.items()},
        reports={part: report for part, (_, report) in parts.items()},
    )


def load_files(
    train_source: Path,
    train_target: Path,
    valid_source: Path,
    valid_target: Path,
    test_source: Path | None = None,
    test_target: Path | None = None,
) -> Corpus:
    """Reads a corpus with a pair of parallel files per part."""
    if (test_source is None) != (test_target is None):
        raise InputError(
            "The two test files come together: only "
            f"{test_source or test_target} was given."
        )
    files = {
        "train": (train_source, train_target),
        "valid": (valid_source, valid_target),
    }
    if test_source is not None and test_target is not None:
        files["test"] = (test_source, test_target)
    parts = {
        part: read_parallel(*pair, skip=True) for part, pair in files.items()
    }
    return corpus_of(Path(train_source).name, parts)


def load_line_files(directory: Path) -> Corpus:
    """Reads `train.source`, `train.target`, `val.source` and so on.

    The test part is optional.
    """
    files = {
        f"{part}_{side}": directory / f"{name}.{side}"
        for part, name in PARTS.items()
        for side in ("source", "target")
    }
    if not any(files[f"test_{side}"].exists() for side in ("source", "target")):
        del files["test_source"], files["test_target"]
    missing = [path.name for path in files.values() if not path.is_file()]
    if missing:
        raise InputError(
            f"--data {directory}: no {', '.join(missing)} in it. Expected "
            "train.source, train.target, val.source and val.target."
        )
    corpus = load_files(**files)
    return Corpus(
        directory.name, corpus.train, corpus.valid, corpus.test, corpus.reports
    )
