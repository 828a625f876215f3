"""Loss and gradients of a vocabulary head, one chunk of items at a time."""

from __future__ import annotations

from typing import Any
from typing import NamedTuple

import keras

from rdrop_keras.closed_form.derivatives import compare
from rdrop_keras.closed_form.derivatives import gradients
from rdrop_keras.closed_form.items import Items
from rdrop_keras.closed_form.softmax import Softmax
from rdrop_keras.divergences.base import consistency_dtype

ops = keras.ops

# Replaces -inf among the logits. In float32, subtracting a normalizer does not
# change this number, so a forbidden class does not differ between passes.
FORBIDDEN = -1e30


class Sums(NamedTuple):
    """Sums over the items of a batch.

    Attributes:
        task: Weighted crossentropy, averaged over the passes.
        consistency: Weighted divergence.
        nll: Crossentropy of the first pass, neither smoothed nor weighted.
        correct: The number of items whose label is the most probable class of
            the first pass.
    """

    task: Any
    consistency: Any
    nll: Any
    correct: Any


class Head(NamedTuple):
    """A vocabulary head and the settings of its objective.

    Attributes:
        kernel: `(width, vocabulary)`.
        columns: The kernel as it was given, `(vocabulary, width)` if it was
            given transposed.
        transposed: Whether the kernel was given transposed.
        bias: `(vocabulary,)` or None.
        alpha: Weight of the consistency.
        label_smoothing: As in `LabelSmoothedCrossentropy`.
        stop_gradient: As in `RDrop`.
        chunk_size: The number of items in a chunk.
    """

    kernel: Any
    columns: Any
    transposed: bool
    bias: Any
    alpha: Any
    label_smoothing: float
    stop_gradient: bool
    chunk_size: int

    @classmethod
    def of(
        cls, kernel: Any, bias: Any, transposed: bool, dtype: Any, **settings
    ) -> Head:
        """Returns a head that computes matrix products in a dtype."""
        columns = ops.cast(kernel, dtype)
        # A second copy costs less than transposing for every chunk.
        kernel = ops.transpose(columns) if transposed else columns
        if bias is not None:
            bias = ops.cast(bias, consistency_dtype())
            bias = ops.maximum(bias, FORBIDDEN)
        return cls(kernel, columns, transposed, bias, **settings)

    def sums(self, hidden: Any, items: Items) -> Sums:
        """Returns the sums for hidden states `(passes, padded, width)`."""

        def add(index, *sums):
            chunk = _Chunk.of(self, hidden, items, index)
            sums = [a + b for a, b in zip(sums, chunk.sums())]
            return next_turn(index, sums[0]), *sums

        _, *sums = self._for_each_chunk(
            items, add, zero_scalars(len(Sums._fields))
        )
        return Sums(*sums)

    def sums_and_gradients(
        self, hidden: Any, items: Items
    ) -> tuple[Sums, tuple[Any, Any, Any]]:
        """Returns the sums, and the gradients of `task + alpha / m * C`.

        The gradients are with respect to the hidden states, the kernel and the
        bias. Each chunk overwrites the hidden states that it has read with
        their gradient. Positions that no chunk reads still hold hidden states.
        """
        dtype = consistency_dtype()
        of_kernel = ops.zeros(ops.shape(self.columns), dtype)
        of_bias = ops.zeros((self.kernel.shape[-1],), dtype)

        def add(index, states, of_kernel, of_bias, *sums):
            chunk = _Chunk.of(self, states, items, index)
            sums = [a + b for a, b in zip(sums, chunk.sums())]
            by_logits = chunk.by_logits()
            if self.bias is not None:
                of_bias = of_bias + ops.sum(by_logits, axis=0)
            by_logits = ops.cast(by_logits, states.dtype)
            if self.transposed:
                by_hidden = ops.matmul(by_logits, self.columns)
                by_kernel = ops.einsum("nv,nd->vd", by_logits, chunk.hidden)
            else:
                by_hidden = ops.einsum("nv,dv->nd", by_logits, self.columns)
                by_kernel = ops.einsum("nd,nv->dv", chunk.hidden, by_logits)
            of_kernel = of_kernel + ops.cast(by_kernel, dtype)
            states = chunk.replace(states, by_hidden)
            index = next_turn(index, of_kernel[0, 0])
            return index, states, of_kernel, of_bias, *sums

        start = [hidden, of_kernel, of_bias, *zero_scalars(len(Sums._fields))]
        _, *results = self._for_each_chunk(items, add, start)
        return Sums(*results[3:]), tuple(results[:3])

    def _for_each_chunk(self, items, add, start):
        chunks = -(-items.count // self.chunk_size)
        return ops.while_loop(
            lambda index, *_: index < chunks,
            add,
            (ops.zeros((), "int32"), *start),
        )


class _Chunk(NamedTuple):
    """The arrays of one chunk of items."""

    head: Head
    start: Any
    hidden: Any
    labels: Any
    weights: Any
    counted: Any
    passes: list[Softmax]
    pairs: Any

    @classmethod
    def of(cls, head, states, items, index):
        passes, _, width = states.shape
        size = head.chunk_size
        start = index * size
        hidden = ops.slice(states, (0, start, 0), (passes, size, width))
        hidden = ops.reshape(hidden, (passes * size, width))
        logits = ops.cast(ops.matmul(hidden, head.kernel), consistency_dtype())
        if head.bias is not None:
            logits = logits + head.bias
        logits = ops.reshape(logits, (passes, size, logits.shape[-1]))
        found = [Softmax.of(z) for z in ops.unstack(logits, passes)]
        return cls(
            head,
            start,
            hidden,
            ops.slice(items.labels, (start,), (size,)),
            ops.slice(items.weights, (start,), (size,)),
            start + ops.arange(size, dtype="int32") < items.count,
            found,
            compare(found, infinite=False),
        )

    def sums(self):
        task = sum(
            each.crossentropy(self.labels, self.head.label_smoothing)
            for each in self.passes
        ) / len(self.passes)
        first = self.passes[0]
        nll = first.crossentropy(self.labels)
        right = ops.logical_and(
            first.is_most_probable(self.labels), self.counted
        )
        return Sums(
            ops.sum(self.weights * task),
            ops.sum(self.weights * self.pairs.value()),
            ops.sum(ops.where(self.counted, nll, 0.0)),
            ops.sum(ops.cast(right, consistency_dtype())),
        )

    def by_logits(self):
        """Returns the gradient of the logits, `(passes * size, vocabulary)`."""
        of_task = ops.expand_dims(self.weights, -1) / len(self.passes)
        found = gradients(
            self.passes,
            self.pairs,
            [of_task] * len(self.passes),
            of_task * self.head.alpha,
            self.labels,
            self.head.label_smoothing,
            stop_gradient=self.head.stop_gradient,
        )
        return ops.concatenate(found, axis=0)

    def replace(self, states, by_hidden):
        """Returns the states with the gradient in place of this chunk."""
        passes, _, width = states.shape
        update = ops.reshape(by_hidden, (passes, -1, width))
        return ops.slice_update(states, (0, self.start, 0), update)


def zero_scalars(count: int) -> list[Any]:
    """Returns the initial values of sums."""
    return [ops.zeros((), consistency_dtype()) for _ in range(count)]


def next_turn(index: Any, done: Any) -> Any:
    """Returns the index of the next chunk, which depends on this chunk.

    TensorFlow runs up to ten iterations of a loop in parallel, each with
    logits of its own. The dependency makes the next chunk wait for this one.

    Args:
        index: The index of this chunk.
        done: A scalar that is computed from this chunk.
    """
    # No number is both NaN and infinite, but TensorFlow does not simplify this.
    never = ops.logical_and(ops.isnan(done), ops.isinf(done))
    return index + 1 + ops.cast(never, "int32")
