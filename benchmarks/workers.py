"""Training with one worker and with several, each on a core of its own.

    python -m benchmarks.workers --output results

The workers are processes of this machine that train one model by
`rdrop_keras.distribution.MultiWorkerMirroredStrategy`, each on its own batch,
plain and with R-Drop. Their numbers take turns. Each turn starts the workers
again, and a value is the median of its steps. `throughput` is the number of
examples a second, by that of one worker. The bytes are those that Linux counts
on the loopback interface, beside those of a ring of all gradients.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks.communication import Cost
from benchmarks.harness import parse
from benchmarks.harness import parser_of
from benchmarks.models import CASES
from benchmarks.models import case_of
from benchmarks.objectives import crossentropy
from benchmarks.report import Report

ARMS = ("plain", "R-Drop")
WARM_UP = 4
QUICK = {"repeats": 1, "models": ["cnn"], "steps": 3}
TIMEOUT = 300.0
STATISTICS = Path("/sys/class/net/lo/statistics")
MEASURE = "from benchmarks.workers import measure; measure()"


class Times(keras.callbacks.Callback):
    """Keeps the time and the bytes sent after each step."""

    def __init__(self):
        super().__init__()
        self.seconds: list[float] = []
        self.bytes: list[int] = []

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        # Waits for the end of the step.
        float((logs or {})["loss"])
        self.seconds.append(time.perf_counter())
        self.bytes.append(bytes_sent())


def bytes_sent() -> int:
    """Returns how many bytes Linux has sent on the loopback interface."""
    return int((STATISTICS / "tx_bytes").read_text())


def measure() -> None:
    """Trains as one of the workers, and prints the numbers of each arm."""
    settings = json.loads(os.environ["RDROP_KERAS_WORKER"])
    import tensorflow as tf

    from rdrop_keras.distribution import MultiWorkerMirroredStrategy

    # It warns that each arm is another program.
    tf.get_logger().setLevel("ERROR")
    os.sched_setaffinity(0, {settings["core"]})
    tf.config.threading.set_intra_op_parallelism_threads(1)
    if settings["workers"] == 1:
        strategy: Any = tf.distribute.get_strategy()
    else:
        strategy = MultiWorkerMirroredStrategy(timeout=TIMEOUT)
    found = {}
    for arm in ARMS:
        case = case_of(settings["model"], settings["quick"])
        keras.utils.set_random_seed(0)
        with strategy.scope():
            model = case.plain() if arm == "plain" else case.build()
            optional = {} if arm == "plain" else {"rdrop": 5.0}
            model.compile(
                "sgd", crossentropy(0.0), jit_compile=False, **optional
            )
        batch = len(case.y) * settings["workers"]
        x, y = keras.tree.map_structure(
            lambda t: np.concatenate([t] * settings["workers"]),
            (case.x, case.y),
        )
        data = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch).repeat()
        times = Times()
        model.fit(
            data,
            shuffle=False,
            steps_per_epoch=WARM_UP + settings["steps"],
            callbacks=[times],
            verbose=0,
        )
        measured = len(times.bytes) - WARM_UP
        sent = (times.bytes[-1] - times.bytes[WARM_UP - 1]) / measured
        steps = np.diff(times.seconds)[WARM_UP - 1 :]
        found[arm] = {
            "seconds": statistics.median(steps.tolist()),
            "bytes_a_step": sent,
            "parameters": model.count_params(),
        }
    print(json.dumps(found))


def turn(
    model: str, workers: int, flags: argparse.Namespace
) -> dict[str, dict[str, Any]]:
    """Starts workers, and returns what the first of them measured.

    Args:
        model: A key of `benchmarks.models.CASES`.
        workers: The number of workers.
        flags: The parsed command line.
    """
    cores = sorted(os.sched_getaffinity(0))
    hosts = [f"127.0.0.1:{port}" for port in free_ports(workers)]
    processes = []
    for index in range(workers):
        settings = {
            "model": model,
            "quick": flags.quick,
            "steps": flags.steps,
            "workers": workers,
            "core": cores[index % len(cores)],
        }
        task = {"type": "worker", "index": index}
        cluster = {"cluster": {"worker": hosts}, "task": task}
        environment = {
            "KERAS_BACKEND": "tensorflow",
            "RDROP_KERAS_WORKER": json.dumps(settings),
            "TF_CONFIG": json.dumps(cluster),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        process = subprocess.Popen(
            [sys.executable, "-c", MEASURE],
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
    try:
        outputs = [
            process.communicate(timeout=TIMEOUT) for process in processes
        ]
    finally:
        for process in processes:
            process.kill()
    return json.loads(outputs[0][0].splitlines()[-1])


def free_ports(count: int) -> list[int]:
    """Returns different ports on which nothing listens."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints a table, writes JSON and a plot."""
    parser = parser_of(__doc__, repeats=5, jit=None)
    add = parser.add_argument
    add(
        "--models",
        nargs="+",
        choices=list(CASES),
        default=["transformer-8k", "vit"],
    )
    add("--workers", type=int, default=2, help="the larger number of workers")
    add("--steps", type=int, default=20, help="the steps of each turn")
    flags = parse(parser, arguments, QUICK)
    columns = {
        "throughput": lambda row: f"{row['throughput']:.2f}",
        "MB a step": lambda row: f"{row['bytes_a_step'] / 1e6:.1f}",
        "MB of the ring": lambda row: f"{row['bytes_of_the_ring'] / 1e6:.1f}",
    }
    title = "time of a training step with several workers"
    report = Report("workers", title, "seconds", flags, columns)
    order = random.Random(0)
    counts = [1, flags.workers]
    for name in flags.models:
        turns: dict[int, list[Any]] = {count: [] for count in counts}
        for _ in range(flags.repeats):
            for count in order.sample(counts, len(counts)):
                turns[count].append(turn(name, count, flags))
        for arm in ARMS:
            seconds = {
                count: [each[arm]["seconds"] for each in turns[count]]
                for count in counts
            }
            one = statistics.median(seconds[1])
            facts = {
                _name(count): {
                    "throughput": count * one / statistics.median(values),
                    "bytes_a_step": statistics.median(
                        [each[arm]["bytes_a_step"] for each in turns[count]]
                    ),
                    "bytes_of_the_ring": count
                    * Cost(turns[count][0][arm]["parameters"], 0).sent(count),
                }
                for count, values in seconds.items()
            }
            report.add(
                f"{name}, {arm}",
                False,
                _name(1),
                {_name(count): values for count, values in seconds.items()},
                facts,
            )
    report.finish()


def _name(count: int) -> str:
    return f"{count} worker{'s' * (count > 1)}"


if __name__ == "__main__":
    main()
