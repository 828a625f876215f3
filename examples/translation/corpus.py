"""Parallel text: sentences and, line by line, their translations.

Files are UTF-8, with or without a byte order mark, one sentence a line. A line
ends at a line feed, or carriage return and line feed, and nowhere else: where
Unicode sees further ends of lines, in U+2028 for instance, the two files of a
pair would come apart.

A pair is malformed if a side is empty, is not UTF-8 or holds a NUL byte, or, in
a TSV file, if there are not two columns. Training files may have such pairs:
they are skipped, and the report says how many and where the first ones are.
Validation and test files may not, since a score over fewer sentences compares
with nobody else's: the first malformed pair is refused.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from pathlib import Path
from typing import Any
from typing import NamedTuple

from examples.common.errors import InputError

# How many malformed pairs a report names.
NAMED = 5
# What fairseq's scripts put behind every piece of a word but its last.
BPE_CONTINUATION = re.compile(r"@@( |$)")


@dataclass(frozen=True)
class ParallelText:
    """Sentences and, position by position, their translations."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]

    def __post_init__(self):
        if len(self.sources) != len(self.targets):
            raise ValueError(
                "Expected one target per source. Received: "
                f"{len(self.sources)} sources, {len(self.targets)} targets"
            )

    def __len__(self) -> int:
        return len(self.sources)


@dataclass(frozen=True)
class Report:
    """What was skipped in reading: how often, and where at first."""

    counts: dict[str, int] = field(default_factory=dict)
    first: tuple[str, ...] = ()

    @property
    def skipped(self) -> int:
        """How many pairs were skipped."""
        return sum(self.counts.values())

    def __str__(self) -> str:
        if not self.counts:
            return "no malformed pairs"
        counts = ", ".join(
            f"{count}: {problem}" for problem, count in self.counts.items()
        )
        return f"{self.skipped} malformed pairs skipped ({counts}): " + (
            "; ".join(self.first)
            + ("; ..." if self.skipped > len(self.first) else "")
        )


@dataclass(frozen=True)
class Corpus:
    """A training, a validation and perhaps a test part of one language pair."""

    name: str
    source_language: str
    target_language: str
    train: ParallelText
    valid: ParallelText
    test: ParallelText | None = None
    report: Report = Report()

    def facts(self) -> dict[str, str | int]:
        """Returns how much there is of what, for people to read."""
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
    """Reads a corpus of which every part is a pair of parallel files."""
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
    """Reads a corpus of which every part is a file of two columns."""
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
    """Reads IWSLT14 as fairseq's `prepare-iwslt14.sh` leaves it.

    That is a directory of `train`, `valid` and `test` files with the languages
    as suffixes. There the words are split into BPE pieces ("hou@@ se") that
    belong to another vocabulary than ours. Its subfolder `tmp` holds them
    whole, and is read where it exists; else the pieces are joined again.
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


def read_parallel(
    source: Path, target: Path, skip: bool = False
) -> tuple[ParallelText, Report]:
    """Reads a file of sentences and the file of their translations.

    Args:
        source: The sentences, one a line.
        target: Their translations, in the same order.
        skip: Whether malformed pairs are skipped or refused.

    Raises:
        InputError: If a file cannot be read, the two have not the same number
            of lines, no pair is left, or, without `skip`, one is malformed.
    """
    source_lines, target_lines = _lines(source), _lines(target)
    if len(source_lines) != len(target_lines):
        raise InputError(
            f"{source} has {len(source_lines)} lines, {target} has "
            f"{len(target_lines)}. Expected a translation for every line: "
            "look where the two come apart."
        )

    def parse(number: int, rows: tuple[bytes, bytes]) -> tuple[str, str]:
        return (
            _sentence(_decoded(rows[0], f"{source}:{number}")),
            _sentence(_decoded(rows[1], f"{target}:{number}")),
        )

    return _collect(parse, list(zip(source_lines, target_lines)), source, skip)


def read_tsv(path: Path, skip: bool = False) -> tuple[ParallelText, Report]:
    """Reads a file of two columns, separated by a tab, without quoting.

    Args:
        path: The file: a sentence and its translation a line, no header.
        skip: Whether malformed pairs are skipped or refused.

    Raises:
        InputError: If the file cannot be read, no pair is left, or, without
            `skip`, one is malformed.
    """

    def parse(number: int, line: bytes) -> tuple[str, str]:
        row = _decoded(line, f"{path}:{number}")
        columns = row.text.split("\t")
        if len(columns) != 2:
            raise _Malformed(row.where, f"{len(columns)} columns, not 2")
        return (
            _sentence(_Line(columns[0], f"{row.where}, column 1")),
            _sentence(_Line(columns[1], f"{row.where}, column 2")),
        )

    return _collect(parse, _lines(path), path, skip)


def read_sentences(path: Path) -> list[str]:
    """Reads sentences to translate, one a line; an empty line is one too.

    Raises:
        InputError: If the file cannot be read, or a line is not UTF-8.
    """
    try:
        return [
            _decoded(line, f"{path}:{number}").text
            for number, line in enumerate(_lines(path), start=1)
        ]
    except _Malformed as error:
        raise InputError(f"{error}. Save the file as UTF-8.") from None


def filter_pairs(
    sources: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    maximum_length: int,
    maximum_ratio: float | None = None,
) -> tuple[list[int], dict[str, int]]:
    """Chooses the pairs of subword ids that are worth training on.

    Args:
        sources: The subword ids of each source, without BOS and EOS.
        targets: Those of each target.
        maximum_length: The most subwords that a side may have.
        maximum_ratio: How many times as long as the other a side may be.

    Returns:
        The indices of the pairs to keep, in order, and how many of the others
        are `empty`, `too_long` and `too_uneven`.
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


