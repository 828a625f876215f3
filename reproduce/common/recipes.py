"""The paper's recipes, as the programs' `--recipe` names them."""

from __future__ import annotations

from rdrop_keras import recipes
from reproduce.common.errors import InputError


def recipe_of(task: str, name: str) -> recipes.Recipe:
    """Returns a recipe of a task.

    Raises:
        InputError: If the task has none of that name.
    """
    names = recipes.names(task)
    if name not in names:
        raise InputError(
            f"--recipe {name}: expected one of {', '.join(names)}."
        )
    return recipes.get(name)


def accumulation(recipe: recipes.Recipe) -> int:
    """Returns how many batches make an update on one device.

    The paper spread over several what one does in turn.
    """
    batch = recipe.batch
    return (batch.gradient_accumulation_steps or 1) * (batch.devices or 1)
