"""The translation study: corpus, runs in the time there is, and tables."""

import dataclasses
import json
import time

import numpy as np
import pytest

from benchmarks import study
from benchmarks.gpu import prepare
from benchmarks.gpu import run
from benchmarks.gpu.cell import Cell
from benchmarks.gpu.cell import grid
from benchmarks.gpu.corpus import Prepared
from benchmarks.gpu.corpus import tokenize
from benchmarks.gpu.plans import PLANS
from benchmarks.gpu.plans import SEARCH_SEED
from benchmarks.gpu.training import OutOfTime
from benchmarks.gpu.training import Training
from reproduce.common.errors import InputError
from reproduce.data import batching
from reproduce.data.cldr import load_cldr
from reproduce.models import sizes
from reproduce.scores.bleu import Scores


@pytest.fixture(scope="module")
def corpus():
    return load_cldr(train_pairs=120, valid_pairs=20, test_pairs=20)


@pytest.fixture(scope="module")
def prepared(corpus):
    return tokenize(corpus, vocabulary_size=200, maximum_length=60)


@pytest.fixture
def tiny(monkeypatch):
    small = dataclasses.replace(
        sizes.TRANSLATION_SIZES["tiny"], num_layers=1, width=16, num_heads=2
    )
    monkeypatch.setitem(sizes.TRANSLATION_SIZES, "tiny", small)
    return Cell(size="tiny", updates=4, max_tokens=4000, validations=4)


def test_a_corpus_is_read_as_it_was_written(corpus, prepared, tmp_path):
    prepared.save(tmp_path / "prepared")
    loaded = Prepared.load(tmp_path / "prepared")
    assert (loaded.name, loaded.facts) == (prepared.name, prepared.facts)
    assert loaded.texts == prepared.texts
    assert loaded.texts["test"] == corpus.test
    assert loaded.subwords.proto == prepared.subwords.proto
    for side in ("sources", "targets"):
        ours, theirs = (getattr(p.training, side) for p in (loaded, prepared))
        assert len(ours) == prepared.facts["train"]
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == "int32"
        subwords = sum(map(len, ours))
        assert prepared.facts[f"{side[:-1]}_subwords"] == subwords
    text = loaded.subwords.decode(loaded.training.sources)
    assert set(text) <= set(corpus.train.sources)


def test_pairs_are_left_out_and_counted(corpus):
    found = tokenize(corpus, vocabulary_size=200, maximum_length=12)
    longest = max(map(len, found.training.sources + found.training.targets))
    assert longest <= 12
    dropped = found.facts["dropped"]
    for part in ("train", "valid", "test"):
        left = sum(dropped[part].values())
        assert found.facts[part] + left == len(getattr(corpus, part))
        assert dropped[part]["too_long"] > 0
    assert dropped["valid"]["too_uneven"] == 0 < dropped["train"]["too_uneven"]


def test_the_first_pairs(prepared):
    assert len(prepared.first(None)) == prepared.facts["train"]
    first = prepared.first(5)
    np.testing.assert_array_equal(
        np.concatenate(first.sources),
        np.concatenate(prepared.training.sources[:5]),
    )
    with pytest.raises(InputError, match="expected 5000 training pairs"):
        prepared.first(5000)
    few = prepared.with_texts(3)
    assert few.texts["test"].sources == prepared.texts["test"].sources[:3]
    assert len(few.texts["valid"]) == 3


def test_a_damaged_corpus_is_an_error(prepared, tmp_path):
    prepared.save(tmp_path)
    (tmp_path / "training.npz").write_bytes(b"PK\3\4")
    with pytest.raises(InputError, match="not a prepared corpus"):
        Prepared.load(tmp_path)


def test_prepare_by_command_line(tmp_path, capsys):
    flags = ["--corpus", "cldr", "--vocabulary-size", "300"]
    prepare.main([*flags, "--output", str(tmp_path / "out")])
    assert "'target_language': 'de'" in capsys.readouterr().out
    assert Prepared.load(tmp_path / "out").subwords.vocabulary_size == 300
    with pytest.raises(SystemExit):
        prepare.main(["--corpus", "debian", "--output", str(tmp_path)])
    assert "needs --data DIR" in capsys.readouterr().err


def test_settings_without_effect_do_not_name_a_run():
    plain = Cell(alpha=1.0, num_passes=3)
    assert plain.file_name("a") == Cell(alpha=2.0).file_name("a")
    rdrop = Cell(arm="rdrop", alpha=1.0)
    other = dataclasses.replace(rdrop, alpha=2.0)
    names = [cell.file_name("a") for cell in (plain, rdrop, other)]
    names += [rdrop.file_name("b"), dataclasses.replace(rdrop, seed=2)]
    assert len(set(names)) == 5
    assert "seed" not in rdrop.settings()


