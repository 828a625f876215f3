"""Train the runs of a plan on a prepared corpus, in the time that there is.

    KERAS_BACKEND=jax python -m benchmarks.gpu.run \\
        --prepared prepared/debian_en_it --plan small --minutes 12 \\
        --output results

Each run writes one JSON file when it has ended. Runs whose files are there are
skipped, so that the same command continues a plan. A run that would not end
within `--minutes` is given up, and the plan ends.

This needs Keras, NumPy, a backend, sacreBLEU, SentencePiece and this
repository, and neither TensorFlow nor KerasHub.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib.metadata
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from benchmarks.gpu.cell import Cell
from benchmarks.gpu.corpus import Prepared
from benchmarks.gpu.plans import PLANS
from benchmarks.gpu.training import OutOfTime
from benchmarks.gpu.training import Training
from reproduce.common import runs
from reproduce.common.arms import ARMS
from reproduce.common.errors import InputError

# A tiny model, few updates and few texts, to see that everything works. CPUs
# are slow in half precision.
TINY = {
    "size": "tiny",
    "updates": 20,
    "max_tokens": 512,
    "pairs": 200,
    "dtype": "float32",
    "validations": 2,
}
TINY_TEXTS = 32
PACKAGES = ("keras", "numpy", "sacrebleu", "sentencepiece")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    started = time.monotonic()
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--prepared", type=Path, required=True, metavar="DIR")
    add("--plan", choices=list(PLANS), default="small")
    add("--arms", nargs="+", choices=list(ARMS), help="of the plan; all")
    add("--seeds", nargs="+", type=int, help="of the plan; all")
    add("--minutes", type=float, help="the time until the program must end")
    add("--tiny", action="store_true", help="a tiny model, as a rehearsal")
    add("--output", type=Path, required=True, metavar="DIR")
    flags = parser.parse_args(arguments)
    try:
        prepared = Prepared.load(flags.prepared)
        if flags.tiny:
            prepared = prepared.with_texts(TINY_TEXTS)
        flags.output.mkdir(parents=True, exist_ok=True)
    except InputError as error:
        parser.exit(2, f"{error}\n")
    if keras.config.backend() == "jax":
        cache_compilations(flags.output / "compiled")
    deadline = flags.minutes and started + 60 * flags.minutes
    for cell in chosen(flags):
        path = flags.output / cell.file_name(prepared.name)
        if path.exists():
            continue
        print(f"{path.stem}: {cell}", flush=True)
        try:
            record = Training(prepared, cell).run(deadline)
        except OutOfTime as error:
            print(f"  given up: {error}.")
            break
        # Whole or not at all, also if the program is killed.
        runs.write_json(path, record | {"machine": machine()})


def chosen(flags: argparse.Namespace) -> list[Cell]:
    """Returns the cells of the plan that the flags select."""
    cells = [
        dataclasses.replace(cell, **TINY) if flags.tiny else cell
        for cell in PLANS[flags.plan]
        if (not flags.arms or cell.arm in flags.arms)
        and (not flags.seeds or cell.seed in flags.seeds)
    ]
    return list(dict.fromkeys(cells))


def cache_compilations(directory: Path) -> None:
    """Keeps what XLA compiles, because runs that differ in their seeds alone
    run the same programs.
    """
    import jax

    jax.config.update("jax_compilation_cache_dir", str(directory))


def machine() -> dict[str, Any]:
    """Returns the date, the devices and the versions."""
    backend = keras.config.backend()
    return {
        "date": datetime.datetime.now().astimezone().isoformat("T", "seconds"),
        "backend": backend,
        "device": device(backend),
        "python": platform.python_version(),
        "versions": {
            name: importlib.metadata.version(name)
            for name in (*PACKAGES, backend)
        },
    }


def device(backend: str) -> str:
    """Returns the name of the first device of a backend."""
    if backend == "jax":
        import jax

        return jax.devices()[0].device_kind
    return keras.distribution.list_devices()[0]


if __name__ == "__main__":
    main()
