"""TensorFlow's own compiled training steps, for machines without TensorFlow.

    python -m benchmarks.gpu.stablehlo write DIR
    python -m benchmarks.gpu.stablehlo run DIR

`write` needs TensorFlow and JAX, and no GPU. It traces `train_step` under
`tf.function(jit_compile=True)`, takes its program before XLA has optimized it,
which is StableHLO, and writes it in the format of `jax.export`, a file for each
arm, and beside it what the arguments are. Weights are arguments, so that the
files are small.

`run` needs JAX and Keras, and no TensorFlow. It compiles the programs for the
device that there is and times their steps in turns. A step takes the variables
that the step before it has left, and gives up their memory, as TensorFlow's
does.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu.settings import JAX_ARMS
from benchmarks.gpu.settings import MODELS
from benchmarks.gpu.settings import POLICIES
from benchmarks.gpu.settings import arms_of


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes programs, or runs them."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("verb", choices=("write", "run"))
    add("directory", type=Path)
    add("--models", nargs="+", choices=MODELS, default=MODELS)
    add("--dtypes", nargs="+", choices=POLICIES, default=list(POLICIES))
    add("--arms", nargs="+", choices=JAX_ARMS, default=JAX_ARMS)
    add("--tiny", action="store_true", help="tiny models, as a rehearsal")
    add("--minutes", type=float, help="for `run`: as for benchmarks.gpu.speed")
    add("--output", type=Path, metavar="DIR", help="for `run`: of JSON files")
    flags = parser.parse_args(arguments)
    if flags.verb == "write":
        write(flags)
    else:
        run(flags)


def write(flags: argparse.Namespace) -> None:
    """Writes the programs, and prints their sizes."""
    if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
        raise SystemExit("Expected Keras's backend to be TensorFlow.")
    from benchmarks.gpu.export import export_step

    flags.directory.mkdir(parents=True, exist_ok=True)
    for model in flags.models:
        for dtype in flags.dtypes:
            for arm in flags.arms:
                if arm not in arms_of(model):
                    continue
                program, facts = export_step(model, dtype, arm, flags.tiny)
                path = path_of(flags.directory, model, dtype, arm)
                packed = gzip.compress(program)
                path.write_bytes(packed)
                path.with_suffix(".json").write_text(json.dumps(facts))
                print(f"{path}: {len(packed) / 1e6:.2f} MB", flush=True)


def path_of(directory: Path, model: str, dtype: str, arm: str) -> Path:
    """Returns the path of the program of an arm."""
    name = f"{model}_{dtype}_{arm}".replace(", ", "_").replace(" ", "_")
    return directory / f"{name}.gz"


def run(flags: argparse.Namespace) -> None:
    """Times the programs."""
    from benchmarks.gpu import speed

    arguments = ["--frameworks", speed.TENSORFLOW, "--memory"]
    arguments += ["--programs", str(flags.directory), "--models", *flags.models]
    arguments += ["--dtypes", *flags.dtypes, "--arms", *flags.arms]
    for name in ("minutes", "output"):
        if getattr(flags, name) is not None:
            arguments += [f"--{name}", str(getattr(flags, name))]
    speed.main([*arguments, "--tiny"] if flags.tiny else arguments)


if __name__ == "__main__":
    main()
