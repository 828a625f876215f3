"""Runs on GLUE and diabetes: trained, measured, exported, resumed."""

import itertools

import keras
import numpy as np
import pytest
import sklearn.datasets
import tensorflow as tf
import tensorflow_text  # noqa: F401 - registers the tokenizer's operations

from reproduce import outputs
from reproduce import runner
from reproduce import serving
from reproduce.__main__ import main as program
from reproduce.common import runs
from reproduce.common.errors import InputError
from reproduce.common.history import read_history
from reproduce.comparison import run_directory
from reproduce.data.diabetes import load_diabetes
from reproduce.data.glue import load_glue
from reproduce.data.glue import write_predictions
from reproduce.data.glue_tasks import GLUE_TASKS
from reproduce.models import bert
from reproduce.tasks import text_runs
from reproduce.tasks.text_runs import PREDICTIONS


def main(arguments, verb="train"):
    return program([verb, "text_classification", *arguments])


NAMES = ("Anna", "Bob", "Eva", "Tom", "Ida", "Max")
VERBS = ("sees", "hears", "likes", "knows")
FLAGS = [
    "--epochs=8",
    "--batch-size=8",
    "--sequence-length=12",
    "--learning-rate=0.02",
    "--dropout=0.2",
    "--alpha=2",
    "--seed=3",
]
PAIR = "index\tsentence1\tsentence2\tlabel"
MNLI = "\t".join(["index", *"abcdefg", "sentence1", "sentence2", "gold_label"])
STSB = "index\tgenre\tfile\tyear\told\ts1\ts2\tsentence1\tsentence2\tscore"


def _sentences():
    return [f"{a} {verb} him" for a, verb in itertools.product(NAMES, VERBS)]


def _cola():
    for number, sentence in enumerate(_sentences()):
        label = number % 2
        yield f"x\t{label}\t\t{sentence} {'well' if label else 'the'} ."


def _rte():
    yield PAIR
    for number, sentence in enumerate(_sentences()):
        second = sentence if number % 2 else "him the"
        label = "entailment" if number % 2 else "not_entailment"
        yield f"{number}\t{sentence}\t{second}\t{label}"


def _mnli():
    yield MNLI
    labels = ("neutral", "entailment", "contradiction")
    for number, sentence in enumerate(_sentences()):
        label = labels[number % 3] if number != 5 else "-"
        cells = [str(number), *"tuvwxyz", sentence, f"{label} him", label]
        yield "\t".join(cells)


def _stsb():
    yield STSB
    for number, sentence in enumerate(_sentences()):
        second = sentence if number % 2 else "the the"
        score = 1.0 if number % 2 else 0.0
        yield f"{number}\tn\tf\t12\t1\ts\ts\t{sentence}\t{second}\t{score}"


TASKS = {
    "CoLA": (_cola, ["dev.tsv"]),
    "RTE": (_rte, ["dev.tsv"]),
    "MNLI": (_mnli, ["dev_matched.tsv", "dev_mismatched.tsv"]),
    "STS-B": (_stsb, ["dev.tsv"]),
}


# Their labels are not public.
TESTS = {
    "CoLA": [
        "index\tsentence",
        "0\tAnna sees the .",
        "1\tBob likes him well .",
    ],
    "STS-B": [
        STSB.removesuffix("\tscore"),
        "0\tn\tf\t12\t1\ts\ts\tAnna sees him\tAnna sees him",
        "1\tn\tf\t12\t1\ts\ts\tAnna sees him\tthe the",
    ],
}


@pytest.fixture(scope="module")
def glue(tmp_path_factory):
    directory = tmp_path_factory.mktemp("glue")
    for folder, (rows, valid) in TASKS.items():
        (directory / folder).mkdir()
        lines = list(rows())
        for place, file in enumerate(["train.tsv", *valid]):
            # Unlike parts, the header kept: fewer lines in each.
            kept = lines[:1] + lines[1 + place :]
            text = "\n".join(kept) + "\n"
            (directory / folder / file).write_text(text, encoding="utf-8")
    for folder, lines in TESTS.items():
        (directory / folder / "test.tsv").write_text("\n".join(lines))
    return directory


