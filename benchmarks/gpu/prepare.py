"""Tokenize a parallel corpus and write it as arrays.

    python -m benchmarks.gpu.prepare --corpus debian --data DIR \\
        --target-language it --output prepared/debian_en_it

The output, at most 30 MB, is all that `benchmarks.gpu.run` reads. Run this
where the corpus is; it needs no GPU.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu.corpus import prepare
from reproduce.common.errors import InputError
from reproduce.data.cldr import load_cldr
from reproduce.data.corpora import Corpus
from reproduce.data.corpora import load_iwslt14
from reproduce.data.debian import load_debian
from reproduce.data.libreoffice import load_libreoffice_help

READERS: dict[str, Callable[..., Corpus]] = {
    "debian": load_debian,
    "libreoffice_help": load_libreoffice_help,
    "iwslt14": load_iwslt14,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--corpus", choices=[*READERS, "cldr"], required=True)
    add("--data", type=Path, metavar="DIR", help="where it is, but for cldr")
    add("--source-language", default="en")
    add("--target-language", default="de")
    add("--maximum-words", type=int, help="leave longer pairs out")
    add("--vocabulary-size", type=int, default=10_000)
    add("--maximum-length", type=int, default=128, help="in subwords")
    add("--output", type=Path, required=True, metavar="DIR")
    flags = parser.parse_args(arguments)
    languages = (flags.source_language, flags.target_language)
    try:
        prepared = prepare(
            _read(flags.corpus, flags.data, languages, flags.maximum_words),
            flags.vocabulary_size,
            flags.maximum_length,
        )
        prepared.save(flags.output)
    except InputError as error:
        parser.exit(2, f"{error}\n")
    print(prepared.facts)


def _read(
    name: str,
    data: Path | None,
    languages: tuple[str, str],
    maximum_words: int | None,
) -> Corpus:
    source, target = languages
    if name == "cldr":
        return load_cldr(target, source)
    if data is None:
        raise InputError(f"--corpus {name} needs --data DIR.")
    options = {} if maximum_words is None else {"maximum_words": maximum_words}
    return READERS[name](data, source, target, **options)


if __name__ == "__main__":
    main()
