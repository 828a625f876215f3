"""The weights of an adaptive softmax, and its log-probabilities."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import keras

from rdrop_keras.divergences.base import consistency_dtype

ops = keras.ops


class AdaptiveWeights(NamedTuple):
    """The weights of an adaptive softmax.

    The head is a softmax over the most frequent words, its shortlist, and one
    class for each cluster of other words. Each cluster has its own softmax
    over hidden states that are projected to a smaller width. The word ids of
    the shortlist come first, then those of each cluster.

    Attributes:
        kernel: The kernel of the head, `(width, shortlist + clusters)`.
        bias: The bias of the head, `(shortlist + clusters,)`, or None. `-inf`
            forbids a word or a cluster.
        projections: The projection of each cluster,
            `(width, cluster's width)`.
        kernels: The kernel of each cluster,
            `(cluster's width, cluster's words)`.
    """

    kernel: Any
    bias: Any
    projections: Sequence[Any]
    kernels: Sequence[Any]

    @property
    def cutoffs(self) -> list[int]:
        """The id of each cluster's first word, then the vocabulary size."""
        found = [self.kernel.shape[-1] - len(self.kernels)]
        for kernel in self.kernels:
            found.append(found[-1] + kernel.shape[-1])
        return found

    def check(self, width: int | None) -> None:
        """Raises unless the weights fit each other and a hidden width."""
        shapes = [
            [tuple(weight.shape) for weight in weights]
            for weights in ([self.kernel], self.projections, self.kernels)
        ]
        (head,), projections, kernels = shapes
        clusters = len(kernels)
        fit = (
            clusters > 0
            and len(projections) == clusters
            and all(len(shape) == 2 for group in shapes for shape in group)
            and {shape[0] for shape in (head, *projections)} == {width}
            and all(a[1] == b[0] for a, b in zip(projections, kernels))
            and head[1] > clusters
        )
        if fit and self.bias is not None:
            fit = tuple(self.bias.shape) == head[1:]
        if not fit:
            bias = None if self.bias is None else tuple(self.bias.shape)
            raise ValueError(
                "Expected the weights of an adaptive softmax for hidden states "
                "(..., width): a kernel (width, shortlist + clusters), a bias "
                "(shortlist + clusters,) or None, and for each of one or more "
                "clusters a projection (width, cluster's width) and a kernel "
                f"(cluster's width, cluster's words). Received: width={width}, "
                f"kernel={head}, bias={bias}, projections={projections}, "
                f"kernels={kernels}. Transpose kernels that come from "
                "PyTorch."
            )

    def project(
        self, hidden: Any, drop: Callable[[Any], Any] | None = None
    ) -> list[Any]:
        """Returns the inputs of all softmaxes, that of the head first.

        Args:
            hidden: `(..., width)`. Products are computed in its dtype.
            drop: Optional dropout of the input of each cluster.
        """
        states = [hidden]
        for projection in self.projections:
            state = ops.matmul(hidden, ops.cast(projection, hidden.dtype))
            states.append(state if drop is None else drop(state))
        return states

    def log_probabilities(self, states: Sequence[Any]) -> Any:
        """Returns the log-probabilities of all words, `(..., vocabulary)`.

        Args:
            states: The result of `project`.
        """
        logits = [
            ops.cast(
                ops.matmul(state, ops.cast(kernel, state.dtype)),
                consistency_dtype(),
            )
            for state, kernel in zip(states, [self.kernel, *self.kernels])
        ]
        if self.bias is not None:
            logits[0] = logits[0] + ops.cast(self.bias, logits[0].dtype)
        head, *tails = (ops.log_softmax(z) for z in logits)
        shortlist = self.cutoffs[0]
        found = [head[..., :shortlist]]
        for place, tail in enumerate(tails, shortlist):
            found.append(head[..., place : place + 1] + tail)
        return ops.concatenate(found, axis=-1)
