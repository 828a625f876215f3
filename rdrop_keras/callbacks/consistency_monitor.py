"""A callback that measures how far the sub-models of dropout agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from rdrop_keras.arguments import check_whole
from rdrop_keras.callbacks.measurement import Measurement
from rdrop_keras.callbacks.measurement import unchanged
from rdrop_keras.divergences.base import Divergence
from rdrop_keras.rdrop import RDrop


class ConsistencyMonitor(keras.callbacks.Callback):
    """Measures on held-out data how far the sub-models of dropout agree.

    Runs every batch once with dropout off and twice with dropout on, on any
    compiled Keras model, trained with R-Drop or not. Adds to the logs:

    - `submodel_kl`: the divergence between two sub-models, in nats where the
      outputs are distributions; `consistency_loss` on held-out data.
    - `submodel_agreement`: the share of items for which two sub-models have
      the same most likely class, or of labels that they decide alike for
      Bernoulli outputs. Regression does not have it.
    - `inference_gap`: `|L(w) - mean L(w, xi)|`, the difference between the
      task loss with dropout off and the mean task loss of the sub-models,
      which the paper's Proposition 2.1 bounds.

    Masks, sample weights and loss weights count as they do in the loss. The
    model, with its seeds, moving statistics and metrics, stays as it was:
    training continues bit for bit as without the monitor.

    `History`, the progress bar and later callbacks in the list see the logs:
    put `TensorBoard`, `CSVLogger` and `EarlyStopping` after the monitor.

    Args:
        data: What `evaluate` takes: a tuple `(x, y)` or `(x, y,
            sample_weight)` of arrays, or a `tf.data.Dataset`,
            `keras.utils.PyDataset` or other object that yields batches
            whenever it is iterated.
        every: Measures after the first epoch and every k-th epoch after it.
        batch_size: The batch size for arrays.
        steps: The number of batches to measure on, or None for all.
        prefix: A prefix of the names in the logs, to distinguish several
            monitors. With `"val_"` TensorBoard shows the curves beside those
            of the validation data.
        divergence: As in `RDrop`. None takes the divergence of the compiled
            R-Drop settings, or follows the compiled loss without them.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument is out of range, or the data has no end
            and `steps` is None.

    Example:

    >>> model = keras.Sequential([
    ...     keras.layers.Dropout(0.2), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> x, y = np.ones((8, 2)), np.ones((8, 1))
    >>> monitor = rdrop_keras.callbacks.ConsistencyMonitor((x, y))
    >>> history = model.fit(x, y, callbacks=[monitor], verbose=0)
    >>> sorted(history.history)
    ['inference_gap', 'loss', 'submodel_kl']
    >>> sorted(monitor.measure(model))
    ['inference_gap', 'submodel_kl']

    Reference:
        [Liang et al., 2021](https://arxiv.org/abs/2106.14448), sections 2.3
        and 4.1.
    """

    def __init__(
        self,
        data: Any,
        every: int = 1,
        batch_size: int = 32,
        steps: int | None = None,
        prefix: str = "",
        divergence: str | Divergence | Mapping[str, Any] | None = None,
    ):
        super().__init__()
        check_whole("every", every, least=1)
        check_whole("batch_size", batch_size, least=1)
        if steps is not None:
            check_whole("steps", steps, least=1)
        _check_data(data, steps)
        if not isinstance(prefix, str):
            raise TypeError(
                "Expected `prefix` to be a string. Received: "
                f"prefix={prefix!r}."
            )
        if divergence is not None:
            divergence = RDrop(divergence=divergence).divergence
        self.data = data
        self.every = every
        self.batch_size = batch_size
        self.steps = steps
        self.prefix = prefix
        self.divergence = divergence
        self._measurement = None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None):
        if epoch % self.every:
            return
        results = self.measure(self.model)
        logs = {} if logs is None else logs
        for name in results:
            if name in logs:
                raise ValueError(
                    f"Expected no {name!r} in the logs yet. Received: "
                    f"{sorted(logs)}. To use two monitors, tell them apart "
                    "with `ConsistencyMonitor(..., prefix=...)`."
                )
        logs.update(results)

    def measure(self, model: keras.Model) -> dict[str, float]:
        """Measures a compiled model now.

        Args:
            model: Any compiled Keras model.

        Returns:
            The measurements by their names in the logs.

        Raises:
            ValueError: If the model is not compiled or not built, or the
                divergence of an output cannot be inferred.
        """
        if not getattr(model, "compiled", False):
            raise ValueError(
                "Expected a compiled model. Received: "
                f"{getattr(model, 'name', model)!r}. Call `compile(...)` "
                "first: its loss says how outputs are compared."
            )
        if not model.built:
            raise ValueError(
                "Expected a model that has its weights. Received: "
                f"{model.name!r}, which is not built. Call it on a batch first."
            )
        divergence = self.divergence
        if divergence is None:
            settings = getattr(model, "rdrop", None)
            divergence = getattr(settings, "divergence", "auto")
        last = self._measurement
        if last is None or not last.is_of(model, divergence):
            self._measurement = Measurement(model, divergence)
        arguments = {"x": self.data, "steps": self.steps}
        if isinstance(self.data, tuple):
            names = ("x", "y", "sample_weight")
            arguments |= {"batch_size": self.batch_size}
            arguments |= dict(zip(names, self.data))
        with unchanged(model):
            results = self._measurement.view.evaluate(
                **arguments, verbose=0, return_dict=True
            )
        # Keras 3.12 returns tensors if the model runs eagerly.
        return {f"{self.prefix}{name}": float(v) for name, v in results.items()}


def _check_data(data: Any, steps: int | None) -> None:
    kind = type(data).__name__
    if isinstance(data, tuple):
        if not 1 <= len(data) <= 3:
            raise ValueError(
                "Expected `data` to be `(x, y)` or `(x, y, sample_weight)`. "
                f"Received: a tuple of {len(data)}."
            )
        return
    iterable = hasattr(data, "__iter__") or hasattr(data, "__getitem__")
    is_array = hasattr(data, "shape") and hasattr(data, "dtype")
    if not iterable or is_array or isinstance(data, (str, list, dict)):
        raise TypeError(
            "Expected `data` to be a tuple `(x, y)` or `(x, y, "
            "sample_weight)` of arrays, or a dataset that gives batches of "
            f"these. Received: {kind}."
        )
    if hasattr(data, "__next__"):
        raise TypeError(
            "Expected `data` to be something that can be gone through after "
            f"every epoch. Received: {kind}, which can be gone through once. "
            "Pass the dataset, not its iterator; wrap a generator in a "
            "`keras.utils.PyDataset`."
        )
    if isinstance(data, keras.utils.PyDataset):
        endless = data.num_batches is None
    else:
        # `tf.data.INFINITE_CARDINALITY`.
        cardinality = getattr(data, "cardinality", None)
        endless = callable(cardinality) and int(cardinality()) == -1
    if steps is None and endless:
        raise ValueError(
            "Expected `steps` with data that has no end. Received: "
            f"{kind} and steps=None. Say how many batches to measure on."
        )
