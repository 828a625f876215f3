"""A run on images killed twice ends with the files of one left in peace."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from killing import files_of
from killing import run_and_kill

from reproduce.__main__ import main
from reproduce.common import runs
from reproduce.tasks.image_runs import LOGITS
from reproduce.tasks.image_runs import PREDICTIONS
from reproduce.tasks.image_runs import RELIABILITY

FLAGS = (
    "train image_classification --train-images=40 --epochs=3 --batch-size=16 "
    "--dropout=0.2 --alpha=2 --augment=shift --seed=4"
)
# Three times 40 images in batches of 16, the last of 8.
UPDATES = 9

SHRINK = """
from reproduce.models import vit
vit.SIZES["tiny"] = vit.Size(1, 8, 16, 2, None)
"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    undisturbed = tmp_path_factory.mktemp("undisturbed")
    killed = tmp_path_factory.mktemp("killed")
    run_and_kill(
        "reproduce",
        SHRINK,
        # On the default data.
        FLAGS.split(),
        undisturbed,
        killed,
        [
            # In the second epoch: the first is backed up, this one lost.
            ("update", 5),
            # In the middle of the export.
            ("path", str(killed / runs.SAVED_MODEL / "variables")),
        ],
    )
    return undisturbed, killed


def test_weights_and_predictions_are_the_same_bit_for_bit(outputs):
    contents, logits = [], []
    for output in outputs:
        with zipfile.ZipFile(output / runs.MODEL) as archive:
            contents.append(archive.read("model.weights.h5"))
        with np.load(output / LOGITS) as arrays:
            logits.append(arrays["logits"])
    assert contents[0] == contents[1]
    np.testing.assert_array_equal(*logits)


def test_history_metrics_and_pictures_are_the_same(outputs):
    for name in (runs.HISTORY, runs.CURVES, RELIABILITY, PREDICTIONS):
        undisturbed, killed = (output / name for output in outputs)
        assert undisturbed.read_bytes() == killed.read_bytes()
    undisturbed, killed = (runs.read_json(o / runs.METRICS) for o in outputs)
    for metrics in (undisturbed, killed):
        assert metrics.pop("train_seconds") > 0
        assert (metrics["updates"], metrics["epochs"]) == (UPDATES, 3)
    assert killed == undisturbed


def test_the_same_files_are_there(outputs):
    # One file of TensorBoard for every start.
    undisturbed, killed = (files_of(o, runs.TENSORBOARD) for o in outputs)
    assert killed == undisturbed
    assert Path(runs.METRICS) in killed and Path(runs.BACKUP) not in killed


def test_resuming_with_other_settings_is_refused(outputs, capsys):
    flags = [*FLAGS.split(), f"--output={outputs[1]}", "--resume"]
    assert main([*flags, "--alpha=3"]) == 2
    assert "alpha was 2.0, now 3.0" in capsys.readouterr().err
