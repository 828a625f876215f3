"""All recipes by name."""

from __future__ import annotations

import difflib

from rdrop_keras.recipes.image_classification import IMAGE_CLASSIFICATION
from rdrop_keras.recipes.language_modeling import LANGUAGE_MODELING
from rdrop_keras.recipes.language_understanding import LANGUAGE_UNDERSTANDING
from rdrop_keras.recipes.recipe import Recipe
from rdrop_keras.recipes.summarization import SUMMARIZATION
from rdrop_keras.recipes.translation import TRANSLATION

_RECIPES = {
    recipe.name: recipe
    for recipe in (
        *TRANSLATION,
        *LANGUAGE_UNDERSTANDING,
        *SUMMARIZATION,
        *LANGUAGE_MODELING,
        *IMAGE_CLASSIFICATION,
    )
}


def names(task: str | None = None) -> tuple[str, ...]:
    """Returns the names of all recipes, in the order of the paper.

    Args:
        task: Only those of this task, `"translation"` for instance.

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
    tasks = list(dict.fromkeys(recipe.task for recipe in _RECIPES.values()))
    if task is not None and task not in tasks:
        raise ValueError(
            f"Expected `task` to be one of {tasks} or None. Received: "
            f"task={task!r}."
        )
    return tuple(
        name
        for name, recipe in _RECIPES.items()
        if task is None or recipe.task == task
    )


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
    if isinstance(name, str) and name in _RECIPES:
        return _RECIPES[name]
    near = difflib.get_close_matches(str(name), _RECIPES, n=3, cutoff=0.5)
    raise ValueError(
        "Expected `name` to be one of `rdrop_keras.recipes.names()`. "
        f"Received: name={name!r}."
        + (f" Close to it: {', '.join(near)}." if near else "")
    )
