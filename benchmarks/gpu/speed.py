"""Speed and memory of training steps on a GPU.

    KERAS_BACKEND=jax python -m benchmarks.gpu.speed --minutes 8 --output DIR

Keras on JAX: a plain step, a plain step on the batch repeated twice, and R-Drop
in two calls, in one call and in chunks of the vocabulary. Beside it, the
formula of the paper's authors in PyTorch, and, with `--programs`, TensorFlow's
own compiled step, which `benchmarks.gpu.stablehlo` has written.

Each framework runs in a process of its own, in which its arms take turns.
Compilation is not timed. Each peak of memory is that of a fresh process. The
measurements come in the order of their importance, each is written as soon as
it has ended, and the program ends within `--minutes`.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.arms import CHUNKS
from benchmarks.arms import DOUBLED
from benchmarks.arms import PLAIN
from benchmarks.arms import TORCH
from benchmarks.arms import TORCH_COMPILED
from benchmarks.gpu.jobs import Budget
from benchmarks.gpu.jobs import run
from benchmarks.gpu.settings import JAX_ARMS
from benchmarks.gpu.settings import LINEAR
from benchmarks.gpu.settings import MODELS
from benchmarks.gpu.settings import POLICIES
from benchmarks.gpu.settings import TRANSFORMER
from benchmarks.gpu.settings import arms_of
from benchmarks.gpu.settings import peak_flops
from benchmarks.harness import has_torch
from benchmarks.harness import parse
from benchmarks.harness import parser_of
from benchmarks.report import Report

JAX, PYTORCH, TENSORFLOW = "jax", "torch", "tensorflow"
# The backend of Keras, and the module with the steps.
FRAMEWORKS = {
    JAX: ("jax", "jax_steps"),
    PYTORCH: ("torch", "authors"),
    TENSORFLOW: ("jax", "stablehlo_steps"),
}
TINY = {
    "repeats": 2,
    "steps": 1,
    "dtypes": ["bf16"],
    # Compilation takes most of the time of a rehearsal.
    "arms": [
        a for a in arms_of(TRANSFORMER) if a not in (PLAIN, TORCH_COMPILED)
    ],
    "memory": ["bert-base"],
}
COLUMNS = {
    "a second": lambda row: f"{row['per_second']:,.0f} {row['unit']}",
    "of peak": lambda row: (
        "" if row["share_of_peak"] is None else f"{row['share_of_peak']:.0%}"
    ),
}


def queue(flags: Any) -> Iterator[dict[str, Any]]:
    """Yields all jobs, the most important ones first."""

    def jobs(measure, framework, dtype, only=None):
        if framework not in flags.frameworks:
            return
        backend, module = FRAMEWORKS[framework]
        models = flags.models if measure == "time" else flags.memory
        for model in models:
            known = arms_of(model)
            arms = JAX_ARMS if only is None else (only,)
            arms = [arm for arm in arms if arm in flags.arms and arm in known]
            if not arms:
                continue
            yield {
                "measure": measure,
                "framework": framework,
                "backend": backend,
                "module": f"benchmarks.gpu.{module}",
                "model": model,
                "dtype": dtype,
                "arms": arms,
                "tiny": flags.quick,
                "steps": flags.steps,
                "repeats": flags.repeats,
                "programs": str(flags.programs),
            }

    for dtype in flags.dtypes:
        yield from jobs("time", JAX, dtype)
        yield from jobs("time", PYTORCH, dtype, TORCH)
        yield from jobs("time", PYTORCH, dtype, LINEAR)
        yield from jobs("time", TENSORFLOW, dtype)
        for arm in (DOUBLED, CHUNKS):
            yield from jobs("memory", JAX, dtype, arm)
    for dtype in flags.dtypes:
        yield from jobs("time", PYTORCH, dtype, TORCH_COMPILED)
    for dtype in flags.dtypes:
        yield from jobs("memory", PYTORCH, dtype, TORCH)
        for arm in ("calls", "concat", PLAIN):
            yield from jobs("memory", JAX, dtype, arm)


class Results:
    """The reports of times and of memory.

    Args:
        flags: The parsed command line.
    """

    def __init__(self, flags: Any):
        self.time = Report(
            "gpu_speed", "time of a training step", "seconds", flags, COLUMNS
        )
        self.memory = Report("gpu_memory", "peak memory", "bytes", flags)
        self._bases: dict[tuple[str, str], list[float]] = {}

    def add(self, job: dict[str, Any], result: dict[str, Any]) -> None:
        """Adds the result of a job, with ratios to JAX's doubled batch."""
        report = self.time if job["measure"] == "time" else self.memory
        case = f"{job['model']}, {job['dtype']}"
        values = result.get("seconds") or {
            arm: [result["bytes"]] for arm in result["facts"]
        }
        facts = result["facts"]
        for arm, mine in values.items():
            facts[arm]["framework"] = job["framework"]
            if report is self.time:
                facts[arm] |= _rates(facts[arm], mine, job["dtype"])
        if job["framework"] == TENSORFLOW:
            # These have a doubled batch of their own.
            case = f"{case}, TensorFlow's program"
            base = DOUBLED if DOUBLED in values else next(iter(values))
            report.add(case, True, base, values, facts)
            return
        # Jobs of a case are apart, and its first has the doubled batch.
        against = self._bases.setdefault(
            (report.name, case),
            values.get(DOUBLED) or next(iter(values.values())),
        )
        xla = job["framework"] == JAX
        report.add(case, xla, DOUBLED, values, facts, against)

    def skip(self, job: dict[str, Any], reason: str) -> None:
        """Reports why a job was not done."""
        report = self.time if job["measure"] == "time" else self.memory
        case = f"{job['model']}, {job['dtype']}, {job['framework']}"
        for arm in job["arms"]:
            report.skip(case, arm, reason)

    def finish(self) -> None:
        """Prints tables and draws plots of what there is."""
        for report in (self.time, self.memory):
            if report.rows:
                report.finish()