@pytest.fixture(scope="module", autouse=True)
def tiny():
    patch = pytest.MonkeyPatch()
    patch.setattr(bert, "NUM_LAYERS", 1)
    patch.setattr(bert, "WIDTH", 16)
    yield
    patch.undo()


@pytest.fixture
def no_export(monkeypatch):
    # An export takes seconds.
    monkeypatch.setattr(text_runs, "writes_saved_model", lambda: False)


def _outputs(directory, part):
    """Loads the model of a run and applies it to sentences."""
    model = keras.models.load_model(directory / runs.MODEL)
    first, second = list(part.first), list(part.second or ())
    inputs = model.preprocessor(x=(first, second) if second else first)
    return model, keras.ops.convert_to_numpy(model(inputs, training=False))


# --- one sentence ------------------------------------------------------------


@pytest.fixture(scope="module")
def cola(glue, tmp_path_factory):
    output = tmp_path_factory.mktemp("cola")
    flags = ["--glue-task=cola", f"--data={glue}", *FLAGS]
    assert main([*flags, f"--output={output}"]) == 0
    return flags, output


def test_single_sentences_are_scored_as_the_task_is(cola, glue):
    _, output = cola
    metrics = runs.read_json(output / runs.METRICS)
    assert metrics["data"] == {
        "name": "GLUE CoLA",
        "classes": 2,
        "train": 24,
        "valid": 23,
        "test": 2,
        "skipped": 0,
    }
    assert metrics["updates"] == 24
    assert "test" not in metrics
    dev = load_glue("cola", glue).valid["dev"]
    model, logits = _outputs(output, dev)
    assert model.rdrop.alpha == 2.0
    chosen, right = logits.argmax(-1), np.array(dev.labels) == "acceptable"
    assert 0 < chosen.mean() < 1
    correlation = np.corrcoef(chosen, right)[0, 1]
    valid = metrics["valid"]
    np.testing.assert_allclose(valid["matthews"], correlation, rtol=1e-6)
    likelihood = np.exp(logits)[np.arange(len(right)), right.astype(int)]
    loss = -np.log(likelihood / np.exp(logits).sum(-1)).mean()
    np.testing.assert_allclose(valid["loss"], loss, rtol=1e-5)
    history = read_history(output / runs.HISTORY)
    epochs = [epoch for epoch, _ in history["val_matthews"]]
    assert epochs == list(range(1, 9))
    assert history["val_matthews"][-1][1] == valid["matthews"]


def test_single_sentences_are_served(cola, glue):
    _, output = cola
    dev = load_glue("cola", glue).valid["dev"]
    _, logits = _outputs(output, dev)
    served = tf.saved_model.load(str(output / runs.SAVED_MODEL))
    result = served.serve(tf.constant(dev.first))
    np.testing.assert_allclose(
        result["probabilities"], keras.ops.softmax(logits), atol=1e-6
    )
    names = ("unacceptable", "acceptable")
    assert [x.decode() for x in result["label"].numpy()] == [
        names[index] for index in logits.argmax(-1)
    ]
    classes = served.classes()["classes"].numpy()
    assert [x.decode() for x in classes] == list(names)
    assert (output / runs.CURVES).read_bytes().startswith(b"\x89PNG")


def test_test_parts_get_predictions_as_the_server_wants_them(cola, glue):
    _, output = cola
    _, logits = _outputs(output, load_glue("cola", glue).test["test"])
    (file,) = (output / PREDICTIONS).iterdir()
    assert file.name == "CoLA.tsv"
    assert file.read_text().splitlines() == [
        "index\tprediction",
        *(f"{row}\t{label}" for row, label in enumerate(logits.argmax(-1))),
    ]


@pytest.mark.parametrize(
    ("task", "outputs", "lines"),
    [
        # Labels as they are in the task's own files.
        ("rte", [[0.0, 1.0], [1.0, 0.0]], ["not_entailment", "entailment"]),
        ("qqp", [[0.0, 1.0], [1.0, 0.0]], ["1", "0"]),
        (
            "mnli",
            [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]],
            ["contradiction", "neutral"],
        ),
        ("stsb", [[5.25], [-0.5], [2.71828]], ["5.000", "0.000", "2.718"]),
    ],
)
def test_predictions_are_written_in_labels_of_the_task(
    tmp_path, task, outputs, lines
):
    write_predictions(
        GLUE_TASKS[task], "test", np.array(outputs), tmp_path / "new"
    )
    (path,) = (tmp_path / "new").iterdir()
    numbered = [f"{row}\t{line}" for row, line in enumerate(lines)]
    expected = "\n".join(["index\tprediction", *numbered]) + "\n"
    assert path.read_text() == expected


