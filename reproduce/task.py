"""Base classes of a task: its settings, its data and one run.

A task is an instance of a subclass of `Task` in `reproduce/tasks/<task>.py`.
README.md lists the steps to add one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import ClassVar

import keras

from reproduce import flags
from reproduce.common.comparison import Measure
from reproduce.common.curves import Score
from reproduce.common.epochs import EpochNumber
from reproduce.common.history import Curve
from reproduce.common.recipes import common_settings
from reproduce.common.recipes import recipe_of


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of every run. Each field is a flag; its text is the help."""

    recipe: flags.MaybeText = None
    """Start from the paper's recipe of this name. Other flags override it."""
    arm: flags.Arm = "rdrop"
    """plain: one pass; doubled: one pass over every row twice; two_pass: two
    passes averaged, alpha 0; rdrop: R-Drop."""
    alpha: flags.NotNegative = 1.0
    """Weight of the consistency, the paper's alpha."""
    seed: flags.Seed = 1
    """The seed of initial weights, order of rows and dropout."""
    epochs: flags.Count = 1
    """The number of epochs."""
    updates: flags.MaybeCount = None
    """Train for at least this many updates, instead of --epochs."""
    strategy: flags.Strategy = "none"
    """none: one device; mirrored: all GPUs of this host, on TensorFlow;
    multi_worker: the workers of TF_CONFIG, on TensorFlow; data_parallel: all
    devices of one or several processes, on JAX. They share each batch."""
    output: Path = Path("runs")
    """The directory to write."""
    resume: bool = False
    """Continue the run in --output."""
    overwrite: bool = False
    """Remove the run in --output and start over."""

    def compared(self) -> dict[str, Any]:
        """Returns the settings that must not change in a resumed run.

        Paths are left out: data may be moved, and `facts()` of the data is
        compared instead. A run may go on with other devices, too.
        """
        return {
            name: value
            for name, value in dataclasses.asdict(self).items()
            if name not in ("resume", "overwrite", "strategy")
            and not isinstance(value, Path)
        }


class Run:
    """One run of a task: a compiled model with its training and evaluation."""

    model: keras.Model
    # Of the whole run, resumed ones included.
    epochs: int
    # The `validation_data` of `fit`.
    validation: Any = None

    def batches(self, epoch: EpochNumber) -> Any:
        """Returns the training batches of the plain arm.

        Their order must depend on the seed and the number that `epoch` returns
        only, so that a resumed run continues in the same order.
        """
        raise NotImplementedError

    def callbacks(self, output: Path) -> list[keras.callbacks.Callback]:
        """Returns callbacks that come before the log and the backup."""
        return []

    def remembered(self) -> Sequence[keras.callbacks.Callback]:
        """Returns the callbacks whose state belongs in the backup."""
        return []

    def finish(self, output: Path, history: dict[str, Curve]) -> dict[str, Any]:
        """Selects weights, saves, exports and evaluates the model.

        Returns:
            The task's entries of `metrics.json`. The entry `data` is added
            to the facts of the data.
        """
        raise NotImplementedError


class Task:
    """A task of the program.

    Attributes:
        name: The name on the command line.
        recipes: The name in `rdrop_keras.recipes`, if it is another one.
        settings: A subclass of `Settings`.
        seeds: The default seeds of a comparison.
        score: The quantity that plots show next to the loss.
        packages: The packages whose versions `metrics.json` states.
        verbs: Further verbs by name, such as `generate` or `score`: dataclasses
            whose fields are flags and whose method `run()` does the work.
    """

    name: ClassVar[str]
    recipes: ClassVar[str] = ""
    settings: ClassVar[type[Settings]]
    seeds: ClassVar[tuple[int, ...]] = (1, 2, 3)
    score: ClassVar[Score]
    packages: ClassVar[tuple[str, ...]] = ()
    verbs: ClassVar[dict[str, type]] = {}

    def recipe_settings(self, name: str) -> dict[str, Any]:
        """Returns the settings that a recipe states."""
        recipe = recipe_of(self.recipes or self.name, name)
        found = common_settings(recipe) | self.own_settings(recipe)
        known = {field.name for field in dataclasses.fields(self.settings)}
        return {"recipe": name} | {
            key: value
            for key, value in found.items()
            if value is not None and key in known
        }

    def own_settings(self, recipe: Any) -> dict[str, Any]:
        """Returns the settings of a recipe that only this task has."""
        raise NotImplementedError

    def check(self, settings: Any) -> None:
        """Raises `InputError` if settings contradict one another."""

    def load(self, settings: Any) -> Any:
        """Returns the data, with `name` and `facts()` as JSON values."""
        raise NotImplementedError

    def begin(self, data: Any, settings: Any) -> Run:
        """Returns a run with the built and compiled model."""
        raise NotImplementedError

    def curve(self, data: Any) -> Score:
        """Returns the quantity that plots show next to the loss."""
        return self.score

    def title(self, data: Any, settings: Any) -> str:
        """Returns the title of a comparison."""
        return f"{data.name}, alpha {settings.alpha:g}"

    def measures(self, data: Any) -> list[Measure]:
        """Returns the columns of a comparison's table."""
        raise NotImplementedError

    def describe(self, data: Any) -> str:
        """Returns a description of the data to print before training."""
        return ", ".join(f"{k}: {v}" for k, v in data.facts().items())

    def report(self, metrics: dict[str, Any]) -> str:
        """Returns a report of a finished run to print."""
        raise NotImplementedError

    def samples(self, data: Any, output: Path) -> tuple[list[str], list[str]]:
        """Returns inputs that `compare --demo` serves, and references."""
        raise NotImplementedError

    def compared(
        self, data: Any, settings: Any, runs: dict[tuple[str, int], Path]
    ) -> None:
        """Adds files to a finished comparison of runs by arm and seed."""


def epochs_for(settings: Settings, updates_per_epoch: int) -> int:
    """Returns the number of epochs for the updates in the settings."""
    if settings.updates is None:
        return settings.epochs
    return -(-settings.updates // updates_per_epoch)
