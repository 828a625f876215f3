"""Moving statistics that are the same on all replicas."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def average_statistics(model: Any) -> None:
    """Replaces the moving statistics of a model by their mean over replicas.

    Batch normalization updates its moving statistics on each replica from the
    rows of that replica alone, so that a file would depend on the worker that
    writes it. R-Drop models call this function at the end of each training
    epoch on several workers. A plain Keras model needs a callback.

    All workers must call the function. The state of seed generators and other
    integers stay as they are.

    Args:
        model: A Keras model that was built in the scope of a strategy.

    Example:

    ```python
    average = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: average_statistics(model)
    )
    model.fit(dataset, epochs=10, callbacks=[average, checkpoint])
    ```
    """
    strategy = model.distribute_strategy
    variables = [
        variable.value
        for variable in model.non_trainable_variables
        if tf.as_dtype(variable.dtype).is_floating
        and isinstance(variable.value, tf.distribute.DistributedValues)
    ]
    if strategy.num_replicas_in_sync == 1 or not variables:
        return

    @tf.function(autograph=False)
    def average():
        def on_replica():
            context = tf.distribute.get_replica_context()
            values = [tf.identity(variable) for variable in variables]
            means = context.all_reduce(tf.distribute.ReduceOp.MEAN, values)
            for variable, mean in zip(variables, means):
                variable.assign(mean)

        strategy.run(on_replica)

    average()
