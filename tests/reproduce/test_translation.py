"""The translation example as a program: runs, choices, files, commands."""

import dataclasses
import io
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import sacrebleu

from rdrop_keras import recipes
from reproduce import outputs
from reproduce import runner
from reproduce.__main__ import main
from reproduce.__main__ import parse
from reproduce.common import runs
from reproduce.common.checkpoints import Checkpoints
from reproduce.common.checkpoints import average_weights
from reproduce.common.errors import InputError
from reproduce.common.history import read_history
from reproduce.comparison import compare
from reproduce.comparison import run_directory
from reproduce.data.cldr import load_cldr
from reproduce.decoding import text_to_text
from reproduce.decoding.translator import Translator
from reproduce.models.sizes import TRANSLATION_SIZES
from reproduce.runner import train
from reproduce.scores.bleu import score
from reproduce.tasks.translation import TASK
from reproduce.tasks.translation_runs import TranslationRun
from reproduce.tasks.translation_settings import Settings

SETTINGS = Settings(
    arm="rdrop",
    alpha=2.0,
    seed=3,
    epochs=3,
    vocabulary_size=150,
    max_tokens=512,
    validate_every=1,
    warm_up=2,
    beam_size=2,
)

# The other two go the same ways.
COMPARED = ("doubled", "rdrop")


@pytest.fixture(scope="module", autouse=True)
def small_model():
    small = dataclasses.replace(
        TRANSLATION_SIZES["tiny"], num_layers=1, width=16, feed_forward=16
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TRANSLATION_SIZES, "tiny", small)
        yield


@pytest.fixture(scope="module")
def corpus():
    return load_cldr(train_pairs=60, valid_pairs=8, test_pairs=12)


@pytest.fixture(scope="module")
def compared(corpus, tmp_path_factory):
    output = tmp_path_factory.mktemp("compared")
    # An export takes seconds, and the tests look at the last one alone.
    exports = iter([False, True])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_to_text, "writes_saved_model", lambda: next(exports))
        settings = dataclasses.replace(SETTINGS, output=output)
        result = compare(TASK, corpus, settings, COMPARED, (3,))
    return output, result


@pytest.fixture
def no_export(monkeypatch):
    monkeypatch.setattr(text_to_text, "writes_saved_model", lambda: False)