def _rates(
    facts: dict[str, Any], seconds: list[float], dtype: str
) -> dict[str, Any]:
    median = statistics.median(seconds)
    peak = peak_flops(facts["device"], dtype)
    return {
        "per_second": facts["items"] / median,
        "share_of_peak": peak and facts["flops"] / median / peak,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints tables, writes JSON and plots."""
    parser = parser_of(__doc__, repeats=10, jit=None)
    add = parser.add_argument
    arms = arms_of(MODELS[0])
    add("--minutes", type=float, help="the time until the program must end")
    add("--steps", type=int, default=5, help="of a turn, without waiting")
    add("--programs", type=Path, metavar="DIR", help="TensorFlow's steps")
    add("--models", nargs="+", choices=MODELS, default=MODELS)
    add("--memory", nargs="*", choices=MODELS, default=MODELS, help="models")
    add("--dtypes", nargs="+", choices=POLICIES, default=list(POLICIES))
    add("--arms", nargs="+", choices=arms, default=arms)
    names = list(FRAMEWORKS)
    add("--frameworks", nargs="+", choices=names, default=names)
    flags = parse(parser, arguments, TINY)
    budget = Budget(flags.minutes)
    results = Results(flags)
    with tempfile.TemporaryDirectory() as cache:
        for job in queue(flags):
            if job["framework"] == TENSORFLOW and flags.programs is None:
                continue
            if job["backend"] == "torch" and not has_torch():
                results.skip(job, "PyTorch is not installed")
                continue
            started = time.monotonic()
            try:
                result = run(job, budget, cache)
            except RuntimeError as reason:
                results.skip(job, str(reason))
                continue
            names = ", ".join(job["arms"])
            print(
                f"{job['measure']}, {job['model']}, {job['dtype']}, "
                f"{job['framework']} ({names}): "
                f"{time.monotonic() - started:.0f} s",
                flush=True,
            )
            for arm, reason in result["skipped"].items():
                results.skip({**job, "arms": [arm]}, reason)
            if result["facts"]:
                results.add(job, result)
    results.finish()


if __name__ == "__main__":
    main()
