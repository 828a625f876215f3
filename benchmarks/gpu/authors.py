"""The authors' formula in PyTorch, on a GPU or the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import torch
import torch.nn.functional as F

from benchmarks.arms import ALPHA
from benchmarks.arms import TORCH
from benchmarks.arms import TORCH_COMPILED
from benchmarks.arms import keras_model
from benchmarks.arms import torch_tensors
from benchmarks.arms import two_passes
from benchmarks.gpu import jobs
from benchmarks.gpu.models import Measured
from benchmarks.gpu.models import model_of
from benchmarks.gpu.settings import LEARNING_RATE
from benchmarks.gpu.settings import LINEAR
from benchmarks.objectives import torch_authors

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def steps_of(
    job: dict[str, Any],
) -> tuple[dict[str, jobs.Steps], dict[str, dict[str, Any]]]:
    """Returns the steps of each arm, and facts about each.

    Args:
        job: The model, the dtype and the arms.
    """
    # TensorFloat-32, as XLA does by default.
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    measured = model_of(job["model"], job["tiny"])
    weights = keras_model(measured.case, TORCH).get_weights()
    facts = {
        "device": torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu",
        "items": measured.items,
        "unit": measured.unit,
        "flops": 6 * measured.flops,
    }
    if not hasattr(torch.nn, "LinearCrossEntropyOptions") and (
        job["arms"] == [LINEAR]
    ):
        reason = f"PyTorch {torch.__version__} has no chunked {LINEAR}"
        return {}, {LINEAR: {"skipped": reason}}
    steps = {
        arm: _step_of(measured, weights, arm, job["dtype"] == "bf16")
        for arm in job["arms"]
    }
    return steps, {arm: dict(facts) for arm in steps}


def _step_of(
    measured: Measured, weights: list[Any], arm: str, bf16: bool
) -> jobs.Steps:
    case = measured.case
    module = case.twin(weights).train().to(DEVICE)
    optimizer = torch.optim.Adam(
        module.parameters(), lr=LEARNING_RATE, fused=DEVICE == "cuda"
    )
    x, y = keras.tree.map_structure(
        lambda t: t.to(DEVICE),
        (torch_tensors(case.x), torch.from_numpy(case.y).long()),
    )
    objective = torch_authors()

    def loss_of(x, y):
        with torch.autocast(DEVICE, torch.bfloat16, enabled=bf16):
            logits = two_passes(module, x, case.one_call)
            return objective(y, logits, ALPHA, case.label_smoothing)

    def linear_loss_of(x, y):
        with torch.autocast(DEVICE, torch.bfloat16, enabled=bf16):
            hidden = two_passes(module.hidden_states, x, one_call=True)
            kernel = module.embedding
            if bf16:
                # What autocast does for `linear`, it does not for this.
                kernel = kernel.bfloat16()
                hidden = [h.bfloat16() for h in hidden]
            return linear_objective(y, hidden, kernel, ALPHA)

    function = linear_loss_of if arm == LINEAR else loss_of
    if arm == TORCH_COMPILED:
        function = torch.compile(function)

    def run(steps: int) -> float:
        for _ in range(steps):
            optimizer.zero_grad()
            loss = function(x, y)
            loss.backward()
            optimizer.step()
        # This waits for the device.
        return loss.item()

    return run


def linear_objective(y: Any, hidden: Any, kernel: Any, alpha: float) -> Any:
    """The authors' formula, with crossentropies from hidden states.

    `linear_cross_entropy` never holds the logits of all items, but the
    divergence of the two passes needs them.

    Args:
        y: The class ids.
        hidden: The hidden states of the two passes.
        kernel: The kernel of the logits, `(classes, width)`.
        alpha: The weight of the consistency.
    """
    states = [h.flatten(0, -2) for h in hidden]
    options = torch.nn.LinearCrossEntropyOptions()
    task = sum(
        F.linear_cross_entropy(h, kernel, y.flatten(), options=options)
        for h in states
    )
    p, q = (F.log_softmax(h @ kernel.T, dim=-1) for h in states)
    divergence = sum(
        F.kl_div(*pair, reduction="none", log_target=True).sum()
        for pair in ((p, q), (q, p))
    )
    return task / 2 + alpha / 4 * divergence / len(states[0])


def peak_of(work: Callable[[], Any]) -> int:
    """Returns the peak memory of the device, or of the host without one."""
    if DEVICE == "cpu":
        return jobs.peak_on_host(work)
    work()
    return torch.cuda.max_memory_allocated()
