"""A run killed ten times ends with the files of one left in peace."""

import json
import os
import random
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from examples.common import runs

REPOSITORY = Path(__file__).resolve().parents[2]
EPOCHS = 4
# Three times 20 rows in batches of 12.
STEPS = 5
ROWS = {"train": 20, "valid": 8, "test": 8}
FLAGS = f"--epochs={EPOCHS} --batch-size=12 --dropout=0.2 --alpha=2 --seed=4"

# Imports once, then forks for every start of the program: TensorFlow allows
# that as long as it has done nothing else yet.
DRIVER = """
import json, os, signal, sys, threading, time
from pathlib import Path
import keras
import tensorflow as tf
from examples.common.backup import BackupAndRestore
from examples.text_classification import __main__ as command
from examples.text_classification import model, train

model.NUM_LAYERS, model.WIDTH = 1, 16
request = json.load(sys.stdin)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

class KillAtUpdate(keras.callbacks.Callback):
    def __init__(self, update):
        super().__init__()
        self.update = update
    def on_train_batch_end(self, batch, logs=None):
        if self.model.optimizer.iterations.numpy() == self.update:
            die()

def kill_at_update(update):
    callbacks = train._callbacks
    train._callbacks = lambda output: [
        *callbacks(output), KillAtUpdate(update)
    ]

def kill_in_backup(epoch, count):
    left = [0]
    def watch(event, _):
        if event == "open" or event.startswith(("os.", "shutil.")):
            left[0] -= 1
            if left[0] == 0:
                die()
    sys.addaudithook(watch)
    back_up = BackupAndRestore.on_epoch_end
    def watched(self, now, logs=None):
        left[0] = count if now == epoch else 0
        back_up(self, now, logs)
    BackupAndRestore.on_epoch_end = watched

def kill_when_there(path):
    def wait():
        while not os.path.exists(path):
            time.sleep(0.0005)
        die()
    threading.Thread(target=wait, daemon=True).start()

def start(output, kill):
    child = os.fork()
    if child:
        return child
    status = 99
    try:
        sys.stdout = open(os.devnull, "w")
        tf.config.experimental.enable_op_determinism()
        if kill:
            {"update": kill_at_update, "backup": kill_in_backup,
             "path": kill_when_there}[kill[0]](*kill[1:])
        status = command.main(
            [*request["flags"], f"--output={output}", "--resume"]
        )
    finally:
        os._exit(status)

def end(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

# On one core of its own, beside the run that is killed.
undisturbed = start(request["undisturbed"], None)
statuses = [end(start(request["killed"], kill)) for kill in request["kills"]]
json.dump({"killed": statuses, "undisturbed": end(undisturbed)}, sys.stdout)
"""


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Words of three languages with a letter of their own each."""
    directory = tmp_path_factory.mktemp("tables")
    chance = random.Random(0)
    for part, rows in ROWS.items():
        lines = [
            "".join(chance.choices("abcd" + letter, k=5)) + f"\t{letter}\n"
            for letter in "xyz"
            for _ in range(rows)
        ]
        (directory / f"{part}.tsv").write_text("".join(lines))
    return [f"--{part}={directory / part}.tsv" for part in ROWS]


def _kills(output):
    """Ten moments by chance: in every epoch two, and two in the export."""
    chance = random.Random(2106)
    kills = []
    for epoch in range(EPOCHS):
        kills += [
            ("update", epoch * STEPS + chance.randint(1, STEPS)),
            # Some of about twenty operations on files that make a backup.
            ("backup", epoch, chance.randint(1, 16)),
        ]
    return [
        *kills,
        ("path", str(output / runs.MODEL)),
        ("path", str(output / runs.SAVED_MODEL / "variables")),
    ]


@pytest.fixture(scope="module")
def outputs(tables, tmp_path_factory):
    undisturbed = tmp_path_factory.mktemp("undisturbed")
    killed = tmp_path_factory.mktemp("killed")
    kills = _kills(killed)
    request = {
        "flags": [*tables, *FLAGS.split()],
        "undisturbed": str(undisturbed),
        "killed": str(killed),
        # And once more, to the end.
        "kills": [*kills, None],
    }
    driver = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input=json.dumps(request),
        cwd=REPOSITORY,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            # Bit for bit is promised for the CPU alone.
            "CUDA_VISIBLE_DEVICES": "-1",
        },
        capture_output=True,
        text=True,
        timeout=550,
    )
    assert driver.returncode == 0, driver.stderr
    statuses = json.loads(driver.stdout)
    assert statuses == {
        "killed": [-9] * len(kills) + [0],
        "undisturbed": 0,
    }, driver.stderr
    assert len(kills) == 10
    return undisturbed, killed


def test_weights_are_the_same_bit_for_bit(outputs):
    # Those of the optimizer are in the same file.
    contents = []
    for output in outputs:
        with zipfile.ZipFile(output / runs.MODEL) as archive:
            contents.append(archive.read("model.weights.h5"))
    assert contents[0] == contents[1]
    # What the SavedModel calls them differs from process to process.
    served = [_served_variables(output) for output in outputs]
    assert served[0] == served[1]
    assert len(served[0]) > 20


def _served_variables(output):
    path = output / runs.SAVED_MODEL / "variables" / "variables"
    checkpoint = tf.train.load_checkpoint(str(path))
    return sorted(
        np.asarray(checkpoint.get_tensor(name)).tobytes()
        for name in checkpoint.get_variable_to_shape_map()
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH"
    )


def test_history_and_metrics_are_the_same(outputs):
    undisturbed, killed = ((o / runs.HISTORY).read_text() for o in outputs)
    assert killed == undisturbed
    header, *rows = undisturbed.splitlines()
    assert "consistency_loss" in header.split(",")
    assert len(rows) == EPOCHS
    undisturbed, killed = (runs.read_json(o / runs.METRICS) for o in outputs)
    for metrics in (undisturbed, killed):
        assert metrics.pop("train_seconds") > 0
        assert metrics["updates"] == EPOCHS * STEPS
        assert np.isfinite(metrics["test"]["loss"])
    assert killed == undisturbed


def test_the_same_files_are_there(outputs):
    undisturbed, killed = (
        {
            path.relative_to(output)
            for path in output.rglob("*")
            # One file for every start.
            if runs.TENSORBOARD not in path.parts
        }
        for output in outputs
    )
    assert killed == undisturbed
    assert Path(runs.METRICS) in killed and Path(runs.BACKUP) not in killed
