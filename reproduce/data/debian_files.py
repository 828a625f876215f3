"""The files of a Debian release: package descriptions and their translations.

A directory has `Translation-<language>` files and a `Packages` file, under the
names that apt gives them (`deb.debian.org_debian_dists_bookworm_main_i18n_
Translation-de`) or under those of a mirror (`Translation-de.bz2`,
`Packages.xz`). Both consist of stanzas, which an empty line separates:

    Package: bash
    Description-md5: 3522aa7b4374048d6450e348a5bb45d9
    Description-de: GNU Bourne Again Shell
     Bash ist ein sh-kompatibler Befehlssprachen-Interpreter ...

Descriptions with the same MD5 digest are the same text.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import zlib
from collections.abc import Iterator
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from reproduce.common.errors import InputError
from reproduce.data.texts import decoded

OPENERS = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
SUFFIX = r"(?P<suffix>\.gz|\.bz2|\.xz|\.lz4)?"
# apt's directory also has updates ("bookworm-updates") and other components.
PLACE = r"(?P<place>\S+_dists_[^_-]+_main)"
TRANSLATION = re.compile(
    rf"(?:{PLACE}_i18n_)?Translation-(?P<kind>\w+){SUFFIX}"
)
PACKAGES = re.compile(rf"(?:{PLACE}_binary-(?P<kind>\w+)_)?Packages{SUFFIX}")
RELEASE = re.compile(r"(?:(?P<place>.+?)_)?(?:In)?Release")
PLAIN = "apt-get -o Acquire::GzipIndexes=false update writes plain files"


class Description(NamedTuple):
    """A package and its description in one language."""

    package: str
    md5: str
    text: str


class Package(NamedTuple):
    """What `Packages` says about a package."""

    source: str
    section: str


class Files(NamedTuple):
    """The files of one release in a directory."""

    translations: dict[str, Path]
    packages: Path
    release: str


def find_files(directory: Path, languages: Sequence[str]) -> Files:
    """Finds the files of the one release with all these languages."""
    try:
        names = sorted(path.name for path in directory.iterdir())
    except OSError as error:
        raise InputError(f"{directory}: {error.strerror}.") from error
    translations = _by_place(TRANSLATION, directory, names)
    packages = _by_place(PACKAGES, directory, names)
    known = sorted({code for found in translations.values() for code in found})
    complete = [
        place
        for place, found in translations.items()
        if set(languages) <= found.keys()
    ]
    if not complete:
        missing = [code for code in languages if code not in known]
        raise InputError(
            f"{directory}: no Translation-{(missing or languages)[0]} in it "
            f"{'' if missing else 'beside those of the other languages '}"
            f"(languages there: {', '.join(known) or 'none'}). Expected the "
            "files of a Debian release, see docs/datasets.md."
        )
    places = [place for place in complete if place in packages]
    if not places:
        raise InputError(
            f"{directory}: no Packages file of the same release as "
            f"Translation-{languages[0]} in it. Expected the one that names "
            "the source of each package, see docs/datasets.md."
        )
    if len(places) > 1:
        raise InputError(
            f"{directory}: several releases in it: {', '.join(places)}. "
            "Expected the files of one: remove the others."
        )
    (place,) = places
    found = packages[place]
    # All architectures describe nearly the same packages.
    architecture = "amd64" if "amd64" in found else min(found)
    return Files(
        {code: translations[place][code] for code in languages},
        found[architecture],
        _release(directory, names, place),
    )


def read_descriptions(path: Path, language: str) -> list[Description]:
    """Reads a `Translation-<language>` file."""
    fields = ("Package", "Description-md5", f"Description-{language}")
    found = [
        Description(*_required(path, number, stanza, fields))
        for number, stanza in enumerate(_stanzas(path, fields), 1)
    ]
    return _not_empty(path, found)


def read_packages(path: Path) -> dict[str, Package]:
    """Reads source and section of each package in a `Packages` file."""
    found: dict[str, Package] = {}
    fields = ("Package", "Section")
    for number, stanza in enumerate(_stanzas(path, (*fields, "Source")), 1):
        name, section = _required(path, number, stanza, fields)
        # "Source: bash (5.2-1)" has a version if the package has another one.
        source = (stanza.get("Source") or name).split(" ")[0]
        found.setdefault(name, Package(source, section))
    return _not_empty(path, found)


def _by_place(
    pattern: re.Pattern, directory: Path, names: list[str]
) -> dict[str, dict[str, Path]]:
    found: dict[str, dict[str, Path]] = {}
    for name in names:
        if match := pattern.fullmatch(name):
            kinds = found.setdefault(match["place"] or "", {})
            # The name without a suffix comes first and is the fastest to read.
            kinds.setdefault(match["kind"] or "", directory / name)
    return found


def _release(directory: Path, names: list[str], place: str) -> str:
    # apt's name of the file ends where the name of the component begins.
    for name in names:
        match = RELEASE.fullmatch(name)
        if match and f"{place}_".startswith(f"{match['place'] or place}_"):
            head = _text(directory / name)[:2000]
            stated = dict(re.findall(r"^(Codename|Version): (.+)$", head, re.M))
            if stated:
                return " ".join(stated[key] for key in sorted(stated))
    _, _, rest = place.partition("_dists_")
    return rest.split("_")[0] or "unknown"


def _stanzas(path: Path, fields: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yields the given fields of each stanza."""
    wanted = {f"{name}:": name for name in fields}
    for block in _text(path).split("\n\n"):
        stanza: dict[str, str] = {}
        name = None
        for line in block.split("\n"):
            if line.startswith(" "):
                if name is not None:
                    stanza[name] += f"\n{line}"
            else:
                head, _, value = line.partition(" ")
                name = wanted.get(head)
                if name is not None:
                    stanza[name] = value
        if stanza or block.strip():
            yield stanza


def _required(
    path: Path, number: int, stanza: dict[str, str], fields: Sequence[str]
) -> list[str]:
    for name in fields:
        if not stanza.get(name, "").strip():
            package = stanza.get("Package", "no name")
            raise InputError(
                f"{path}: stanza {number} ({package}) has no {name}. The file "
                "is damaged or another one: get it again."
            )
    return [stanza[name] for name in fields]


def _not_empty(path: Path, found):
    if not found:
        raise InputError(f"{path}: empty. Expected stanzas of packages.")
    return found


def _text(path: Path) -> str:
    if path.suffix == ".lz4":
        raise InputError(f"{path}: compressed by lz4. Expected {PLAIN}.")
    try:
        with OPENERS.get(path.suffix, open)(path, "rb") as file:
            content = file.read()
    except (EOFError, lzma.LZMAError, zlib.error) as error:
        raise InputError(
            f"{path}: truncated or damaged ({error}). Get it again."
        ) from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}.") from error
    if b"\0" in content:
        raise InputError(f"{path}: a NUL byte. Expected text: get it again.")
    return decoded(content, path, "Get the file again.")
