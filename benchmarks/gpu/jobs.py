"""Measurements in a process of their own, within a budget of time.

A job is a dict, which travels to `python -m benchmarks.gpu.jobs` as JSON. It
names a module that has two functions:

- `steps_of(job)` returns the steps of the arms, and facts about each arm. A
  fact "skipped" is the reason why an arm has no step.
- `peak_of(work)` returns the peak memory of the process after `work()`.
"""

from __future__ import annotations

import functools
import importlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.harness import seconds_of
from benchmarks.harness import take_turns
from benchmarks.peak import peak_above

# Runs a number of steps, waits for them, and returns the last loss.
Steps = Callable[[int], float]
FAST_COMPILATION = (
    "--xla_backend_optimization_level=1 "
    "--xla_llvm_disable_expensive_passes=true"
)
# To start a process and import a framework.
LEAST_SECONDS = 15.0


class Budget:
    """The time that is left.

    Args:
        minutes: The whole time. None is without limit.
    """

    def __init__(self, minutes: float | None):
        self.end = (
            math.inf if minutes is None else time.monotonic() + (60 * minutes)
        )

    def left(self) -> float:
        """Returns the seconds that are left."""
        return self.end - time.monotonic()


def run(job: dict[str, Any], budget: Budget, cache: str) -> dict[str, Any]:
    """Returns the result of a job that ran in a fresh process.

    Args:
        job: The job.
        budget: The time that is left. The process is killed at its end.
        cache: A directory in which XLA's programs are kept for later jobs.

    Raises:
        RuntimeError: If there is no result, with the reason.
    """
    left = budget.left()
    if left < LEAST_SECONDS:
        raise RuntimeError("no time was left")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "result.json"
        command = [sys.executable, "-m", __name__, json.dumps(job), str(path)]
        environment = {
            **os.environ,
            "KERAS_BACKEND": job["backend"],
            "JAX_COMPILATION_CACHE_DIR": cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        if job["tiny"]:
            # On a CPU, compilation takes most of a rehearsal.
            environment["XLA_FLAGS"] = FAST_COMPILATION
        try:
            done = subprocess.run(
                command,
                env=environment,
                stderr=subprocess.PIPE,
                text=True,
                timeout=None if left == math.inf else left - 2,
            )
        except subprocess.TimeoutExpired as error:
            raise RuntimeError("the time ended during this") from error
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no message"]
            print(done.stderr, file=sys.stderr, flush=True)
            raise RuntimeError(f"exit {done.returncode}: {lines[-1][:200]}")
        return json.loads(path.read_text("utf-8"))


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Returns times of arms that take turns, or the peak memory of one arm."""
    module = importlib.import_module(job["module"])
    if job["measure"] == "memory":
        facts: dict[str, dict[str, Any]] = {}

        def work():
            steps, found = module.steps_of(job)
            facts.update(found)
            for arm, run in steps.items():
                facts[arm]["last_loss"] = _finite(arm, run(2))

        peak = module.peak_of(work)
        return {"bytes": peak, "facts": facts, "skipped": _skipped(facts)}
    steps, facts = module.steps_of(job)
    skipped = _skipped(facts)
    for arm, run in steps.items():
        facts[arm]["first_loss"] = _finite(arm, run(1))
    count = job["steps"]
    seconds = take_turns(
        {arm: functools.partial(run, count) for arm, run in steps.items()},
        job["repeats"],
        warm_up=1,
        measure=lambda run: seconds_of(run) / count,
    )
    for arm, run in steps.items():
        facts[arm]["last_loss"] = _finite(arm, run(1))
    return {"seconds": seconds, "facts": facts, "skipped": skipped}


def _skipped(facts: dict[str, dict[str, Any]]) -> dict[str, str]:
    found = {
        arm: fact["skipped"] for arm, fact in facts.items() if "skipped" in fact
    }
    for arm in found:
        del facts[arm]
    return found


def peak_on_host(work: Callable[[], Any]) -> int:
    """Returns the peak of the memory of this process on a CPU."""
    return peak_above(work)


def _finite(arm: str, loss: float) -> float:
    # Arithmetic on NaN may be faster or slower.
    if not math.isfinite(loss):
        raise ValueError(f"Expected finite losses. {arm} has {loss}.")
    return loss


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(measure(json.loads(sys.argv[1]))))
