"""Checks that a model can be trained with R-Drop."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import keras

from rdrop_keras import _keras
from rdrop_keras.divergences.for_loss import divergence_for
from rdrop_keras.divergences.for_loss import ignored_class
from rdrop_keras.objective.by_output import check_names
from rdrop_keras.objective.by_output import check_same_for_all
from rdrop_keras.objective.counted_items import check_ignored
from rdrop_keras.objective.fusion import fusion_for
from rdrop_keras.passes.observation import HeldAssignments
from rdrop_keras.rdrop import RDrop


def is_from_keras(method: Callable[..., Any]) -> bool:
    """Returns whether a method is Keras's own rather than a user's override."""
    function = getattr(method, "__func__", method)
    # `torch.compile` cannot trace `inspect.unwrap`.
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return function.__module__.split(".")[0] == "keras"


def check_chunks(model: Any) -> None:
    """Raises if the loss cannot be computed in chunks, without the logits."""
    if _keras.compiled_loss(model) is None or not is_from_keras(
        model.compute_loss
    ):
        raise ValueError(
            "Expected a compiled loss and Keras's own `compute_loss` with "
            "`vocabulary_chunk`: the logits that an override would read never "
            "exist. Received: loss="
            f"{model.loss!r}, compute_loss of {type(model).__name__}. Compile "
            "with `rdrop=RDrop(..., vocabulary_chunk=None)`."
        )
    entries = keras.tree.flatten(model.loss)
    if len(entries) != 1:
        raise ValueError(
            "Expected one loss, that of one output, with `vocabulary_chunk`. "
            f"Received: {len(entries)} losses. Compile with "
            "`rdrop=RDrop(..., vocabulary_chunk=None)`."
        )
    loss = keras.losses.get(entries[0])
    kind = model.rdrop.divergence
    kind = "auto" if isinstance(kind, dict) else kind
    fusion = fusion_for(loss, divergence_for(loss, kind))
    if fusion is None or fusion.dense:
        raise ValueError(
            "Expected a loss of class ids with `vocabulary_chunk`: "
            "`keras.losses.SparseCategoricalCrossentropy` or "
            "`rdrop_keras.losses.LabelSmoothedCrossentropy`, compared by KL "
            f"divergence. Received: loss={entries[0]!r}, divergence={kind!r}."
        )


def check_mixin_order(cls: type, mixin: type) -> None:
    """Raises if a Keras model class comes before the mixin.

    Python would find Keras's `train_step` first, and training would silently be
    plain.
    """
    order = cls.__mro__
    if keras.Model in order and order.index(keras.Model) < order.index(mixin):
        raise TypeError(
            f"Expected `{mixin.__name__}` before the model class. Received: "
            f"class {cls.__name__}("
            f"{', '.join(base.__name__ for base in cls.__bases__)}). Write "
            f"the mixin first, otherwise Keras's own training step is used."
        )


def check_model(model: Any, mixin: type) -> None:
    """Raises if a model cannot be trained with R-Drop.

    Args:
        model: A model whose class has the mixin.
        mixin: `RDropMixin`.
    """
    name = type(model).__name__
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"Expected `{name}` to be a `keras.Model`. Received a class with "
            f"the bases {[base.__name__ for base in type(model).__mro__]}."
        )
    parameters = inspect.signature(model.call).parameters
    if "training" not in parameters:
        raise ValueError(
            f"Expected `{name}.call` to take a `training` argument. Received: "
            f"call({', '.join(parameters)}). Without it Keras runs the model "
            "in inference mode, with dropout off. Write `def call(self, "
            "inputs, training=None)` and hand `training` on to the layers."
        )
    if not is_from_keras(super(mixin, model).train_step):
        raise TypeError(
            f"Expected `{name}` to train by Keras's own `train_step`. "
            "Received a class that overrides it, which R-Drop would replace. "
            "Override `compute_loss` instead, or write the training step with "
            "`compute_rdrop_loss` in a class derived from this one."
        )
    check_not_float8(model)


def check_loss(
    compile: Callable[..., None],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    settings: RDrop,
) -> None:
    """Raises if settings contradict the loss that they are compiled with.

    Before there is data this can be checked in part only: the names of outputs
    are known if the loss is a dict, and KerasHub chooses some losses itself.

    Args:
        compile: The model's own `compile`.
        args: Its arguments.
        kwargs: Its keyword arguments.
        settings: The settings.
    """
    bound = inspect.signature(compile).bind_partial(*args, **kwargs)
    loss = bound.arguments.get("loss")
    if loss is None:
        if "loss" in inspect.signature(compile).parameters:
            check_same_for_all(settings)
            check_ignored(settings, [])
        return
    entries = keras.tree.flatten(loss)
    if isinstance(loss, dict) and len(entries) == len(loss):
        check_names(settings, [k for k, v in loss.items() if v is not None])
    try:
        losses = [keras.losses.get(entry) for entry in entries]
    except ValueError:
        return
    check_ignored(settings, [ignored_class(each) for each in losses])


def check_not_float8(model: keras.Model) -> None:
    """Raises if a layer trains in float8.

    The gradient of a float8 scale is the scale's new value. The gradient of
    two passes would be the sum of two new values, twice the scale.
    """
    for layer in _keras.all_layers(model):
        if getattr(layer, "quantization_mode", None) == "float8":
            raise ValueError(
                "Expected layers without float8 quantization. Received: "
                f"{layer.path or layer.name}. Its scales are overwritten with "
                "their gradient, which several passes would sum. Train with "
                "R-Drop before `quantize('float8')`, or use mixed_bfloat16."
            )


def check_no_draws(backward: HeldAssignments) -> None:
    """Raises if the backward pass drew from a seed generator.

    On TensorFlow and PyTorch `keras.remat` runs its function again in the
    backward pass, where dropout draws a new mask, because every
    `SeedGenerator.next` advances the seed: the gradient would belong to another
    sub-model than the loss. (PyTorch restores the state of its own generators,
    from which `keras.layers.Dropout` draws there.)

    Args:
        backward: The scope in which the backward pass ran.
    """
    if any(map(_keras.is_seed_state, backward.assigned.values())):
        raise ValueError(
            "Expected the backward pass to draw no random numbers. Received a "
            "recomputation that does, such as dropout inside of `keras.remat` "
            "or `RematScope`: its masks would differ from those of the forward "
            "pass, and its gradients would be wrong, with R-Drop and without. "
            "Do not rematerialize dropout."
        )
