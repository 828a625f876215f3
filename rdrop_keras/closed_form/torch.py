"""Functions with a gradient of their own on PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class _WithGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, function, *tensors):
        results, ctx.gradient = function(*tensors)
        return tuple(results)

    @staticmethod
    def backward(ctx, *upstream):
        return None, *ctx.gradient(*upstream)


def custom_gradient(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function of tensors with several results and a given gradient.

    Args:
        function: As in `rdrop_keras.closed_form.custom_gradient`.
    """
    return lambda *tensors: _WithGradient.apply(function, *tensors)
