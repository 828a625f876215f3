"""Text to model: lines, in a training, a validation and perhaps a test part.

Files are UTF-8, with or without a byte order mark. A line ends at a line feed,
or carriage return and line feed. Nothing is skipped: a text with holes is
another text, and its perplexity compares with nobody's.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reproduce.common.errors import InputError

PARTS = ("train", "valid", "test")
# As WikiText is published.
WIKITEXT = "wiki.{}.tokens"


@dataclass(frozen=True)
class LineFile:
    """The lines of a file, read anew each time: it may be larger than memory.

    Attributes:
        path: The file.
    """

    path: Path

    def __iter__(self) -> Iterator[str]:
        """Yields the lines.

        Raises:
            InputError: If the file cannot be read, or a line is not text.
        """
        try:
            with self.path.open("rb") as file:
                for number, raw in enumerate(file, 1):
                    if number == 1:
                        raw = raw.removeprefix(codecs.BOM_UTF8)
                    yield self._decode(raw, number)
        except OSError as error:
            raise InputError(f"{self.path}: {error.strerror}.") from error

    def _decode(self, raw: bytes, number: int) -> str:
        try:
            line = raw.rstrip(b"\r\n").decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{self.path}, line {number}: expected UTF-8, got byte "
                f"0x{error.object[error.start]:02x} at {error.start}. Convert "
                "the file."
            ) from error
        if "\0" in line:
            raise InputError(
                f"{self.path}, line {number}: a NUL byte. Expected text."
            )
        return line


@dataclass(frozen=True)
class Corpus:
    """Lines of each part.

    Attributes:
        name: What it is.
        train: The training part.
        valid: The validation part.
        test: The test part, if there is one.
        source: Where it comes from, if that is a matter of versions.
    """

    name: str
    train: Iterable[str]
    valid: Iterable[str]
    test: Iterable[str] | None = None
    source: str | None = None

    def parts(self) -> dict[str, Iterable[str]]:
        """Returns the parts that there are, by name."""
        found = {name: getattr(self, name) for name in PARTS}
        return {name: part for name, part in found.items() if part is not None}

    def facts(self) -> dict[str, str | int]:
        """Returns how much there is of what, for people to read."""
        facts: dict[str, str | int] = {"name": self.name}
        if self.source is not None:
            facts["source"] = self.source
        for name, part in self.parts().items():
            facts[f"{name}_words"] = count_words(part)
        return facts


def count_words(lines: Iterable[str]) -> int:
    """Returns how many words there are, and ends of lines.

    The ends are predicted like words, and WikiText's own numbers count them.
    """
    return sum(len(line.split()) + 1 for line in lines)


def load_files(
    train: Path, valid: Path, test: Path | None = None, name: str | None = None
) -> Corpus:
    """Reads a corpus of one text file a part.

    Raises:
        InputError: If a file is missing or not text, or has no words.
    """
    paths = {"train": train, "valid": valid, "test": test}
    parts = {
        part: checked(LineFile(Path(path)))
        for part, path in paths.items()
        if path is not None
    }
    return Corpus(name=name or Path(train).name, **parts)


def load_wikitext(directory: Path) -> Corpus:
    """Reads `wiki.train.tokens` and its like, as WikiText is published.

    Raises:
        InputError: As `load_files`.
    """
    paths = [Path(directory) / WIKITEXT.format(part) for part in PARTS]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise InputError(
            f"--data {directory}: no {', '.join(missing)}. Expected a "
            f"directory of {', '.join(path.name for path in paths)}, as "
            "WikiText is published."
        )
    return load_files(*paths, name=Path(directory).name)


def checked(lines: LineFile) -> LineFile:
    """Returns a file after reading it through.

    Raises:
        InputError: If it is not text, or has no words.
    """
    # All of it now, not in the middle of a training.
    words = False
    for line in lines:
        words = words or bool(line.strip())
    if not words:
        raise InputError(f"{lines.path}: empty. Expected lines of text.")
    return lines
