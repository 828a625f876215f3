"""The paper's recipes, selected by the flag `--recipe`."""

from __future__ import annotations

from rdrop_keras import recipes
from reproduce.common.errors import InputError


def recipe_of(task: str, name: str) -> recipes.Recipe:
    """Returns the recipe of a task with this name.

    Raises:
        InputError: If the task has no recipe with that name.
    """
    names = recipes.names(task)
    if name not in names:
        raise InputError(
            f"--recipe {name}: expected one of {', '.join(names)}."
        )
    return recipes.get(name)


def accumulation(recipe: recipes.Recipe) -> int:
    """Returns the number of batches to accumulate per update on one device.

    The paper distributed these batches over several devices.
    """
    batch = recipe.batch
    return (batch.gradient_accumulation_steps or 1) * (batch.devices or 1)
