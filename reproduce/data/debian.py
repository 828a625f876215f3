"""Debian's package descriptions and their translations.

Descriptions are split by source package (see `reproduce.data.held_out`):
"development files for X" and "documentation of X" come from one source.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from reproduce.data.corpora import Corpus
from reproduce.data.debian_files import Package
from reproduce.data.debian_files import find_files
from reproduce.data.debian_files import read_descriptions
from reproduce.data.debian_files import read_packages
from reproduce.data.descriptions import align
from reproduce.data.held_out import Item
from reproduce.data.held_out_pairs import parallel_corpus

NAME = "debian"


def load_debian(
    directory: Path,
    source_language: str = "en",
    target_language: str = "it",
    train_pairs: int | None = None,
    maximum_words: int | None = None,
) -> Corpus:
    """Reads the sentences of package descriptions and their translations.

    Args:
        directory: The directory with two `Translation-<language>` files and
            `Packages`; see `reproduce.data.debian_files`.
        source_language: The language of the sources, such as "en".
        target_language: The language of the targets.
        train_pairs: The maximum number of training pairs. A smaller training
            part is a prefix of a larger one. None takes all pairs.
        maximum_words: The maximum number of words on a side of a pair, in all
            parts. None keeps all pairs.

    Raises:
        InputError: If a file is missing or damaged, or no description has both
            languages.
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
                group = source_of(found.package, packages)
                for texts in align(found.text, translations[found.md5]):
                    yield Item(group, texts)

    return parallel_corpus(
        NAME,
        items(),
        names_of(packages),
        train_pairs=train_pairs,
        maximum_words=maximum_words,
        facts={"release": files.release},
        source_language=source_language,
        target_language=target_language,
    )


def source_of(package: str, packages: dict[str, Package]) -> str:
    """Returns the source of a package.

    Packages of other architectures are not in the file. Their names are their
    sources' most of the time.
    """
    found = packages.get(package)
    return found.source if found else package


def names_of(packages: dict[str, Package]) -> set[str]:
    """Returns the names of packages and sources."""
    return set(packages) | {found.source for found in packages.values()}