def test_the_method_of_a_cell():
    assert Cell(arm="plain").rdrop is None
    two_pass = Cell(arm="two_pass", alpha=3.0).rdrop
    assert (two_pass.alpha, two_pass.num_passes) == (0.0, 2)
    rdrop = Cell(arm="rdrop", alpha=3.0, num_passes=3, every=4).rdrop
    assert (rdrop.alpha, rdrop.num_passes, rdrop.every) == (3.0, 3, 4)
    cell = Cell(size="iwslt", dropout=0.4, attention_dropout=0.2)
    assert (cell.sizes.dropout, cell.sizes.attention_dropout) == (0.4, 0.2)
    assert cell.sizes.num_layers == 6


def test_a_grid_varies_the_last_name_fastest():
    cells = grid(Cell(), dropout=(0.1, 0.2), alpha=(1.0, 2.0))
    assert [(cell.dropout, cell.alpha) for cell in cells] == [
        (0.1, 1.0),
        (0.1, 2.0),
        (0.2, 1.0),
        (0.2, 2.0),
    ]


@pytest.mark.parametrize("plan", PLANS)
def test_plans(plan):
    cells = PLANS[plan]
    assert len({cell.file_name("a") for cell in cells}) == len(cells)
    searching = plan.endswith("_search")
    assert all((cell.seed == SEARCH_SEED) == searching for cell in cells)
    if searching:
        arms = [cell.arm for cell in cells]
        assert arms.count("plain") == arms.count("rdrop") == len(cells) / 2


def test_full_batches(prepared):
    pairs = prepared.training
    rules = batching.Batching.of(pairs, 300, buckets=3, full_batches=True)
    assert len(rules.boundaries) <= 3
    found = rules.training_batches(pairs, 1, lambda: 0)
    assert len(found) == rules.steps_per_epoch(pairs) > 2
    sizes_of = dict(zip(rules.boundaries, rules.batch_sizes))
    for index in range(len(found)):
        rows, length = found[index][1].shape
        assert rows == sizes_of[length]
    everything = rules.evaluation_batches(pairs)
    rows = [len(everything[i][1]) for i in range(len(everything))]
    assert sum(rows) == len(pairs)


def test_a_run_trains_and_scores_the_best_weights(prepared, tiny, monkeypatch):
    cell = dataclasses.replace(tiny, arm="rdrop", learning_rate=1e-2, warm_up=1)
    training = Training(prepared, cell)
    bleu = iter([1.0, 3.0, 2.0, 2.5, 0.0, 0.0])
    seen, translated = [], []

    def score(translator, part):
        seen.append(training.model.get_weights())
        if len(seen) in (1, 5):
            beam = translator.decoding.beam_size
            translated.append((beam, translator.generate(["May 3, 2021"])))
        return Scores(next(bleu), 40.0, "", "")

    monkeypatch.setattr(training, "_score", score)
    record = training.run()
    points = record["curve"]
    assert [point["val_bleu"] for point in points] == [1.0, 3.0, 2.0, 2.5]
    assert points[-1]["updates"] == record["updates"] == training.updates
    assert training.updates == int(training.model.optimizer.iterations)
    assert all(point["consistency_loss"] > 0 for point in points)
    seconds = [point["train_seconds"] for point in points]
    assert seconds == sorted(seconds)
    assert record["settings"] == cell.settings() | {"seed": 1}
    for best, final in zip(seen[1], seen[5]):
        np.testing.assert_array_equal(best, final)
    assert not np.array_equal(seen[1][0], seen[3][0])
    assert record["test"]["chrf"] == 40.0
    # The record has the loss of the best weights.
    loss = training.model.evaluate(training.test, verbose=0)[0]
    assert record["test"]["loss"] == pytest.approx(loss, rel=1e-5)
    assert [beam for beam, _ in translated] == [1, 5]
    assert all(isinstance(text, str) for _, (text,) in translated)


def test_a_run_that_does_not_fit_is_given_up(monkeypatch):
    training = object.__new__(Training)
    training.epochs = 10
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    # Two epochs took 20 seconds, and eight more and beam search take 90.
    training._check_time(980.0, None, 2)
    training._check_time(980.0, 1090.0, 2)
    with pytest.raises(OutOfTime, match=r"1\.5 minutes more .* 1\.3 are left"):
        training._check_time(980.0, 1080.0, 2)


class FakeTraining:
    """Takes the place of training, which other tests run."""

    made: list = []

    def __init__(self, prepared, cell):
        self.cell = cell

    def run(self, deadline):
        if deadline is not None and time.monotonic() > deadline:
            raise OutOfTime("2.0 minutes more are needed, 1.0 are left")
        self.made.append(self.cell)
        return {"settings": self.cell.settings(), "curve": []}


