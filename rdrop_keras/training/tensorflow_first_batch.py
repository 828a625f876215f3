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
    strategy = model.distribute_strategy

    def first_call(iterator):
        data = next(iterator)
        looks: list[Look] = []

        @tf.autograph.experimental.do_not_convert
        def look_at(data):
            looks.append(look(model, keras.tree.map_structure(_given, data)))

        # TPUs run compiled functions only.
        if isinstance(strategy, tf.distribute.TPUStrategy):
            done()
        else:
            strategy.run(look_at, args=(data,))
            with strategy.scope():
                trackers.prepare(looks[0].outputs)
                if model.optimizer is not None:
                    # A function that creates variables is traced twice.
                    model.optimizer.build(model.trainable_variables)
            if any(each.decided for each in looks):
                done()
        steps = model.steps_per_execution
        return train_function(_put_back(data, iterator, steps))

    return first_call


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
