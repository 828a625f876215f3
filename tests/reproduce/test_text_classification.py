"""The text classification example: its data, its runs, what they write."""

import csv
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from reproduce import runner
from reproduce import serving
from reproduce.__main__ import main as program
from reproduce.common import runs
from reproduce.common.arms import batches_of
from reproduce.common.errors import InputError
from reproduce.common.history import read_history
from reproduce.comparison import compare
from reproduce.comparison import run_directory
from reproduce.data.batches import BUCKETS
from reproduce.data.languages import load_languages
from reproduce.data.languages import unambiguous_names
from reproduce.data.texts import load_tables
from reproduce.data.texts import read_table
from reproduce.models import bert
from reproduce.models.bert import RDropBertTextClassifier
from reproduce.models.bert import preset_classifier
from reproduce.tasks import text_runs
from reproduce.tasks.text_classification import TASK
from reproduce.tasks.text_settings import Settings


def main(arguments):
    return program(["train", "text_classification", *arguments])


REPOSITORY = Path(__file__).resolve().parents[2]
PARTS = ("train", "valid", "test")

# --- languages ---------------------------------------------------------------


@pytest.fixture(scope="module")
def languages():
    return load_languages()


def _parts(dataset):
    return dataset.train, dataset.valid["valid"], dataset.test["test"]


def test_parts_share_no_text(languages):
    parts = _parts(languages)
    texts = [text.casefold() for part in parts for text in part.first]
    assert len(texts) == len(set(texts))


def test_parts_have_all_languages_and_their_counts(languages):
    assert len(languages.classes) == 42
    for part, count in zip(_parts(languages), (40, 20, 150)):
        assert Counter(part.labels) == dict.fromkeys(languages.classes, count)


def test_classes_cannot_be_told_by_their_letters(languages):
    letters = {text: set(text.casefold()) for text in languages.train.first}
    latin = [text for text in letters if letters[text] & set("aeiou")]
    cyrillic = [text for text in letters if letters[text] & set("аеиоу")]
    assert len(latin) + len(cyrillic) > 0.98 * len(letters)
    assert len(cyrillic) > 200


def test_no_name_is_right_in_two_languages():
    names = unambiguous_names()
    owners = Counter(
        name.casefold() for named in names.values() for name in named
    )
    assert set(owners.values()) == {1}
    assert "Madrid" not in names["es"]
    assert "Germany" in names["en"] and "Deutschland" in names["de"]


def test_concepts_are_held_out_whole(languages):
    concepts = {
        name: concept
        for named in unambiguous_names().values()
        for name, concept in named.items()
    }
    seen = [
        {concepts[text] for text in part.first} for part in _parts(languages)
    ]
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]


def test_split_is_the_same_in_every_process(languages):
    code = (
        "import hashlib\n"
        "from reproduce.data.languages import load_languages\n"
        "print(hashlib.sha256(repr(load_languages()).encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=REPOSITORY,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_fewer_examples_are_the_first_of_more(languages):
    few = load_languages(3, 2, 1)
    assert len(few.train) == 3 * 42
    assert set(few.train.first) < set(languages.train.first)
    with pytest.raises(ValueError, match="valid_per_class=0"):
        load_languages(3, 0, 1)


def test_indices_follow_the_order_of_the_classes(languages):
    part = languages.valid["valid"]
    indices = languages.targets_of(part)
    assert indices.dtype == np.int32
    names = [languages.classes[index] for index in indices]
    assert names == list(part.labels)


# --- tables ------------------------------------------------------------------


def _write(path, content):
    path.write_bytes(
        content if isinstance(content, bytes) else content.encode("utf-8")
    )
    return path


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("a.tsv", "good day\ten\nbuon dì\tit\n", ("good day", "buon dì")),
        ("a.tsv", 'text\tlabel\n"a, b\ten\nc\tit\n', ('"a, b', "c")),
        ("a.TSV", "label\tid\tText\nen\t1\tx\nit\t2\ty", ("x", "y")),
        ("a.csv", '"a, ""b""",en\r\n\r\n"c\nd",it\r\n', ('a, "b"', "c\nd")),
        ("a.csv", b"\xef\xbb\xbftext,label\na,en\nb,it\n", ("a", "b")),
        ("a.csv", " a , en \nb,it", ("a", "b")),
    ],
)
def test_tables_are_read(tmp_path, name, content, texts):
    part = read_table(_write(tmp_path / name, content))
    assert part.first == texts
    assert part.labels == ("en", "it")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "a\ten\nb\n", ":2: expected 2 columns, got 1"),
        ("a.tsv", "a\ten\n\nb\tit\tx\n", ":3: expected 2 columns, got 3"),
        ("a.csv", "text,label\na,en\nb\n", ":3: expected 2 columns, got 1"),
        ("a.tsv", "a\ten\n \tit\n", ":2: the text is empty"),
        ("a.tsv", "a\ten\nb\t\n", ":2: the label is empty"),
        ("a.tsv", b"a\ten\ncaf\xe9\tfr\n", ":2: expected UTF-8, got byte 0xe9"),
        ("a.csv", 'a,en\n"b"c,it\n', ":2: "),
        ("a.csv", 'a,en\n"b,it\n', ":2: unexpected end of data"),
        ("a.tsv", "", ": no examples"),
        ("a.tsv", "text\tlabel\n", ": no examples"),
        ("a.json", "{}", "Expected .tsv or .csv"),
    ],
)
def test_broken_tables_are_refused_with_their_line(
    tmp_path, name, content, message
):
    path = _write(tmp_path / name, content)
    with pytest.raises(InputError, match=message) as caught:
        read_table(path)
    assert str(path) in str(caught.value)


