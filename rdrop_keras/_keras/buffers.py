"""The buffers of PyTorch modules, which are no variables of Keras."""

from __future__ import annotations

from typing import Any
from typing import NamedTuple

import keras

from rdrop_keras._keras.models import all_layers


class Buffer(NamedTuple):
    """A buffer of a PyTorch module, and a value that it had."""

    module: Any
    name: str
    tensor: Any
    value: Any


def module_buffers(model: keras.Model) -> list[Buffer]:
    """Returns the buffers of a model's PyTorch modules with their values.

    A training-mode call updates some of them, such as the moving statistics of
    `torch.nn.BatchNorm1d`. Keras tracks the parameters of a module only, so
    that a `keras.StatelessScope` does not hold these updates back. The result
    is empty on other backends.
    """
    if keras.backend.backend() != "torch":
        return []
    return [
        Buffer(module, name, tensor, tensor.clone())
        for layer in [model, *all_layers(model)]
        if isinstance(layer, keras.layers.TorchModuleWrapper)
        for module in layer.module.modules()
        for name, tensor in module.named_buffers(recurse=False)
    ]


def set_module_buffers(buffers: list[Buffer]) -> None:
    """Sets the values that `module_buffers` returned."""
    for module, name, tensor, value in buffers:
        # A module may have put another tensor in its place.
        setattr(module, name, tensor)
        # By `data`, so that automatic differentiation does not take this for
        # a change of a tensor that a pass has used.
        tensor.data.copy_(value)
