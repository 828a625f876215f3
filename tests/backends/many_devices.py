"""Trains cases of `cases.py` on several devices by `DataParallel`.

    KERAS_BACKEND=jax python many_devices.py results.json \\
        [--process 0 --port 12345] [case ...]

The devices are those that JAX finds: of one process, or of two, each of which
reads its half of the rows of every batch.
"""

import argparse
import json

import cases
import keras
import numpy as np

BATCH = 8


def half(value, process):
    """Returns the rows of a process: its half of every batch."""
    if value is None:
        return None
    rows = np.arange(len(value)).reshape(-1, 2, BATCH // 2)
    return value[rows[:, process].ravel()]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("path")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--process", type=int)
    parser.add_argument("--port", type=int)
    flags = parser.parse_intermixed_args()
    batch_size = BATCH
    if flags.process is not None:
        keras.distribution.initialize(
            f"127.0.0.1:{flags.port}", 2, flags.process
        )
        batch_size = BATCH // 2
    distribution = keras.distribution.DataParallel(auto_shard_dataset=False)
    found, results = cases.cases(), {}
    for name in flags.names or found:
        case = found[name]()
        if flags.process is not None:
            for part in ("x", "y", "weight"):
                case[part] = keras.tree.map_structure(
                    lambda v: half(v, flags.process), case[part]
                )
        try:
            results[name] = cases.run(
                case, batch_size, distribution=distribution
            )
        except Exception as error:
            results[name] = {"error": f"{type(error).__name__}: {error}"}
            if flags.process is not None:
                raise
    with open(flags.path, "w") as file:
        json.dump(results, file, default=float)


if __name__ == "__main__":
    main()