def test_missing_table_is_refused(tmp_path):
    with pytest.raises(InputError, match="gone.tsv: No such file"):
        read_table(tmp_path / "gone.tsv")


def test_labels_must_be_known_from_training(tmp_path):
    train_file = _write(tmp_path / "train.tsv", "a\ten\nb\tit\n")
    good = _write(tmp_path / "good.csv", "c,it\n")
    bad = _write(tmp_path / "bad.csv", "c,it\nd,fr\n")
    dataset = load_tables(train_file, good, good)
    assert dataset.classes == ("en", "it")
    assert dataset.valid["valid"].labels == ("it",)
    for valid, test in ((bad, good), (good, bad)):
        with pytest.raises(InputError, match="bad.csv:2: the label 'fr'"):
            load_tables(train_file, valid, test)
    with pytest.raises(InputError, match="two or more classes"):
        load_tables(good, good, good)


# --- runs --------------------------------------------------------------------

SETTINGS = Settings(
    arm="rdrop",
    alpha=2.0,
    dropout=0.2,
    seed=3,
    epochs=3,
    batch_size=32,
    learning_rate=1e-3,
)
# Three times 126 rows in batches of 32, the last of 30.
UPDATES = 12
# The other two are those of `test_glue_training.py`, where they take less.
ARMS = ("plain", "rdrop")


@pytest.fixture(scope="module")
def tiny():
    patch = pytest.MonkeyPatch()
    patch.setattr(bert, "NUM_LAYERS", 1)
    patch.setattr(bert, "WIDTH", 16)
    yield load_languages(3, 1, 2)
    patch.undo()


@pytest.fixture(scope="module")
def compared(tiny, tmp_path_factory):
    output = tmp_path_factory.mktemp("compared")
    # An export takes seconds, and the tests look at the last one alone.
    exports = iter([False, True])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_runs, "writes_saved_model", lambda: next(exports))
        settings = replace(SETTINGS, output=output)
        result = compare(TASK, tiny, settings, ARMS, (3,))
    return output, result


def test_every_arm_takes_the_same_number_of_updates(compared):
    output, result = compared
    assert tuple(result["arms"]) == ARMS
    for arm in ARMS:
        metrics = runs.read_json(run_directory(output, arm, 3) / runs.METRICS)
        assert metrics["settings"]["arm"] == arm
        assert metrics["updates"] == UPDATES
        assert metrics == result["runs"][arm][0]


def test_arms_train_differently(compared):
    output, _ = compared
    histories = {
        arm: read_history(run_directory(output, arm, 3) / runs.HISTORY)
        for arm in ARMS
    }
    # The same weights and rows to begin with, other gradients after that.
    final = {history["val_loss"][-1] for history in histories.values()}
    assert len(final) == len(ARMS)
    assert "consistency_loss" not in histories["plain"]
    for epoch in range(SETTINGS.epochs):
        loss, task, consistency = (
            histories["rdrop"][name][epoch][1]
            for name in ("loss", "task_loss", "consistency_loss")
        )
        assert consistency > 0
        np.testing.assert_allclose(
            loss, task + SETTINGS.alpha / 2 * consistency, rtol=1e-5
        )


