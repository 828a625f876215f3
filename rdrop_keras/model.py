"""Keras models that train with R-Drop."""

from __future__ import annotations

from typing import Any

import keras

from rdrop_keras import _keras
from rdrop_keras.from_model import view_of
from rdrop_keras.mixin import RDropMixin


class RDropModel(RDropMixin, keras.Model):
    """A Keras model that trains with R-Drop.

    Use it like `keras.Model`: `RDropModel(inputs, outputs)` for a functional
    model, or as the base of a class with its own `call`. See `RDropMixin` for
    the loss and the logs, `RDrop` for the settings, and `from_model` for a
    model that exists already.

    A class that builds a functional graph in its `__init__`, as KerasHub's
    classes do, derives from both: `class My(RDropMixin, keras.Model)`.

    Args:
        *args: The arguments of `keras.Model`.
        **kwargs: The keyword arguments of `keras.Model`.

    Example:

    >>> inputs = keras.Input((4,))
    >>> hidden = keras.layers.Dense(8, activation="relu")(inputs)
    >>> hidden = keras.layers.Dropout(0.1)(hidden)
    >>> model = rdrop_keras.RDropModel(inputs, keras.layers.Dense(3)(hidden))
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> model.compile("sgd", loss, rdrop=5.0)
    >>> x = np.random.default_rng(0).normal(size=(32, 4))
    >>> history = model.fit(x, np.arange(32) % 3, verbose=0)
    >>> sorted(history.history)
    ['consistency_loss', 'loss', 'task_loss']

    Reference:
        [Liang et al., 2021](https://arxiv.org/abs/2106.14448), section 2.
    """

    def __new__(cls, *args: Any, **kwargs: Any):
        if cls is RDropModel and _is_functional(args, kwargs):
            cls = FunctionalRDropModel
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any):
        for each in (*args, *kwargs.values()):
            if isinstance(each, keras.Model):
                raise TypeError(
                    "Expected inputs and outputs. Received the model "
                    f"{each.name!r}. To train a model that exists already, "
                    "write `RDropModel.from_model(model)`."
                )
        if _is_functional(args, kwargs) and not isinstance(
            self, _keras.Functional
        ):
            raise TypeError(
                f"Expected `{type(self).__name__}` to define `call`, as a "
                "subclass of `RDropModel` does. Received inputs and outputs. "
                "To build a functional graph in a class of your own, derive "
                f"it as `class {type(self).__name__}(RDropMixin, keras.Model)`."
            )
        super().__init__(*args, **kwargs)

    @classmethod
    def from_model(cls, model: Any) -> RDropModel:
        """Returns a trainer for a model that exists already.

        The trainer and the model share layers, weights and all other state, so
        training the trainer trains the model in place. The model keeps its
        class: it fits, evaluates, saves and exports as a plain Keras model.

        A model that is compiled already, such as one that `load_model`
        returns, keeps its optimizer with its state, its loss and its metrics.
        The trainer uses them, with R-Drop at alpha 1.0, and issues a warning
        that says so.

        The trainer and `ModelCheckpoint` save the plain model with the state
        of the optimizer, without the settings of R-Drop. From such a file
        training resumes where it stopped, except for the seeds of dropout,
        which Keras never saves:

        ```python
        trainer = RDropModel.from_model(keras.models.load_model(path))
        trainer.compile(trainer.optimizer, trainer.loss, rdrop=5.0)
        trainer.fit(x, y, initial_epoch=3, epochs=6)
        ```

        A trainer can be copied and pickled, with its settings, and cloned by
        `keras.models.clone_model`. Where Keras makes a plain model of the
        clone (a sequential model, a class with its own constructor), the clone
        trains without R-Drop, and a warning says so.

        Args:
            model: Any Keras model: functional, sequential, subclassed, or a
                KerasHub task. Its class must use Keras's own `train_step`.

        Returns:
            A model whose class derives from `RDropModel` and from the model's
            own class. An `RDropMixin` model is returned unchanged.

        Raises:
            TypeError: If `model` is not a Keras model.
            TypeError, ValueError: If it is compiled and cannot be trained
                with R-Drop.

        Example:

        >>> model = keras.Sequential([
        ...     keras.layers.Dropout(0.2), keras.layers.Dense(1)])
        >>> trainer = rdrop_keras.RDropModel.from_model(model)
        >>> trainer.compile("sgd", "mse", rdrop=1.0)
        >>> history = trainer.fit(np.ones((8, 2)), np.ones((8, 1)), verbose=0)
        >>> model.built, type(model).__name__
        (True, 'Sequential')
        """
        return view_of(model, RDropModel)


@keras.saving.register_keras_serializable("rdrop_keras", name="RDropModel")
class FunctionalRDropModel(RDropModel, _keras.Functional):
    """The class of `RDropModel(inputs, outputs)`."""


# Summaries, default names and files show the name that users wrote.
FunctionalRDropModel.__name__ = "RDropModel"


def _is_functional(args: tuple, kwargs: dict[str, Any]) -> bool:
    return (
        len(args) == 2
        or (len(args) == 1 and "outputs" in kwargs)
        or ("inputs" in kwargs and "outputs" in kwargs)
    )
