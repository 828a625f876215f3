"""The study of translation: who gets which settings, and what is compared."""

import itertools
import json

import pytest

from benchmarks import translation_study
from benchmarks.translation_study import best_until
from benchmarks.translation_study import in_equal_time
from reproduce.common import runs
from reproduce.comparison import run_directory

CURVES = {
    ("plain", 1): {5: 10.0, 10: 30.0, 15: 20.0},
    ("plain", 2): {5: 11.0, 10: 12.0, 15: 13.0},
    ("rdrop", 1): {5: 9.0, 10: 40.0, 15: 50.0},
    ("rdrop", 2): {5: 8.0},
}


def write_run(directory, curve):
    directory.mkdir(parents=True)
    rows = ["epoch,val_bleu,val_loss"]
    for epoch in range(15):
        bleu = curve.get(epoch + 1, "NA")
        rows.append(f"{epoch},{bleu},{1 / (epoch + 1)}")
    (directory / runs.HISTORY).write_text("\n".join(rows) + "\n")


def test_best_until(tmp_path):
    for (arm, seed), curve in CURVES.items():
        write_run(run_directory(tmp_path, arm, seed), curve)
    epochs = {10: {"plain": 10, "rdrop": 5}, 15: {"plain": 15, "rdrop": 15}}
    assert best_until(tmp_path, ["plain", "rdrop"], [1, 2], epochs) == {
        "plain": [
            {"valid": {"10": 30.0, "15": 30.0}},
            {"valid": {"10": 12.0, "15": 13.0}},
        ],
        "rdrop": [
            {"valid": {"10": 9.0, "15": 50.0}},
            {"valid": {"10": 8.0, "15": 8.0}},
        ],
    }


def test_epochs_in_equal_time():
    seconds = {"plain": 12.2, "doubled": 36.5, "rdrop": 21.1, "slow": 5000.0}
    assert in_equal_time(100, seconds, 5) == {
        "plain": 100,
        "doubled": 35,
        "rdrop": 60,
        "slow": 5,
    }


def test_every_arm_has_its_own_settings(tmp_path, monkeypatch, capsys):
    commands = []

    def run(function, arguments):
        assert function is translation_study.reproduce
        assert arguments[:2] == ["train", "translation"]
        given = dict(itertools.pairwise(arguments))
        commands.append(given)
        directory = (
            tmp_path / "study" / (f"{given['--arm']}-seed-{given['--seed']}")
        )
        key = given["--arm"], int(given["--seed"])
        write_run(directory, CURVES[key])
        scores = {"bleu": 10.0 * key[1], "chrf": 1.0, "loss": 2.0}
        metrics = {"valid": scores, "test": scores, "updates": 7 * key[1]}
        (directory / runs.METRICS).write_text(json.dumps(metrics))
        return 0

    monkeypatch.setattr(translation_study, "in_fresh_process", run)
    output = tmp_path / "study"
    arguments = ["--arms", "plain", "rdrop", "--seeds", "1", "2"]
    arguments += ["--epochs", "10", "15", "--seconds", "10", "20"]
    translation_study.main([*arguments, "--output", str(output)])
    for given in commands:
        rate, dropout = translation_study.CHOSEN[given["--arm"]]
        assert given["--learning-rate"] == rate
        assert given["--dropout"] == dropout
        assert given["--epochs"] == "15"
    assert [(g["--arm"], g["--seed"]) for g in commands] == [
        ("plain", "1"),
        ("rdrop", "1"),
        ("plain", "2"),
        ("rdrop", "2"),
    ]
    shown = capsys.readouterr().out
    assert "2 seed(s), up to 14 updates" in shown
    # Of equal epochs (10), and in equal time (R-Drop's 5).
    assert "24.00" in shown and "8.50" in shown
    assert (output / runs.CURVES).exists()


def test_a_run_that_fails_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(translation_study, "in_fresh_process", lambda *_: 2)
    with pytest.raises(RuntimeError, match="plain, seed 1"):
        translation_study.main(["--output", str(tmp_path / "study")])
