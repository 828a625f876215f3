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

    Every batch runs through the model once with dropout off and twice with
    dropout on. Works on every compiled Keras model, trained with R-Drop or
    not: it tells whether R-Drop has anything to do. Adds to the logs:

    - `submodel_kl`: the divergence between two sub-models, in nats where the
      outputs are distributions; `consistency_loss` on held-out data.
    - `submodel_agreement`: the share of items to which two sub-models give
      the same most likely class, or of labels that they decide alike where
      the outputs are Bernoulli distributions. Left out for regression.
    - `inference_gap`: `|L(w) - mean L(w, xi)|`, the task loss with dropout
      off against the mean task loss of the sub-models, which the paper's
      Proposition 2.1 bounds.

    Masks, sample weights and loss weights count as they do in the loss. The
    model is left exactly as it was, seeds, moving statistics and metrics
    included: training goes on bit for bit as it would without the monitor.

    `History`, the progress bar, and the callbacks that come after it in the
    list of callbacks see the logs: put `TensorBoard`, `CSVLogger` and
    `EarlyStopping` behind it.

    Args:
        data: What `evaluate` takes: a tuple `(x, y)` or `(x, y,
            sample_weight)` of arrays, or a `tf.data.Dataset`,
            `keras.utils.PyDataset` or other object that gives batches each
            time it is gone through.
        every: Measures after the first epoch and every k-th from there on.
        batch_size: The batch size for arrays.
        steps: How many batches to measure on, or None for all.
        prefix: Stands before the names in the logs, to tell several monitors
            apart. With `"val_"` TensorBoard shows the curves beside those of
            the validation data.
        divergence: As in `RDrop`. None takes that of the compiled R-Drop
            settings, and follows the compiled loss where there are none.

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
            What goes to the logs, by name.

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
        previous = self._measurement
        if previous is None or not previous.is_of(model, divergence):
            self._measurement = Measurement(model, divergence)
        with unchanged(model):
            results = self._measurement.view.evaluate(
                **self._arguments(), verbose=0, return_dict=True
            )
        return {f"{self.prefix}{name}": v for name, v in results.items()}

    def _arguments(self) -> dict[str, Any]:
        if not isinstance(self.data, tuple):
            return {"x": self.data, "steps": self.steps}
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(self.data)
        return {
            "x": x,
            "y": y,
            "sample_weight": sample_weight,
            "batch_size": self.batch_size,
            "steps": self.steps,
        }


def _check_data(data: Any, steps: int | None) -> None:
    if isinstance(data, tuple):
        if not 1 <= len(data) <= 3:
            raise ValueError(
                "Expected `data` to be `(x, y)` or `(x, y, sample_weight)`. "
                f"Received: a tuple of {len(data)}."
            )
        return
    iterable = hasattr(data, "__iter__") or hasattr(data, "__getitem__")
    if not iterable or isinstance(data, (str, list, dict)) or _is_array(data):
        raise TypeError(
            "Expected `data` to be a tuple `(x, y)` or `(x, y, "
            "sample_weight)` of arrays, or a dataset that gives batches of "
            f"these. Received: {type(data).__name__}."
        )
    if hasattr(data, "__next__"):
        raise TypeError(
            "Expected `data` to be something that can be gone through after "
            f"every epoch. Received: {type(data).__name__}, which can be "
            "gone through once. Pass the dataset, not its iterator; wrap a "
            "generator in a `keras.utils.PyDataset`."
        )
    if steps is None and _is_endless(data):
        raise ValueError(
            "Expected `steps` with data that has no end. Received: "
            f"{type(data).__name__} and steps=None. Say how many batches to "
            "measure on."
        )


def _is_array(data: Any) -> bool:
    return hasattr(data, "shape") and hasattr(data, "dtype")


def _is_endless(data: Any) -> bool:
    if isinstance(data, keras.utils.PyDataset):
        return data.num_batches is None
    # `tf.data.INFINITE_CARDINALITY`.
    cardinality = getattr(data, "cardinality", None)
    return callable(cardinality) and int(cardinality()) == -1