def test_prediction_files_are_called_as_the_server_calls_them(tmp_path):
    for task in GLUE_TASKS.values():
        outputs = np.zeros((1, len(task.classes) or 1))
        for part in task.files("test"):
            write_predictions(task, part, outputs, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("CoLA.tsv", "MNLI-m.tsv", "MNLI-mm.tsv", "MRPC.tsv", "QNLI.tsv"),
        *("QQP.tsv", "RTE.tsv", "SST-2.tsv", "STS-B.tsv"),
    }


# Keras's CSVLogger leaves its file open when an exception ends `fit`.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_interrupted_run_resumes_to_the_same_end(
    cola, tmp_path, monkeypatch, no_export, capsys
):
    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            # In the second epoch: the first is backed up, this one lost.
            if self.model.optimizer.iterations == 5:
                raise KeyboardInterrupt

    flags, whole = cola
    flags = [*flags, f"--output={tmp_path}", "--resume"]
    callbacks = runner._callbacks
    with monkeypatch.context() as patch:
        patch.setattr(
            runner, "_callbacks", lambda *x: [*callbacks(*x), Interrupt()]
        )
        assert main(flags) == 130
    assert not outputs.is_finished(tmp_path)
    assert main([*flags, "--warm-up=2"]) == 2
    assert "warm_up was None, now 2" in capsys.readouterr().err
    assert main(flags) == 0
    assert read_history(tmp_path / runs.HISTORY) == read_history(
        whole / runs.HISTORY
    )
    resumed, expected = (
        runs.read_json(directory / runs.METRICS)
        for directory in (tmp_path, whole)
    )
    assert resumed["valid"] == expected["valid"]
    assert resumed["updates"] == expected["updates"]


# --- pairs -------------------------------------------------------------------


def test_pairs_get_a_score(glue, tmp_path, capsys):
    flags = ["--glue-task=stsb", f"--data={glue}", *FLAGS]
    assert main([*flags, f"--output={tmp_path}"]) == 0
    valid = runs.read_json(tmp_path / runs.METRICS)["valid"]
    dev = load_glue("stsb", glue).valid["dev"]
    _, outputs = _outputs(tmp_path, dev)
    assert outputs.shape == (len(dev), 1)
    scores, right = outputs[:, 0], np.array(dev.labels)
    correlation = np.corrcoef(scores, right)[0, 1]
    np.testing.assert_allclose(valid["pearson"], correlation, rtol=1e-4)
    np.testing.assert_allclose(
        valid["loss"], np.mean((scores - right) ** 2), rtol=1e-5
    )
    history = read_history(tmp_path / runs.HISTORY)
    for epoch in range(8):
        loss, task, consistency = (
            history[name][epoch][1]
            for name in ("loss", "task_loss", "consistency_loss")
        )
        assert consistency > 0
        np.testing.assert_allclose(loss, task + consistency, rtol=1e-4)
    served = tf.saved_model.load(str(tmp_path / runs.SAVED_MODEL))
    first, second = tf.constant(dev.first), tf.constant(dev.second)
    np.testing.assert_allclose(
        served.serve(first, second)["score"], scores, atol=1e-5
    )
    turned = served.serve(second, first)["score"]
    assert np.abs(turned - scores).max() > 1e-4
    pairs = list(zip(dev.first, dev.second))[:2]
    arguments = [str(tmp_path / runs.SAVED_MODEL), *itertools.chain(*pairs)]
    serving.main("text_classification", arguments)
    shown = [" | ".join(pair) for pair in pairs]
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f"{text:<{max(map(len, shown))}}  {score:.3f}"
        for text, score in zip(shown, scores)
    ]
    with pytest.raises(InputError, match="two for each pair"):
        serving.main("text_classification", arguments[:-1])
    predicted = (tmp_path / PREDICTIONS / "STS-B.tsv").read_text().split()
    same, different = map(float, predicted[3::2])
    assert 0 <= different < same <= 5


