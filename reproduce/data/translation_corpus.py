"""Parallel corpora of sentences and their translations.

Malformed pairs (see `reproduce.data.parallel_text`) are skipped and reported in
training files. In validation and test files they are errors, because a score
over fewer sentences is not comparable with other results.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path

from reproduce.common.errors import InputError
from reproduce.data.parallel_text import NOTHING_SKIPPED
from reproduce.data.parallel_text import ParallelText
from reproduce.data.parallel_text import Report
from reproduce.data.parallel_text import read_parallel
from reproduce.data.parallel_text import read_tsv

# fairseq's scripts append this to every piece of a word except the last.
BPE_CONTINUATION = re.compile(r"@@( |$)")


@dataclass(frozen=True)
class Corpus:
    """Training, validation and optional test part of one language pair."""

    name: str
    source_language: str
    target_language: str
    train: ParallelText
    valid: ParallelText
    test: ParallelText | None = None
    report: Report = NOTHING_SKIPPED

    def facts(self) -> dict[str, str | int]:
        """Returns the name, the languages and the sizes of the corpus."""
        return {
            "name": self.name,
            "source_language": self.source_language,
            "target_language": self.target_language,
            "train": len(self.train),
            "valid": len(self.valid),
            "test": len(self.test) if self.test else 0,
            "skipped": self.report.skipped,
        }


def load_files(
    train_source: Path,
    train_target: Path,
    valid_source: Path,
    valid_target: Path,
    test_source: Path | None = None,
    test_target: Path | None = None,
    source_language: str = "source",
    target_language: str = "target",
) -> Corpus:
    """Reads a corpus with a pair of parallel files per part."""
    if (test_source is None) != (test_target is None):
        raise InputError(
            "The two test files come together: only "
            f"{test_source or test_target} was given."
        )
    train, report = read_parallel(train_source, train_target, skip=True)
    test = None
    if test_source is not None and test_target is not None:
        test, _ = read_parallel(test_source, test_target)
    return Corpus(
        name=Path(train_source).name,
        source_language=source_language,
        target_language=target_language,
        train=train,
        valid=read_parallel(valid_source, valid_target)[0],
        test=test,
        report=report,
    )


def load_tsv(
    train: Path,
    valid: Path,
    test: Path | None = None,
    source_language: str = "source",
    target_language: str = "target",
) -> Corpus:
    """Reads a corpus with a file of two columns per part."""
    train_text, report = read_tsv(train, skip=True)
    return Corpus(
        name=Path(train).name,
        source_language=source_language,
        target_language=target_language,
        train=train_text,
        valid=read_tsv(valid)[0],
        test=read_tsv(test)[0] if test is not None else None,
        report=report,
    )


def load_iwslt14(
    directory: Path, source_language: str = "de", target_language: str = "en"
) -> Corpus:
    """Reads IWSLT14 in the layout of fairseq's `prepare-iwslt14.sh`.

    The directory has `train`, `valid` and `test` files with the languages as
    suffixes. Their words are split into BPE pieces ("hou@@ se") of a vocabulary
    that is not ours. The subfolder `tmp` has whole words and is read if it
    exists. Otherwise the pieces are joined again.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise InputError(
            f"{directory}: not a directory. Expected the one that fairseq's "
            "prepare-iwslt14.sh writes."
        )
    names = {
        (part, language): f"{part}.{language}"
        for part in ("train", "valid", "test")
        for language in (source_language, target_language)
    }
    whole = directory / "tmp"
    root = directory if _missing(whole, names.values()) else whole
    missing = _missing(root, names.values())
    if missing:
        raise InputError(
            f"{directory}: no {', '.join(missing)} in it. Expected the "
            f"directory that fairseq's prepare-iwslt14.sh writes for "
            f"{source_language} and {target_language}."
        )
    corpus = load_files(
        **{
            f"{part}_{side}": root / names[part, language]
            for part in ("train", "valid", "test")
            for side, language in (
                ("source", source_language),
                ("target", target_language),
            )
        },
        source_language=source_language,
        target_language=target_language,
    )
    parts = {
        part: _joined(getattr(corpus, part))
        for part in ("train", "valid", "test")
    }
    return replace(corpus, name="iwslt14", **parts)


def filter_pairs(
    sources: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    maximum_length: int,
    maximum_ratio: float | None = None,
) -> tuple[list[int], dict[str, int]]:
    """Selects pairs of subword ids for training.

    Args:
        sources: The subword ids of each source, without BOS and EOS.
        targets: The subword ids of each target.
        maximum_length: The maximum number of subwords on a side.
        maximum_ratio: The maximum ratio of the two lengths.

    Returns:
        The indices of the pairs to keep, in order, and the numbers of other
        pairs that are `empty`, `too_long` and `too_uneven`.
    """
    kept = []
    counts = {"empty": 0, "too_long": 0, "too_uneven": 0}
    for index, (source, target) in enumerate(zip(sources, targets)):
        shorter, longer = sorted((len(source), len(target)))
        if shorter == 0:
            counts["empty"] += 1
        elif longer > maximum_length:
            counts["too_long"] += 1
        elif maximum_ratio is not None and longer > maximum_ratio * shorter:
            counts["too_uneven"] += 1
        else:
            kept.append(index)
    return kept, counts


def _missing(directory: Path, names: Iterable[str]) -> list[str]:
    return [name for name in names if not (directory / name).is_file()]


def _joined(text: ParallelText) -> ParallelText:
    return ParallelText(
        *(
            tuple(BPE_CONTINUATION.sub("", sentence) for sentence in side)
            for side in (text.sources, text.targets)
        )
    )
