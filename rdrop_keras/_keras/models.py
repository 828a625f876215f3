"""What models and layers hold."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import keras
from keras.src.backend.common import global_state
from keras.src.random import seed_generator

# isort: split
from keras.src.models import cloning
from keras.src.models.functional import Functional
from keras.src.models.functional import functional_like_constructor


def all_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Yields every layer at any depth; `Model.layers` gives the top level."""
    yield from model._flatten_layers(include_self=False)


def seed_generators(layer: keras.layers.Layer) -> list[Any]:
    """Returns the seed generators that a layer holds itself, in lists too.

    `Layer.variables` has their states, and those of its sublayers' as well.
    """
    return layer._seed_generators


def global_seed_generator() -> Any:
    """Returns the generator of layers that have no seed of their own, or None.

    No model owns it, so that nothing else leads to its state.
    """
    return global_state.get_global_attribute(
        seed_generator.GLOBAL_SEED_GENERATOR
    )


def has_built_metrics(model: keras.Model) -> bool:
    """Whether the compiled metrics have seen an output yet, or there are none.

    Their result raises before.
    """
    compiled = model._compile_metrics
    return compiled is None or compiled.built


def logs_of_training(model: keras.Model) -> dict[str, Any]:
    """Returns the logs of all metrics but the compiled ones.

    `Model.get_metrics_result` has them all, and no public name tells them
    apart.
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

    By name it cannot be told from one that a model brings itself, and a model
    with its own `metrics` does not list it.
    """
    return getattr(model, "_loss_tracker", None)


def values_in_order(model: keras.Model, logs: dict[str, Any]) -> Any:
    """Returns logs as `train_on_batch` does without `return_dict`.

    A list in the order of the model's metrics, or a scalar where there is one
    value.
    """
    return model._flatten_metrics_in_order(logs)


def compile_config(model: keras.Model) -> Any:
    """Returns the object in which `compile` keeps its arguments, or None.

    Each call makes a new one. `Model.compiled` says nothing of the kind: it is
    True for a model that was loaded with a warning and not compiled.
    """
    return getattr(model, "_compile_config", None)


def clones_as_plain(model: keras.Model) -> bool:
    """Whether `keras.models.clone_model` makes a model of a plain class.

    It has `Sequential` and `Functional` hard-coded for these, and makes other
    models by the name of their class, which may be that of another class.
    """
    if isinstance(model, keras.Sequential):
        return True
    if isinstance(model, Functional):
        return not functional_like_constructor(type(model))
    name = keras.saving.get_registered_name(type(model))
    named = keras.saving.get_registered_object(name)
    return named not in (None, type(model))


def is_cloning() -> bool:
    """Whether `keras.models.clone_model` is what has called us.

    It asks a model for its `get_compile_config` as saving does, and hands the
    config to a model of another class.
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
    """Makes saving a compiled model in the legacy format fail.

    That format keeps five arguments of `compile` and has no place for others.
    Nothing else of Keras reads `config`.
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
