"""Steps that XLA has compiled, of JAX or of TensorFlow's program."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax

from benchmarks.gpu import jobs


class Compiled:
    """A compiled step, with the state that each step replaces.

    Args:
        step: A compiled function of a state and a batch that returns logs, the
            loss among them, and the new state. It donates the state.
        state: The state before the first step.
        batch: The batch of all steps, on the device.
        loss_of: A function that finds the loss in the logs.
    """

    def __init__(
        self,
        step: Any,
        state: Any,
        batch: Any,
        loss_of: Callable[[Any], Any],
    ):
        self.step = step
        self.state = state
        self.batch = batch
        self.loss_of = loss_of

    def __call__(self, steps: int) -> float:
        for _ in range(steps):
            logs, self.state = self.step(self.state, self.batch)
        jax.block_until_ready((logs, self.state))
        return float(self.loss_of(logs))

    def facts(self) -> dict[str, Any]:
        """Returns what XLA says about the program."""
        memory = self.step.memory_analysis()
        if memory is None:
            return {}
        # The memory that it takes is known before it runs.
        return {
            "program_bytes": memory.argument_size_in_bytes
            + memory.output_size_in_bytes
            + memory.temp_size_in_bytes
            - memory.alias_size_in_bytes
        }


def compile_all(lowered: dict[str, Any]) -> dict[str, Any]:
    """Compiles lowered functions, all at the same time."""
    with ThreadPoolExecutor(len(lowered) or 1) as pool:
        compiled = pool.map(lambda each: each.compile(), lowered.values())
        return dict(zip(lowered, compiled))


def peak_of(work: Callable[[], Any]) -> int:
    """Returns the peak memory of the device, or of the host if it is that."""
    (device, *_) = jax.local_devices()
    if device.platform == "cpu":
        return jobs.peak_on_host(work)
    work()
    return device.memory_stats()["peak_bytes_in_use"]


def device_name() -> str:
    """Returns the name of the device."""
    return jax.local_devices()[0].device_kind
