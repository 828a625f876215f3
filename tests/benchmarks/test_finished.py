"""The table of finished runs."""

import json

import pytest

from benchmarks import finished


def write(folder, arm, seed, accuracy, **settings):
    metrics = {
        "settings": {"arm": arm, "seed": seed, "output": arm, **settings},
        "test": {"accuracy": accuracy, "loss": 1 - accuracy},
    }
    name = "-".join(map(str, (arm, seed, *settings.values())))
    (folder / f"{name}.json").write_text(json.dumps(metrics))


def shown(capsys, *arguments):
    finished.main([*map(str, arguments), "--measures", "test.accuracy"])
    lines = capsys.readouterr().out.splitlines()
    cells = [line.split("│")[1:3] for line in lines if line.startswith("│")]
    return [tuple(cell.strip() for cell in row) for row in cells]


def test_each_arm_has_settings_of_its_own(tmp_path, capsys):
    for seed, (plain, other, rdrop) in enumerate(
        [(0.50, 0.40, 0.54), (0.52, 0.41, 0.54)], 1
    ):
        write(tmp_path, "plain", seed, plain, dropout=0.2, alpha=5.0)
        write(tmp_path, "plain", seed, other, dropout=0.4, alpha=1.0)
        write(tmp_path, "rdrop", seed, rdrop, dropout=0.1, alpha=5.0)
    # The better one of plain training is what the others are compared with.
    rows = shown(capsys, tmp_path)
    assert rows[0] == ("plain, dropout 0.2", "51.00 ± 1.41")
    labels = [label for label, _ in rows]
    assert "plain, dropout 0.4" in labels
    # Differences of 4 and 2 points: 3 and t(0.975, 1) * 1.
    index = labels.index("rdrop, dropout 0.1, alpha 5.0")
    assert rows[index + 2] == (
        "minus plain, dropout 0.2",
        "+3.00 (-9.71 to +15.71)",
    )
    # The folders of runs have the same.
    folders = tmp_path / "folders"
    for path in tmp_path.glob("*.json"):
        (folders / path.stem).mkdir(parents=True)
        (folders / path.stem / "metrics.json").write_text(path.read_text())
    assert shown(capsys, folders) == rows
    rows = shown(capsys, tmp_path, "--reference", "rdrop")
    assert rows[0] == ("rdrop, dropout 0.1, alpha 5.0", "54.00 ± 0.00")


def test_what_cannot_be_compared_is_an_error(tmp_path, capsys):
    def message(*arguments):
        with pytest.raises(SystemExit):
            shown(capsys, tmp_path, *arguments)
        return capsys.readouterr().err

    assert "no JSON file of a run" in message()
    write(tmp_path, "plain", 1, 0.5)
    write(tmp_path, "rdrop", 2, 0.6)
    assert "have the seeds of plain, [1]. Got [2] in rdrop" in message()
    assert "runs of the arm doubled" in message("--reference", "doubled")
    (tmp_path / "other.json").write_text("[]")
    assert "other.json: not the metrics of a run" in message()
