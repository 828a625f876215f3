"""Prints how far each case of `cases.py` differs on two replicas from one.

python tests/distribution/on_two_replicas.py [case ...]
"""

import pathlib
import sys

import numpy as np
import tensorflow as tf

sys.path.append(str(pathlib.Path(__file__).parents[1] / "backends"))

from cases import cases
from cases import run


def largest_difference(one, other):
    pairs = [
        *zip(one["weights"], other["weights"], strict=True),
        *(
            (values, other[part][name])
            for part in ("logs", "evaluate")
            for name, values in one[part].items()
        ),
    ]
    return max(np.abs(np.subtract(*pair)).max() for pair in pairs)


def main(*names):
    cpu = tf.config.list_physical_devices("CPU")[0]
    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, halves)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    found = cases()
    for name in names or found:
        try:
            two = run(found[name](), scope=strategy.scope)
        except ValueError as error:
            print(f"{name}: refused, {str(error).split('.')[0]}", flush=True)
            continue
        difference = largest_difference(run(found[name]()), two)
        print(f"{name}: {difference:.1e}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
