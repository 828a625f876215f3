"""What all measurements of speed share, of whichever framework."""

from __future__ import annotations

from benchmarks.arms import CHUNKS
from benchmarks.arms import DOUBLED
from benchmarks.arms import PLAIN
from benchmarks.arms import TORCH
from benchmarks.arms import TORCH_COMPILED

TRANSFORMER = "transformer-big"
MODELS = (TRANSFORMER, "vit-b16", "bert-base")
POLICIES = {"bf16": "mixed_bfloat16", "fp32": "float32"}
# The first two are compared in memory, so they come first.
JAX_ARMS = (DOUBLED, CHUNKS, "concat", "calls", PLAIN)
LINEAR = "PyTorch, authors, linear_cross_entropy"
# So low that training on random labels does not diverge.
LEARNING_RATE = 1e-5
# NVIDIA's figures for dense matrix products, in TFLOP/s: bfloat16 and
# TensorFloat-32. The first name that is a part of the device's name counts.
PEAK = {
    "H100 PCIe": (756, 378),
    "H100": (989, 494),
    "H200": (989, 494),
    "A100": (312, 156),
    "L40S": (362, 183),
    "L4": (121, 60),
}


def arms_of(model: str) -> list[str]:
    """Returns the arms of a model. Some are for large vocabularies only."""
    arms = [*JAX_ARMS, TORCH, LINEAR, TORCH_COMPILED]
    if model == TRANSFORMER:
        return arms
    return [arm for arm in arms if arm not in (CHUNKS, LINEAR)]


def passes_of(arm: str) -> int:
    """Returns how many passes over the batch a step of an arm computes."""
    return 1 if arm == PLAIN else 2


def peak_flops(device: str, dtype: str) -> float | None:
    """Returns the peak arithmetic of a device, in operations a second.

    Args:
        device: The name of the device.
        dtype: "bf16" or "fp32", whose products are in TensorFloat-32.
    """
    for name, (bf16, tf32) in PEAK.items():
        if name in device:
            return 1e12 * (bf16 if dtype == "bf16" else tf32)
    return None
