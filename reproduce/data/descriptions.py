"""Aligns a package description with its translation.

A description has a summary in its first line and paragraphs, which lines with
a single full stop separate. A paragraph is text, possibly with a list, or it is
indented by two spaces or more, and then its lines are kept as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Sequence

from reproduce.data.held_out import similar_length

# With a hyphen, an asterisk, an en dash, an em dash, a minus, or a number.
BULLET = re.compile(r"\\?[-*+o•·\u2013\u2014\u2212]+\s+|\(?\d{1,2}[.)]\s+")
# French translations have a dot operator for a no-break space. Soft hyphens go.
CLEANED = {0x22C5: " ", 0xAD: None}
# A sentence ends before a capital, a digit or an opening bracket or quote.
END = re.compile(r"(?<=[.!?…])[\"')\]»”]*\s+(?=[\"'(\[«„“]?[A-ZÀ-Þ0-9])")
ABBREVIATION = re.compile(
    r"(?:\b\w|\be\.g|\bi\.e|\bvs|\betc|\bcf|\bca|\bNr|\bbzw|\bInc|\bDr|\bno"
    r"|\bSt|\bvol|\bbzgl|\busw|\bz\. ?B|\bd\. ?h|\bad es|\bes|\becc|\bp\. ?ex"
    r"|\bcad|\bDr|\bMr|\bLtd|\bCorp|\bCo|\bs|\bv|\bver)\.$"
)
# The number of characters in which an abbreviation is looked for.
LONGEST = 8


def align(source: str, target: str) -> Iterator[tuple[str, str]]:
    """Yields the sentences of a description with their translations.

    Paragraphs, list items and sentences are aligned one to one where both sides
    have as many. Where they do not, the larger unit is yielded, or nothing if
    the paragraphs differ in number.
    """
    summary, blocks = _blocks(source)
    other_summary, other_blocks = _blocks(target)
    yield summary, other_summary
    if len(blocks) != len(other_blocks):
        return
    for block, other_block in zip(blocks, other_blocks):
        units, other_units = _units(block), _units(other_block)
        if len(units) == len(other_units):
            for unit, other in zip(units, other_units):
                yield from sentence_pairs(unit, other)


def paragraphs(text: str) -> list[str]:
    """Returns the summary, the paragraphs and the list items of a text."""
    summary, blocks = _blocks(text)
    return [summary, *(unit for block in blocks for unit in _units(block))]


def sentences(text: str) -> list[str]:
    """Returns the sentences of a text."""
    found, start = [], 0
    for end in END.finditer(text):
        if not ABBREVIATION.search(text[start : end.start()][-LONGEST:]):
            found.append(text[start : end.end()].strip())
            start = end.end()
    return [*found, text[start:].strip()]


def sentence_pairs(source: str, target: str) -> list[tuple[str, str]]:
    """Returns the sentences of two paragraphs, or the paragraphs themselves.

    Sentences are paired if both sides have as many, of similar lengths.
    """
    ours, theirs = sentences(source), sentences(target)
    pairs = list(zip(ours, theirs))
    if len(ours) == len(theirs) and all(similar_length(*p) for p in pairs):
        return pairs
    return [(source, target)]


def _blocks(text: str) -> tuple[str, list[list[str]]]:
    summary, *lines = text.translate(CLEANED).split("\n")
    blocks: list[list[str]] = [[]]
    for line in lines:
        line = line[1:].rstrip()
        if line in (".", ""):
            blocks.append([])
        else:
            blocks[-1].append(line)
    return " ".join(summary.split()), [block for block in blocks if block]


def _units(lines: Sequence[str]) -> list[str]:
    """Returns the text, the list items and the indented lines of a block."""
    units: list[list[str]] = []
    indent, is_item = 0, False
    for line in lines:
        words = line.lstrip()
        depth = len(line) - len(words)
        bullet = BULLET.match(words)
        if is_item:
            continues = depth >= indent
        else:
            continues = depth == indent == 0 or depth > indent > 0
        if units and continues and not bullet:
            units[-1].append(words)
        else:
            units.append([words[bullet.end() :] if bullet else words])
            indent, is_item = depth, bullet is not None
    return [" ".join(" ".join(unit).split()) for unit in units]
