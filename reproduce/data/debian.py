"""Debian's package descriptions and their translations.

Descriptions are split by source package (see `reproduce.data.held_out`):
"development files for X" and "documentation of X" come from one source.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from pathlib import Path

from reproduce.common.errors import InputError
from reproduce.data.corpora import Corpus
from reproduce.data.debian_files import Description
from reproduce.data.debian_files import Package
from reproduce.data.debian_files import find_files
from reproduce.data.debian_files import read_descriptions
from reproduce.data.debian_files import read_packages
from reproduce.data.descriptions import align
from reproduce.data.descriptions import paragraphs
from reproduce.data.held_out import Item
from reproduce.data.held_out import Split
from reproduce.data.held_out import parallel_corpus
from reproduce.data.held_out import split
from reproduce.data.language_corpus import Corpus as LanguageCorpus
from reproduce.data.language_corpus import first_words
from reproduce.data.texts import Dataset
from reproduce.data.texts import Part

NAME = "debian"


def load_debian(
    directory: Path,
    source_language: str = "en",
    target_language: str = "it",
    **limits: int | None,
) -> Corpus:
    """Reads the sentences of package descriptions and their translations.

    The directory has two `Translation-<language>` files and `Packages`; see
    `reproduce.data.debian_files`. The limits are those of `parallel_corpus`.
    """
    languages = (source_language, target_language)
    files = find_files(Path(directory), languages)
    ours, theirs = (
        read_descriptions(files.translations[code], code) for code in languages
    )
    packages = read_packages(files.packages)
    translations = {found.md5: found.text for found in theirs}

    def items() -> Iterator[Item]:
        for found in ours:
            if found.md5 in translations:
                # Packages of other architectures are not in the file. Their
                # names are their sources' most of the time.
                package = packages.get(found.package)
                group = package.source if package else found.package
                for texts in align(found.text, translations[found.md5]):
                    yield Item(group, texts)

    return parallel_corpus(
        NAME,
        items(),
        _names_of(packages),
        facts={"release": files.release},
        source_language=source_language,
        target_language=target_language,
        **limits,
    )


def load_debian_text(
    directory: Path, train_words: int | None = None
) -> LanguageCorpus:
    """Reads the paragraphs and list items of English descriptions.

    Each is a line and occurs once. Lines are in the order of a hash, so that a
    smaller training part is a prefix of a larger one. None takes all words.
    """

    def items(found: Description, package: Package) -> Iterator[Item]:
        for line in paragraphs(found.text):
            yield Item(package.source, (line,))

    found, release = _english(directory, items)
    lines = {
        part: [item.texts[0] for item in chosen]
        for part, chosen in found.parts.items()
    }
    lines["train"] = first_words(lines["train"], train_words)
    return LanguageCorpus(
        NAME, **lines, source=f"Debian {release}", extra=found.facts()
    )


def load_debian_sections(
    directory: Path, train_texts: int | None = None
) -> Dataset:
    """Reads English descriptions, labeled with the section of the package.

    The classes do not depend on the number of training texts. None takes all.
    """

    def items(found: Description, package: Package) -> Iterator[Item]:
        text = " ".join(paragraphs(found.text))
        yield Item(package.source, (text,), package.section)

    found, release = _english(directory, items)
    classes = {item.label for item in found.parts["train"]}
    parts = {}
    for part, chosen in found.parts.items():
        rows = [item for item in chosen if item.label in classes]
        if part == "train":
            rows = rows[:train_texts]
        texts, labels = zip(*((*item.texts, item.label) for item in rows))
        parts[part] = Part(texts, None, labels)
    return Dataset(
        "debian sections",
        tuple(sorted(classes)),
        parts["train"],
        {"valid": parts["valid"]},
        {"test": parts["test"]},
        extra={"release": release, **found.facts()},
    )


def _english(
    directory: Path,
    items: Callable[[Description, Package], Iterable[Item]],
) -> tuple[Split, str]:
    """Splits what is in English descriptions."""
    files = find_files(Path(directory), ["en"])
    packages = read_packages(files.packages)
    found = split(
        (
            item
            for description in read_descriptions(files.translations["en"], "en")
            if description.package in packages
            for item in items(description, packages[description.package])
        ),
        _names_of(packages),
    )
    empty = [part for part, chosen in found.parts.items() if not chosen]
    if empty:
        raise InputError(
            f"{directory}: {len(found.distinct)} texts in it, none for the "
            f"part {empty[0]}. Expected a Debian release."
        )
    return found, files.release


def _names_of(packages: dict[str, Package]) -> set[str]:
    """Returns the names of packages and sources."""
    return set(packages) | {found.source for found in packages.values()}
