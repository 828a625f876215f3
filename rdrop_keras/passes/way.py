"""What each way of running passes provides.

A new way is a module with a `WAY` in it, and one line in `passes/__init__.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import keras

from rdrop_keras import _keras
from rdrop_keras.passes.observation import Observation
from rdrop_keras.rdrop import RDrop


# No tuple: AutoGraph and `keras.tree` would take it for a structure.
@dataclasses.dataclass(frozen=True)
class Batch:
    """One batch, and what its passes need.

    Attributes:
        model: A built model whose `call` takes `training`.
        x: The inputs.
        settings: The compiled settings.
        observation: The `Observation` of the model.
        finish: A function of the output of a pass, to be called before the
            next pass runs.
        replacements: Replacements for the operations of the model's graph; see
            `_keras.rewired`.
    """

    model: keras.Model
    x: Any
    settings: RDrop
    observation: Observation
    finish: Callable[[Any], Any]
    replacements: Sequence[Callable[[int, Callable], Callable]] = ()

    def call(self, others: Sequence[Any] = ()) -> Any:
        """Calls the model in training mode.

        Args:
            others: Further replacements.
        """
        rewiring = [*self.replacements, *others]
        called = self.model
        if rewiring:
            called = _keras.rewired(self.model, rewiring)
        return called(_keras.to_overwrite(self.x), training=True)

    def state(self) -> list[keras.Variable]:
        """Returns the variables that are reset before every pass."""
        moving_on = {id(variable) for variable in self.observation.counters}
        if self.settings.moving_statistics == "every_pass":
            for layer in _keras.all_layers(self.model):
                if isinstance(layer, keras.layers.BatchNormalization):
                    moving_on.add(id(layer.moving_mean))
                    moving_on.add(id(layer.moving_variance))
        return [v for v in self.observation.state if id(v) not in moving_on]


class Way(NamedTuple):
    """A way of running passes.

    Attributes:
        name: Its name in `RDrop(passes=...)`.
        fits: Whether `passes="auto"` may choose it for a model. It receives
            the model and its `Observation`, or None before the first batch.
        describe: Returns its part of `model.rdrop_plan()`, from the same.
        run: Runs the passes of a `Batch`, and returns the result of
            `Batch.finish` for each.
    """

    name: str
    fits: Callable[[keras.Model, Observation | None], bool]
    describe: Callable[[keras.Model, Observation | None], str]
    run: Callable[[Batch], list[Any]]
