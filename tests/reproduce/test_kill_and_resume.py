"""A run killed ten times ends with the files of one left in peace."""

import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from killing import files_of
from killing import run_and_kill

from reproduce.common import runs

EPOCHS = 4
# Three times 20 rows in batches of 12.
STEPS = 5
ROWS = {"train": 20, "valid": 8, "test": 8}
FLAGS = f"--epochs={EPOCHS} --batch-size=12 --dropout=0.2 --alpha=2 --seed=4"

SHRINK = """
from reproduce.models import bert
bert.NUM_LAYERS, bert.WIDTH = 1, 16
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
    assert len(kills) == 10
    run_and_kill(
        "reproduce",
        SHRINK,
        ["train", "text_classification", *tables, *FLAGS.split()],
        undisturbed,
        killed,
        kills,
    )
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
    # One file of TensorBoard for every start.
    undisturbed, killed = (files_of(o, runs.TENSORBOARD) for o in outputs)
    assert killed == undisturbed
    assert Path(runs.METRICS) in killed and Path(runs.BACKUP) not in killed