def test_arms_differ_by_their_arm_alone(compared):
    output, result = compared
    assert list(result["arms"]) == list(COMPARED)
    final = set()
    for arm in COMPARED:
        directory = run_directory(output, arm, 3)
        metrics = runs.read_json(directory / runs.METRICS)
        assert metrics == result["runs"][arm][0]
        assert metrics["settings"]["arm"] == arm
        # Those trained, whichever epoch was the best.
        batches = -(-metrics["updates"] // SETTINGS.epochs)
        assert metrics["updates"] == batches * SETTINGS.epochs
        assert metrics["updates"] == result["updates"]
        history = read_history(directory / runs.HISTORY)
        assert len(history["val_loss"]) == SETTINGS.epochs
        assert len(history["val_bleu"]) == SETTINGS.epochs
        assert metrics["versions"]["sacrebleu"] == sacrebleu.__version__
        assert ("consistency_loss" in history) == (arm == "rdrop")
        final.add(history["val_loss"][-1])
    assert len(final) == len(COMPARED)


def test_metrics_are_those_of_the_files_written(compared, corpus):
    directory = run_directory(compared[0], "rdrop", 3)
    metrics = runs.read_json(directory / runs.METRICS)
    translator = Translator.load(directory)
    assert translator.decoding == SETTINGS.decoding
    assert metrics["parameters"] == translator.model.count_params()
    translations = translator.generate(corpus.test.sources)
    references = [list(corpus.test.targets)]
    expected = sacrebleu.corpus_bleu(translations, references).score
    np.testing.assert_allclose(metrics["test"]["bleu"], expected)
    # So few updates teach no word, but some letters.
    expected = sacrebleu.corpus_chrf(translations, references).score
    assert expected > 0
    np.testing.assert_allclose(metrics["test"]["chrf"], expected)
    assert "tok:13a" in metrics["test"]["bleu_signature"]
    assert metrics["data"]["train"] == 60
    assert metrics["data"]["test"] == 12


def test_run_writes_everything(compared):
    directory = run_directory(compared[0], "rdrop", 3)
    assert {path.name for path in directory.iterdir()} == {
        "run.json",
        "run.lock",
        "metrics.json",
        "history.csv",
        "curves.png",
        "model.keras",
        "subwords.model",
        "decoding.json",
        "saved_model",
        "tensorboard",
    }
    for picture in (directory / runs.CURVES, compared[0] / runs.CURVES):
        content = picture.read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) > 10_000


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
    "translation": [t.decode() for t in result["translation"].numpy()],
    "score": result["score"].numpy().tolist(),
}, sys.stdout)
"""


def test_saved_model_translates_without_rdrop_and_keras_hub(compared, corpus):
    directory = run_directory(compared[0], "rdrop", 3)
    texts = [*corpus.test.sources[:5], "", "x" * 200, "日本語 🙂"]
    served = subprocess.run(
        [sys.executable, "-c", SERVE, str(directory / runs.SAVED_MODEL)],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=True,
    )
    result = json.loads(served.stdout)
    translator = Translator.load(directory)
    # The order of the texts, by which they are batched, changes nothing.
    translations, scores = translator.generate_with_scores(texts)
    assert result["translation"] == translations
    np.testing.assert_allclose(result["score"], scores, rtol=1e-4)


# Keras's CSVLogger leaves its file open when an exception ends `fit`.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_interrupted_run_resumes_to_the_same_end(
    compared, corpus, tmp_path, no_export
):
    monkeypatch = pytest.MonkeyPatch()
    undisturbed = run_directory(compared[0], "rdrop", 3)

    class Cut(runner.BackupAndRestore):
        """After the checkpoint of the second epoch, before its backup."""

        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt
            super().on_epoch_end(epoch, logs)

    monkeypatch.setattr(runner, "BackupAndRestore", Cut)
    settings = dataclasses.replace(SETTINGS, output=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(TASK, corpus, settings)
    monkeypatch.undo()
    assert not outputs.is_finished(tmp_path)

    with pytest.raises(InputError, match="an interrupted run. Give --resume"):
        train(TASK, corpus, settings)
    settings = dataclasses.replace(settings, resume=True)
    with pytest.raises(InputError, match="alpha was 2.0, now 3.0"):
        train(TASK, corpus, dataclasses.replace(settings, alpha=3.0))
    metrics = train(TASK, corpus, settings)
    expected = runs.read_json(undisturbed / runs.METRICS)
    for part in ("valid", "test"):
        for name in ("loss", "accuracy", "bleu", "chrf"):
            assert metrics[part][name] == pytest.approx(
                expected[part][name], rel=1e-5
            )
    assert metrics["chosen_epochs"] == expected["chosen_epochs"]
    assert metrics["updates"] == expected["updates"]
    found = read_history(tmp_path / runs.HISTORY)
    for name, curve in read_history(undisturbed / runs.HISTORY).items():
        np.testing.assert_allclose(found[name], curve, rtol=1e-5)
    # A finished run is read, not trained again.
    with monkeypatch.context() as patch:
        patch.setattr(TASK, "begin", None)
        assert train(TASK, corpus, settings) == metrics


# --- choice of weights -------------------------------------------------------


class Scripted(keras.Model):
    """One weight, which is the number of the epoch."""

    def __init__(self):
        super().__init__()
        self.weight = self.add_weight(shape=(), name="weight")

    def call(self, inputs):
        return inputs * self.weight


class Count(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.model.weight.assign(epoch + 1.0)


def run_checkpoints(directory, bleus, initial_epoch=0, **options):
    model = Scripted()
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model(np.ones((1, 1), "float32"))
    scores = iter(bleus)
    checkpoints = Checkpoints(
        directory, lambda: {"bleu": next(scores), "chrf": 0.0}, **options
    )
    x = np.ones((2, 1), "float32")
    history = model.fit(
        x,
        x,
        epochs=initial_epoch + len(bleus),
        initial_epoch=initial_epoch,
        verbose=0,
        callbacks=[Count(), checkpoints],
    ).history
    return model, checkpoints, history


def test_best_and_last_weights_are_kept(tmp_path):
    model, checkpoints, history = run_checkpoints(
        tmp_path, [1.0, 7.0, 3.0, 7.0, 2.0, 4.0], keep=2
    )
    assert history["val_bleu"] == [1.0, 7.0, 3.0, 7.0, 2.0, 4.0]
    assert checkpoints.best()["epoch"] == 2
    assert [e["epoch"] for e in checkpoints.last(2)] == [5, 6]
    checkpoints.load([checkpoints.best()])
    assert float(model.weight) == 2.0
    checkpoints.load(checkpoints.last(2))
    assert float(model.weight) == 5.5
    # Epoch 4 goes when epoch 7 begins, not before epoch 6 is backed up.
    assert sorted(path.name for path in tmp_path.glob("*.h5")) == [
        f"epoch-{number}.weights.h5" for number in (2, 4, 5, 6)
    ]


def test_patience_counts_scores_and_survives_a_resumption(tmp_path):
    bleus = [1.0, 5.0, 4.0, 3.0, 2.0, 9.0]
    _, _, whole = run_checkpoints(tmp_path / "whole", bleus, patience=3)
    assert whole["val_bleu"] == bleus[:5]
    run_checkpoints(tmp_path / "cut", bleus[:3], patience=3)
    _, resumed, rest = run_checkpoints(
        tmp_path / "cut", bleus[3:], initial_epoch=3, patience=3
    )
    assert rest["val_bleu"] == bleus[3:5]
    assert resumed.best()["epoch"] == 2


def test_an_epoch_trained_again_is_scored_once(tmp_path):
    run_checkpoints(tmp_path, [1.0, 5.0, 9.0], keep=1)
    # Cut off before the backup of the third epoch: it begins once more.
    model, again, _ = run_checkpoints(tmp_path, [4.0], initial_epoch=2, keep=1)
    assert [e["bleu"] for e in again.scored] == [1.0, 5.0, 4.0]
    again.load([again.best()])
    assert float(model.weight) == 2.0


def test_every_scores_the_first_and_the_last_epoch_too(tmp_path):
    model = Scripted()
    model.compile("sgd", "mse")
    model(np.ones((1, 1), "float32"))
    scored = []

    def evaluate():
        scored.append(float(model.weight))
        return {"bleu": 1.0, "chrf": 1.0}

    x = np.ones((2, 1), "float32")
    model.compile(keras.optimizers.SGD(0.0), "mse")
    callbacks = [Count(), Checkpoints(tmp_path, evaluate, every=3)]
    model.fit(x, x, epochs=7, verbose=0, callbacks=callbacks)
    assert scored == [1.0, 3.0, 6.0, 7.0]


def test_average_names_a_file_that_cannot_be_read(tmp_path):
    model = Scripted()
    model(np.ones((1, 1), "float32"))
    path = tmp_path / "epoch-1.weights.h5"
    path.write_bytes(b"no weights")
    with pytest.raises(InputError, match="epoch-1.weights.h5: not the weights"):
        average_weights(model, [path])


# --- options -----------------------------------------------------------------


def test_settings_reach_the_model(corpus, tmp_path, monkeypatch, no_export):
    settings = dataclasses.replace(
        SETTINGS,
        output=tmp_path,
        epochs=2,
        separate_vocabularies=True,
        accumulate=3,
        vocabulary_chunk=7,
        weight_decay=1e-3,
        average=2,
        mixed_precision="bfloat16",
        label_smoothing=0.2,
    )
    seen = []

    def spy(data, settings):
        seen.append(TranslationRun(data, settings))
        return seen[0]

    monkeypatch.setattr(TASK, "begin", spy)
    metrics = train(TASK, corpus, settings)
    model = seen[0].model
    optimizer = model.optimizer
    assert optimizer.gradient_accumulation_steps == 3
    assert optimizer.weight_decay == 1e-3
    assert (optimizer.beta_1, optimizer.beta_2) == (0.9, 0.98)
    assert model.loss.label_smoothing == 0.2
    assert model.dtype_policy.name == "mixed_bfloat16"
    assert model.rdrop.alpha == 2.0
    assert model.rdrop.vocabulary_chunk == 7
    assert metrics["chosen_epochs"] == [1, 2]
    assert metrics["epochs"] == 2
    assert not model.configuration.shared_embeddings
    assert (tmp_path / "source_subwords.model").exists()
    translator = Translator.load(tmp_path, beam_size=1)
    assert translator.source is not translator.target
    assert translator.decoding.beam_size == 1
    assert len(translator.generate(corpus.test.sources)) == 12


def test_updates_take_the_place_of_epochs(corpus):
    run = TranslationRun(corpus, SETTINGS)
    steps = run.batching.steps_per_epoch(run.pairs)
    for updates, epochs in ((1, 1), (steps, 1), (steps + 1, 2)):
        settings = dataclasses.replace(SETTINGS, updates=updates)
        assert TranslationRun(corpus, settings).epochs == epochs


def _parse(*arguments):
    return parse("train", "translation", arguments)


@pytest.mark.parametrize("name", recipes.names("translation"))
def test_recipe_is_the_configuration_that_runs(name, tmp_path):
    recipe = recipes.get(name)
    flags = _parse("--recipe", name, "--data", str(tmp_path))
    # What nobody states keeps the program's own default.
    own = _parse()
    for flag, value in (
        ("alpha", recipe.alpha),
        ("dropout", recipe.dropout.rate),
        ("learning_rate", recipe.schedule.learning_rate),
        ("warm_up", recipe.schedule.warmup_updates),
        ("updates", recipe.schedule.total_updates),
        ("label_smoothing", recipe.label_smoothing),
        ("beam_size", recipe.decoding.beam_size),
        ("length_penalty", recipe.decoding.length_penalty),
    ):
        expected = getattr(own, flag) if value is None else value
        assert getattr(flags, flag) == expected, flag
    assert f"{flags.source_language}_{flags.target_language}" in name
    sizes = TRANSLATION_SIZES[flags.configuration]
    assert (sizes.num_layers, sizes.width) == (
        recipe.model.encoder_layers,
        recipe.model.hidden_size,
    )
    assert (sizes.feed_forward, sizes.num_heads) == (
        recipe.model.feed_forward_size,
        recipe.model.attention_heads,
    )
    per_update = recipe.batch.per_update
    if per_update is not None:
        assert flags.max_tokens * flags.accumulate == per_update


def test_flags_change_a_recipe(tmp_path):
    flags = _parse(
        *("--recipe", "iwslt14_de_en", "--data", str(tmp_path)),
        *("--alpha", "3", "--updates", "10"),
    )
    assert (flags.alpha, flags.updates) == (3.0, 10)
    assert flags.warm_up == 4000


def test_unknown_recipe_is_named(capsys, tmp_path):
    with pytest.raises(InputError, match="expected one of"):
        TASK.recipe_settings("glue_mrpc_bert_base")
    arguments = [
        "train",
        "translation",
        "--recipe",
        "iwslt",
        "--data",
        str(tmp_path),
    ]
    assert main(arguments) == 2
    assert "error: --recipe iwslt: expected one of" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--train-source", "a"], "come together"),
        (["--train-tsv", "a"], "come together"),
        (["--recipe", "iwslt14_de_en"], "--recipe needs --data"),
        (["--test-tsv", "a"], "--test-tsv needs --train-tsv"),
        (
            ["--data", "d", "--train-tsv", "a", "--valid-tsv", "b"],
            "Give parallel files, or",
        ),
        (["--dropout", "1.0"], "less than 1"),
        (["--max-ratio", "0.5"], "at least 1"),
    ],
)
def test_contradicting_flags_are_refused(arguments, message, capsys):
    assert main(["train", "translation", *arguments]) == 2
    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1


# --- scores ------------------------------------------------------------------


def test_scores_are_those_of_sacrebleu():
    translations = ["das ist ein Haus .", "12. März 2024 um 10:30"]
    references = ["das ist ein Haus .", "12. März 2024, 10:30"]
    found = score(translations, references, "de")
    assert found.bleu == sacrebleu.corpus_bleu(translations, [references]).score
    assert found.chrf == sacrebleu.corpus_chrf(translations, [references]).score
    assert "tok:13a" in str(found) and "version:" in str(found)
    chinese = score(["我 喜欢 猫"], ["我 喜欢 狗"], "zh_Hans")
    assert "tok:zh" in chinese.bleu_signature
    assert "tok:char" in score(["猫"], ["猫"], "ja").bleu_signature
    with pytest.raises(InputError, match="one reference for each"):
        score(["a"], [])


# --- commands ----------------------------------------------------------------


def test_commands(corpus, tmp_path, monkeypatch, capsys, no_export):
    """Parallel files in, a model, translations and a score out."""
    files = {}
    for part in ("train", "valid"):
        for side in ("source", "target"):
            path = tmp_path / f"{part}.{side}"
            lines = getattr(getattr(corpus, part), f"{side}s")
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
            files[f"--{part}-{side}"] = str(path)
    output = tmp_path / "run"
    arguments = ["train", "translation", "--arm", "plain", "--epochs", "1"]
    arguments += [item for pair in files.items() for item in pair]
    arguments += ["--vocabulary-size", "150", "--output", str(output)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "valid: BLEU" in printed and f"written to {output}" in printed

    generate = ["generate", "translation"]
    source, target = files["--valid-source"], files["--valid-target"]
    assert main([*generate, "--model", str(output), "--source", source]) == 0
    translated = capsys.readouterr().out.splitlines()
    assert len(translated) == len(corpus.valid)
    monkeypatch.setattr(
        sys, "stdin", io.StringIO("\r\n".join(corpus.valid.sources))
    )
    assert main([*generate, "--model", str(output)]) == 0
    assert capsys.readouterr().out.splitlines() == translated

    arguments = ["--source", source, "--reference", target]
    assert (
        main(["score", "translation", "--model", str(output), *arguments]) == 0
    )
    expected = sacrebleu.corpus_bleu(translated, [list(corpus.valid.targets)])
    assert capsys.readouterr().out.startswith(f"BLEU {expected.score:.2f}")

    assert main([*generate, "--model", str(tmp_path / "none")]) == 2
    assert "no model.keras" in capsys.readouterr().err
    (output / runs.MODEL).write_bytes(b"broken")
    assert main([*generate, "--model", str(output)]) == 2
    assert "model.keras cannot be read" in capsys.readouterr().err
