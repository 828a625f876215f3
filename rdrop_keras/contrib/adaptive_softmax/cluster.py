"""The part of one cluster in the objective and in its gradient."""

from __future__ import annotations

from typing import Any
from typing import NamedTuple

import keras

from rdrop_keras.closed_form.derivatives import Pairs
from rdrop_keras.closed_form.derivatives import compare
from rdrop_keras.closed_form.derivatives import subtract_at
from rdrop_keras.closed_form.softmax import Softmax

ops = keras.ops


class Cluster(NamedTuple):
    """The distribution over the words of one cluster, in all passes.

    By the chain rule of the KL divergence, the divergence between two passes
    over all words is that between their heads plus `P_i KL(q_i || q_j)` for
    every cluster. `P_i` is the probability of the cluster in the head of pass
    i, and `q_i` is the softmax within the cluster.

    With `w_i = P_i q_i` and `u_i = log q_i - mean log q` the mean over all
    ordered pairs of m passes is `D = sum_i <w_i - mean w, u_i> / (m - 1)`.

    Attributes:
        passes: The `q_i`, `(items, words)` each.
        priors: The `P_i`, `(items, 1)` each.
        joint: The `w_i`, `(items, words)` each.
        pairs: The differences of the `w_i` and `log q_i` from their means.
        labels: The positions of the labels within the cluster. Labels of other
            clusters have an arbitrary valid position.
        inside: 1 where the label is in the cluster, 0 elsewhere, `(items,)`.
    """

    passes: list[Softmax]
    priors: list[Any]
    joint: list[Any]
    pairs: Pairs
    labels: Any
    inside: Any

    @classmethod
    def of(
        cls, logits: list[Any], priors: list[Any], start: int, labels: Any
    ) -> Cluster:
        """Returns the cluster whose word ids begin at a start.

        Args:
            logits: The logits of each pass, `(items, words)`.
            priors: The probability of the cluster in each pass, `(items, 1)`.
            start: The id of its first word.
            labels: Class ids, `(items,)`.
        """
        words = logits[0].shape[-1]
        passes = [Softmax.of(z) for z in logits]
        joint = [
            prior * each.probabilities for prior, each in zip(priors, passes)
        ]
        inside = ops.logical_and(labels >= start, labels < start + words)
        return cls(
            passes,
            priors,
            joint,
            compare(passes, joint, infinite=False),
            ops.clip(labels - start, 0, words - 1),
            ops.cast(inside, logits[0].dtype),
        )

    def crossentropies(self) -> list[Any]:
        """Returns the part of the cluster in each crossentropy, `(items,)`."""
        return [
            self.inside * each.crossentropy(self.labels) for each in self.passes
        ]

    def by_priors(self, of_pairs: Any) -> list[Any]:
        """Returns the derivatives of D with respect to the `P_i`, `(items, 1)`.

        They are `<q_i, u_i> / (m - 1)`.

        Args:
            of_pairs: The derivative with respect to D, `(items, 1)`.
        """
        scaled = self.pairs.scaled(of_pairs / (len(self.passes) - 1))
        results = []
        for each, (_, _, log_gap, minus) in zip(self.passes, scaled):
            inner = ops.sum(
                each.probabilities * log_gap, axis=-1, keepdims=True
            )
            results.append(-inner if minus else inner)
        return results

    def by_logits(
        self,
        of_task: Any,
        of_pairs: Any,
        by_priors: list[Any],
        stop_gradient: bool,
    ) -> list[Any]:
        """Returns the gradient with respect to the logits of each pass.

        That of D is `(w_i (u_i - <q_i, u_i>) + q_i mean P - mean w)/(m - 1)`.
        The first term comes from `w_i`, the others come from `u_i`.

        Args:
            of_task: The derivative with respect to the crossentropy of one
                pass, `(items, 1)`.
            of_pairs: The derivative with respect to D, `(items, 1)`.
            by_priors: The result of the method `by_priors`.
            stop_gradient: Whether the first argument of every KL term is
                constant, which drops the first term.
        """
        of_task = of_task * ops.expand_dims(self.inside, -1)
        of_pairs = of_pairs / (len(self.passes) - 1)
        scaled = self.pairs.scaled(of_pairs)
        mean = sum(self.priors) / len(self.priors)
        results = []
        for each, w, prior, inner, (_, gap, log_gap, minus) in zip(
            self.passes, self.joint, self.priors, by_priors, scaled
        ):
            # `q mean P - mean w` is `(w - mean w) - q (P - mean P)`.
            found = each.probabilities * (of_task - of_pairs * (prior - mean))
            found = found - gap if minus else found + gap
            if not stop_gradient:
                slope = log_gap + inner if minus else log_gap - inner
                found = found - w * slope if minus else found + w * slope
            results.append(subtract_at(found, self.labels, of_task))
        return results
