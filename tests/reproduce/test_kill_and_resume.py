"""Runs killed ten times in all end with the files of runs left in peace."""

import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from killing import files_of
from killing import run_and_kill

from reproduce.__main__ import main
from reproduce.common import runs
from reproduce.image_reports import PREDICTIONS
from reproduce.image_reports import RELIABILITY
from reproduce.tasks.image_runs import LOGITS

EPOCHS = 3
# 242 rows in batches of 64, the last of 50.
STEPS = 4
# Its dense network is traced in a moment, so that it is killed most often.
DIABETES = (
    "train text_classification --task=diabetes --batch-size=64 --dropout=0.2 "
    f"--epochs={EPOCHS} --alpha=2 --seed=4"
)
# 40 images in batches of 16, the last of 8. Two batches make an update, so that
# half an update is left at the end of the first epoch.
IMAGES = (
    "train image_classification --train-images=40 --epochs=2 --batch-size=16 "
    "--accumulate=2 --dropout=0.2 --alpha=2 --augment=shift --seed=4"
)
SHRINK = {
    "diabetes": "",
    "images": """
from reproduce.models import vit
vit.SIZES["tiny"] = vit.Size(1, 8, 16, 2, None)
""",
}
UPDATES = {"diabetes": EPOCHS * STEPS, "images": 3}
NAMES = tuple(SHRINK)


def _kills(output):
    """Eight moments by chance: in every epoch two, and two in the export."""
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
def outputs(tmp_path_factory):
    """For each job, the directories of both runs."""
    directory = tmp_path_factory.mktemp("outputs")
    flags = {"diabetes": DIABETES.split(), "images": IMAGES.split()}
    found = {
        name: (directory / name / "undisturbed", directory / name / "killed")
        for name in NAMES
    }
    kills = {
        "diabetes": _kills(found["diabetes"][1]),
        # In the second epoch, whose augmented images are lost, with half an
        # update of the first accumulated; and in the export.
        "images": [
            ("update", 2),
            ("path", str(found["images"][1] / runs.SAVED_MODEL)),
        ],
    }
    assert sum(map(len, kills.values())) == 10
    run_and_kill(
        [
            {
                "flags": flags[name],
                "shrink": SHRINK[name],
                "undisturbed": str(undisturbed),
                "killed": str(killed),
                "kills": kills[name],
            }
            for name, (undisturbed, killed) in found.items()
        ]
    )
    return found


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_the_same_bit_for_bit(outputs, name):
    # Those of the optimizer are in the same file.
    contents = []
    for output in outputs[name]:
        with zipfile.ZipFile(output / runs.MODEL) as archive:
            contents.append(archive.read("model.weights.h5"))
    assert contents[0] == contents[1]


def test_served_weights_are_the_same(outputs):
    # What the SavedModel calls them differs from process to process.
    served = [_served_variables(output) for output in outputs["diabetes"]]
    assert served[0] == served[1]
    assert len(served[0]) >= 6


def _served_variables(output):
    path = output / runs.SAVED_MODEL / "variables" / "variables"
    checkpoint = tf.train.load_checkpoint(str(path))
    return sorted(
        np.asarray(checkpoint.get_tensor(name)).tobytes()
        for name in checkpoint.get_variable_to_shape_map()
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH"
    )


@pytest.mark.parametrize("name", NAMES)
def test_history_and_metrics_are_the_same(outputs, name):
    undisturbed, killed = (
        (output / runs.HISTORY).read_text() for output in outputs[name]
    )
    assert killed == undisturbed
    header, *rows = undisturbed.splitlines()
    assert "consistency_loss" in header.split(",")
    assert len(rows) == (EPOCHS if name == "diabetes" else 2)
    undisturbed, killed = (
        runs.read_json(output / runs.METRICS) for output in outputs[name]
    )
    for metrics in (undisturbed, killed):
        assert metrics.pop("train_seconds") > 0
        assert metrics["updates"] == UPDATES[name]
        assert np.isfinite(metrics["valid"]["loss"])
    assert killed == undisturbed


@pytest.mark.parametrize("name", NAMES)
def test_the_same_files_are_there(outputs, name):
    # One file of TensorBoard for every start.
    undisturbed, killed = (
        files_of(output, runs.TENSORBOARD) for output in outputs[name]
    )
    assert killed == undisturbed
    assert Path(runs.METRICS) in killed and Path(runs.BACKUP) not in killed


def test_predictions_and_pictures_are_the_same(outputs):
    logits = []
    for output in outputs["images"]:
        with np.load(output / LOGITS) as arrays:
            logits.append(arrays["logits"])
    np.testing.assert_array_equal(*logits)
    for name in (runs.CURVES, RELIABILITY, PREDICTIONS):
        undisturbed, killed = (output / name for output in outputs["images"])
        assert undisturbed.read_bytes() == killed.read_bytes()


def test_resuming_with_other_settings_is_refused(outputs, capsys):
    output = outputs["images"][1]
    flags = [*IMAGES.split(), f"--output={output}", "--resume"]
    assert main([*flags, "--alpha=3"]) == 2
    assert "alpha was 2.0, now 3.0" in capsys.readouterr().err
