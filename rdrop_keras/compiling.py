"""How R-Drop's settings pass through `compile` and its configs."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import ParamSpec

import keras

from rdrop_keras.rdrop import RDrop

P = ParamSpec("P")


def declared_by(
    declaration: Callable[P, None],
) -> Callable[[Callable[..., None]], Callable[P, None]]:
    """Gives a method the signature of another, for people and type checkers.

    The method itself takes any arguments and passes on those that it was
    given, so that the defaults of the method below stay its own.
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
    """Raises if settings of R-Drop stand beside `rdrop` instead of in it.

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
    """Whether a class changes what `compile` takes.

    Keras then does not call it to load a model, since it does not know its
    arguments. The tasks of KerasHub that keep Keras's arguments count as
    Keras's own.
    """
    return any(_own_compiles(cls.__mro__))


def _own_compiles(classes: tuple[type, ...]) -> Iterator[Callable[..., None]]:
    for cls in classes:
        method = vars(cls).get("compile")
        if method is None:
            continue
        package = inspect.unwrap(method).__module__.split(".")[0]
        if package in ("keras", "rdrop_keras"):
            continue
        if package == "keras_hub" and "loss" in (
            inspect.signature(method).parameters
        ):
            continue
        yield method


@keras.saving.register_keras_serializable("rdrop_keras")
class CompiledRDrop:
    """R-Drop's settings among those that a model is compiled with.

    Only a class with `RDropMixin` reads them. Any other, such as Keras makes
    of some models to clone them, would train without R-Drop, and is told so.

    Args:
        rdrop: The settings.
        model: The name of the model's class.
    """

    def __init__(self, rdrop: RDrop, model: str):
        self.rdrop = rdrop
        self.model = model

    def get_config(self) -> dict[str, Any]:
        rdrop = keras.saving.serialize_keras_object(self.rdrop)
        return {"rdrop": rdrop, "model": self.model}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> CompiledRDrop:
        raise ValueError(
            "Expected a class that trains with R-Drop to be compiled like the "
            f"`{config['model']}`. Received a plain class: "
            "`keras.models.clone_model` makes one of a sequential model and "
            "of a class with its own constructor. Use `copy.deepcopy(model)`; "
            "or `clone = type(model).from_config(model.get_config())`, which "
            "has new weights, and compile it; or clone the model before it is "
            "compiled and train the clone with `RDropModel.from_model(clone)`. "
            "Give scikit-learn's wrappers a function that returns the compiled "
            "model."
        )


def add_settings(
    config: dict[str, Any], rdrop: RDrop | None, cls: type
) -> dict[str, Any]:
    """Adds settings to a config that `get_compile_config` made.

    Nothing for plain training, which a plain class can take over.
    """
    if not config or rdrop is None:
        return config
    settings = CompiledRDrop(rdrop, cls.__name__)
    return {**config, "rdrop": keras.saving.serialize_keras_object(settings)}


def take_settings(
    config: dict[str, Any],
) -> tuple[dict[str, Any], RDrop | None]:
    """Returns a config without the settings in it, and the settings."""
    config = dict(config)
    rdrop = config.pop("rdrop", None)
    if rdrop is not None and rdrop["class_name"] == CompiledRDrop.__name__:
        rdrop = rdrop["config"]["rdrop"]
    return config, keras.saving.deserialize_keras_object(rdrop)
