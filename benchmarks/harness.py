"""Shared parts of the benchmarks: flags, turns, fresh processes, machine."""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import datetime
import gc
import importlib.metadata
import importlib.util
import multiprocessing
import os
import platform
import random
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PACKAGES = ("keras", "numpy", "tensorflow", "jax", "torch")
JIT = {"off": (False,), "on": (True,), "both": (False, True)}


def parser_of(
    doc: str, repeats: int, jit: str | None = "both"
) -> argparse.ArgumentParser:
    """Returns a parser with the common flags of all benchmarks.

    Args:
        doc: The docstring of the benchmark, whose first line describes it.
        repeats: The default number of turns of each arm.
        jit: The default of `--jit`. None omits the flag.
    """
    parser = argparse.ArgumentParser(
        description=doc.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--repeats", type=_positive, default=repeats, help="turns of each arm")
    if jit is not None:
        add("--jit", choices=list(JIT), default=jit, help="XLA")
    add("--threads", type=_positive, help="of TensorFlow and PyTorch alike")
    add(
        "--quick",
        "--tiny",
        action="store_true",
        help="tiny sizes, to see that all works; the numbers mean nothing",
    )
    add(
        "--output",
        type=Path,
        metavar="DIR",
        help="where to write a JSON file and a plot; or the JSON file itself",
    )
    return parser


def parse(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    quick: dict[str, Any],
) -> argparse.Namespace:
    """Parses a command line and sets the number of threads.

    Args:
        parser: The parser of `parser_of`.
        arguments: The command line. The default is that of the process.
        quick: The defaults under `--quick`. Explicit flags override them.
    """
    if parser.parse_args(arguments).quick:
        parser.set_defaults(**quick)
    flags = parser.parse_args(arguments)
    set_threads(flags.threads)
    _quiet()
    return flags


def seconds_of(run: Callable[[], Any]) -> float:
    """Returns the duration of a call."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def take_turns(
    arms: dict[str, Callable[[], Any]],
    repeats: int,
    warm_up: int = 2,
    measure: Callable[[Callable[[], Any]], float] = seconds_of,
) -> dict[str, list[float]]:
    """Returns the seconds of each arm at each of its turns.

    The arms take turns, so that other load on the machine affects all of them.
    The order of each turn is random, so that no arm always follows the same
    other arm.

    Args:
        arms: The functions to time, by name. They must wait for their results.
        repeats: The number of turns that count.
        warm_up: The number of earlier turns that do not count.
        measure: A function that calls an arm and returns its seconds.
    """
    order = random.Random(0)
    seconds: dict[str, list[float]] = {arm: [] for arm in arms}
    with _collecting_by_hand():
        for turn in range(-warm_up, repeats):
            # Otherwise one arm would pay for collecting another arm's garbage.
            gc.collect()
            for arm in order.sample(list(arms), len(arms)):
                measured = measure(arms[arm])
                if turn >= 0:
                    seconds[arm].append(measured)
    return seconds


@contextlib.contextmanager
def _collecting_by_hand() -> Iterator[None]:
    # Frozen objects are not scanned in every turn.
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def in_fresh_process(
    function: Callable[..., Any],
    *args: Any,
    preload: Sequence[str] = ("benchmarks.arms", "benchmarks.head"),
) -> Any:
    """Returns the result of a function that runs in a fresh process.

    All fresh processes are forks of a server process that has only imported
    libraries, which saves them the time of the imports.

    Args:
        function: A module-level function.
        *args: The arguments, which must be picklable.
        preload: The modules that the server imports. The first call
            determines them for all later calls.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        return pool.submit(function, *args).result()


def set_threads(threads: int | None) -> None:
    """Gives TensorFlow and PyTorch the same number of threads.

    Args:
        threads: The number of threads. The default is TensorFlow's own, one per
            core.
    """
    if threads is not None:
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    if has_torch():
        import torch

        torch.set_num_threads(threads or _cores())


def _quiet() -> None:
    if has("tensorflow"):
        import tensorflow as tf

        # TensorFlow warns of repeated tracing, which is intended here.
        tf.get_logger().setLevel("ERROR")


def has(package: str) -> bool:
    """Returns whether a package can be imported."""
    return importlib.util.find_spec(package) is not None


def has_torch() -> bool:
    """Returns whether PyTorch can be imported."""
    return has("torch")


def machine() -> dict[str, Any]:
    """Returns the date, the machine and the versions of a measurement."""
    found: dict[str, Any] = {
        "date": datetime.datetime.now().astimezone().isoformat("T", "seconds"),
        "cores": _cores(),
        "processor": _processor(),
        "memory_bytes": _memory(),
        "system": platform.platform(),
        "load": os.getloadavg(),
        "python": platform.python_version(),
        # Without imports, some of which would take memory of a GPU.
        **{name: _version(name) for name in PACKAGES if has(name)},
    }
    if has("tensorflow"):
        import tensorflow as tf

        found["gpus"] = len(tf.config.list_physical_devices("GPU"))
        # 0 means one thread per core.
        threads = tf.config.threading.get_intra_op_parallelism_threads()
        found["threads"] = threads
    if has_torch():
        import torch

        found["torch_threads"] = torch.get_num_threads()
        found["omp_wait_policy"] = os.environ.get("OMP_WAIT_POLICY")
    return found


def _version(package: str) -> str:
    return importlib.metadata.version(package)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def _processor() -> str:
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {text}")
    return value
