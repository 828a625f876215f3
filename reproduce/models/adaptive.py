"""Adaptive input, and an adaptive softmax that shares its weights.

Frequent words have wide embeddings and rare words narrow ones. Input and output
share the same tables
([Baevski and Auli, 2019](https://arxiv.org/abs/1809.10853)).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import keras

from rdrop_keras.contrib.adaptive_softmax import AdaptiveWeights
from rdrop_keras.layers import AdaptiveSoftmax

ops = keras.ops


class AdaptiveInput(keras.layers.Layer):
    """Embeds words in frequency bands, each with its own embedding width.

    Args:
        vocabulary_size: The number of words, the most frequent first.
        width: The size of the returned embeddings and of the first table.
        cutoffs: The first ids of the other bands.
        factor: The ratio of the widths of successive tables.
    """

    def __init__(
        self,
        vocabulary_size: int,
        width: int,
        cutoffs: Sequence[int],
        factor: float,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.width = width
        self.bounds = [0, *cutoffs, vocabulary_size]
        self.factor = factor

    def build(self, *_: Any) -> None:
        self.tables, self.projections = [], []
        for band, (start, end) in enumerate(itertools.pairwise(self.bounds)):
            width = int(self.width // self.factor**band)
            self.tables.append(
                self.add_weight(
                    name=f"table_{band}",
                    shape=(end - start, width),
                    initializer=keras.initializers.RandomNormal(
                        stddev=width**-0.5
                    ),
                )
            )
            self.projections.append(
                self.add_weight(
                    name=f"projection_{band}",
                    shape=(width, self.width),
                    initializer="glorot_uniform",
                )
            )
        self.built = True

    def call(self, ids: Any) -> Any:
        """Returns the embeddings, `(..., width)`, of ids, `(...)`."""
        result = 0.0
        for (start, end), table, projection in zip(
            itertools.pairwise(self.bounds), self.tables, self.projections
        ):
            inside = ops.logical_and(ids >= start, ids < end)
            places = ops.clip(ids - start, 0, end - start - 1)
            table, projection = (
                ops.convert_to_tensor(weight, self.compute_dtype)
                for weight in (table, projection)
            )
            embedded = ops.matmul(ops.take(table, places, axis=0), projection)
            result = result + ops.where(inside[..., None], embedded, 0)
        return result


class TiedAdaptiveSoftmax(AdaptiveSoftmax):
    """An adaptive softmax that shares tables and projections with the input.

    Only the vectors of the clusters are its own weights. As in fairseq, the
    first band's projection is used by the input only.
    """

    def __init__(
        self, embedding: AdaptiveInput, dropout: float = 0.0, **kwargs: Any
    ):
        _, *cutoffs, vocabulary_size = embedding.bounds
        super().__init__(
            vocabulary_size,
            cutoffs,
            div_value=embedding.factor,
            dropout=dropout,
            **kwargs,
        )
        self.embedding = embedding

    def build(self, *_: Any) -> None:
        self.clusters = self.add_weight(
            name="clusters",
            shape=(self.embedding.width, len(self.cutoffs)),
            initializer="glorot_uniform",
        )
        self.built = True

    def adaptive_weights(self) -> AdaptiveWeights:
        first, *tables = map(ops.transpose, self.embedding.tables)
        clusters = ops.convert_to_tensor(self.clusters)
        kernel = ops.concatenate([first, clusters], axis=-1)
        projections = map(ops.transpose, self.embedding.projections[1:])
        return AdaptiveWeights(kernel, None, list(projections), tables)
