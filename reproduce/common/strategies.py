"""Training on several devices, in one process or in several.

A strategy divides the rows of each training batch among devices. All processes
do the same work on the same data, and the first one, the chief, writes files.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from reproduce.common.clusters import PROCESSES
from reproduce.common.clusters import check_cluster
from reproduce.common.clusters import check_processes
from reproduce.common.errors import InputError
from reproduce.data.batches import Mapped


class Strategy:
    """One device, and the base class of the other strategies."""

    # The value of `--strategy`, and the backend that it needs.
    name = "none"
    backend: str | None = None
    # The number of devices that share a batch, and of processes.
    devices = 1
    processes = 1
    # The index of this process.
    process = 0

    @property
    def is_chief(self) -> bool:
        """Whether this process writes files."""
        return self.process == 0

    def scope(self) -> Any:
        """Returns the context in which to build and compile the model."""
        return contextlib.nullcontext()

    def batches(self, batches: keras.utils.PyDataset) -> keras.utils.PyDataset:
        """Returns the training batches in the form that `fit` divides.

        Every batch has the same number of rows for each device. If rows are
        missing, the first rows of the batch are repeated.
        """
        if self.devices == 1:
            return batches
        return Mapped(batches, lambda *batch: filled(batch, self.devices))

    def callbacks(self) -> list[keras.callbacks.Callback]:
        """Returns callbacks that come before all others."""
        return []

    def gathered(self, number: float) -> list[float]:
        """Waits for all processes, and returns the number of each."""
        return [number]

    def of_chief(self, scores: Mapping[str, float]) -> dict[str, float]:
        """Returns the scores that the chief measured.

        The processes measure the same weights on the same data, but on a GPU
        not always to the last bit. Decisions must not differ between them.
        """
        return {name: self.gathered(value)[0] for name, value in scores.items()}


class Mirrored(Strategy):
    """TensorFlow's replicas in one process: its GPUs, or else its CPUs."""

    name = "mirrored"
    backend = "tensorflow"

    def __init__(self):
        import tensorflow as tf

        devices = tf.config.list_logical_devices("GPU")
        devices = devices or tf.config.list_logical_devices("CPU")
        self.strategy = tf.distribute.MirroredStrategy(
            [device.name for device in devices]
        )
        self.devices = self.strategy.num_replicas_in_sync

    def scope(self) -> Any:
        return self.strategy.scope()


class MultiWorker(Mirrored):
    """TensorFlow's workers, as `TF_CONFIG` lists them."""

    name = "multi_worker"

    def __init__(self):
        check_cluster(os.environ.get("TF_CONFIG", ""))
        from rdrop_keras.distribution import MultiWorkerMirroredStrategy

        self.strategy = MultiWorkerMirroredStrategy()
        self.devices = self.strategy.num_replicas_in_sync
        resolver = self.strategy.cluster_resolver
        self.processes = len(resolver.cluster_spec().as_dict()["worker"])
        self.process = resolver.task_id

    def gathered(self, number: float) -> list[float]:
        import tensorflow as tf

        values = self.strategy.experimental_distribute_values_from_function(
            lambda _: tf.constant([number], "float64")
        )
        found = self.strategy.gather(values, axis=0).numpy()
        # All replicas of a worker have its number.
        return found[:: self.devices // self.processes].tolist()


class Layouts(keras.distribution.DataParallel):
    """Divides training batches; evaluates all rows on every device.

    A batch of evaluation may not divide, and must neither lose nor repeat rows.
    """

    dividing = False

    def get_data_layout(self, data_shape: Any) -> Any:
        if self.dividing:
            return super().get_data_layout(data_shape)
        return keras.distribution.TensorLayout(
            [None] * len(data_shape), self.device_mesh
        )


class DivideTraining(keras.callbacks.Callback):
    """Callback that tells `Layouts` which batches are those of training."""

    def __init__(self, layouts: Layouts):
        super().__init__()
        self._layouts = layouts

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._layouts.dividing = True

    def on_test_begin(self, logs: Any = None) -> None:
        self._layouts.dividing = False

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._layouts.dividing = False


class DataParallel(Strategy):
    """Keras's data parallelism on JAX, in one process or in several."""

    name = "data_parallel"
    backend = "jax"

    def __init__(self):
        if any(name in os.environ for name in PROCESSES):
            check_processes(os.environ)
            keras.distribution.initialize()
        self._layouts = Layouts(auto_shard_dataset=False)
        self.devices = self._layouts.device_mesh.devices.size
        self.processes = self._layouts.num_processes
        self.process = self._layouts.data_shard_id

    def scope(self) -> Any:
        # Not in the scope only: the distribution of the variables is needed
        # as long as the model is. `clear_session` drops it.
        keras.distribution.set_distribution(self._layouts)
        return contextlib.nullcontext()

    def batches(self, batches: keras.utils.PyDataset) -> keras.utils.PyDataset:
        def own(*batch):
            # Each process hands Keras its rows of the batch.
            return keras.tree.map_structure(
                lambda x: np.split(x, self.processes)[self.process],
                filled(batch, self.devices),
            )

        return Mapped(batches, own)

    def callbacks(self) -> list[keras.callbacks.Callback]:
        return [DivideTraining(self._layouts)]

    def gathered(self, number: float) -> list[float]:
        if self.processes == 1:
            return [number]
        from jax.experimental import multihost_utils

        # JAX would round a float64.
        halves = np.array([number], "float64").view("int32")
        found = np.asarray(multihost_utils.process_allgather(halves))
        return np.ravel(found).view("float64").tolist()


STRATEGIES = {
    each.name: each for each in (Strategy, Mirrored, MultiWorker, DataParallel)
}


# The processes of a program form one cluster, before anything else.
@functools.cache
def _started(name: str) -> Strategy:
    return STRATEGIES[name]()


def strategy_of(settings: Any) -> Strategy:
    """Returns the strategy of a run, started when it is first needed."""
    kind, backend = STRATEGIES[settings.strategy], keras.backend.backend()
    if kind.backend not in (None, backend):
        raise InputError(
            f"--strategy {kind.name}: expected KERAS_BACKEND={kind.backend}, "
            f"got {backend}."
        )
    on_tensorflow = kind.backend == "tensorflow"
    accumulate = getattr(settings, "accumulate", 1)
    if on_tensorflow and accumulate > 1:
        raise InputError(
            f"--accumulate {accumulate}: Keras accumulates no gradients on "
            f"several replicas of TensorFlow. Give --accumulate 1 and "
            f"{accumulate} times as large a batch."
        )
    if on_tensorflow and getattr(settings, "jit_compile", "") == "yes":
        raise InputError(
            "--jit-compile yes: Keras compiles no training step on several "
            "replicas of TensorFlow. Give auto or no."
        )
    found = _started(kind.name)
    rows = getattr(settings, "batch_size", found.devices)
    if rows % found.devices:
        raise InputError(
            f"--batch-size {rows}: expected a multiple of {found.devices}, the "
            "number of devices that share a batch."
        )
    return found


def filled(batch: Any, devices: int) -> Any:
    """Repeats the first rows of a batch, so that it divides among devices."""
    rows = len(keras.tree.flatten(batch)[0])
    if rows % devices == 0:
        return batch
    chosen = np.arange(-(-rows // devices) * devices) % rows
    return keras.tree.map_structure(lambda x: x[chosen], batch)