def test_metrics_say_what_was_done_and_what_came_out(compared, tiny):
    output, _ = compared
    directory = run_directory(output, "rdrop", 3)
    metrics = runs.read_json(directory / runs.METRICS)
    assert metrics["settings"] == SETTINGS.compared()
    assert metrics["settings"]["schedule"] == "cosine"
    assert metrics["data"] == {
        "name": "languages",
        "classes": 42,
        "train": 126,
        "valid": 42,
        "test": 84,
    }
    assert metrics["versions"]["keras"] == keras.__version__
    # The file that was written scores what the metrics say.
    reloaded = keras.models.load_model(directory / runs.MODEL)
    assert metrics["parameters"] == reloaded.count_params()
    logits = reloaded.predict(list(tiny.test["test"].first), verbose=0)
    labels = tiny.targets_of(tiny.test["test"])
    accuracy = np.mean(logits.argmax(-1) == labels)
    np.testing.assert_allclose(metrics["test"]["accuracy"], accuracy)
    loss = keras.losses.sparse_categorical_crossentropy(
        labels, logits, from_logits=True
    )
    np.testing.assert_allclose(
        metrics["test"]["loss"], np.mean(loss), rtol=1e-5
    )


def test_run_writes_everything(compared):
    output, _ = compared
    directory = run_directory(output, "rdrop", 3)
    assert {path.name for path in directory.iterdir()} == {
        "run.json",
        "metrics.json",
        "history.csv",
        "curves.png",
        "model.keras",
        "saved_model",
        "tensorboard",
        "run.lock",
    }
    for picture in (directory / runs.CURVES, output / runs.CURVES):
        content = picture.read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) > 10_000
    with (directory / runs.HISTORY).open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == list("012")
    logged = {
        part: [
            event
            for file in (directory / runs.TENSORBOARD / part).iterdir()
            for event in _scalars(file)
        ]
        for part in ("train", "validation")
    }
    assert logged["train"].count(("epoch_consistency_loss", 0)) == 1
    assert logged["validation"].count(("epoch_loss", 2)) == 1
    assert ("epoch_consistency_loss", 0) not in logged["validation"]


