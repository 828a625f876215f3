"""What a task adds to the program: settings, data, and one run.

A task is an object of a subclass of `Task`, in `reproduce/tasks/<task>.py`.
README.md says step by step how one is added.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import ClassVar
from typing import Protocol

import keras

from reproduce.common.comparison import Measure
from reproduce.common.curves import Score
from reproduce.common.epochs import EpochNumber
from reproduce.common.history import Curve
from reproduce.flags import Arm
from reproduce.flags import Count
from reproduce.flags import MaybeCount
from reproduce.flags import MaybeText
from reproduce.flags import NotNegative
from reproduce.flags import Seed


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every run depends on. Each field is a flag, its text the help."""

    recipe: MaybeText = None
    """Start from the paper's settings of this name. Other flags change them.
    """
    arm: Arm = "rdrop"
    """plain: one pass; doubled: one pass over every row twice; two_pass: two
    passes averaged, alpha 0; rdrop: R-Drop."""
    alpha: NotNegative = 1.0
    """Weight of the consistency, the paper's alpha."""
    seed: Seed = 1
    """Fixes initial weights, order of rows and dropout."""
    epochs: Count = 1
    """How often to go through the training part."""
    updates: MaybeCount = None
    """Train for at least so many updates, in place of --epochs."""
    output: Path = Path("runs")
    """The directory to write."""
    resume: bool = False
    """Go on with the run in --output."""
    overwrite: bool = False
    """Remove the run in --output and start over."""

    def compared(self) -> dict[str, Any]:
        """Returns what has to be the same for a run to be resumed.

        Those are not the paths: data may be moved, and is compared itself.
        """
        return {
            name: value
            for name, value in dataclasses.asdict(self).items()
            if name not in ("resume", "overwrite")
            and not isinstance(value, Path)
        }


class Data(Protocol):
    """What a task learns from."""

    name: str

    def facts(self) -> dict[str, Any]:
        """Returns what identifies the data, as JSON values."""


class Run:
    """One run of a task: a compiled model and what trains and measures it.

    Attributes:
        model: The compiled model.
        epochs: How many epochs to train, resumed ones included.
        validation: What `fit` takes as `validation_data`.
    """

    model: keras.Model
    epochs: int
    validation: Any = None

    def batches(self, epoch: EpochNumber) -> Any:
        """Returns what `fit` takes for the plain arm.

        Args:
            epoch: Called when an epoch begins, returns its number, from which
                its order follows: a resumed run goes on in the same order.
        """
        raise NotImplementedError

    def callbacks(self, output: Path) -> list[keras.callbacks.Callback]:
        """Returns callbacks that come before the log and the backup."""
        return []

    def remembered(self) -> Sequence[keras.callbacks.Callback]:
        """Returns those of them whose state belongs into the backup."""
        return []

    def finish(self, output: Path, history: dict[str, Curve]) -> dict[str, Any]:
        """Chooses weights, saves and exports the model and measures it.

        Args:
            output: The directory of the run.
            history: By name of a quantity its values, epoch by epoch.

        Returns:
            What `metrics.json` gets beside what every run has. `data` is added
            to the facts of the data.
        """
        raise NotImplementedError


class Task:
    """A task of the program.

    Attributes:
        name: On the command line, and in `rdrop_keras.recipes`.
        summary: One line for `--help`.
        settings: A subclass of `Settings`.
        seeds: Those of a comparison, by default.
        score: What curves show beside the loss.
        packages: Those whose versions `metrics.json` states.
        verbs: By name, dataclasses whose fields are flags and whose method
            `run()` does it: `generate`, `score` and so on.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    settings: ClassVar[type[Settings]]
    seeds: ClassVar[tuple[int, ...]] = (1, 2, 3)
    score: ClassVar[Score]
    packages: ClassVar[tuple[str, ...]] = ()
    verbs: ClassVar[dict[str, type]] = {}

    def recipe_settings(self, name: str) -> dict[str, Any]:
        """Returns the settings that a recipe has something to say about."""
        raise NotImplementedError

    def check(self, settings: Any) -> None:
        """Raises `InputError` if settings contradict one another."""

    def load(self, settings: Any) -> Any:
        """Returns the `Data` that the settings name."""
        raise NotImplementedError

    def begin(self, data: Any, settings: Any) -> Run:
        """Builds and compiles what a run of these settings trains."""
        raise NotImplementedError

    def curve(self, data: Any) -> Score:
        """Returns what curves show beside the loss, `score` by default."""
        return self.score

    def title(self, data: Any, settings: Any) -> str:
        """Returns the title of a comparison."""
        return f"{data.name}, alpha {settings.alpha:g}"

    def measures(self, data: Any) -> list[Measure]:
        """Returns the columns of a comparison's table."""
        raise NotImplementedError

    def describe(self, data: Any) -> str:
        """Returns what to print about the data before training."""
        return ", ".join(f"{k}: {v}" for k, v in data.facts().items())

    def report(self, metrics: dict[str, Any]) -> str:
        """Returns what to print of a finished run."""
        raise NotImplementedError

    def samples(self, data: Any, output: Path) -> tuple[list[str], list[str]]:
        """Returns what `compare --demo` serves, and references to print."""
        raise NotImplementedError

    def compared(
        self, data: Any, settings: Any, runs: dict[tuple[str, int], Path]
    ) -> None:
        """Adds files to a finished comparison.

        Args:
            data: What was learned.
            settings: Those of the comparison.
            runs: By arm and seed, the directories of its runs.
        """


def epochs_for(settings: Settings, updates_per_epoch: int) -> int:
    """Returns how many epochs make the updates that the settings ask for."""
    if settings.updates is None:
        return settings.epochs
    return -(-settings.updates // updates_per_epoch)
