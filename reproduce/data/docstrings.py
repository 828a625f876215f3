"""Docstrings to summarize: their bodies are articles, their first lines
summaries.

The docstrings are those of the installed standard library, NumPy, Keras and
TensorFlow. Their sources are parsed and never imported, so that reading them
executes no code. An article is the name of a function or class, in words, the
names of its parameters, and the docstring after the summary line:

    "nan max (a, axis, out): Parameters ---------- a : array_like Array ..."

The pairs depend only on the versions of Python and of the three packages.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import re
import sysconfig
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from reproduce.common.errors import InputError
from reproduce.data.corpora import Corpus
from reproduce.data.parallel_text import ParallelText

PACKAGES = ("numpy", "keras", "tensorflow")
# Folders that some distributions ship separately, that hold copies of other
# folders, or that hold generated code.
LEFT_OUT = {
    "python": (
        *("__pycache__", "site-packages", "dist-packages", "test", "tests"),
        *("idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3"),
        *("distutils", "pydoc_data", "encodings"),
    ),
    "numpy": ("tests", "testing", "f2py", "distutils"),
    "keras": ("legacy", "testing"),
    "tensorflow": (
        *("keras", "lite", "compiler", "tools", "tpu", "debug", "core"),
        *("include", "_api", "tsl", "dtensor", "autograph", "profiler"),
    ),
}
# Matches docstrings that continue after an empty line, with false positives.
PARAGRAPHS = re.compile(rb'"""[^"]+\n[ \t]*\r?\n')
# The number of path parts that name a package: `numpy/linalg`,
# `keras/src/layers`.
DEPTHS = {"python": 1, "numpy": 1, "keras": 2, "tensorflow": 2}
SUMMARY_WORDS = (3, 24)
BODY_WORDS = 8
# A pair keeps this many words of its body; the model would cut the rest.
ARTICLE_WORDS = 80
# Packages with more pairs are always in the training part.
LARGEST_HELD_OUT = 150
# No run of this many words is in more than one part.
SHARED_WORDS = 12
Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
# The boundaries of words in a name: `get_HTMLParser`, `getHTMLParser`.
WORD_ENDS = re.compile(r"_+|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Docstring(NamedTuple):
    """An article, its summary, and their package."""

    package: str
    article: str
    summary: str


def load_docstrings(
    train_pairs: int = 4000, valid_pairs: int = 200, test_pairs: int = 400
) -> Corpus:
    """Returns the docstrings of the installed packages as a corpus.

    Each package is in one part only, chosen by a hash of its name. Summaries
    and bodies are unique, and no validation or test pair shares a run of twelve
    words with a training pair.
    """
    packages: dict[str, list[Docstring]] = {}
    for docstring in _distinct(read_docstrings()):
        packages.setdefault(docstring.package, []).append(docstring)
    held_out = {"test": test_pairs, "valid": valid_pairs}
    parts: dict[str, list[Docstring]] = {"test": [], "valid": [], "train": []}
    for package in sorted(packages, key=_hash):
        found = packages[package]
        short = [
            part
            # Twice as many, because those that share words with training
            # pairs are removed later.
            for part, wanted in held_out.items()
            if len(parts[part]) < 2 * wanted
        ]
        if short and len(found) <= LARGEST_HELD_OUT:
            # Alternate, so that both parts get packages of every kind.
            part = min(short, key=lambda part: len(parts[part]))
            parts[part] += found
        else:
            parts["train"] += found
    train = _first(parts["train"], train_pairs, "train")
    known = set().union(*map(_runs, train))
    chosen = {"train": train}
    for part, wanted in held_out.items():
        fresh = [d for d in parts[part] if known.isdisjoint(_runs(d))]
        chosen[part] = _first(fresh, wanted, part)
        known = known.union(*map(_runs, chosen[part]))
    texts = {
        part: ParallelText.of((d.article, d.summary) for d in found)
        for part, found in chosen.items()
    }
    return Corpus("docstrings", **texts)


def read_docstrings() -> Iterator[Docstring]:
    """Yields the docstrings with a summary and a body, package by package.

    Duplicates are included.
    """
    for root_name, root in _roots().items():
        for path in _modules(root, frozenset(LEFT_OUT[root_name])):
            parts = path.relative_to(root).with_suffix("").parts
            # A top-level module is a package of its own in the standard
            # library, but belongs to the root package elsewhere.
            folders = parts if root_name == "python" else parts[:-1]
            package = ".".join((root_name, *folders[: DEPTHS[root_name]]))
            for article, summary in _docstrings_of(path):
                yield Docstring(package, article, summary)


def _modules(root: Path, left_out: frozenset[str]) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        # Changed in place, so that os.walk skips the folders left out.
        folders[:] = sorted(set(folders) - left_out)
        for name in sorted(files):
            if name.endswith(".py") and not (
                name.startswith(("gen_", "_sysconfigdata", "test_"))
                or name.endswith("_test.py")
            ):
                yield Path(folder, name)


def _roots() -> dict[str, Path]:
    roots = {"python": Path(sysconfig.get_path("stdlib"))}
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise InputError(
                f"Expected the package {package}, to read its docstrings. "
                "Install it, or give files by --train-source and its like."
            )
        roots[package] = Path(spec.origin).parent
    return roots


def _docstrings_of(path: Path) -> Iterator[tuple[str, str]]:
    content = path.read_bytes()
    # Parsing is slow, and most files have no docstring of two paragraphs.
    if not PARAGRAPHS.search(content):
        return
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        # Some files are templates or need other versions of Python.
        return
    for node in _definitions(tree):
        summary, _, body = (ast.get_docstring(node) or "").partition("\n\n")
        # Some summaries span several lines.
        summary, body = " ".join(summary.split()), body.split()
        least, most = SUMMARY_WORDS
        if (
            least <= len(summary.split()) <= most
            and len(body) >= BODY_WORDS
            and summary.endswith(".")
            and summary.isascii()
        ):
            article = " ".join(body[:ARTICLE_WORDS])
            if article.isascii():
                yield f"{_title(node)}: {article}", summary


def _definitions(tree: ast.AST) -> Iterator[Definition]:
    for node in ast.iter_child_nodes(tree):
        # `ast.walk` would also visit every expression.
        if isinstance(node, (ast.stmt, ast.ExceptHandler)):
            if isinstance(node, Definition):
                yield node
            yield from _definitions(node)


def _title(node: Definition) -> str:
    name = " ".join(filter(None, WORD_ENDS.split(node.name)))
    if isinstance(node, ast.ClassDef):
        return f"class {name}"
    found = node.args
    names = [
        a.arg for a in (*found.posonlyargs, *found.args, *found.kwonlyargs)
    ]
    names = [argument for argument in names if argument not in ("self", "cls")]
    return f"{name} ({', '.join(names)})"


def _distinct(docstrings: Iterator[Docstring]) -> Iterator[Docstring]:
    """Yields the docstrings whose summary and body are both new."""
    known: Counter[str] = Counter()
    for docstring in docstrings:
        _, _, body = docstring.article.partition(": ")
        keys = [_key(docstring.summary), _key(body)]
        if not any(known[key] for key in keys):
            yield docstring
        known.update(keys)


def _key(text: str) -> str:
    return "".join(filter(str.isalnum, text.lower()))


def _runs(docstring: Docstring) -> set[tuple[str, ...]]:
    runs = set()
    for text in (docstring.article, docstring.summary):
        words = text.lower().split()
        for start in range(len(words) - SHARED_WORDS + 1):
            runs.add(tuple(words[start : start + SHARED_WORDS]))
    return runs


def _first(
    docstrings: list[Docstring], wanted: int, part: str
) -> list[Docstring]:
    if len(docstrings) < wanted:
        raise InputError(
            f"Expected {wanted} docstrings for the part {part}, got "
            f"{len(docstrings)}: ask for fewer."
        )
    return sorted(docstrings, key=lambda d: _hash(d.article))[:wanted]


def _hash(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
