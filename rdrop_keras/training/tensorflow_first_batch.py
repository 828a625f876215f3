"""The first batch of training on TensorFlow, looked at and handed on."""

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
    """Wraps a training function so that the first batch is looked at before.

    Args:
        model: A compiled `RDropMixin` model.
        train_function: What Keras calls for each step.
        trackers: Those that the steps feed.
        done: Called once a batch was found good.
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
            if any(each.decided for each in looks):
                done()
        steps = model.steps_per_execution
        return train_function(_put_back(data, iterator, steps))

    return first_call


def _given(value: Any) -> Any:
    # As Keras hands None through a dataset.
    return None if isinstance(value, tf.experimental.Optional) else value


def _put_back(data: Any, iterator: Any, steps: int) -> Iterator[Any]:
    """Returns an iterator over a batch and those that follow it.

    Args:
        data: The batch that has been taken from the iterator.
        iterator: What Keras trains on.
        steps: How many batches one call of the training function takes.
    """
    # No more than those, which a dataset might read in advance.
    batches = itertools.islice(itertools.chain([data], iterator), steps)
    spec = getattr(iterator, "element_spec", None)
    if not isinstance(iterator, tf.data.Iterator) or not all(
        isinstance(leaf, tf.TensorSpec) for leaf in tf.nest.flatten(spec)
    ):
        return batches
    # A dataset of the same specification, for which Keras's training function
    # is not traced a second time.
    return iter(
        tf.data.Dataset.from_generator(lambda: batches, output_signature=spec)
    )
