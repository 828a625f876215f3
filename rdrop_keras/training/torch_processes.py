"""What a training step on PyTorch needs if several processes train together.

Keras 3.16 wraps the model in `DistributedDataParallel`, which averages the
gradients of one call of the wrapper. The passes are several calls, some of a
part of the model, so that the step averages the gradients itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import keras
import torch
from torch import distributed

from rdrop_keras import _keras


def average_gradients(model: Any, gradients: Iterable[Any]) -> None:
    """Replaces gradients by their mean over the processes that train a model.

    Args:
        model: The model that the step trains.
        gradients: Tensors, or None for a weight that has no gradient.
    """
    group = _keras.process_group(model)
    if group is None:
        return
    present = [gradient for gradient in gradients if gradient is not None]
    for gradient in present:
        # Before the sum, which might overflow in half precision.
        gradient.div_(group.size())
    _add_up(present, group)


@contextlib.contextmanager
def aggregated(model: Any, variables: Iterable[keras.Variable]) -> Iterator:
    """Returns a context in which metrics have the rows of all processes.

    Args:
        model: The model that the step trains.
        variables: Variables of metrics, which do not change.
    """
    group = _keras.process_group(model)
    if group is None:
        yield
        return
    totals = [(variable, variable.value.clone()) for variable in variables]
    _add_up([total for _, total in totals], group)
    with keras.StatelessScope(totals):
        yield


def writes(model: Any) -> bool:
    """Returns whether this process writes files: of several, the first."""
    return not distributed.is_initialized() or distributed.get_rank() == 0


def _add_up(tensors: list[torch.Tensor], group: Any) -> None:
    started = [
        distributed.all_reduce(tensor, group=group, async_op=True)
        for tensor in tensors
    ]
    for work in started:
        work.wait()
