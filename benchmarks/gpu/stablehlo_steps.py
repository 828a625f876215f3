"""Training steps of TensorFlow's programs, by JAX's runtime."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.gpu.compiled import Compiled
from benchmarks.gpu.compiled import compile_all
from benchmarks.gpu.compiled import device_name
from benchmarks.gpu.compiled import peak_of
from benchmarks.gpu.stablehlo import path_of

__all__ = ["peak_of", "steps_of"]


def steps_of(
    job: dict[str, Any],
) -> tuple[dict[str, Compiled], dict[str, dict[str, Any]]]:
    """Returns the compiled step of each arm, and facts about it.

    Args:
        job: The model, the dtype, the arms, and the folder of the programs.
    """
    # The programs have integers of 64 bits.
    jax.config.update("jax_enable_x64", True)
    lowered, arguments, facts = {}, {}, {}
    for arm in job["arms"]:
        directory = Path(job["programs"])
        path = path_of(directory, job["model"], job["dtype"], arm)
        if not path.exists():
            facts[arm] = {"skipped": f"{path} is not there"}
            continue
        described = json.loads(path.with_suffix(".json").read_text("utf-8"))
        batch, variables = (
            drawn(described.pop(name)) for name in ("batch", "variables")
        )
        arguments[arm] = variables, batch
        lowered[arm] = lower(
            gzip.decompress(path.read_bytes()), batch, variables
        )
        facts[arm] = {"device": device_name(), **described}
    steps = {}
    for arm, step in compile_all(lowered).items():
        steps[arm] = Compiled(step, *arguments[arm], lambda loss: loss)
        facts[arm] |= steps[arm].facts()
    return steps, facts


def lower(program: bytes, batch: list[Any], variables: list[Any]) -> Any:
    """Returns the lowered step of a state, the variables, and a batch."""
    exported = jax.export.deserialize(bytearray(program))

    def step(variables, batch):
        return exported.call(batch, variables)

    return jax.jit(step, donate_argnums=0).lower(variables, batch)


def drawn(described: list[dict[str, Any]]) -> list[Any]:
    """Returns arrays of random values with the distribution of real ones."""
    generator = np.random.default_rng(0)

    def draw(facts):
        shape, dtype = tuple(facts["shape"]), np.dtype(facts["dtype"])
        if "values" in facts:
            value = np.reshape(facts["values"], shape)
        elif "high" in facts:
            value = generator.integers(0, facts["high"], shape)
        elif not facts["deviation"]:
            value = np.full(shape, facts["mean"], dtype)
        else:
            normal = generator.standard_normal(shape, "float32")
            value = facts["mean"] + facts["deviation"] * normal
        return jax.numpy.asarray(value, dtype)

    return [draw(facts) for facts in described]