class _Line(NamedTuple):
    text: str
    where: str


class _Malformed(Exception):
    def __init__(self, where: str, problem: str):
        super().__init__(f"{where}: {problem}")
        self.problem = problem


def _collect(
    parse: Callable[[int, Any], tuple[str, str]],
    rows: Sequence[Any],
    path: Path,
    skip: bool,
) -> tuple[ParallelText, Report]:
    pairs, first, counts = [], [], Counter()
    for number, row in enumerate(rows, start=1):
        try:
            pairs.append(parse(number, row))
        except _Malformed as error:
            if not skip:
                raise InputError(
                    f"{error}. Expected a sentence and its translation: mend "
                    "the pair or remove it."
                ) from None
            counts[error.problem] += 1
            first.append(str(error))
    report = Report(dict(counts), tuple(first[:NAMED]))
    if not pairs:
        problem = f": {report}" if first else ""
        raise InputError(f"{path}: no sentence pairs in it{problem}.")
    sources, targets = zip(*pairs)
    return ParallelText(sources, targets), report


def _lines(path: Path) -> list[bytes]:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}.") from error
    lines = content.removeprefix(codecs.BOM_UTF8).split(b"\n")
    if lines[-1] == b"":
        # What follows the last line feed is no line.
        lines.pop()
    return [line.removesuffix(b"\r") for line in lines]


def _decoded(line: bytes, where: str) -> _Line:
    if b"\0" in line:
        raise _Malformed(where, "holds a NUL byte")
    try:
        return _Line(line.decode("utf-8"), where)
    except UnicodeDecodeError:
        raise _Malformed(where, "not UTF-8") from None


def _sentence(line: _Line) -> str:
    text = line.text.strip()
    if not text:
        raise _Malformed(line.where, "empty")
    return text


def _missing(directory: Path, names: Iterable[str]) -> list[str]:
    return [name for name in names if not (directory / name).is_file()]


def _joined(text: ParallelText) -> ParallelText:
    return ParallelText(
        *(
            tuple(BPE_CONTINUATION.sub("", sentence) for sentence in side)
            for side in (text.sources, text.targets)
        )
    )
