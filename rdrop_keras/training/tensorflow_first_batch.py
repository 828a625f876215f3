"""A training function for TensorFlow that checks the first batch."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from rdrop_keras.training.first_batch import Look
from rdrop_keras.training.first_batch import look
from rdrop_keras.training.metrics import Trackers
from rdrop_keras.training.tensorflow_replicas import check_supported
from rdrop_keras.training.tensorflow_replicas import on_any_worker


def check_first_batch(
    model: Any,
    train_function: Callable[[Any], Any],
    trackers: Trackers,
    done: Callable[[], None],
) -> Callable[[Any], Any]:
    """Wraps a training function so that it checks the first batch.

    Args:
        model: A compiled `RDropMixin` model.
        train_function: The function that Keras calls for each step.
        trackers: The metrics that the steps update.
        done: A function to call when a batch has passed the checks.
    """
    check_supported(model)
    strategy = model.distribute_strategy

    def first_call(iterator):
        data = next(iterator)
        looks: list[Look] = []
        errors: list[Exception] = []

        @tf.autograph.experimental.do_not_convert
        def look_at(data):
            try:
                given = keras.tree.map_structure(_given, data)
                looks.append(look(model, given))
            except Exception as error:
                errors.append(error)

        # TPUs run compiled functions only.
        if isinstance(strategy, tf.distribute.TPUStrategy):
            done()
        else:
            strategy.run(look_at, args=(data,))
            _raise_together(strategy, errors)
            with strategy.scope():
                trackers.prepare(looks[0].outputs)
                if model.optimizer is not None:
                    # A function that creates variables is traced twice.
                    model.optimizer.build(model.trainable_variables)
            decided = any(each.decided for each in looks)
            if on_any_worker(strategy, decided):
                done()
        steps = model.steps_per_execution
        return train_function(_put_back(data, iterator, steps))

    return first_call


def _raise_together(strategy: Any, errors: list[Exception]) -> None:
    """Raises on all workers if the check has failed on one of them.

    The others would wait for it in their first step.
    """
    failed = on_any_worker(strategy, bool(errors))
    if errors:
        raise errors[0]
    if failed:
        raise ValueError(
            "Expected the first batch to pass the checks of R-Drop on all "
            "workers. It failed on another worker, whose error says why. The "
            "weights are as they were before the step."
        )


def _given(value: Any) -> Any:
    # Keras passes None through a dataset as an empty `Optional`.
    return None if isinstance(value, tf.experimental.Optional) else value


def _put_back(data: Any, iterator: Any, steps: int) -> Iterator[Any]:
    """Returns an iterator over a batch and the batches that follow it.

    Args:
        data: The batch that has been taken from the iterator.
        iterator: The iterator on which Keras trains.
        steps: The number of batches that the training function takes per call.
    """
    # No more than these: a dataset might read further batches in advance.
    batches = itertools.islice(itertools.chain([data], iterator), steps)
    spec = getattr(iterator, "element_spec", None)
    if not isinstance(iterator, tf.data.Iterator) or not all(
        isinstance(leaf, tf.TensorSpec) for leaf in tf.nest.flatten(spec)
    ):
        return batches
    # With a dataset of the same specification, Keras's training function is
    # not traced a second time.
    return iter(
        tf.data.Dataset.from_generator(lambda: batches, output_signature=spec)
    )
