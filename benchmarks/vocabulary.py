"""Memory and time of a vocabulary head's loss and gradients, in chunks or not.

    python -m benchmarks.vocabulary --output vocabulary.json

Hidden states of two passes, a kernel and a bias go in; the loss and its
gradients by all of them come out. The arms: the chunked function; the fused
function of full logits; Keras's crossentropy beside this library's consistency;
Keras's crossentropy beside `keras.losses.kl_divergence` of probabilities, as
R-Drop is mostly written for Keras; and the formula of the paper's authors in
PyTorch, where it is installed.

Memory is the peak of a fresh process less what it had before the first step,
with inputs and kernel in place. For time the arms take turns in one process, so
that what else the machine does falls on all of them. Compilation is not timed,
but counts as memory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

PAGE = os.sysconf("SC_PAGE_SIZE")
SCALE = 0.05  # Of the kernel, so that logits are of size 1.
TENSORFLOW = ("chunked", "fused", "Keras, log space", "Keras, probabilities")
TORCH = "PyTorch, authors"


def resident_bytes() -> int:
    """Returns how much memory this process has right now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE


class Peak:
    """Watches the memory of this process from a thread."""

    def __init__(self):
        self.bytes = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self):
        while not self._done.wait(0.002):
            self.bytes = max(self.bytes, resident_bytes())

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()


def draw(flags: argparse.Namespace) -> tuple[Any, ...]:
    """Returns labels, hidden states of two passes, kernel and bias."""
    random = np.random.default_rng(flags.seed)
    shape = (flags.tokens, flags.width)
    one = random.normal(size=shape).astype("float32")
    # As if by dropout: mostly the same.
    other = one + 0.3 * random.normal(size=shape).astype("float32")
    kernel = random.normal(size=(flags.width, flags.vocabulary))
    kernel = (SCALE * kernel).astype("float32")
    labels = random.integers(0, flags.vocabulary, flags.tokens)
    return labels, one, other, kernel, np.zeros(flags.vocabulary, "float32")