def _scalars(file):
    for record in tf.data.TFRecordDataset(str(file)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
            yield value.tag, event.step


def test_model_reloads_with_its_training_settings(compared):
    output, _ = compared
    path = run_directory(output, "rdrop", 3) / runs.MODEL
    reloaded = keras.models.load_model(path)
    assert isinstance(reloaded, RDropBertTextClassifier)
    assert reloaded.rdrop.alpha == 2.0
    assert int(reloaded.optimizer.iterations.numpy()) == UPDATES


SERVE = """
import json, sys
for name in ("rdrop_keras", "keras_hub", "keras_nlp", "examples", "reproduce"):
    sys.modules[name] = None
import tensorflow as tf
import tensorflow_text
texts = json.load(sys.stdin)
model = tf.saved_model.load(sys.argv[1])
result = model.signatures["serving_default"](texts=tf.constant(texts))
json.dump({
    "label": [label.decode() for label in result["label"].numpy()],
    "probabilities": result["probabilities"].numpy().tolist(),
    "classes": [n.decode() for n in model.classes()["classes"].numpy()],
}, sys.stdout)
"""


def test_saved_model_serves_without_rdrop_and_keras_hub(compared, tiny):
    directory = run_directory(compared[0], "rdrop", 3)
    texts = [*tiny.test["test"].first[:20], "", "x" * 500, "日本語 🙂"]
    served = subprocess.run(
        [sys.executable, "-c", SERVE, str(directory / runs.SAVED_MODEL)],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=True,
    )
    result = json.loads(served.stdout)
    logits = keras.models.load_model(directory / runs.MODEL).predict(
        texts, verbose=0
    )
    expected = keras.ops.softmax(logits)
    np.testing.assert_allclose(
        result["probabilities"], expected, rtol=1e-4, atol=1e-6
    )
    assert tuple(result["classes"]) == tiny.classes
    assert result["label"] == [
        tiny.classes[index] for index in np.argmax(expected, -1)
    ]


def test_finished_run_is_read_not_repeated(compared, tiny):
    output, result = compared
    directory = run_directory(output, "rdrop", 3)
    before = (directory / runs.MODEL).stat().st_mtime_ns
    settings = replace(SETTINGS, output=output, resume=True)
    again = compare(TASK, tiny, settings, ARMS, (3,))
    assert again["arms"] == result["arms"]
    assert (directory / runs.MODEL).stat().st_mtime_ns == before


def test_preset_gives_its_weights_and_tokenizer(compared, tiny, tmp_path):
    first = keras.models.load_model(
        run_directory(compared[0], "rdrop", 3) / runs.MODEL
    )
    first.save_to_preset(str(tmp_path))
    second = preset_classifier(tmp_path, 42, dropout=0.3)
    assert second.backbone.dropout == second.dropout == 0.3
    for ours, theirs in zip(first.backbone.weights, second.backbone.weights):
        np.testing.assert_array_equal(ours, theirs)
    text = ["čtvrtek"]
    np.testing.assert_array_equal(
        first.preprocessor(text)["token_ids"],
        second.preprocessor(text)["token_ids"],
    )


# --- the command -------------------------------------------------------------


def test_command_refuses_a_foreign_directory(tmp_path, capsys):
    _write(tmp_path / "thesis.txt", "all of it")
    assert main(["--output", str(tmp_path)]) == 2
    assert "not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_command_names_file_and_line_of_bad_data(tmp_path, capsys):
    good = _write(tmp_path / "good.tsv", "a\ten\nb\tit\n")
    bad = _write(tmp_path / "bad.tsv", "a\ten\nb\n")
    arguments = ["--train", good, "--valid", bad, "--test", good]
    output = tmp_path / "out"
    status = main([*map(str, arguments), "--output", str(output)])
    assert status == 2
    assert f"error: {bad}:2: expected 2 columns" in capsys.readouterr().err
    assert not output.exists()


def test_command_wants_all_three_files(tmp_path, capsys):
    good = _write(tmp_path / "good.tsv", "a\ten\nb\tit\n")
    assert main(["--train", str(good)]) == 2
    assert "come together" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "No such file"),
        ("{", "not a KerasHub config"),
        ('{"class_name": "GPT2Backbone"}', "got GPT2Backbone"),
    ],
)
def test_command_refuses_what_is_no_bert_preset(
    tmp_path, capsys, config, message
):
    if config is not None:
        _write(tmp_path / "config.json", config)
    status = main(
        ["--preset", str(tmp_path), "--output", str(tmp_path / "out")]
    )
    assert status == 2
    assert message in capsys.readouterr().err


