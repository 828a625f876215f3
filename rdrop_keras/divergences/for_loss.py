"""The divergence that belongs to each task loss."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import keras

from rdrop_keras import _keras
from rdrop_keras.divergences.base import DistributionDivergence
from rdrop_keras.divergences.base import Divergence
from rdrop_keras.divergences.bernoulli import BernoulliConsistency
from rdrop_keras.divergences.categorical import CategoricalConsistency
from rdrop_keras.divergences.label_smoothed import label_smoothed_crossentropy
from rdrop_keras.divergences.squared_error import SquaredErrorConsistency

DIVERGENCES = {
    "categorical": CategoricalConsistency,
    "bernoulli": BernoulliConsistency,
    "squared_error": SquaredErrorConsistency,
}

# Losses whose outputs could be read in more than one way (Poisson, hinge,
# cosine, CTC, Dice, ...) are left out on purpose: the user has to choose.
_FOR_TASK_LOSS = {
    keras.losses.categorical_crossentropy: "categorical",
    keras.losses.sparse_categorical_crossentropy: "categorical",
    keras.losses.categorical_focal_crossentropy: "categorical",
    keras.losses.kl_divergence: "categorical",
    label_smoothed_crossentropy: "categorical",
    keras.losses.binary_crossentropy: "bernoulli",
    keras.losses.binary_focal_crossentropy: "bernoulli",
    keras.losses.mean_squared_error: "squared_error",
    keras.losses.mean_absolute_error: "squared_error",
    keras.losses.huber: "squared_error",
    keras.losses.log_cosh: "squared_error",
}


def divergence_for(
    task_loss: Any,
    divergence: str | Divergence = "auto",
    reduction: str | None = "sum_over_batch_size",
) -> Divergence:
    """Returns the divergence to use with a task loss.

    Args:
        task_loss: The loss compiled for one output, a `keras.losses.Loss` or
            a function, or None if the model computes its loss itself.
        divergence: `"auto"`, one of the names in `DIVERGENCES`, or a
            `Divergence`. A name takes `from_logits` and `axis` from the task
            loss, so that the two always read the output the same way.
        reduction: The reduction to use if there is no task loss.

    Returns:
        A `Divergence` with the reduction of the task loss.

    Raises:
        ValueError: If the divergence cannot be inferred.
    """
    reduction = getattr(task_loss, "reduction", reduction)
    if isinstance(divergence, Divergence):
        config = {**divergence.get_config(), "reduction": reduction}
        return type(divergence).from_config(config)
    function, options = _function_and_options(task_loss)
    name = divergence
    if name == "auto":
        try:
            name = _FOR_TASK_LOSS.get(function)
        except TypeError:  # An unhashable callable.
            name = None
    if name is None:
        known = ", ".join(f'"{known}"' for known in DIVERGENCES)
        raise ValueError(
            f"Expected a task loss whose consistency can be inferred. "
            f"Received: {_describe(task_loss)}. Say how the outputs of two "
            "passes are to be compared: `compile(..., rdrop=RDrop(alpha, "
            f"divergence=...))` with one of {known} or a "
            "`rdrop_keras.losses.Divergence`."
        )
    cls = DIVERGENCES[name]
    if issubclass(cls, DistributionDivergence):
        return cls(
            from_logits=bool(options.get("from_logits", False)),
            axis=options.get("axis", -1),
            reduction=reduction,
        )
    return cls(reduction=reduction)


def reads_logits(task_loss: Any) -> bool:
    """Returns whether a task loss reads outputs as logits."""
    return bool(_function_and_options(task_loss)[1].get("from_logits", False))


def ignored_class(task_loss: Any) -> int | None:
    """Returns the class id that a task loss ignores, or None."""
    return _function_and_options(task_loss)[1].get("ignore_class")


def is_known(task_loss: Any) -> bool:
    """Returns whether a task loss is known to have one value for each item.

    True for the losses of Keras and of this package whose divergence is
    inferred.
    """
    if isinstance(task_loss, keras.losses.Loss) and type(
        task_loss
    ).__module__.split(".")[0] not in ("keras", "rdrop_keras"):
        return False
    try:
        return function_of(task_loss) in _FOR_TASK_LOSS
    except TypeError:  # An unhashable callable.
        return False


def function_of(task_loss: Any) -> Any:
    """Returns the function that a task loss wraps, or None."""
    return _function_and_options(task_loss)[0]


def _function_and_options(task_loss: Any) -> tuple[Any, dict[str, Any]]:
    # Every built-in loss keeps its function as `fn`, and its options as
    # attributes (Keras 3.15) or with the function (3.16), whether it is
    # compiled by name, as a function or as an instance.
    function = getattr(task_loss, "fn", None)
    if function is None and not isinstance(task_loss, keras.losses.Loss):
        function = task_loss
    names = ("from_logits", "axis", "ignore_class")
    found = {
        **_defaults(function),
        **_keras.options_of_function(task_loss),
        **{
            name: getattr(task_loss, name)
            for name in names
            if hasattr(task_loss, name)
        },
    }
    options = {name: found[name] for name in names if name in found}
    while isinstance(function, functools.partial):
        options.update(function.keywords)
        function = function.func
    return function, options


def _defaults(function: Any) -> dict[str, Any]:
    """Returns the default arguments of a function."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
    return {
        name: parameter.default
        for name, parameter in parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }


def _describe(task_loss: Any) -> str:
    if task_loss is None:
        return "no compiled loss (the model computes its loss itself)"
    name = getattr(task_loss, "name", getattr(task_loss, "__name__", task_loss))
    return f"loss={name!r}"