def tensorflow_step(
    arm: str, batch: tuple[Any, ...], jit: bool, flags: argparse.Namespace
) -> Callable[[], float]:
    """Returns a compiled step; it returns the loss when all is done."""
    import keras
    import tensorflow as tf

    from rdrop_keras.losses import categorical_consistency
    from rdrop_keras.losses.fused import fused_rdrop_loss
    from rdrop_keras.losses.vocabulary import vocabulary_rdrop_loss

    crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def loss_of(labels, one, other, kernel, bias):
        if arm == "chunked":
            return vocabulary_rdrop_loss(
                labels,
                [one, other],
                kernel,
                bias,
                alpha=flags.alpha,
                chunk_size=flags.chunk_size or "auto",
            ).loss
        logits = [h @ kernel + bias for h in (one, other)]
        if arm == "fused":
            return fused_rdrop_loss(labels, logits, flags.alpha).loss
        task = sum(crossentropy(labels, z) for z in logits) / 2
        if arm == "Keras, log space":
            values = categorical_consistency(logits, from_logits=True)
        else:
            p, q = (keras.ops.softmax(z) for z in logits)
            divergence = keras.losses.kl_divergence
            values = (divergence(p, q) + divergence(q, p)) / 2
        return task + flags.alpha / 2 * keras.ops.mean(values)

    @tf.function(jit_compile=jit)
    def step(labels, *inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = loss_of(labels, *inputs)
        return loss, tape.gradient(loss, inputs)

    tensors = [tf.constant(array) for array in batch]

    def run():
        loss, gradients = step(*tensors)
        # The values of one number each: all has been computed by then.
        checks = [float(tf.reshape(g, [-1])[0]) for g in gradients]
        assert len(checks) == 4
        return float(loss)

    return run


def torch_step(
    batch: tuple[Any, ...], flags: argparse.Namespace
) -> Callable[[], float]:
    """Returns a step of the authors' formula, eagerly."""
    import torch
    import torch.nn.functional as F

    labels, *arrays = (torch.from_numpy(array) for array in batch)
    inputs = [array.requires_grad_() for array in arrays]

    def run():
        for tensor in inputs:
            tensor.grad = None
        one, other, kernel, bias = inputs
        p, q = (h @ kernel + bias for h in (one, other))
        task = F.cross_entropy(p, labels) + F.cross_entropy(q, labels)
        # `compute_kl_loss` of the authors' repository.
        p_loss = F.kl_div(
            F.log_softmax(p, dim=-1), F.softmax(q, dim=-1), reduction="none"
        )
        q_loss = F.kl_div(
            F.log_softmax(q, dim=-1), F.softmax(p, dim=-1), reduction="none"
        )
        divergence = (p_loss.sum() + q_loss.sum()) / 2
        loss = task / 2 + flags.alpha / 2 * divergence / flags.tokens
        loss.backward()
        return loss.item()

    return run


def make(
    arm: str, batch: tuple[Any, ...], jit: bool, flags: argparse.Namespace
) -> Callable[[], float]:
    """Returns one step of an arm."""
    if arm == TORCH:
        return torch_step(batch, flags)
    return tensorflow_step(arm, batch, jit, flags)


def peak_of(queue: Any, arm: str, jit: bool, flags: argparse.Namespace) -> None:
    """Puts the bytes that two steps of an arm take at most."""
    batch = draw(flags)
    small = argparse.Namespace(**{**vars(flags), "tokens": 4, "vocabulary": 16})
    # Libraries, threads and code are in place before it counts.
    make(arm, draw(small), jit, small)()
    step = make(arm, batch, jit, flags)
    before = resident_bytes()
    with Peak() as peak:
        step()
        step()
    queue.put(peak.bytes - before)


def measure_memory(arm: str, jit: bool, flags: argparse.Namespace) -> int:
    """Returns the peak of a fresh process, in bytes."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=peak_of, args=(queue, arm, jit, flags))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{arm} ended with exit code {process.exitcode}.")
    return queue.get()


def measure_time(
    arms: list[str], jit: bool, flags: argparse.Namespace
) -> dict[str, list[float]]:
    """Returns the seconds of each step, by arm."""
    batch = draw(flags)
    steps = {arm: make(arm, batch, jit, flags) for arm in arms}
    losses = {arm: step() for arm, step in steps.items()}
    for arm, loss in losses.items():
        # Not the same objective, if they do not come to the same.
        np.testing.assert_allclose(
            loss, losses[arms[0]], rtol=1e-4, err_msg=arm
        )
    seconds: dict[str, list[float]] = {arm: [] for arm in arms}
    for _ in range(flags.repeats):
        for arm, step in steps.items():
            started = time.perf_counter()
            step()
            seconds[arm].append(time.perf_counter() - started)
    return seconds


def available_arms(jit: bool) -> list[str]:
    """Returns the arms to measure; PyTorch's has no XLA."""
    arms = list(TENSORFLOW)
    with contextlib.suppress(ImportError):
        import torch  # noqa: F401

        arms += [] if jit else [TORCH]
    return arms


def benchmark(flags: argparse.Namespace) -> list[dict[str, Any]]:
    """Measures all arms, without and with XLA."""
    rows = []
    for jit in (False, True):
        arms = available_arms(jit)
        memory = {arm: measure_memory(arm, jit, flags) for arm in arms}
        seconds = measure_time(arms, jit, flags)
        for arm in arms:
            # Of the same turn, so that the machine's other load cancels out.
            ratios = [a / b for a, b in zip(seconds[arm], seconds["chunked"])]
            low, middle, high = statistics.quantiles(ratios, n=4)
            rows.append(
                {
                    "xla": jit,
                    "arm": arm,
                    "bytes": memory[arm],
                    "memory_ratio": memory[arm] / memory["chunked"],
                    "seconds": seconds[arm],
                    "median": statistics.median(seconds[arm]),
                    "time_ratio": middle,
                    "quartiles": [low, high],
                }
            )
    return rows


def print_rows(rows: list[dict[str, Any]], title: str) -> None:
    """Prints a table: an arm a row."""
    table = Table(title=title, title_justify="left")
    table.add_column("XLA")
    table.add_column("arm", no_wrap=True)
    for column in ("MiB", "ratio", "seconds", "ratio", "quartiles"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        low, high = row["quartiles"]
        table.add_row(
            "on" if row["xla"] else "off",
            row["arm"],
            f"{row['bytes'] / 2**20:.0f}",
            f"{row['memory_ratio']:.2f}",
            f"{row['median']:.2f}",
            f"{row['time_ratio']:.2f}",
            f"{low:.2f}-{high:.2f}",
        )
    table.caption = "peak memory, median time; ratios to chunked"
    table.caption_justify = "left"
    Console().print(table)


def plot(rows: list[dict[str, Any]], path: Path, title: str) -> None:
    """Draws memory and time of each arm as bars."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.2), sharey=True)
    names = [f"{row['arm']}{', XLA' * row['xla']}" for row in rows]
    colors = [
        "tab:blue" if row["arm"] == "chunked" else "tab:gray" for row in rows
    ]
    memory = [row["bytes"] / 2**30 for row in rows]
    axes[0].barh(names, memory, color=colors)
    axes[0].set_xlabel("peak memory in GiB")
    axes[1].barh(names, [row["median"] for row in rows], color=colors)
    axes[1].set_xlabel("seconds, median")
    axes[0].invert_yaxis()
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def machine() -> dict[str, Any]:
    """Returns what the numbers were measured with."""
    import keras
    import tensorflow as tf

    found = {
        "processors": os.cpu_count(),
        "architecture": platform.machine(),
        "gpus": len(tf.config.list_physical_devices("GPU")),
        "load": os.getloadavg(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }
    with contextlib.suppress(ImportError):
        import torch

        found["torch"] = torch.__version__
    return found


def main() -> None:
    """Measures, prints a table, writes JSON and a plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=2048, help="of one pass")
    parser.add_argument("--vocabulary", type=int, default=32_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--alpha", type=float, default=5.0)
    parser.add_argument("--chunk-size", type=int, metavar="TOKENS")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, metavar="JSON")
    parser.add_argument("--plot", type=Path, metavar="PNG")
    flags = parser.parse_args()
    title = (
        f"loss and gradients of 2 x {flags.tokens} tokens, vocabulary "
        f"{flags.vocabulary}, width {flags.width}"
    )
    rows = benchmark(flags)
    print_rows(rows, title)
    if flags.output is not None:
        paths = {"output": str(flags.output), "plot": str(flags.plot)}
        report = {
            "settings": vars(flags) | paths,
            "machine": machine(),
            "rows": rows,
        }
        flags.output.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(report, indent=2) + "\n"
        flags.output.write_text(text, encoding="utf-8")
    if flags.plot is not None:
        plot(rows, flags.plot, title)


if __name__ == "__main__":
    main()
