"""What a training step on several replicas of `tf.distribute` needs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from rdrop_keras import _keras
from rdrop_keras.distribution.statistics import average_statistics
from rdrop_keras.objective.result import Objective
from rdrop_keras.training.metrics import Trackers
from rdrop_keras.training.metrics import own_logs

# 2**32 divided by the golden ratio: seeds that users choose, which are often
# consecutive, do not meet those of another replica.
_APART = 2654435769


def check_supported(model: Any) -> None:
    """Raises for what Keras cannot do on several replicas.

    Keras itself fails in the middle of the first step, by an error that names
    neither the setting nor the strategy.
    """
    strategy = model.distribute_strategy
    if strategy.num_replicas_in_sync == 1:
        return
    where = (
        f"{type(strategy).__name__} with {strategy.num_replicas_in_sync} "
        "replicas"
    )
    steps = getattr(model.optimizer, "gradient_accumulation_steps", None)
    if steps:
        raise ValueError(
            "Expected an optimizer without gradient accumulation on several "
            f"replicas. Received: gradient_accumulation_steps={steps} and "
            f"{where}, which Keras cannot train a plain model with either. "
            "Use a larger batch: it is divided among the replicas."
        )
    if getattr(model.optimizer, "ema_overwrite_frequency", None):
        raise ValueError(
            "Expected `ema_overwrite_frequency=None` on several replicas. "
            "Received: ema_overwrite_frequency="
            f"{model.optimizer.ema_overwrite_frequency} and {where}, which "
            "Keras cannot train a plain model with either. Without it the "
            "moving average replaces the weights when `fit` ends."
        )
    if model.jit_compile and len(strategy.extended.worker_devices) > 1:
        raise ValueError(
            "Expected `jit_compile=False` on several devices. Received: "
            f"jit_compile=True and {where}, which Keras cannot train a plain "
            "model with either: XLA compiles a step for one device. Compile "
            "with `jit_compile=False`."
        )
    if model.steps_per_execution > 1 and not model.run_eagerly:
        raise ValueError(
            "Expected `steps_per_execution=1` on several replicas. Received: "
            f"steps_per_execution={model.steps_per_execution} and {where}, "
            "which Keras cannot train a plain model with either. Compile with "
            "`steps_per_execution=1`."
        )


@contextlib.contextmanager
def own_masks(model: Any) -> Iterator[None]:
    """Gives each replica dropout masks of its own while a step runs.

    Every replica has a copy of each seed generator's state, and Keras keeps
    the copies equal, so that all replicas would draw the same masks. During
    the step the seed of each copy is shifted by a number that depends on the
    replica. Between steps the copies are equal, with the values that they
    have on one device, and files and backups need not know of replicas.

    Args:
        model: The model that the step trains, in the replica's context.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        yield
        return
    states = [
        variable.value
        for variable in model.variables
        if _keras.is_seed_state(variable)
        and isinstance(variable.value, tf.distribute.DistributedValues)
    ]
    replica = tf.cast(context.replica_id_in_sync_group, tf.int64)
    shift = tf.stack([replica * _APART, tf.zeros_like(replica)])
    for state in states:
        state.assign_add(tf.cast(shift, state.dtype))
    try:
        yield
    finally:
        for state in states:
            state.assign_sub(tf.cast(shift, state.dtype))


def over_replicas(objective: Objective) -> Objective:
    """Undoes the division by replicas in Keras's losses.

    Keras divides losses by the number of replicas, because it sums gradients
    over replicas. Reported values must not be divided.
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if replicas == 1:
        return objective
    consistency = objective.consistency
    return objective._replace(
        loss=objective.loss * replicas,
        task_loss=objective.task_loss * replicas,
        consistency=consistency._replace(
            value=consistency.value * replicas,
            by_output={
                name: value * replicas
                for name, value in consistency.by_output.items()
            },
        ),
    )


def after_epoch(
    model: Any, trackers: Trackers, logs: dict[str, Any]
) -> dict[str, Any]:
    """Returns the logs of an epoch, aggregated over all replicas.

    The logs of a step are the mean of the results that each replica has so
    far. The result of a metric, read outside of replicas, is that of all rows.

    Args:
        model: A compiled `RDropMixin` model.
        trackers: Its trackers.
        logs: The logs of the last step of the epoch.
    """
    strategy = model.distribute_strategy
    if strategy.num_replicas_in_sync == 1:
        return logs
    if has_several_workers(strategy):
        average_statistics(model)
    tokens = model.rdrop.vocabulary_chunk is not None
    # Compiled metrics may have results of an evaluation that no step reported.
    own = {k: v for k, v in own_logs(model).items() if k in logs}
    alpha = model.rdrop.scheduled_alpha(model.optimizer.iterations - 1)
    found = trackers.result(own, alpha, tokens)
    return {name: found.get(name, value) for name, value in logs.items()}


def writes(model: Any) -> bool:
    """Returns whether this process writes files: of several, the chief."""
    return model.distribute_strategy.extended.should_checkpoint


def has_several_workers(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether a strategy has replicas in other processes."""
    replicas = strategy.num_replicas_in_sync
    return replicas > 1 and replicas > len(strategy.extended.worker_devices)


def on_any_worker(strategy: tf.distribute.Strategy, flag: bool) -> bool:
    """Returns whether a flag is set on any worker. All workers must call it."""
    if not has_several_workers(strategy):
        return flag
    flags = strategy.run(lambda: tf.constant(float(flag)))
    total = strategy.reduce(tf.distribute.ReduceOp.SUM, flags, axis=None)
    return float(total) > 0
