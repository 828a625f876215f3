"""The settings of R-Drop in `compile` and in compile configs."""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import ParamSpec

import keras

from rdrop_keras import _keras
from rdrop_keras.rdrop import RDrop

P = ParamSpec("P")

NOT_IN_H5 = (
    "Expected a path that ends in `.keras`, or `include_optimizer=False`. "
    "Received a legacy `.h5` path. That format cannot hold "
    "`compile(rdrop=...)`: the model would be loaded with another alpha than "
    "it was trained with."
)


def declared_by(
    declaration: Callable[P, None],
) -> Callable[[Callable[..., None]], Callable[P, None]]:
    """Returns a decorator that gives a method the signature of another.

    The signature is for readers and type checkers. The method itself takes any
    arguments and passes on only those that it was given, so that the base
    class's own defaults apply.
    """

    def declare(method: Callable[..., None]) -> Callable[P, None]:
        method.__annotations__ = declaration.__annotations__
        method.__signature__ = inspect.signature(declaration)
        return method

    return declare


def compile_declaration(
    self,
    optimizer: str | dict[str, Any] | keras.optimizers.Optimizer | None = (
        "rmsprop"
    ),
    loss: Any = None,
    loss_weights: Any = None,
    metrics: Any = None,
    weighted_metrics: Any = None,
    run_eagerly: bool = False,
    steps_per_execution: int = 1,
    jit_compile: bool | str = "auto",
    auto_scale_loss: bool = True,
    *,
    rdrop: (
        float | keras.optimizers.schedules.LearningRateSchedule | RDrop | None
    ) = 1.0,
    **kwargs: Any,
) -> None:
    """Declares `RDropMixin.compile`: Keras's arguments, and `rdrop`."""


def check_not_settings(
    cls: type, mixin: type, arguments: Mapping[str, Any]
) -> None:
    """Raises if settings of R-Drop are given outside of `rdrop`.

    Args:
        cls: The model's class.
        mixin: `RDropMixin`.
        arguments: The keyword arguments of `compile`.
    """
    fields = {field.name for field in dataclasses.fields(RDrop)}
    given = {k: v for k, v in arguments.items() if k in fields}
    for method in _own_compiles(cls.__mro__[cls.__mro__.index(mixin) :]):
        parameters = inspect.signature(method).parameters
        if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
            return
        given = {k: v for k, v in given.items() if k not in parameters}
    if given:
        written = ", ".join(f"{k}={v!r}" for k, v in given.items())
        raise TypeError(
            "Expected the settings of R-Drop in the argument `rdrop`. "
            f"Received: {written}. Write `compile(..., rdrop=RDrop({written}))`"
            ", or `compile(..., rdrop=5.0)` to set alpha alone."
        )


def has_own_compile(cls: type) -> bool:
    """Returns whether a class changes the arguments of `compile`.

    Keras does not call such a `compile` when it loads a model, since it does
    not know the arguments. The `compile` of KerasHub's tasks counts as Keras's
    own if it takes Keras's arguments.
    """
    return any(_own_compiles(cls.__mro__))


def _own_compiles(classes: tuple[type, ...]) -> Iterator[Callable[..., None]]:
    for cls in classes:
        method = vars(cls).get("compile")
        if method is None:
            continue
        package = inspect.unwrap(method).__module__.split(".")[0]
        # On PyTorch models are modules, whose `compile` Keras overrides.
        if package in ("keras", "rdrop_keras", "torch"):
            continue
        if package == "keras_hub" and "loss" in (
            inspect.signature(method).parameters
        ):
            continue
        yield method


def add_settings(model: Any, config: dict[str, Any]) -> dict[str, Any]:
    """Returns a compile config with the settings of R-Drop added.

    Nothing is added for plain training, so that a plain class can use the
    config.

    Args:
        model: A model whose class has `RDropMixin`.
        config: The result of `get_compile_config`.
    """
    rdrop = model.rdrop
    if not config or rdrop is None:
        return config
    if _keras.is_cloning() and _keras.clones_as_plain(model):
        warnings.warn(
            "The settings of R-Drop are left out of the config of "
            f"{model.name!r}, a {type(model).__name__}. "
            "`keras.models.clone_model`, on which scikit-learn's wrappers "
            "rely, makes a plain model of a sequential model and of a class "
            "with its own constructor: it trains without R-Drop. Use "
            "`copy.deepcopy(model)`, or compile the clone by "
            "`RDropModel.from_model(clone).compile(..., rdrop=...)`. Give "
            "scikit-learn's wrappers a function that returns the model."
        )
        return config
    return {**config, "rdrop": keras.saving.serialize_keras_object(rdrop)}


def take_settings(
    config: dict[str, Any],
) -> tuple[dict[str, Any], RDrop | None]:
    """Splits a compile config into Keras's arguments and R-Drop's settings."""
    config = dict(config)
    rdrop = config.pop("rdrop", None)
    return config, keras.saving.deserialize_keras_object(rdrop)


def check_not_h5(model: Any, path: Any, arguments: Mapping[str, Any]) -> None:
    """Raises if a compiled model would be saved in the legacy format.

    Keras opens the file, which erases it, before it asks the model for its
    config.

    Args:
        model: A model whose class has `RDropMixin`.
        path: The path of the file.
        arguments: The keyword arguments of `save`.
    """
    legacy = str(path).endswith((".h5", ".hdf5"))
    if legacy and model.compiled and arguments.get("include_optimizer", True):
        raise ValueError(NOT_IN_H5)
