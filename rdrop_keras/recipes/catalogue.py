"""All recipes by name."""

from __future__ import annotations

import difflib

from rdrop_keras.arguments import check_choice
from rdrop_keras.recipes.recipe import Recipe
from rdrop_keras.recipes.table import RECIPES


def names(task: str | None = None) -> tuple[str, ...]:
    """Returns the names of all recipes, in the order of the paper.

    Args:
        task: Return only the recipes of this task, such as `"translation"`.

    Returns:
        Names for `rdrop_keras.recipes.get`.

    Raises:
        ValueError: If there is no such task.

    Example:

    >>> rdrop_keras.recipes.names("language_modeling")
    ('wikitext103_transformer', 'wikitext103_adaptive')

    Reference:
        [Liang et al., 2021](https://arxiv.org/abs/2106.14448), section 3.
    """
    tasks = dict.fromkeys(recipe.task for recipe in RECIPES.values())
    if task is not None:
        check_choice("task", task, [*tasks, None])
    return tuple(n for n, r in RECIPES.items() if task in (None, r.task))


def get(name: str) -> Recipe:
    """Returns the recipe of one model on one dataset.

    Args:
        name: One of `rdrop_keras.recipes.names()`.

    Returns:
        A `Recipe`.

    Raises:
        ValueError: If there is no such recipe.

    Example:

    >>> recipe = rdrop_keras.recipes.get("iwslt14_de_en")
    >>> recipe.alpha, recipe.results[0].baseline, recipe.results[0].rdrop
    (5.0, 34.64, 37.25)

    Reference:
        [Liang et al., 2021](https://arxiv.org/abs/2106.14448), section 3 and
        appendix A.
    """
    if isinstance(name, str) and name in RECIPES:
        return RECIPES[name]
    near = difflib.get_close_matches(str(name), RECIPES, n=3, cutoff=0.5)
    raise ValueError(
        "Expected `name` to be one of `rdrop_keras.recipes.names()`. "
        f"Received: name={name!r}."
        + (f" Close to it: {', '.join(near)}." if near else "")
    )
