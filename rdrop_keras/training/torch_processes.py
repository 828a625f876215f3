"""What a training step on PyTorch needs if several processes train together.

Keras 3.16 wraps the model in `DistributedDataParallel`, which averages the
gradients of one call of the wrapper. The passes are several calls, some of a
part of the model, so that the step averages the gradients itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import keras
import torch
from torch import distributed

from rdrop_keras import _keras


def averaged(model: Any, gradients: Sequence[Any]) -> list[Any]:
    """Returns the means of gradients over the processes that train a model.

    Args:
        model: The model that the step trains.
        gradients: The gradient of each trainable weight, or None.
    """
    group = _keras.process_group(model)
    if group is None:
        return list(gradients)
    weights = [weight.value for weight in model.trainable_weights]
    # The rows of a process may take a branch that those of others do not.
    processes = torch.tensor(
        [float(gradient is not None) for gradient in gradients],
        device=weights[0].device,
    )
    _add_up([processes], group)
    found: list[Any] = [None] * len(weights)
    for index, count in enumerate(processes.tolist()):
        if count:
            gradient = gradients[index]
            if gradient is None:
                gradient = torch.zeros_like(weights[index])
            # Before the sum, which might overflow in half precision.
            found[index] = gradient.div_(group.size())
    _add_up([gradient for gradient in found if gradient is not None], group)
    return found


def in_any_process(model: Any, flag: bool) -> bool:
    """Returns whether a flag is set in any of the processes that train a model.

    All of them must call it.
    """
    group = _keras.process_group(model)
    if group is None:
        return flag
    total = torch.tensor(
        float(flag), device=model.trainable_weights[0].value.device
    )
    _add_up([total], group)
    return bool(total)


@contextlib.contextmanager
def aggregated(model: Any, variables: Iterable[keras.Variable]) -> Iterator:
    """Returns a context in which metrics hold the totals over all processes.

    Args:
        model: The model that the step trains.
        variables: Variables of metrics. Outside of the context they keep the
            values of this process.
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
    group = _keras.process_group(model)
    return group is None or distributed.get_rank(group) == 0


def _add_up(tensors: list[torch.Tensor], group: Any) -> None:
    started = [
        distributed.all_reduce(tensor, group=group, async_op=True)
        for tensor in tensors
    ]
    for work in started:
        work.wait()
