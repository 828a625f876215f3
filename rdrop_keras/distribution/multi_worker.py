"""A `MultiWorkerMirroredStrategy` on which Keras 3's `fit` works."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from rdrop_keras.distribution.rendezvous import wait_for_workers


class MultiWorkerMirroredStrategy(tf.distribute.MultiWorkerMirroredStrategy):
    """`tf.distribute.MultiWorkerMirroredStrategy` for Keras 3.

    Keras 3.15 fails on several workers, because it reduces two kinds of values
    that TensorFlow does not reduce there: the first batch, of which it needs
    only the shapes, and scalar logs along axis 0, which scalars do not have
    (keras-team/keras#20585). This class reduces both. It works for plain Keras
    models too, and will be deleted when Keras supports several workers.

    Start the same program on every worker, with the environment variable
    `TF_CONFIG` set. Build and compile the model in `scope()`, after creating
    the strategy and before any other use of TensorFlow's devices. `fit` then
    returns the same logs and weights on all workers. `batch_size` is that of
    all workers together.

    One worker is the chief, for which `strategy.extended.should_checkpoint` is
    True. Only the chief should write files. `rdrop_keras.callbacks.
    BackupAndRestore` sees to that itself.

    Args:
        cluster_resolver: Describes the cluster. By default it is read from
            `TF_CONFIG`.
        communication_options: As in TensorFlow's class.
        timeout: The number of seconds to wait for the other workers.
            TensorFlow itself waits for an hour or for ever, and cannot be
            interrupted. None does not wait.

    Raises:
        TimeoutError: If a worker has not started in time.

    Example:

    ```python
    strategy = rdrop_keras.distribution.MultiWorkerMirroredStrategy()
    with strategy.scope():
        model = rdrop_keras.RDropModel(inputs, outputs)
        model.compile("adam", loss, rdrop=5.0)
    backup = rdrop_keras.callbacks.BackupAndRestore("shared/backup")
    model.fit(dataset, epochs=10, callbacks=[backup])
    if strategy.extended.should_checkpoint:
        model.save("model.keras")
    ```
    """

    def __init__(
        self,
        cluster_resolver: Any = None,
        communication_options: Any = None,
        *,
        timeout: float | None = 600.0,
    ):
        if cluster_resolver is None:
            resolver = tf.distribute.cluster_resolver
            cluster_resolver = resolver.TFConfigClusterResolver()
        if timeout is not None:
            wait_for_workers(
                cluster_resolver.cluster_spec().as_dict(),
                cluster_resolver.task_type,
                cluster_resolver.task_id,
                timeout,
            )
        super().__init__(cluster_resolver, communication_options)

    def reduce(self, reduce_op: Any, value: Any, axis: int | None) -> Any:
        """Reduces a value across replicas, or what Keras passes instead."""
        if tf.nest.is_nested(value):
            # A batch, from which Keras builds the model.
            return tf.nest.map_structure(self._first, value)
        if axis == 0 and self._first(value).shape.rank == 0:
            axis = None
        return super().reduce(reduce_op, value, axis)

    def _first(self, value: Any) -> Any:
        return self.experimental_local_results(value)[0]
