"""Peak memory and time of an adaptive softmax's loss and gradients.

    python -m benchmarks.adaptive --output results

The inputs are the hidden states of two passes and a
`rdrop_keras.layers.AdaptiveSoftmax`; the outputs are the loss and its gradients
with respect to states and weights. The arms are chunks (`adaptive_rdrop_loss`);
the closed form over the log-probabilities of all words; and Keras's
crossentropy with this library's divergence over the same log-probabilities.

Each measurement runs in a fresh process, which first loads libraries, inputs
and weights. It measures the peak of resident memory above that level during two
steps, of which the first traces, and the time of the second step. The arms take
turns.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from benchmarks.harness import in_fresh_process
from benchmarks.harness import parse
from benchmarks.harness import parser_of
from benchmarks.harness import seconds_of
from benchmarks.peak import peak_above
from benchmarks.report import Report
from rdrop_keras.layers import AdaptiveSoftmax
from rdrop_keras.losses import CategoricalConsistency
from rdrop_keras.losses import adaptive_rdrop_loss
from rdrop_keras.losses import fused_rdrop_loss
from rdrop_keras.losses import rdrop_loss

CHUNKED = "chunked"
FUSED = "closed form of all words"
APART = "terms apart, of all words"
ARMS = (CHUNKED, FUSED, APART)
ALPHA = 1.0


@dataclasses.dataclass(frozen=True)
class Case:
    """The sizes of an adaptive softmax.

    Attributes:
        tokens: The number of tokens of one pass.
        vocabulary: The number of words.
        cutoffs: The first ids of the clusters.
        width: The size of a hidden state.
    """

    tokens: int
    vocabulary: int
    cutoffs: tuple[int, ...]
    width: int

    def __str__(self) -> str:
        cutoffs = ", ".join(f"{cutoff:,}" for cutoff in self.cutoffs)
        return (
            f"2 x {self.tokens:,} tokens, {self.vocabulary:,} words, cutoffs "
            f"{cutoffs}, width {self.width}"
        )


def step_of(case: Case, arm: str) -> Callable[[], float]:
    """Returns a function that computes the loss and its gradients."""
    random = np.random.default_rng(0)
    # The seed gives the same weights in every process.
    keras.utils.set_random_seed(0)
    layer = AdaptiveSoftmax(case.vocabulary, case.cutoffs)
    layer.build((None, case.width))
    one = random.standard_normal((case.tokens, case.width), "float32")
    other = one + np.float32(0.3) * random.standard_normal(one.shape, "float32")
    # Zipf's law, as in real text: most labels are in the head.
    labels = tf.constant(
        np.minimum(random.zipf(1.3, case.tokens), case.vocabulary) - 1
    )
    hidden = [tf.constant(one), tf.constant(other)]

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            tape.watch(hidden)
            loss = _loss(arm, labels, hidden, layer)
        weights = [variable.value for variable in layer.trainable_variables]
        return loss, tape.gradient(loss, [*hidden, *weights])

    def run():
        loss, gradients = step()
        # Reading one number of each gradient waits for its computation.
        for gradient in gradients:
            float(tf.reshape(gradient, [-1])[0])
        return float(loss)

    return run


def measure(case: Case, arm: str) -> tuple[int, float, float]:
    """Returns the peak in bytes, the seconds and the loss."""
    # A tiny step loads libraries, threads and code before the measurement.
    step_of(Case(4, 16, (8,), 8), arm)()
    step = step_of(case, arm)
    results: list[float] = []

    def two_steps():
        results.append(step())
        results.append(seconds_of(step))

    return peak_above(two_steps), results[1], results[0]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints two tables, writes JSON and plots."""
    parser = parser_of(__doc__, repeats=3, jit=None)
    add = parser.add_argument
    add("--tokens", type=int, default=1024, help="of one pass")
    add("--vocabulary", type=int, default=60_000, help="words")
    add("--cutoffs", type=int, nargs="+", default=[5000, 15_000])
    add("--width", type=int, default=256, help="of hidden states")
    flags = parse(
        parser,
        arguments,
        {
            "repeats": 1,
            "tokens": 16,
            "vocabulary": 64,
            "cutoffs": [8, 20],
            "width": 16,
        },
    )
    case = Case(
        flags.tokens, flags.vocabulary, tuple(flags.cutoffs), flags.width
    )
    peaks, seconds = _in_turns(case, flags.repeats)
    for name, title, unit, values in (
        ("adaptive", "peak memory", "bytes", peaks),
        ("adaptive_time", "time of loss and gradients", "seconds", seconds),
    ):
        report = Report(name, title, unit, _named(flags, name))
        report.add(str(case), False, FUSED, values)
        report.finish()


def _in_turns(
    case: Case, repeats: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    peaks: dict[str, list[float]] = {arm: [] for arm in ARMS}
    seconds: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for _ in range(repeats):
        losses = []
        for arm in ARMS:
            peak, time, loss = in_fresh_process(measure, case, arm)
            peaks[arm].append(peak)
            seconds[arm].append(time)
            losses.append(loss)
        # All arms must compute the same loss.
        np.testing.assert_allclose(losses, losses[0], rtol=1e-4)
    return peaks, seconds


def _named(flags: argparse.Namespace, name: str) -> argparse.Namespace:
    if flags.output is None or flags.output.suffix != ".json":
        return flags
    output = flags.output.with_name(f"{flags.output.stem}_{name}.json")
    return argparse.Namespace(**{**vars(flags), "output": output})


def _loss(arm, labels, hidden, layer):
    if arm == CHUNKED:
        return adaptive_rdrop_loss(labels, hidden, layer, ALPHA).loss
    logs = [layer(h, training=True) for h in hidden]
    if arm == FUSED:
        return fused_rdrop_loss(labels, logs, ALPHA).loss
    task_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    categorical = CategoricalConsistency(from_logits=True)
    task_losses = [task_loss(labels, log_p) for log_p in logs]
    return rdrop_loss(task_losses, logs, ALPHA, categorical)


if __name__ == "__main__":
    main()
