"""A trainer with R-Drop that shares all state with an existing model."""

from __future__ import annotations

import contextlib
import copy
import functools
import warnings
from typing import Any

import keras

from rdrop_keras import _keras
from rdrop_keras.mixin import RDropMixin
from rdrop_keras.rdrop import RDrop
from rdrop_keras.training import checks
from rdrop_keras.training.compiling import add_settings

# The arguments of `compile`, besides the optimizer, that the warning lists.
TAKEN = ("loss", "loss_weights", "metrics", "weighted_metrics")


def view_of(model: keras.Model, base: type[RDropMixin]) -> Any:
    """Returns a model that trains `model` with R-Drop, in place.

    A wrapping model would have to forward everything that its inner model adds
    to Keras (raw-text `fit`, `generate`, LoRA, presets), and its weight files
    would differ. The view is instead a second object, of a derived class, that
    shares the model's `__dict__`. It has all methods of the model, and the two
    cannot get out of sync.

    Args:
        model: Any Keras model.
        base: The class with the mixin from which the view's class derives.

    Returns:
        The view. An `RDropMixin` model is returned unchanged.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            "Expected a `keras.Model`. Received: "
            f"model={model!r} of type {type(model).__name__}."
        )
    if isinstance(model, RDropMixin):
        return model
    view = same_state(model, _view_class(type(model), base))
    object.__setattr__(view, "_shown", model)
    view._take_over()
    return view


def same_state(model: keras.Model, cls: type) -> Any:
    """Returns an object of another class that shares a model's `__dict__`."""
    other = object.__new__(cls)
    object.__setattr__(other, "__dict__", model.__dict__)
    return other


@functools.cache
def _view_class(cls: type, base: type[RDropMixin]) -> type:
    # Keras files refer to classes by name. With the name of the model's class,
    # a saved view is a model of that class.
    names = {
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        # Not those of `base`: Keras clones a model by its constructor.
        "__new__": cls.__new__,
        "__init__": cls.__init__,
        "_plain_class": cls,
        "_base": base,
    }
    view = type(cls.__name__, (_View, base, cls), names)
    registered = keras.saving.get_registered_name(cls)
    if ">" in registered:
        package, name = registered.split(">", 1)
        # Both classes are saved under the name. The class that is registered
        # last, which is the model's own, is the one that is loaded by it.
        for each in (view, cls):
            keras.saving.register_keras_serializable(package, name)(each)
    return view


def _restore(
    model: keras.Model, base: type[RDropMixin], state: dict[str, Any]
) -> Any:
    """Returns a view of an unpickled model, with its settings."""
    return _with_settings(
        model, base, keras.saving.deserialize_keras_object(state)
    )


def _with_settings(
    model: keras.Model, base: type[RDropMixin], state: dict[str, Any]
) -> Any:
    if _keras.compile_config(model) is not None and "_rdrop" in state:
        # Set before the view is made, which would use default settings.
        model.__dict__["_rdrop"] = state["_rdrop"]
    view = view_of(model, base)
    if "_rdrop" in view.__dict__:
        view._set_rdrop(view.__dict__["_rdrop"])
    return view


def _kept_apart(name: str) -> property:
    """Returns a property for a function that Keras compiles and keeps.

    The model's own function would train the view without R-Drop. On JAX,
    functions take the state of the object that made them, and the view has
    more metrics. The function is dropped when the model is compiled again.
    """
    key = f"_rdrop_{name}"

    def read(view: Any) -> Any:
        function, compiled = view.__dict__.get(key, (None, None))
        if compiled is not _keras.compile_config(view):
            return None
        return function

    def write(view: Any, function: Any) -> None:
        view.__dict__[key] = (function, _keras.compile_config(view))

    return property(read, write)


class _View:
    """A mixin with the differences between a view and its model."""

    # The model itself. Everything in `__dict__` belongs to both objects.
    __slots__ = ("_shown",)
    _plain_class: type
    _base: type[RDropMixin]

    @property
    def _rdrop(self) -> RDrop | None:
        self._take_over()
        return self.__dict__.get("_rdrop")

    @_rdrop.setter
    def _rdrop(self, rdrop: RDrop | None) -> None:
        self.__dict__["_rdrop"] = rdrop

    def _set_rdrop(self, rdrop: RDrop | None) -> None:
        # Keras reads an attribute before it sets it, which would call
        # `_take_over`.
        self.__dict__["_rdrop"] = rdrop
        super()._set_rdrop(rdrop)

    def _take_over(self) -> None:
        """Turns on R-Drop if only the plain model has been compiled.

        The model may be compiled before the view is made, or later. Without
        this method training would silently be plain.
        """
        if "_rdrop" in self.__dict__ or _keras.compile_config(self) is None:
            return
        checks.check_model(self, RDropMixin)
        strategy = getattr(self, "distribute_strategy", None)
        with strategy.scope() if strategy else contextlib.nullcontext():
            self._set_rdrop(RDrop())
        taken = _keras.compile_config(self).config
        named = keras.tree.map_structure(
            lambda each: getattr(each, "name", each),
            {key: taken.get(key) for key in TAKEN},
        )
        # `int` does not accept the variable of a strategy.
        done = int(keras.ops.convert_to_numpy(self.optimizer.iterations))
        warnings.warn(
            f"The model {self.name!r} is compiled already. The trainer takes "
            f"over its optimizer, {type(self.optimizer).__name__} at iteration "
            f"{done}, "
            + ", ".join(f"{k}={v!r}" for k, v in named.items() if v)
            + "; and trains with R-Drop at alpha 1.0. To choose alpha, write "
            "`trainer.compile(trainer.optimizer, trainer.loss, rdrop=...)`, "
            "with the metrics to keep.",
            stacklevel=4,
        )

    def _shown_model(self) -> keras.Model:
        # `clone_model` calls the class of a view, which has no model yet.
        model = getattr(self, "_shown", None)
        if model is None:
            model = same_state(self, self._plain_class)
            object.__setattr__(self, "_shown", model)
        return model

    train_function = _kept_apart("train_function")
    test_function = _kept_apart("test_function")

    def compile(self, *args: Any, **kwargs: Any) -> None:
        super().compile(*args, **kwargs)
        for name in ("train_function", "test_function"):
            # That of the model, and that of the view.
            self.__dict__[name] = None
            setattr(self, name, None)

    def get_compile_config(self) -> dict[str, Any]:
        config = super(RDropMixin, self).get_compile_config()
        if not _keras.is_cloning():
            # Files hold the plain model, whose `compile` has no `rdrop`.
            return config
        return add_settings(self, config)

    def _refuse_h5(self) -> None:
        """Does nothing: files hold the plain model, which has no settings."""

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Saves the plain model."""
        return self._shown_model().save(*args, **kwargs)

    def to_json(self, **kwargs: Any) -> str:
        """Serializes the plain model."""
        return self._shown_model().to_json(**kwargs)

    # `pickle` finds classes by name, and a class made here is in no module.

    def __copy__(self) -> Any:
        return self._copy(copy.copy(self._shown_model()))

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self._copy(copy.deepcopy(self._shown_model(), memo))

    def _copy(self, model: keras.Model) -> Any:
        return _with_settings(model, self._base, self._settings())

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        state = keras.saving.serialize_keras_object(self._settings())
        return _restore, (self._shown_model(), self._base, state)

    def _settings(self) -> dict[str, Any]:
        # No entry means no settings yet; an entry of None is plain training.
        state = self.__dict__
        return {key: state[key] for key in ("_rdrop",) if key in state}
