"""A tokenized parallel corpus as arrays, small enough to carry to a GPU."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from reproduce.common.errors import InputError
from reproduce.data.batching import EncodedPairs
from reproduce.data.corpora import Corpus
from reproduce.data.corpora import filter_pairs
from reproduce.data.parallel_text import ParallelText
from reproduce.data.subwords import Subwords
from reproduce.data.subwords import encode_pairs
from reproduce.data.subwords import subwords_of

ARRAYS = "training.npz"
SUBWORDS = "subwords.model"
TEXTS = "texts.json"


@dataclass(frozen=True)
class Prepared:
    """A corpus whose training pairs are subword ids.

    Attributes:
        name: The name of the corpus.
        training: The training pairs, in the order of the corpus.
        texts: The pairs of texts of the parts "valid" and "test".
        subwords: The subwords of both languages.
        facts: Facts about the corpus, for the record of a run.
    """

    name: str
    training: EncodedPairs
    texts: dict[str, ParallelText]
    subwords: Subwords
    facts: dict[str, Any]

    def first(self, count: int | None) -> EncodedPairs:
        """Returns the first training pairs, or all.

        Raises:
            InputError: If there are fewer.
        """
        if count is not None and count > len(self.training):
            raise InputError(
                f"{self.name}: expected {count} training pairs, it has "
                f"{len(self.training)}. Prepare it with more."
            )
        return self.training.at(range(len(self.training))[:count])

    def with_texts(self, count: int) -> Prepared:
        """Returns the corpus with at most so many texts of each part."""
        texts = {
            part: ParallelText(text.sources[:count], text.targets[:count])
            for part, text in self.texts.items()
        }
        return replace(self, texts=texts)

    def save(self, directory: Path) -> None:
        """Writes the files that `load` reads."""
        directory.mkdir(parents=True, exist_ok=True)
        arrays = {
            f"{side}_{name}": array
            for side in ("sources", "targets")
            for name, array in _packed(getattr(self.training, side)).items()
        }
        np.savez_compressed(directory / ARRAYS, **arrays)
        self.subwords.save(directory / SUBWORDS)
        texts = {
            part: {"sources": text.sources, "targets": text.targets}
            for part, text in self.texts.items()
        }
        content = {"name": self.name, "facts": self.facts, **texts}
        (directory / TEXTS).write_text(
            json.dumps(content, ensure_ascii=False), encoding="utf-8"
        )

    @classmethod
    def load(cls, directory: Path) -> Prepared:
        """Reads the files that `save` wrote.

        Raises:
            InputError: If they cannot be read.
        """
        try:
            with (
                (directory / ARRAYS).open("rb") as file,
                np.load(file) as arrays,
            ):
                sources, targets = (
                    _unpacked(arrays[f"{side}_ids"], arrays[f"{side}_ends"])
                    for side in ("sources", "targets")
                )
            content = json.loads(
                (directory / TEXTS).read_text(encoding="utf-8")
            )
            texts = {
                part: ParallelText(*map(tuple, content[part].values()))
                for part in ("valid", "test")
            }
            subwords = Subwords.load(directory / SUBWORDS)
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise InputError(
                f"{directory}: not a prepared corpus ({error}). Expected the "
                "output of benchmarks.gpu.prepare."
            ) from error
        training = EncodedPairs(sources, targets)
        facts = content["facts"]
        return cls(content["name"], training, texts, subwords, facts)


def tokenize(
    corpus: Corpus, vocabulary_size: int, maximum_length: int
) -> Prepared:
    """Tokenizes a corpus.

    Args:
        corpus: The corpus, with a test part.
        vocabulary_size: The number of subwords, shared by both languages.
        maximum_length: The maximum number of subwords on a side. Longer pairs
            are left out of all parts, and counted.
    """
    subwords, _ = subwords_of(corpus.train, vocabulary_size)
    kept: dict[str, Any] = {}
    dropped = {}
    for part in ("train", "valid", "test"):
        text = getattr(corpus, part)
        encoded = encode_pairs(text, subwords, subwords)
        # fairseq's preparation of IWSLT14 has this ratio in training.
        ratio = 1.5 if part == "train" else None
        indices, counts = filter_pairs(
            encoded.sources, encoded.targets, maximum_length, ratio
        )
        dropped[part] = counts
        kept[part] = (
            encoded.at(indices)
            if part == "train"
            else ParallelText(
                tuple(text.sources[index] for index in indices),
                tuple(text.targets[index] for index in indices),
            )
        )
    training = kept.pop("train")
    facts = corpus.facts() | {
        "train": len(training),
        **{part: len(text) for part, text in kept.items()},
        "dropped": dropped,
        "vocabulary": subwords.vocabulary_size,
        "source_subwords": int(sum(map(len, training.sources))),
        "target_subwords": int(sum(map(len, training.targets))),
    }
    return Prepared(corpus.name, training, kept, subwords, facts)


def _packed(rows: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    ids = np.concatenate(rows)
    # Half the size of int32. The largest vocabularies in use have 32,000 ids.
    if ids.max(initial=0) > np.iinfo("int16").max:
        raise InputError(
            f"Expected at most {np.iinfo('int16').max + 1} subwords. Lower "
            "--vocabulary-size."
        )
    return {"ids": ids.astype("int16"), "ends": np.cumsum([*map(len, rows)])}


def _unpacked(ids: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(np.split(ids.astype("int32"), ends[:-1]))
