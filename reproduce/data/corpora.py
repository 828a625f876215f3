"""Parallel corpora: sentences and translations, articles and summaries.

Malformed pairs (see `reproduce.data.parallel_text`) are skipped and reported in
training files. In the validation and test files of a translation they are
errors, because a score over fewer sentences is not comparable with other
results. CNN/DailyMail itself has empty articles, so that the readers of
summaries skip malformed pairs in every part.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from pathlib import Path
from typing import Any

from reproduce.common.errors import InputError
from reproduce.data.parallel_text import ParallelText
from reproduce.data.parallel_text import Report
from reproduce.data.parallel_text import read_parallel
from reproduce.data.parallel_text import read_tsv

# The names of the parts of a corpus, and of the files of summaries.
PARTS = {"train": "train", "valid": "val", "test": "test"}
# fairseq's scripts append this to every piece of a word except the last.
BPE_CONTINUATION = re.compile(r"@@( |$)")


@dataclass(frozen=True)
class Corpus:
    """Pairs in three parts, with reports of skipped pairs, facts to show, and
    the languages if the texts are translated.
    """

    name: str
    train: ParallelText
    valid: ParallelText
    test: ParallelText | None = None
    reports: Mapping[str, Report] = field(default_factory=dict)
    source_language: str | None = None
    target_language: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """Returns the name, the languages and the sizes of the corpus."""
        languages = {
            name: value
            for name in ("source_language", "target_language")
            if (value := getattr(self, name)) is not None
        }
        return {
            "name": self.name,
            **languages,
            "train": len(self.train),
            "valid": len(self.valid),
            "test": len(self.test) if self.test else 0,
            "skipped": {
                part: report.skipped
                for part, report in self.reports.items()
                if report.skipped
            },
            **self.extra,
        }

    def describe(self) -> list[str]:
        """Returns lines about the corpus and its skipped pairs."""
        facts = self.facts()
        facts["skipped"] = sum(facts["skipped"].values())
        return [", ".join(f"{name}: {v}" for name, v in facts.items())] + [
            f"{part}: {report}"
            for part, report in self.reports.items()
            if report.skipped
        ]


def corpus_of(
    name: str,
    parts: Mapping[str, tuple[ParallelText, Report]],
    **languages: str,
) -> Corpus:
    """Returns a corpus of parts with their reports."""
    return Corpus(
        name,
        **{part: text for part, (text, _) in parts.items()},
        reports={part: report for part, (_, report) in parts.items()},
        **languages,
    )


def load_files(
    train_source: Path,
    train_target: Path,
    valid_source: Path,
    valid_target: Path,
    test_source: Path | None = None,
    test_target: Path | None = None,
    strict: bool = False,
    **languages: str,
) -> Corpus:
    """Reads a corpus with a pair of parallel files per part.

    If `strict`, malformed pairs of validation and test are errors.
    """
    if (test_source is None) != (test_target is None):
        raise InputError(
            "The two test files come together: only "
            f"{test_source or test_target} was given."
        )
    files: dict[str, Any] = {
        "train": (train_source, train_target),
        "valid": (valid_source, valid_target),
        "test": test_source and (test_source, test_target),
    }
    return _load(read_parallel, files, train_source, strict, languages)


def load_tsv(
    train: Path, valid: Path, test: Path | None = None, **languages: str
) -> Corpus:
    """Reads a corpus with a file of two columns per part."""
    files = {"train": (train,), "valid": (valid,), "test": test and (test,)}
    return _load(read_tsv, files, train, True, languages)


def load_line_files(directory: Path) -> Corpus:
    """Reads `train.source`, `train.target`, `val.source` and so on.

    The test part is optional.
    """
    files = {
        f"{part}_{side}": directory / f"{name}.{side}"
        for part, name in PARTS.items()
        for side in ("source", "target")
    }
    if not (files["test_source"].exists() or files["test_target"].exists()):
        del files["test_source"], files["test_target"]
    missing = _missing(files)
    if missing:
        raise InputError(
            f"--data {directory}: no {', '.join(missing)} in it. Expected "
            "train.source, train.target, val.source and val.target."
        )
    return replace(load_files(**files), name=directory.name)


def load_iwslt14(
    directory: Path, source_language: str = "de", target_language: str = "en"
) -> Corpus:
    """Reads IWSLT14 in the layout of fairseq's `prepare-iwslt14.sh`.

    The directory has `train`, `valid` and `test` files with the languages as
    suffixes. Their words are split into BPE pieces ("hou@@ se") of a vocabulary
    that is not ours. The subfolder `tmp` has whole words and is read if it
    exists. Otherwise the pieces are joined again.
    """
    if not directory.is_dir():
        raise InputError(
            f"{directory}: not a directory. Expected the one that fairseq's "
            "prepare-iwslt14.sh writes."
        )
    languages = {"source": source_language, "target": target_language}
    for root in (directory / "tmp", directory):
        files = {
            f"{part}_{side}": root / f"{part}.{language}"
            for part in PARTS
            for side, language in languages.items()
        }
        missing = _missing(files)
        if not missing:
            break
    else:
        raise InputError(
            f"{directory}: no {', '.join(missing)} in it. Expected the "
            f"directory that fairseq's prepare-iwslt14.sh writes for "
            f"{source_language} and {target_language}."
        )
    corpus = load_files(
        **files,
        strict=True,
        source_language=source_language,
        target_language=target_language,
    )
    parts = {part: _joined(getattr(corpus, part)) for part in PARTS}
    return replace(corpus, name="iwslt14", **parts)


def filter_pairs(
    sources: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    maximum_length: int,
    maximum_ratio: float | None = None,
) -> tuple[list[int], dict[str, int]]:
    """Selects pairs of subword ids, without BOS and EOS, for training.

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


def _load(
    read: Callable[..., tuple[ParallelText, Report]],
    files: dict[str, Any],
    name: Path,
    strict: bool,
    languages: dict[str, str],
) -> Corpus:
    parts = {
        part: read(*paths, skip=part == "train" or not strict)
        for part, paths in files.items()
        if paths
    }
    return corpus_of(Path(name).name, parts, **languages)


def _missing(files: dict[str, Path]) -> list[str]:
    return [path.name for path in files.values() if not path.is_file()]


def _joined(text: ParallelText) -> ParallelText:
    return ParallelText.of(
        tuple(BPE_CONTINUATION.sub("", side) for side in pair)
        for pair in zip(text.sources, text.targets)
    )
