"""What Keras 3 lacks to train on several workers, on TensorFlow.

TensorFlow is imported when a name is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING
from typing import Any

if TYPE_CHECKING:
    from rdrop_keras.distribution.multi_worker import (
        MultiWorkerMirroredStrategy as MultiWorkerMirroredStrategy,
    )
    from rdrop_keras.distribution.statistics import (
        average_statistics as average_statistics,
    )

_MODULES = {
    "MultiWorkerMirroredStrategy": "multi_worker",
    "average_statistics": "statistics",
}
__all__ = ["MultiWorkerMirroredStrategy", "average_statistics"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name[:2] == "__")]
