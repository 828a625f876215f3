"""What the tasks share: arms, numbers, pictures."""

import io
import struct

import numpy as np
import pytest
from rich.console import Console

from reproduce.common.arms import ARMS
from reproduce.common.arms import batches_of
from reproduce.common.arms import rdrop_of
from reproduce.common.comparison import Measure
from reproduce.common.comparison import print_summary
from reproduce.common.comparison import summarize
from reproduce.common.curves import mean_curve
from reproduce.common.curves import plot_curves
from reproduce.common.history import read_history
from reproduce.data.batches import Rows
from reproduce.data.batches import batches_of_rows


def test_arms_say_how_to_compile():
    assert list(ARMS) == ["plain", "doubled", "two_pass", "rdrop"]
    assert rdrop_of("plain", 5.0) is None
    assert rdrop_of("doubled", 5.0) is None
    assert rdrop_of("two_pass", 5.0).alpha == 0.0
    assert rdrop_of("rdrop", 5.0).alpha == 5.0
    with pytest.raises(ValueError, match="rdorp"):
        rdrop_of("rdorp", 5.0)


def test_doubled_has_every_row_twice_in_its_own_batch():
    rows = Rows({"x": np.array([5, 6, 7])}, np.arange(3))
    batches = batches_of_rows(rows, 2)
    doubled = batches_of("doubled", batches)
    found = [(x["x"].tolist(), y.tolist()) for x, y in doubled]
    assert found == [([5, 6, 5, 6], [0, 1, 0, 1]), ([7, 7], [2, 2])]
    for arm in ("plain", "two_pass", "rdrop"):
        assert batches_of(arm, batches) is batches


def test_history_takes_the_last_row_of_an_epoch(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("epoch,loss,val_loss\n0,3,NA\n1,9,9\n1,2,4\n")
    assert read_history(path) == {
        "loss": [(1, 3.0), (2, 2.0)],
        "val_loss": [(2, 4.0)],
    }


MEASURES = [Measure("test", "accuracy", "accuracy, %", scale=100, digits=1)]


def _runs(*accuracies):
    return [{"test": {"accuracy": accuracy}} for accuracy in accuracies]


def test_summary_has_means_spreads_and_paired_differences():
    summary = summarize(
        {"plain": _runs(0.50, 0.70), "rdrop": _runs(0.55, 0.73)}, MEASURES
    )
    plain = summary["plain"]["test_accuracy"]
    rdrop = summary["rdrop"]["test_accuracy"]
    assert plain["values"] == [0.50, 0.70]
    skewed = summarize({"plain": _runs(0.7, 0.1, 0.6)}, MEASURES)["plain"]
    assert skewed["test_accuracy"]["median"] == 0.6
    assert "difference" not in plain
    numbers = [plain["mean"], plain["spread"], rdrop["mean"]]
    np.testing.assert_allclose(numbers, [0.60, 0.2 / 2**0.5, 0.64])
    # Of 0.05 and 0.03: the seeds differ by far more than the arms.
    numbers = [rdrop["difference"], rdrop["difference_spread"]]
    np.testing.assert_allclose(numbers, [0.04, 0.02 / 2**0.5])
    # 12.706 is in every table of t, for 95 % and one degree of freedom.
    np.testing.assert_allclose(
        rdrop["difference_interval"],
        [0.04 - 12.706 * 0.01, 0.04 + 12.706 * 0.01],
        rtol=1e-3,
    )


def test_summary_of_one_seed_has_no_spread():
    summary = summarize({"plain": _runs(0.5), "rdrop": _runs(0.625)}, MEASURES)
    entry = summary["rdrop"]["test_accuracy"]
    assert entry["difference"] == 0.125
    assert entry["spread"] is entry["difference_spread"] is None
    assert entry["difference_interval"] is None


def test_summary_prints():
    summary = summarize(
        {"plain": _runs(0.50, 0.70), "rdrop": _runs(0.55, 0.73)}, MEASURES
    )
    summary["plain"]["test_accuracy"]["median"] = 0.625
    # Too narrow: numbers are not cut off for it.
    console = Console(file=io.StringIO(), width=20)
    print_summary(summary, MEASURES, "a title", console)
    printed = console.file.getvalue()
    for text in (
        "a title",
        "60.0 ± 14.1",
        "62.5",
        "minus plain",
        "+4.0 (-8.7 to +16.7)",
    ):
        assert text in printed


def test_curves_of_one_arm_have_a_mean_where_all_have_values():
    long = [(1, 1.0), (2, 2.0), (4, 4.0)]
    assert mean_curve([long]) == long
    assert mean_curve([long, [(2, 6.0), (3, 0.0), (4, 5.0)]]) == [
        (2, 4.0),
        (4, 4.5),
    ]
    assert mean_curve([long, [(3, 1.0)]]) == []


def test_curves_show_every_run(tmp_path):
    falling = [(epoch, 1 / epoch) for epoch in range(1, 9)]
    history = {"loss": falling, "val_loss": falling}
    path = tmp_path / "curves.png"
    sizes = []
    for arms in (["plain"], ["plain", "rdrop", "rdrop"]):
        plot_curves([(arm, history) for arm in arms], "a title", path)
        content = path.read_bytes()
        assert content[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">2I", content[16:24]) == (1320, 600)
        sizes.append(len(content))
    assert sizes[0] > 10_000
    assert sizes[0] != sizes[1]
