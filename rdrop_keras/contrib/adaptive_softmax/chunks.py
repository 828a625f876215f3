"""Loss and gradients of an adaptive softmax, one chunk of items at a time."""

from __future__ import annotations

from typing import Any
from typing import NamedTuple

import keras

from rdrop_keras.closed_form.chunks import FORBIDDEN
from rdrop_keras.closed_form.chunks import Sums
from rdrop_keras.closed_form.chunks import next_turn
from rdrop_keras.closed_form.chunks import zero_scalars
from rdrop_keras.closed_form.derivatives import Pairs
from rdrop_keras.closed_form.derivatives import compare
from rdrop_keras.closed_form.derivatives import gradients
from rdrop_keras.closed_form.items import Items
from rdrop_keras.closed_form.softmax import Softmax
from rdrop_keras.contrib.adaptive_softmax.cluster import Cluster
from rdrop_keras.divergences.base import consistency_dtype

ops = keras.ops


class AdaptiveHead(NamedTuple):
    """The softmaxes of an adaptive softmax and the settings of its objective.

    Attributes:
        kernels: The kernels of the head and of each cluster,
            `(width, classes)`, in the dtype of the matrix products.
        bias: The bias of the head, or None.
        alpha: Weight of the consistency.
        stop_gradient: As in `RDrop`.
        chunk_size: The number of items in a chunk.
    """

    kernels: list[Any]
    bias: Any
    alpha: Any
    stop_gradient: bool
    chunk_size: int

    @classmethod
    def of(
        cls, kernels: list[Any], bias: Any, dtype: Any, **settings
    ) -> AdaptiveHead:
        """Returns a head that computes matrix products in a dtype."""
        if bias is not None:
            bias = ops.cast(bias, consistency_dtype())
            bias = ops.maximum(bias, FORBIDDEN)
        return cls([ops.cast(k, dtype) for k in kernels], bias, **settings)

    def sums(self, states: list[Any], items: Items) -> Sums:
        """Returns the sums over all items.

        Args:
            states: The inputs of the head and of each cluster,
                `(passes, padded, width)`.
            items: The order and the weights of the items.
        """

        def add(index, *sums):
            chunk = _Chunk.of(self, states, items, index)
            sums = [a + b for a, b in zip(sums, chunk.sums())]
            return next_turn(index, sums[0]), *sums

        start = zero_scalars(len(Sums._fields))
        _, *sums = self._for_each_chunk(items, add, start)
        return Sums(*sums)

    def sums_and_gradients(
        self, states: list[Any], items: Items
    ) -> tuple[Sums, list[Any]]:
        """Returns the sums, and the gradients of `task + alpha / m * C`.

        The gradients are with respect to the states, the kernels and the bias;
        without a bias, the last is 0. Each chunk overwrites the states that it
        has read with their gradient. Positions that no chunk reads still hold
        states.
        """
        dtype = consistency_dtype()
        count = len(self.kernels)
        of_kernels = [ops.zeros(ops.shape(k), dtype) for k in self.kernels]
        of_bias = ops.zeros((self.kernels[0].shape[-1],), dtype)

        def add(index, *loop):
            states, of_kernels = loop[:count], loop[count : 2 * count]
            of_bias, *sums = loop[2 * count :]
            chunk = _Chunk.of(self, states, items, index)
            sums = [a + b for a, b in zip(sums, chunk.sums())]
            by_logits = chunk.by_logits()
            if self.bias is not None:
                of_bias = of_bias + ops.sum(by_logits[0], axis=0)
            new_states, new_kernels = [], []
            for state, rows, kernel, of_kernel, by in zip(
                states, chunk.rows, self.kernels, of_kernels, by_logits
            ):
                by = ops.cast(by, state.dtype)
                by_kernel = ops.einsum("nd,nv->dv", rows, by)
                new_kernels.append(of_kernel + ops.cast(by_kernel, dtype))
                by_rows = ops.einsum("nv,dv->nd", by, kernel)
                new_states.append(chunk.replace(state, by_rows))
            # The next chunk waits for the gradients of all kernels.
            index = next_turn(index, sum(k[0, 0] for k in new_kernels))
            return index, *new_states, *new_kernels, of_bias, *sums

        start = [
            *states,
            *of_kernels,
            of_bias,
            *zero_scalars(len(Sums._fields)),
        ]
        _, *found = self._for_each_chunk(items, add, start)
        return Sums(*found[2 * count + 1 :]), found[: 2 * count + 1]

    def _for_each_chunk(self, items, add, start):
        chunks = -(-items.count // self.chunk_size)
        return ops.while_loop(
            lambda index, *_: index < chunks,
            add,
            (ops.zeros((), "int32"), *start),
        )


class _Chunk(NamedTuple):
    """The arrays of one chunk of items."""

    head: AdaptiveHead
    start: Any
    rows: list[Any]
    labels: Any
    in_head: Any
    weights: Any
    counted: Any
    passes: list[Softmax]
    pairs: Pairs
    clusters: list[Cluster]

    @classmethod
    def of(cls, head, states, items, index):
        size = head.chunk_size
        start = index * size
        labels = ops.slice(items.labels, (start,), (size,))
        rows, logits = [], []
        biases = [head.bias] + [None] * (len(states) - 1)
        for state, kernel, bias in zip(states, head.kernels, biases):
            passes, _, width = state.shape
            found = ops.slice(state, (0, start, 0), (passes, size, width))
            rows.append(ops.reshape(found, (passes * size, width)))
            found = ops.cast(ops.matmul(rows[-1], kernel), consistency_dtype())
            if bias is not None:
                found = found + bias
            found = ops.reshape(found, (passes, size, found.shape[-1]))
            logits.append(ops.unstack(found, passes))
        in_all = [Softmax.of(z) for z in logits[0]]
        first = shortlist = head.kernels[0].shape[-1] - len(head.kernels) + 1
        in_head = labels
        clusters = []
        for place, of_cluster in enumerate(logits[1:], shortlist):
            in_head = ops.where(labels >= first, place, in_head)
            priors = [s.probabilities[:, place : place + 1] for s in in_all]
            clusters.append(Cluster.of(of_cluster, priors, first, labels))
            first += of_cluster[0].shape[-1]
        return cls(
            head,
            start,
            rows,
            labels,
            in_head,
            ops.slice(items.weights, (start,), (size,)),
            start + ops.arange(size, dtype="int32") < items.count,
            in_all,
            compare(in_all, infinite=False),
            clusters,
        )

    def sums(self):
        tasks = [each.crossentropy(self.in_head) for each in self.passes]
        consistency = self.pairs.value()
        for cluster in self.clusters:
            found = cluster.crossentropies()
            tasks = [a + b for a, b in zip(tasks, found)]
            consistency = consistency + cluster.pairs.value()
        best = ops.cast(self._most_probable(), self.labels.dtype)
        right = ops.logical_and(best == self.labels, self.counted)
        return Sums(
            ops.sum(self.weights * (sum(tasks) / len(tasks))),
            ops.sum(self.weights * consistency),
            ops.sum(ops.where(self.counted, tasks[0], 0.0)),
            ops.sum(ops.cast(right, consistency_dtype())),
        )

    def _most_probable(self):
        """Returns the id of the most probable word of the first pass."""
        log_p = self.passes[0].log_probabilities()
        first = shortlist = log_p.shape[-1] - len(self.clusters)
        words = [ops.argmax(log_p[:, :shortlist], axis=-1)]
        values = [ops.max(log_p[:, :shortlist], axis=-1)]
        for place, cluster in enumerate(self.clusters, shortlist):
            within = cluster.passes[0]
            words.append(first + ops.argmax(within.logits, axis=-1))
            best = ops.max(within.logits - within.normalizer, axis=-1)
            values.append(log_p[:, place] + best)
            first += within.classes
        best = ops.argmax(ops.stack(values, axis=-1), axis=-1)
        found = ops.take_along_axis(
            ops.stack(words, axis=-1), ops.expand_dims(best, -1), axis=-1
        )
        return ops.squeeze(found, axis=-1)

    def by_logits(self):
        """Returns the gradients of the logits of the head and of each cluster.

        Each has the shape `(passes * size, classes)`.
        """
        of_task = ops.expand_dims(self.weights, -1) / len(self.passes)
        of_pairs = of_task * self.head.alpha
        stop_gradient = self.head.stop_gradient
        of_head = gradients(
            self.passes,
            self.pairs,
            [of_task] * len(self.passes),
            of_pairs,
            self.in_head,
            0.0,
            stop_gradient=stop_gradient,
        )
        results, by_priors = [], []
        for cluster in self.clusters:
            by_priors.append(cluster.by_priors(of_pairs))
            found = cluster.by_logits(
                of_task, of_pairs, by_priors[-1], stop_gradient
            )
            results.append(ops.concatenate(found, axis=0))
        if not stop_gradient:
            of_head = [
                by
                + _through_softmax(
                    each.probabilities, ops.concatenate(slopes, axis=-1)
                )
                for by, each, slopes in zip(
                    of_head, self.passes, zip(*by_priors)
                )
            ]
        return [ops.concatenate(of_head, axis=0), *results]

    def replace(self, states, by_rows):
        """Returns the states with the gradient in place of this chunk."""
        passes, _, width = states.shape
        update = ops.reshape(by_rows, (passes, -1, width))
        return ops.slice_update(states, (0, self.start, 0), update)


def _through_softmax(p, slopes):
    """Returns the gradient of logits, given that of the last probabilities."""
    shortlist = p.shape[-1] - slopes.shape[-1]
    direct = p[:, shortlist:] * slopes
    total = ops.sum(direct, axis=-1, keepdims=True)
    return ops.pad(direct, ((0, 0), (shortlist, 0))) - p * total
