"""One model seen through two classes: its own, and one that adds R-Drop."""

from __future__ import annotations

import functools
from typing import Any

import keras

from rdrop_keras.mixin import RDropMixin


def view_of(model: keras.Model) -> keras.Model:
    """Returns a model that trains `model` with R-Drop, in place.

    A wrapping model would have to pass on whatever its inner model adds to
    Keras (raw-text `fit`, `generate`, LoRA, presets), and its weight files
    would differ. A second object of a derived class that shares the first
    one's `__dict__` has all of it, and nothing can get out of step.

    Args:
        model: Any Keras model.

    Returns:
        The view. An `RDropMixin` model is returned as it is.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            "Expected a `keras.Model`. Received: "
            f"model={model!r} of type {type(model).__name__}."
        )
    if isinstance(model, RDropMixin):
        return model
    return same_state(model, _view_class(type(model)))


def same_state(model: keras.Model, cls: type) -> keras.Model:
    """Returns an object of another class that shares a model's `__dict__`."""
    other = object.__new__(cls)
    object.__setattr__(other, "__dict__", model.__dict__)
    return other


@functools.cache
def _view_class(cls: type) -> type:
    # Under the name of the class it derives from, by which Keras files refer to
    # classes: whatever saves the view saves a model of that class.
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    view = type(cls.__name__, (_View, RDropMixin, cls), names)
    registered = keras.saving.get_registered_name(cls)
    if ">" in registered:
        package, name = registered.split(">", 1)
        # The name then writes of both and, registered last, reads the class.
        for each in (view, cls):
            keras.saving.register_keras_serializable(package, name)(each)
    return view


class _View:
    """What differs between a view and the model that it shows."""

    @property
    def train_function(self) -> Any:
        # Kept apart from the model's own, so that the model's `fit` stays
        # plain, and forgotten when the model is compiled anew.
        function, compiled = self.__dict__.get("_rdrop_train", (None, None))
        if compiled is not self.__dict__.get("_compile_config"):
            return None
        return function

    @train_function.setter
    def train_function(self, function: Any) -> None:
        compiled = self.__dict__.get("_compile_config")
        self.__dict__["_rdrop_train"] = (function, compiled)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        super().compile(*args, **kwargs)
        self.__dict__["train_function"] = None
        self.train_function = None

    def get_compile_config(self) -> dict[str, Any]:
        # The plain model, which the file is of, does not take `rdrop`.
        return super(RDropMixin, self).get_compile_config()

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Saves the plain model."""
        return same_state(self, type(self).__mro__[3]).save(*args, **kwargs)