# Keras's CSVLogger leaves its file open when an exception ends `fit`.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_command_stops_when_the_loss_is_no_number(
    tiny, tmp_path, monkeypatch, capsys
):
    class Spoil(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            # In the second epoch, before its second update.
            if self.model.optimizer.iterations == 5:
                weight = self.model.trainable_variables[-1]
                weight.assign(weight * np.nan)

    callbacks = runner._callbacks
    monkeypatch.setattr(
        runner, "_callbacks", lambda *given: [*callbacks(*given), Spoil()]
    )
    monkeypatch.setattr(TASK, "load", lambda _: tiny, raising=False)
    status = main(["--epochs=3", f"--output={tmp_path}"])
    assert status == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: Expected a finite training loss. Received")
    assert "after update 6." in line and "lower --learning-rate" in line
    assert {path.name for path in tmp_path.iterdir()} == {
        "run.json",
        "history.csv",
        "tensorboard",
        "backup",
        "run.lock",
    }
    ((epochs, _),) = read_history(tmp_path / runs.HISTORY)["loss"]
    assert epochs == 1
    (backup,) = (tmp_path / runs.BACKUP).iterdir()
    assert backup.name == "epoch-1"
    model = TASK.begin(tiny, SETTINGS).model
    model.optimizer.build(model.trainable_variables)
    model.load_weights(backup / "latest.weights.h5")
    assert int(model.optimizer.iterations.numpy()) == 4
    for variable in [*model.weights, *model.optimizer.variables]:
        assert np.isfinite(variable).all()


def test_command_hands_its_flags_on(tmp_path, monkeypatch, capsys):
    table = _write(tmp_path / "t.tsv", "a\tx\nb\ty\n")
    files = [f"--{part}={table}" for part in PARTS]
    calls = []
    metrics = {part: {"accuracy": 0.5, "loss": 1.25} for part in PARTS}

    def record(task, dataset, settings):
        calls.append((task, dataset, settings))
        return metrics

    monkeypatch.setattr(runner, "train", record)
    flags = "--arm=plain --alpha=3 --dropout=0.3 --seed=7 --epochs=2"
    output = tmp_path / "out"
    flags = [*files, *flags.split(), "--resume", f"--output={output}"]
    assert main([*flags, "--batch-size=8", "--sequence-length=9"]) == 0
    assert "test: accuracy 0.5000, loss 1.2500" in capsys.readouterr().out
    assert main([*flags, "--learning-rate=0.5"]) == 0
    preset = tmp_path / "preset"
    preset.mkdir()
    _write(preset / "config.json", '{"model_type": "bert"}')
    assert main([*flags, f"--preset={preset}"]) == 0
    task, dataset, settings = calls[0]
    assert task is TASK
    assert dataset == load_tables(table, table, table)
    assert (settings.output, settings.resume) == (output, True)
    found = settings.resolved()
    assert (found.alpha, found.epochs, found.batch_size) == (3.0, 2, 8)
    assert (found.sequence_length, found.learning_rate) == (9, 1e-3)
    assert calls[1][2].resolved().learning_rate == 0.5
    assert calls[2][2].resolved().learning_rate == 1e-5
    assert calls[2][2].resolved().sequence_length is None


def test_batches_are_padded_to_their_longest(tiny, tmp_path, monkeypatch):
    keras.utils.set_random_seed(0)
    # A preset that takes 64 tokens, for names of a few.
    small = bert.small_classifier(tiny.train.first, 42, 0.1, 64)
    small.save_to_preset(str(tmp_path / "preset"))
    settings = replace(
        SETTINGS, preset=tmp_path / "preset", batch_size=8, arm="doubled"
    )
    run = TASK.begin(tiny, settings)
    batches = run.batches(lambda: 3)
    batches.on_epoch_begin()
    lengths = []
    for index in range(len(batches)):
        inputs, _ = batches[index]
        lengths.append(inputs["token_ids"].shape[1])
        longest = inputs["padding_mask"].sum(axis=1).max()
        assert lengths[-1] == next(x for x in BUCKETS if x >= longest)
    assert len(set(lengths)) > 1 and max(lengths) < 64
    # Outputs do not depend on the padding.
    inputs, _ = batches[0]
    full = run.preprocessor(x=list(tiny.train.first[:4]))
    assert full["token_ids"].shape == (4, 64)
    cut = bert.tokenized(run.preprocessor, tiny.train.first[:4])
    np.testing.assert_allclose(
        run.model(cut, training=False),
        run.model(full, training=False),
        atol=1e-5,
    )
    # Batches of several lengths train, whichever come first.
    for seed in range(3):
        found = replace(settings, seed=seed, epochs=1, output=tmp_path / "o")
        run = TASK.begin(tiny, found)
        run.model.fit(
            batches_of("doubled", run.batches(lambda: 0)),
            validation_data=run.validation,
            verbose=0,
        )
        assert int(run.model.optimizer.iterations) == len(batches)


def test_served_texts_are_printed_with_their_label(compared, capsys):
    directory = run_directory(compared[0], "rdrop", 3)
    texts = ["čtvrtek", "lunedì"]
    serving.main(
        "text_classification", [str(directory / runs.SAVED_MODEL), *texts]
    )
    printed = capsys.readouterr().out.splitlines()
    reloaded = keras.models.load_model(directory / runs.MODEL)
    probabilities = keras.ops.softmax(reloaded.predict(texts, verbose=0))
    classes = load_languages().classes
    assert printed == [
        f"{text:<7}  {classes[np.argmax(row)]} {np.max(row):.2f}"
        for text, row in zip(texts, probabilities)
    ]