def test_arms_are_compared_on_the_headline_measure(
    glue, tmp_path, no_export, capsys
):
    flags = ["--glue-task=mnli", f"--data={glue}", *FLAGS[:-1], "--epochs=1"]
    flags += ["--arms=plain,two_pass", "--seeds=1"]
    assert main([*flags, f"--output={tmp_path}"], "compare") == 0
    printed = capsys.readouterr().out
    assert "3 lines skipped" in printed and "label '-'" in printed
    result = runs.read_json(tmp_path / runs.METRICS)
    parts = load_glue("mnli", glue).valid
    assert len(parts["matched"]) != len(parts["mismatched"])
    for arm in ("plain", "two_pass"):
        directory = run_directory(tmp_path, arm, 1)
        valid = runs.read_json(directory / runs.METRICS)["valid"]
        for name, part in parts.items():
            _, logits = _outputs(directory, part)
            labels = ("entailment", "neutral", "contradiction")
            chosen = [labels[index] for index in logits.argmax(-1)]
            accuracy = np.mean(np.array(chosen) == part.labels)
            assert valid[f"accuracy_{name}"] == pytest.approx(accuracy)
            summary = result["arms"][arm][f"valid_accuracy_{name}"]
            assert summary["median"] == pytest.approx(accuracy)
            assert f"{name} accuracy, %" in printed
            assert f"{100 * accuracy:.2f}" in printed


# --- regression --------------------------------------------------------------


def test_diabetes_is_learned_by_every_arm(tmp_path, monkeypatch):
    exports = iter([False, False, False, True])
    monkeypatch.setattr(text_runs, "writes_saved_model", lambda: next(exports))
    flags = "--task=diabetes --arms=plain,doubled,two_pass,rdrop --seeds=4"
    flags = [*flags.split(), "--epochs=2", f"--output={tmp_path}"]
    assert main(flags, "compare") == 0
    found = [
        runs.read_json(run_directory(tmp_path, arm, 4) / runs.METRICS)
        for arm in ("plain", "doubled", "two_pass", "rdrop")
    ]
    assert {metrics["updates"] for metrics in found} == {16}
    assert len({metrics["test"]["loss"] for metrics in found}) == 4
    histories = {
        arm: read_history(run_directory(tmp_path, arm, 4) / runs.HISTORY)
        for arm in ("doubled", "two_pass", "rdrop")
    }
    assert "consistency_loss" not in histories["doubled"]
    for arm, alpha in (("two_pass", 0.0), ("rdrop", 1.0)):
        (_, loss), (_, task), (_, consistency) = (
            histories[arm][name][-1]
            for name in ("loss", "task_loss", "consistency_loss")
        )
        assert consistency > 0
        expected = task + alpha / 2 * consistency
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
    directory = run_directory(tmp_path, "rdrop", 4)
    dataset = load_diabetes()
    model = keras.models.load_model(directory / runs.MODEL)
    scores = model.predict(dataset.test.inputs, verbose=0)[:, 0]
    errors = scores - dataset.test.targets[:, 0]
    test = found[-1]["test"]
    np.testing.assert_allclose(test["loss"], np.mean(errors**2), rtol=1e-5)
    np.testing.assert_allclose(test["mae"], np.mean(abs(errors)), rtol=1e-5)
    # Better than the mean of the training part, after two epochs.
    assert test["loss"] < np.mean(dataset.test.targets**2)
    served = tf.saved_model.load(str(directory / runs.SAVED_MODEL))
    # As scikit-learn has the measurements, in the order of the split.
    raw = sklearn.datasets.load_diabetes(scaled=False)
    order = np.random.RandomState(0).permutation(len(raw.target))
    train, rest = order[200:], order[80:200]
    expected = scores * raw.target[train].std() + raw.target[train].mean()
    result = served.serve(tf.constant(raw.data[rest], tf.float32))
    np.testing.assert_allclose(result["score"], expected, rtol=1e-4)
    names = [x.decode() for x in served.inputs()["inputs"].numpy()]
    assert names == list(raw.feature_names)
