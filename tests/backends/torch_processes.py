"""Training by several processes of PyTorch, on models whose masks are inputs.

    KERAS_BACKEND=torch torchrun --nproc-per-node 2 torch_processes.py FOLDER \
        loop:fused fit:fused ...

Every process trains on its part of each batch, in a loop with
`DistributedDataParallel` or by `fit`, and writes its results. One process,
started without `torchrun`, trains on whole batches.
"""

import json
import os
import pathlib
import sys

import cases
import keras
import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from rdrop_keras import RDrop
from rdrop_keras.training import trainer
from rdrop_keras.training.torch_processes import averaged

BATCH, STEPS = 8, 8
PROCESSES = int(os.environ.get("WORLD_SIZE", 1))
INDEX = int(os.environ.get("RANK", 0))


class Loss(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, y):
        return self.model.compute_rdrop_loss(x, y)[0]


def loop(name):
    """Trains in a loop, and returns the weights."""
    case = cases.cases()[name]()
    model = case["model"]()
    model({key: value[:BATCH] for key, value in case["x"].items()})
    # `DistributedDataParallel` gives all processes the weights of the first.
    if INDEX == 0:
        cases.set_weights(model)
    model.compile("sgd", case["loss"], rdrop=case["rdrop"])
    loss_of = Loss(model)
    if PROCESSES > 1:
        loss_of = DistributedDataParallel(loss_of)
    trained = [v.value for v in model.trainable_variables]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    for step in range(STEPS):
        # Four batches, twice.
        rows = np.arange(BATCH) + step % 4 * BATCH
        rows = np.split(rows, PROCESSES)[INDEX]
        x = {key: value[rows] for key, value in case["x"].items()}
        optimizer.zero_grad()
        loss_of(x, case["y"][rows]).backward()
        optimizer.step()
    return [value.detach().numpy().ravel().tolist() for value in trained]


class Wrapped(keras.callbacks.Callback):
    """Wraps the model for all processes, as `fit` of Keras 3.16 does."""

    def __init__(self, data):
        super().__init__()

    def on_train_begin(self, logs=None):
        if PROCESSES > 1 and getattr(self.model, "ddp_model", None) is None:
            parallel = DistributedDataParallel(self.model)
            # Not a submodule: it has the model as one.
            object.__setattr__(self.model, "ddp_model", parallel)
        assert trainer().writes(self.model) == (INDEX == 0)


def fit(name):
    """Trains by `fit`, and returns the results."""
    case = cases.cases()[name]()
    rows = np.arange(cases.ROWS).reshape(-1, PROCESSES, BATCH // PROCESSES)
    for part in ("x", "y"):
        case[part] = keras.tree.map_structure(
            lambda values: values[rows[:, INDEX].ravel()], case[part]
        )
    case["fit"] = {"callbacks": Wrapped}
    return cases.run(case, batch_size=BATCH // PROCESSES)


def failing(name):
    """Returns the error of a check that fails in the first process alone."""
    case = cases.cases()[name]()
    masks = case["x"]["masks"]
    if INDEX == 0:
        masks[:, 1] = masks[:, 0]
    case["rdrop"] = RDrop(2.0)
    case["fit"] = {"callbacks": Wrapped}
    try:
        return cases.run(case)
    except ValueError as error:
        return str(error)


def uneven(name):
    """Returns means of gradients that not every process has."""
    model = cases.cases()[name]()["model"]()
    callback = Wrapped(None)
    callback.set_model(model)
    callback.on_train_begin()
    gradients = [
        torch.full_like(weight.value, INDEX + 1.0)
        for weight in model.trainable_weights
    ]
    gradients[0] = None if INDEX == 0 else gradients[0]
    gradients[1] = None
    means = averaged(model, gradients)
    return [None if m is None else m.unique().tolist() for m in means]


HOW = {function.__name__: function for function in (loop, fit, failing, uneven)}


def main(folder, *runs):
    # One group for all: a process that is ahead would join a second one
    # through the store of the first, which is about to close, and hang.
    if PROCESSES > 1:
        torch.distributed.init_process_group("gloo")
    results = {}
    for run in runs:
        how, name = run.split(":")
        results[run] = HOW[how](name)
    path = pathlib.Path(folder, f"{PROCESSES}_{INDEX}.json")
    path.write_text(json.dumps(results, default=float))
    if PROCESSES > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
