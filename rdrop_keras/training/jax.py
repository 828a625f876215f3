"""The training step on JAX: Keras's own step with R-Drop's objective."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import keras
import numpy as np
from jax.experimental import multihost_utils

from rdrop_keras import _keras
from rdrop_keras.closed_form import xla
from rdrop_keras.objective.result import Objective
from rdrop_keras.training.first_batch import look
from rdrop_keras.training.in_place import after_epoch
from rdrop_keras.training.metrics import Trackers
from rdrop_keras.training.metrics import report
from rdrop_keras.training.step import compute_objective
from rdrop_keras.training.step import compute_plain_objective

__all__ = [
    "after_epoch",
    "aside",
    "check_first_batch",
    "running_passes",
    "test_step",
    "train_step",
    "writes",
]


ops = keras.ops


class Step(NamedTuple):
    """The objective and outputs of one batch.

    Attributes:
        objective: The `Objective`.
        y_pred: The outputs of the first pass.
        masks: The masks of the outputs. A tensor that leaves a differentiated
            function is another one, without its mask.
        state: The new values of all variables but the trainable ones.
    """

    objective: Objective
    y_pred: Any
    masks: list[Any]
    state: tuple[list[Any], ...]


def train_step(
    model: Any, state: tuple, data: Any, trackers: Trackers
) -> tuple[dict[str, Any], tuple]:
    """Takes one optimizer step on one batch.

    Args:
        model: A compiled `RDropMixin` model.
        state: The values of its trainable and non-trainable variables, and of
            those of its optimizer and its metrics.
        data: A batch, in the form that `fit` passes to `train_step`.
        trackers: The metrics that average the loss and its parts.

    Returns:
        The logs, the model's own and the trackers', and the new state.
    """
    batch = keras.utils.unpack_x_y_sample_weight(data)
    trainable, *others = state

    def differentiated(compute):
        def loss_of(trainable):
            with (
                _scope(_variables(model), (trainable, *others)) as scope,
                xla.compiling(model.jit_compile and not model.run_eagerly),
            ):
                objective, y_pred = compute(model, *batch)
                loss = model.optimizer.scale_loss(objective.loss)
                masks = list(map(_keras.mask_of, keras.tree.flatten(y_pred)))
                new = _values(scope, _variables(model)[1:])
            # The comparisons are not needed any more.
            consistency = objective.consistency._replace(compared=())
            objective = objective._replace(consistency=consistency)
            return loss, Step(objective, y_pred, masks, new)

        return lambda: jax.grad(loss_of, has_aux=True)(trainable)

    every = model.rdrop.every
    with _scope([model.optimizer.variables], [others[1]]):
        iterations = ops.convert_to_tensor(model.optimizer.iterations)
        turn = iterations % every == 0
        alpha = model.rdrop.scheduled_alpha(model.optimizer.iterations)
    with_rdrop = differentiated(compute_objective)
    plain = differentiated(compute_plain_objective)
    if every == 1:
        gradients, step = with_rdrop()
    elif isinstance(turn, jax.core.Tracer):
        # Each branch computes its own gradients, so that a plain step takes
        # the time and memory of one pass.
        gradients, step = jax.lax.cond(turn, with_rdrop, plain)
    else:
        # Eagerly, where `lax.cond` would compile both branches in every step.
        gradients, step = with_rdrop() if turn else plain()
    non_trainable, of_optimizer, of_metrics = step.state
    trainable, of_optimizer = model.optimizer.stateless_apply(
        of_optimizer, gradients, trainable
    )
    for leaf, mask in zip(keras.tree.flatten(step.y_pred), step.masks):
        _keras.carry_mask(leaf, mask)
    with _scope([model.metrics_variables], [of_metrics]) as scope:
        logs = report(
            model,
            trackers,
            step.objective,
            step.y_pred,
            batch,
            _rows(batch[0]),
            alpha,
        )
    (of_metrics,) = _values(scope, [model.metrics_variables])
    return logs, (trainable, non_trainable, of_optimizer, of_metrics)


def test_step(
    model: Any, update: Callable[[Any], dict[str, Any]], state: tuple, data: Any
) -> tuple[dict[str, Any], tuple]:
    """Runs a function of a batch as a step of `evaluate`.

    Args:
        model: The model that `evaluate` runs on.
        update: A function that updates the metrics on a batch, and returns
            the logs.
        state: The values of the model's trainable and non-trainable variables
            and of its metrics.
        data: A batch, in the form that `evaluate` passes to `test_step`.

    Returns:
        The logs and the new state.
    """
    trainable, non_trainable, _, of_metrics = _variables(model)
    variables = (trainable, non_trainable, of_metrics)
    with _scope(variables, state) as scope:
        logs = update(data)
    return logs, _values(scope, variables)


def check_first_batch(
    model: Any,
    train_function: Callable[..., Any],
    trackers: Trackers,
    done: Callable[[], None],
) -> Callable[..., Any]:
    """Wraps a training function so that it checks the first batch.

    Args:
        model: A compiled `RDropMixin` model.
        train_function: The function that Keras calls for each step.
        trackers: The metrics that the steps update.
        done: A function to call when a batch has passed the checks.
    """

    def first_call(state: tuple, iterator: Iterator[Any]):
        # `fit` has taken the values out of the variables.
        for variable, value in _pairs(_variables(model), state):
            variable.assign(value)
        try:
            data = next(iterator)
            found = look(model, _same_rows_everywhere(data))
            trackers.prepare(found.outputs)
            function = train_function
            if found.decided:
                done()
                # Anew, since the trackers of several outputs join its state.
                model.make_train_function(force=True)
                function = model.train_function
                # An earlier `evaluate` compiled it for fewer variables.
                model.test_function = None
            state = tuple([v.value for v in g] for g in _variables(model))
            # No further batches: a generator might have side effects.
            return function(state, itertools.chain([data], iterator))
        except BaseException:
            # The variables have their values: the state that `fit` would
            # restore is that of an earlier call.
            _keras.keep_variables(model)
            raise

    return first_call


def running_passes(model: Any) -> contextlib.AbstractContextManager:
    """Returns a context in which the passes of a batch run."""
    return contextlib.nullcontext()


def aside(function: Callable[[], None]) -> None:
    """Calls a function without adding to the program that is being traced."""
    # What it computes has no effect on the results of the program, so that
    # `jax.jit` leaves it out.
    function()


def writes(model: Any) -> bool:
    """Returns whether this process writes files: of several, the first."""
    return jax.process_index() == 0


def _same_rows_everywhere(data: Any) -> Any:
    """Returns rows of a batch whose values every process can read.

    A process cannot read rows on the devices of another process. All processes
    must decide alike, because one that goes on alone would wait for the others
    forever. So all of them check the rows of the first device.
    """
    if jax.process_count() == 1:
        return data
    rows = jax.tree.map(lambda leaf: leaf.addressable_data(0), data)
    return jax.tree.map(
        np.asarray,
        multihost_utils.broadcast_one_to_all(jax.tree.map(np.asarray, rows)),
    )


def _variables(model: Any) -> tuple[list[keras.Variable], ...]:
    optimizer = model.optimizer
    return (
        model.trainable_variables,
        model.non_trainable_variables,
        [] if optimizer is None else optimizer.variables,
        model.metrics_variables,
    )


def _pairs(
    variables: Sequence[Sequence[keras.Variable]],
    values: Sequence[Sequence[Any]],
) -> Iterator[tuple[keras.Variable, Any]]:
    for group in zip(variables, values):
        yield from zip(*group)


def _scope(
    variables: Sequence[Sequence[keras.Variable]],
    values: Sequence[Sequence[Any]],
) -> keras.StatelessScope:
    pairs = list(_pairs(variables, values))
    return keras.StatelessScope(pairs, collect_losses=True)


def _values(
    scope: keras.StatelessScope, variables: Sequence[Sequence[keras.Variable]]
) -> tuple[list[Any], ...]:
    return tuple(
        [scope.get_current_value(variable) for variable in group]
        for group in variables
    )


def _rows(x: Any) -> int:
    leaves = keras.tree.flatten(x)
    return next(leaf for leaf in leaves if leaf is not None).shape[0]
