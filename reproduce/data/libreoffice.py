"""LibreOffice's help and its translations.

The packages `libreoffice-help-en-us`, `libreoffice-help-de` and so on have the
same HTML files in each language, in `help/<language>/text/`. A paragraph or
heading has the same `id` in all of them:

    <p id="par_id3154254" class="paragraph" dir="auto">You can prevent ...</p>
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

from reproduce.common.errors import InputError
from reproduce.data.corpora import Corpus
from reproduce.data.descriptions import sentence_pairs
from reproduce.data.held_out import Item
from reproduce.data.held_out import parallel_corpus
from reproduce.data.texts import read_text

NAME = "libreoffice_help"
FOLDERS = ("", "help", "usr/share/libreoffice/help")
ID = re.compile(r"(?:par|hd)_\w+")


def load_libreoffice_help(
    directory: Path,
    source_language: str = "en-US",
    target_language: str = "de",
    **limits: int | None,
) -> Corpus:
    """Reads the paragraphs of LibreOffice's help and their translations.

    The directory has the unpacked packages, or a folder per language, "en-US",
    which "en" also names. The limits are those of `parallel_corpus`.
    """
    directory = Path(directory)
    source, target = (
        _folder(directory, code) for code in (source_language, target_language)
    )
    names = sorted(
        path.relative_to(source).as_posix() for path in source.rglob("*.html")
    )
    common = [name for name in names if (target / name).is_file()]
    if not common:
        raise InputError(
            f"{directory}: no HTML file in both {source_language} and "
            f"{target_language}. Expected the packages of one release."
        )

    def items() -> Iterator[Item]:
        for name in common:
            ours, theirs = (elements(path / name) for path in (source, target))
            for key, text in ours.items():
                if key in theirs:
                    for pair in sentence_pairs(text, theirs[key]):
                        yield Item(name, pair)

    return parallel_corpus(
        NAME,
        items(),
        facts={"files": len(common)},
        source_language=source_language,
        target_language=target_language,
        **limits,
    )


def elements(path: Path) -> dict[str, str]:
    """Returns the texts of a file's paragraphs and headings by id."""
    parser = _Elements()
    parser.feed(read_text(path))
    parser.close()
    return parser.found


def _folder(directory: Path, language: str) -> Path:
    codes = (language, "en-US") if language == "en" else (language,)
    places = [directory / folder for folder in FOLDERS]
    for place in places:
        for code in codes:
            if (place / code / "text").is_dir():
                return place / code / "text"
    there = sorted(
        {path.parent.name for place in places for path in place.glob("*/text")}
    )
    raise InputError(
        f"{directory}: no help in {language!r} in it (languages there: "
        f"{', '.join(there) or 'none'}). Expected unpacked packages such as "
        "libreoffice-help-de, see docs/datasets.md."
    )


class _Elements(HTMLParser):
    """Collects the text of elements with an id, without hidden parts."""

    def __init__(self):
        super().__init__()
        self.found: dict[str, str] = {}
        self._key: str | None = None
        self._tag = ""
        self._text: list[str] = []
        # Of the texts for each system and application, scripts show one. The
        # default has no class and is kept.
        self._spans: list[bool] = []

    def handle_starttag(
        self, tag: str, attrs: list[tuple[str, str | None]]
    ) -> None:
        attributes = dict(attrs)
        if ID.fullmatch(attributes.get("id") or ""):
            self._finish()
            self._key, self._tag = attributes["id"], tag
        elif tag == "span" and self._key:
            self._spans.append({"hidden", "class"} <= attributes.keys())
        elif tag == "br":
            self._text.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._tag:
            self._finish()
        elif tag == "span" and self._spans:
            self._spans.pop()

    def handle_data(self, data: str) -> None:
        if self._key and not any(self._spans):
            self._text.append(data)

    def close(self) -> None:
        super().close()
        self._finish()

    def _finish(self) -> None:
        text = " ".join("".join(self._text).split())
        if self._key and text:
            self.found.setdefault(self._key, text)
        self._key, self._tag, self._text, self._spans = None, "", [], []
