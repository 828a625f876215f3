"""A training step with R-Drop on the current Keras backend.

    KERAS_BACKEND=jax python -m benchmarks.backends --output results

The arms are a plain Keras step; a plain step on the batch repeated twice, the
paper's reference for the cost of R-Drop; this library's step with two calls and
with one; and, on PyTorch, the formula of the paper's authors written by hand
for the same Keras model. All arms but the last are calls of `train_on_batch`,
with the backend's default of `jit_compile`. The arms take turns, step by step
in one process. Compilation is not timed.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from benchmarks.arms import ALPHA
from benchmarks.arms import DOUBLED
from benchmarks.arms import PLAIN
from benchmarks.arms import RATE
from benchmarks.arms import SEED
from benchmarks.arms import TORCH
from benchmarks.arms import Step
from benchmarks.harness import parse
from benchmarks.harness import parser_of
from benchmarks.harness import take_turns
from benchmarks.models import CASES
from benchmarks.models import Case
from benchmarks.models import case_of
from benchmarks.objectives import crossentropy
from benchmarks.objectives import torch_authors
from benchmarks.report import Report
from rdrop_keras import RDrop

RDROP = {
    "R-Drop": RDrop(ALPHA),
    "R-Drop, concat": RDrop(ALPHA, passes="concat"),
}
QUICK = {"repeats": 2, "models": ["cnn"]}


def step_of(case: Case, arm: str) -> Step:
    """Returns a function that takes one training step and returns the loss."""
    keras.utils.set_random_seed(SEED)
    model = case.build() if arm in RDROP else case.plain()
    if arm == TORCH:
        return authors_step(case, model)
    settings = {"rdrop": RDROP[arm]} if arm in RDROP else {}
    model.compile(keras.optimizers.SGD(RATE), crossentropy(0.0), **settings)
    x, y = case.x, case.y
    if arm == DOUBLED:
        x, y = keras.tree.map_structure(
            lambda t: np.concatenate([t, t]), (x, y)
        )
    x, y = keras.tree.map_structure(keras.ops.convert_to_tensor, (x, y))
    return lambda: float(model.train_on_batch(x, y, return_dict=True)["loss"])


def authors_step(case: Case, model: keras.Model) -> Step:
    """Returns a step of the authors' formula, written in PyTorch."""
    import torch

    objective = torch_authors()
    parameters = [w.value for w in model.trainable_weights]
    optimizer = torch.optim.SGD(parameters, lr=RATE)
    both = keras.tree.map_structure(
        lambda t: keras.ops.convert_to_tensor(np.concatenate([t, t])), case.x
    )
    y = torch.from_numpy(case.y).long()

    def step():
        optimizer.zero_grad()
        loss = objective(y, model(both, training=True).chunk(2), ALPHA, 0.0)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints a table, writes JSON and a plot."""
    parser = parser_of(__doc__, repeats=20)
    parser.add_argument(
        "--models", nargs="+", choices=list(CASES), default=list(CASES)
    )
    flags = parse(parser, arguments, QUICK)
    backend = keras.backend.backend()
    title = f"time of a training step on {backend}"
    report = Report(f"backends_{backend}", title, "seconds", flags)
    arms = [PLAIN, DOUBLED, *RDROP]
    if backend == "torch":
        arms.append(TORCH)
    for name in flags.models:
        keras.utils.clear_session()
        case = case_of(name, flags.quick)
        steps = {arm: step_of(case, arm) for arm in arms}
        losses = {arm: step() for arm, step in steps.items()}
        seconds = take_turns(steps, flags.repeats)
        facts = {arm: {"first_loss": loss} for arm, loss in losses.items()}
        report.add(name, backend == "jax", DOUBLED, seconds, facts)
    report.finish()


if __name__ == "__main__":
    main()