def test_a_plan_continues_where_it_ended(
    prepared, tmp_path, monkeypatch, capsys
):
    prepared.save(tmp_path / "prepared")
    monkeypatch.setattr(run, "Training", FakeTraining)
    monkeypatch.setattr(FakeTraining, "made", [])
    arguments = ["--prepared", str(tmp_path / "prepared"), "--plan", "small"]
    arguments += ["--output", str(tmp_path / "results"), "--seeds", "1"]
    run.main([*arguments, "--arms", "plain"])
    assert {cell.arm for cell in FakeTraining.made} == {"plain"}
    first = len(FakeTraining.made)
    run.main(arguments)
    wanted = [cell for cell in PLANS["small"] if cell.seed == 1]
    assert len(FakeTraining.made) == len(wanted) > first
    assert set(FakeTraining.made) == set(wanted)
    files = sorted((tmp_path / "results").glob("*.json"))
    assert len(files) == len(wanted)
    machine = json.loads(files[0].read_text())["machine"]
    assert machine["versions"].keys() >= {"keras", "sacrebleu"}
    capsys.readouterr()
    run.main([*arguments, "--plan", "large", "--minutes", "0"])
    assert "given up: 2.0 minutes" in capsys.readouterr().out
    assert sorted((tmp_path / "results").glob("*.json")) == files


def record(arm, seed, bleu, curve=((1, 10.0, 5.0), (2, 20.0, 6.0)), **settings):
    """Returns the record of a run, with made-up values."""
    return {
        "settings": {"arm": arm, "size": "tiny", "seed": seed, **settings},
        "corpus": {
            "name": "toy",
            "source_language": "en",
            "target_language": "de",
            "used": 7,
        },
        "updates": 2,
        "curve": [
            {
                "epoch": updates,
                "updates": updates,
                "train_seconds": seconds,
                "val_bleu": value,
                "loss": 1.0,
                "val_loss": 1.0,
            }
            for updates, seconds, value in curve
        ],
        "valid": {"bleu": bleu},
        "test": {"bleu": bleu + 1, "chrf": 50.0, "loss": 1.5},
    }


def test_tables(tmp_path, capsys):
    slow = ((1, 20.0, 7.0), (2, 40.0, 9.0))
    records = [
        record("plain", 1, 10.0, dropout=0.1),
        record("plain", 2, 12.0, dropout=0.1),
        record("plain", 1, 5.0, dropout=0.3),
        record("rdrop", 2, 16.0, slow, dropout=0.1, alpha=5.0),
        record("rdrop", 1, 12.0, slow, dropout=0.1, alpha=5.0),
        record("rdrop", 3, 99.0, slow, dropout=0.1, alpha=5.0),
        record("plain", SEARCH_SEED, 1.0, dropout=0.1),
    ]
    for index, found in enumerate(records):
        (tmp_path / f"{index}.json").write_text(json.dumps(found))
    study.main([str(tmp_path), "--output", str(tmp_path / "plots")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "toy en-de, tiny, 7 pairs, 2 updates"
    rows = [line.split(" | ") for line in lines if line.startswith("| ")]
    arms = [(row[0], row[1]) for row in rows]
    assert arms == [
        ("| arm", "seeds"),
        ("| ---", "---"),
        ("| rdrop, dropout 0.1", "3"),
        ("| plain, dropout 0.1", "2"),
        ("| plain, dropout 0.3", "1"),
        ("| arm", "seeds"),
        ("| ---", "---"),
        ("| plain", "1"),
    ]
    # Differences on seeds 1 and 2: 2 and 4, so 3 and t(0.975, 1) * 1.
    assert rows[2][3] == "43.33 ± 49.12, +3.00 (-9.71 to +15.71)"
    assert rows[3][2] == "11.00 ± 1.41"
    assert rows[4][2] == "5.00, -5.00"
    # Half of the updates, and the 20 seconds of plain training.
    assert rows[2][6:] == ["7.00 ± 0.00", "7.00 ± 0.00 |"]
    assert rows[3][6:] == ["5.00 ± 0.00", "6.00 ± 0.00 |"]
    assert len(list((tmp_path / "plots").glob("*.png"))) == 2
    study.main([str(tmp_path), "--reference", "rdrop"])
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split(" | ") for line in lines if line.startswith("| ")]
    assert rows[2][3] == "43.33 ± 49.12"
    assert rows[3][3] == "12.00 ± 1.41, -3.00 (-15.71 to +9.71)"
    # Within the 40 seconds of R-Drop. The search has no run of that arm.
    assert rows[3][7] == "6.00 ± 0.00 |"
    assert rows[7][3:] == ["2.00", "50.00", "1.500", "5.00 |"]
    assert len(rows[7]) == len(rows[5]) == len(rows[0]) - 1


def test_a_folder_without_runs_is_an_error(tmp_path, capsys):
    with pytest.raises(SystemExit):
        study.main([str(tmp_path)])
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(SystemExit):
        study.main([str(tmp_path)])
    found = capsys.readouterr().err
    assert "no JSON file of a run" in found
    assert "not the record of a run" in found
