"""A loop with `DistributedDataParallel`, whose masks are inputs.

    KERAS_BACKEND=torch torchrun --nproc-per-node 2 torch_processes.py FOLDER

Every process trains on its part of each batch and writes its weights. One
process, started without `torchrun`, trains on whole batches.
"""

import json
import os
import pathlib
import sys

import cases
import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

BATCH, STEPS = 8, 8


class Loss(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, y):
        return self.model.compute_rdrop_loss(x, y)[0]


def main(folder, name):
    processes = int(os.environ.get("WORLD_SIZE", 1))
    index = int(os.environ.get("RANK", 0))
    case = cases.cases()[name]()
    model = case["model"]()
    model({key: value[:BATCH] for key, value in case["x"].items()})
    # `DistributedDataParallel` gives all processes the weights of the first.
    if index == 0:
        cases.set_weights(model)
    model.compile("sgd", case["loss"], rdrop=case["rdrop"])
    loss_of = Loss(model)
    if processes > 1:
        loss_of = DistributedDataParallel(loss_of)
    trained = [v.value for v in model.trainable_variables]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    for step in range(STEPS):
        # Four batches, twice.
        rows = np.arange(BATCH) + step % 4 * BATCH
        rows = np.split(rows, processes)[index]
        x = {key: value[rows] for key, value in case["x"].items()}
        optimizer.zero_grad()
        loss_of(x, case["y"][rows]).backward()
        optimizer.step()
    weights = [value.detach().numpy().ravel().tolist() for value in trained]
    path = pathlib.Path(folder, f"{name}_{processes}_{index}.json")
    path.write_text(json.dumps(weights))


if __name__ == "__main__":
    # One group for all: a process that is ahead would join a second one
    # through the store of the first, which is about to close, and hang.
    parallel = "WORLD_SIZE" in os.environ
    if parallel:
        torch.distributed.init_process_group("gloo")
    for name in sys.argv[2:]:
        main(sys.argv[1], name)
    if parallel:
        torch.distributed.destroy_process_group()
