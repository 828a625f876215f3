"""The paper's settings and published results, for all its 18 datasets.

Nothing else in the library imports this package.
"""

from rdrop_keras.recipes.catalogue import get as get
from rdrop_keras.recipes.catalogue import names as names
from rdrop_keras.recipes.recipe import Recipe as Recipe
from rdrop_keras.recipes.schedules import InverseSquareRoot as InverseSquareRoot
from rdrop_keras.recipes.schedules import LinearWarmup as LinearWarmup
from rdrop_keras.recipes.schedules import PerUpdate as PerUpdate

__all__ = [
    "InverseSquareRoot",
    "LinearWarmup",
    "PerUpdate",
    "Recipe",
    "get",
    "names",
]


def __dir__() -> list[str]:
    return [name for name in globals() if name in __all__ or name[:2] == "__"]
