"""A summarizer killed in the middle ends as one that was left in peace."""

import random
import zipfile

import numpy as np
import pytest
from killing import files_of
from killing import run_and_kill

from reproduce.common import runs

FLAGS = (
    "train summarization --epochs=3 --max-tokens=256 --vocabulary-size=40 "
    "--dropout=0.2 "
    "--max-source-length=24 --max-target-length=8 --max-length=6 "
    "--beam-size=1 --warm-up=2 --validate-every=1 --average=1 --accumulate=2 "
    "--seed=4"
)

SHRINK = """
import dataclasses
from reproduce.decoding import summarizer
from reproduce.decoding import text_to_text
from reproduce.models.bart import CONFIGURATIONS
# These take seconds, and are not what is looked at.
text_to_text.export_functions = lambda *arguments: None
summarizer.Summarizer.generate = lambda self, texts: list(texts)
CONFIGURATIONS["tiny"] = dataclasses.replace(
    CONFIGURATIONS["tiny"],
    num_layers=1, width=8, feed_forward=8, num_heads=2,
)
"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    chance = random.Random(0)
    for part, count in {"train": 70, "val": 6}.items():
        rows = [chance.choices("abcdefgh", k=9) for _ in range(count)]
        for side, kept in (("source", 9), ("target", 3)):
            lines = "".join(" ".join(row[:kept]) + "\n" for row in rows)
            (data / f"{part}.{side}").write_text(lines)
    undisturbed = tmp_path_factory.mktemp("undisturbed")
    killed = tmp_path_factory.mktemp("killed")
    run_and_kill(
        "reproduce",
        SHRINK,
        [*FLAGS.split(), f"--data={data}"],
        undisturbed,
        killed,
        # In the second epoch: the first is backed up, with half an update
        # that was accumulated, and this one lost.
        [("update", 4)],
    )
    return undisturbed, killed


def test_weights_are_the_same_bit_for_bit(outputs):
    contents = []
    for output in outputs:
        # Those of the optimizer are there too.
        with zipfile.ZipFile(output / runs.MODEL) as archive:
            contents.append(archive.read("model.weights.h5"))
    assert contents[0] == contents[1]


def test_history_metrics_and_files_are_the_same(outputs):
    undisturbed, killed = ((o / runs.HISTORY).read_text() for o in outputs)
    assert killed == undisturbed
    assert len(undisturbed.splitlines()) == 4
    assert "val_rougeL" in undisturbed
    undisturbed, killed = (runs.read_json(o / runs.METRICS) for o in outputs)
    for metrics in (undisturbed, killed):
        assert metrics.pop("train_seconds") > 0
        assert np.isfinite(metrics["valid"]["loss"])
        # Of 5 batches an epoch, two make an update; one is left at the end.
        assert metrics["updates"] == 7
    assert killed == undisturbed
    undisturbed, killed = (files_of(o, runs.TENSORBOARD) for o in outputs)
    assert killed == undisturbed
