"""SavedModels: the only part that needs TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras


def export_functions(
    path: Path,
    functions: dict[str, tuple[Callable[..., Any], list[Any]]],
    resources: list[Any],
) -> None:
    """Writes a SavedModel with one endpoint per function.

    Args:
        path: The directory to write.
        functions: A function and its input signature for each endpoint name.
            The endpoint "serve" is also the default signature.
        resources: The models and layers that the functions use.
    """
    archive = keras.export.ExportArchive()
    for resource in resources:
        archive.track(resource)
    for name, (function, signature) in functions.items():
        archive.add_endpoint(name, function, input_signature=signature)
    archive.write_out(str(path), verbose=False)
