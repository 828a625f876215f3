"""Private state of models and layers, and the cloning of models."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import keras
from keras.src.backend.common import global_state

# isort: split
from keras.src.models import cloning
from keras.src.models.functional import Functional
from keras.src.models.functional import functional_like_constructor


def all_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Yields the layers at every depth; `Model.layers` has the top level."""
    yield from model._flatten_layers(include_self=False)


def seed_generators(layer: keras.layers.Layer) -> list[Any]:
    """Returns the seed generators that a layer itself tracks.

    `Layer.variables` has their states, but those of its sublayers as well.
    """
    return layer._seed_generators


def global_seed_generator() -> Any:
    """Returns Keras's global seed generator, or None if it was never used.

    Random operations without a seed draw from it. No model tracks it, so its
    state cannot be found through a model.
    """
    return global_state.get_global_attribute("global_seed_generator")


def has_built_metrics(model: keras.Model) -> bool:
    """Returns whether the compiled metrics, if any, have seen an output.

    Until then their `result` raises an error.
    """
    compiled = model._compile_metrics
    return compiled is None or compiled.built


def logs_of_training(model: keras.Model) -> dict[str, Any]:
    """Returns the logs of all metrics except the compiled ones.

    `Model.get_metrics_result` includes the compiled metrics, and no public API
    tells them apart.
    """
    compiled = model._compile_metrics
    logs = {}
    for metric in model.metrics:
        if metric is not compiled:
            result = metric.result()
            logs.update(
                result if isinstance(result, dict) else {metric.name: result}
            )
    return logs


def loss_tracker(model: keras.Model) -> keras.metrics.Metric | None:
    """Returns the metric that Keras logs as `loss`.

    A search by name may find a metric of the user's instead, and a model that
    overrides `metrics` does not list it.
    """
    return getattr(model, "_loss_tracker", None)


def keep_variables(model: keras.Model) -> None:
    """Makes `fit` on JAX keep the variables as they are if it ends by an error.

    It would assign the state after the last step that succeeded, which may be
    that of an earlier `fit` or `train_on_batch`.
    """
    model._jax_state_synced = True


def values_in_order(model: keras.Model, logs: dict[str, Any]) -> Any:
    """Returns logs in the form of `train_on_batch` without `return_dict`.

    That is a list in the order of the model's metrics, or a scalar if there is
    only one value.
    """
    return model._flatten_metrics_in_order(logs)


def compile_config(model: keras.Model) -> Any:
    """Returns the object in which `compile` keeps its arguments, or None.

    Each call of `compile` makes a new one. `Model.compiled` is no substitute:
    it is True even for a model that was loaded without being compiled, with a
    warning.
    """
    return getattr(model, "_compile_config", None)


def clones_as_plain(model: keras.Model) -> bool:
    """Returns whether `keras.models.clone_model` makes a plain Keras model.

    `clone_model` hard-codes `Sequential` and `Functional` for their instances.
    It finds other classes by their registered name, under which another class
    may be registered.
    """
    if isinstance(model, keras.Sequential):
        return True
    if isinstance(model, Functional):
        return not functional_like_constructor(type(model))
    name = keras.saving.get_registered_name(type(model))
    named = keras.saving.get_registered_object(name)
    return named not in (None, type(model))


def is_cloning() -> bool:
    """Returns whether `keras.models.clone_model` is among the callers.

    It calls `get_compile_config` as saving does, but hands the config to a
    model of another class.
    """
    frame = inspect.currentframe()
    for _ in range(12):
        if frame is None:
            return False
        if frame.f_globals.get("__name__") == cloning.__name__:
            return True
        frame = frame.f_back
    return False


def refuse_h5(model: keras.Model, message: str) -> None:
    """Makes saving a compiled model in the legacy HDF5 format raise an error.

    That format stores five arguments of `compile` and cannot store others. No
    other code of Keras reads `config`.
    """
    if compile_config(model) is not None:
        model._compile_config = _NotInH5(model._compile_config, message)


class _NotInH5:
    def __init__(self, config: Any, message: str):
        self.serialize = config.serialize
        self._message = message

    @property
    def config(self) -> dict[str, Any]:
        raise ValueError(self._message)
