"""The summarization example end to end, on tiny models and texts."""

import dataclasses
import io
import json
import os
import subprocess
import sys

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf
from bart import bart_tokenizer
from rouge_score import rouge_scorer

from rdrop_keras import RDrop
from rdrop_keras import recipes
from rdrop_keras.losses import LabelSmoothedCrossentropy
from reproduce import runner
from reproduce.__main__ import main
from reproduce.__main__ import parse
from reproduce.common import runs
from reproduce.common.epochs import EpochNumber
from reproduce.common.errors import InputError
from reproduce.common.history import read_history
from reproduce.comparison import compare
from reproduce.comparison import run_directory
from reproduce.data.corpora import Corpus
from reproduce.data.parallel_text import ParallelText
from reproduce.decoding import text_to_text
from reproduce.decoding.summarizer import Summarizer
from reproduce.models.bart import CONFIGURATIONS
from reproduce.models.bart import bart_inputs
from reproduce.runner import train
from reproduce.tasks.summarization import TASK
from reproduce.tasks.summarization_runs import SummarizationRun
from reproduce.tasks.summarization_runs import optimizer_of
from reproduce.tasks.summarization_settings import Settings

WORDS = ["cat", "dog", "sun", "sea", "red", "big", "old", "new", "hat", "map"]
SETTINGS = Settings(
    arm="rdrop",
    alpha=0.7,
    seed=3,
    epochs=3,
    vocabulary_size=60,
    max_source_length=24,
    max_target_length=12,
    max_tokens=256,
    warm_up=2,
    validate_every=2,
    beam_size=2,
    max_length=8,
)
COMPARED = ("doubled", "rdrop")
CHUNKS = [
    None,
    pytest.param(
        4,
        marks=pytest.mark.since(
            "0.26", package="keras_hub", reason="its head has no chunks"
        ),
    ),
]


def texts(count, seed):
    """Articles of words, and their first three as summaries."""
    generator = np.random.default_rng(seed)
    articles = [
        list(generator.choice(WORDS, generator.integers(4, 8)))
        for _ in range(count)
    ]
    return ParallelText(
        tuple(" ".join(words) + "." for words in articles),
        tuple(" ".join(words[:3]) for words in articles),
    )


@pytest.fixture(scope="module", autouse=True)
def small_model():
    small = dataclasses.replace(
        CONFIGURATIONS["tiny"], num_layers=1, width=16, feed_forward=16
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CONFIGURATIONS, "tiny", small)
        yield


@pytest.fixture(scope="module")
def corpus():
    return Corpus("words", texts(40, 1), texts(6, 2), texts(8, 3))


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
        assert metrics["updates"] == result["updates"]
        assert metrics["updates"] % SETTINGS.epochs == 0
        history = read_history(directory / runs.HISTORY)
        assert [epoch for epoch, _ in history["val_rougeL"]] == [1, 2, 3]
        assert ("consistency_loss" in history) == (arm == "rdrop")
        # KerasHub's own metric would be there a second time.
        assert "sparse_categorical_accuracy" not in history
        final.add(history["val_loss"][-1])
    assert len(final) == len(COMPARED)


def test_metrics_are_those_of_the_files_written(compared, corpus):
    directory = run_directory(compared[0], "rdrop", 3)
    metrics = runs.read_json(directory / runs.METRICS)
    summarizer = Summarizer.load(directory)
    assert summarizer.decoding == SETTINGS.decoding
    assert summarizer.longest == SETTINGS.max_source_length
    assert metrics["parameters"] == summarizer.model.count_params()
    summaries = summarizer.generate(corpus.test.sources)
    scorer = rouge_scorer.RougeScorer(["rouge1", "rougeL"], use_stemmer=True)
    for kind in ("rouge1", "rougeL"):
        expected = np.mean(
            [
                scorer.score(reference, summary)[kind].fmeasure
                for reference, summary in zip(corpus.test.targets, summaries)
            ]
        )
        # So few updates teach little, but some words.
        assert expected > 0
        np.testing.assert_allclose(metrics["test"][kind], 100 * expected)
    assert metrics["data"]["train"] == 40
    assert metrics["versions"]["rouge-score"] == "0.1.2"


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
    "summary": [t.decode() for t in result["summary"].numpy()],
    "score": result["score"].numpy().tolist(),
}, sys.stdout)
"""


def served(saved_model, articles):
    result = subprocess.run(
        [sys.executable, "-c", SERVE, str(saved_model)],
        input=json.dumps(articles),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(result.stdout)


def test_saved_model_summarizes_without_rdrop_and_keras_hub(compared, corpus):
    directory = run_directory(compared[0], "rdrop", 3)
    articles = [*corpus.test.sources[:5], "", "cat " * 200, "日本語 🙂"]
    result = served(directory / runs.SAVED_MODEL, articles)
    summarizer = Summarizer.load(directory, 3)
    # The order of the texts, by which they are batched, changes nothing.
    summaries, scores = summarizer.generate_with_scores(articles)
    assert result["summary"] == summaries
    np.testing.assert_allclose(result["score"], scores, rtol=1e-4)


def test_a_finished_run_is_read_and_another_refused(
    compared, corpus, monkeypatch
):
    directory = run_directory(compared[0], "rdrop", 3)
    monkeypatch.setattr(TASK, "begin", None)
    metrics = runs.read_json(directory / runs.METRICS)
    settings = dataclasses.replace(SETTINGS, output=directory, resume=True)
    assert train(TASK, corpus, settings) == metrics
    other = dataclasses.replace(settings, alpha=3.0)
    with pytest.raises(InputError, match="alpha was 0.7, now 3.0"):
        train(TASK, corpus, other)


# --- loss --------------------------------------------------------------------


def inputs_of(rows, time):
    """Ids and, one step on, labels, padded to some length."""
    source, labels = (np.zeros((len(rows), time), "int32") for _ in range(2))
    for row, ids in enumerate(rows):
        source[row, : len(ids)] = ids
        labels[row, : len(ids)] = [*ids[1:], 3]
    batch = {"source_ids": source, "target_ids": source}
    batch = {name: tf.constant(ids) for name, ids in batch.items()}
    return bart_inputs(batch, 0), tf.constant(labels)


ROWS = [[1, 5, 6, 7, 2], [1, 8, 2], [1, 9, 9, 2]]


@pytest.fixture
def model(corpus):
    return SummarizationRun(corpus, SETTINGS).model


def test_padding_changes_no_items_loss(model):
    losses = LabelSmoothedCrossentropy(0.1, reduction=None)
    for row in ROWS:
        found = []
        for time in (len(row), 8, 16):
            x, y = inputs_of([row], time)
            logits = model(x, training=False)
            found.append(np.array(losses(y, logits))[0, : len(row)])
            # And what is padding counts nothing.
            assert not np.array(losses(y, logits))[0, len(row) :].any()
        np.testing.assert_allclose(found[0], found[1], rtol=1e-5)
        np.testing.assert_allclose(found[0], found[2], rtol=1e-5)
        assert (found[0] > 0).all()


@pytest.mark.parametrize("chunk", CHUNKS)
def test_training_loss_leaves_out_padding(corpus, chunk):
    # Dropout draws by place: with it, padding changes what is drawn.
    settings = dataclasses.replace(SETTINGS, dropout=0.0, arm="plain")
    model = SummarizationRun(corpus, settings).model
    model.compile(
        "sgd",
        LabelSmoothedCrossentropy(0.1),
        weighted_metrics=None,
        rdrop=RDrop(0.7, vocabulary_chunk=chunk, check_dropout=False),
    )
    whole = [
        float(model.compute_rdrop_loss(*inputs_of(ROWS, time))[0])
        for time in (5, 8, 16)
    ]
    # The mean over all positions that are none, whichever row they are in.
    single = [
        float(model.compute_rdrop_loss(*inputs_of([row], len(row)))[0])
        for row in ROWS
    ]
    expected = np.average(single, weights=[len(row) for row in ROWS])
    np.testing.assert_allclose(whole, expected, rtol=1e-5)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_labels_of_padding_change_neither_loss_nor_consistency(corpus, chunk):
    found = []
    for label in (0, 9):
        keras.utils.clear_session()
        keras.utils.set_random_seed(1)
        model = SummarizationRun(corpus, SETTINGS).model
        model.compile(
            "sgd",
            LabelSmoothedCrossentropy(0.1),
            weighted_metrics=None,
            rdrop=RDrop(5.0, vocabulary_chunk=chunk),
            # Compiling takes longer than the rest.
            jit_compile=False,
        )
        x, y = inputs_of(ROWS, 8)
        y = tf.where(x["decoder_padding_mask"] > 0, y, label)
        logs = model.train_on_batch(x, y, return_dict=True)
        assert logs["consistency_loss"] > 0
        found.append({name: float(value) for name, value in logs.items()})
    assert found[0] == found[1]


# --- recipe and presets ------------------------------------------------------


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """A BART as KerasHub writes it, with 1,024 positions as the large one."""
    directory = tmp_path_factory.mktemp("preset")
    tokenizer = bart_tokenizer()
    backbone = keras_hub.models.BartBackbone(
        vocabulary_size=tokenizer.vocabulary_size(),
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=8,
        dropout=0.3,
    )
    for weight in backbone.weights:
        # Else all articles would have one summary.
        if len(weight.shape) > 1:
            weight.assign(weight * 40)
    backbone.save_to_preset(str(directory))
    tokenizer.save_to_preset(str(directory))
    return directory


def write_data(corpus, directory):
    for part, name in (("train", "train"), ("valid", "val"), ("test", "test")):
        text = getattr(corpus, part)
        for side, lines in (("source", text.sources), ("target", text.targets)):
            (directory / f"{name}.{side}").write_text("\n".join(lines) + "\n")


def test_recipe_is_the_papers_in_every_setting(tmp_path, preset):
    recipe = recipes.get("cnn_dailymail_bart_large")
    flags = ["--recipe", "cnn_dailymail_bart_large", "--data", str(tmp_path)]
    flags += ["--preset", str(preset)]
    settings = parse("train", "summarization", flags)
    assert settings.preset == str(preset)
    assert settings.alpha == recipe.alpha == 0.7
    assert settings.dropout == recipe.dropout.rate == 0.1
    assert settings.label_smoothing == recipe.label_smoothing == 0.1
    assert settings.max_tokens == recipe.batch.tokens
    assert settings.accumulate == 16 * 4
    assert settings.updates == recipe.schedule.total_updates == 20_000
    decoding = dataclasses.asdict(recipe.decoding)
    for name in (
        *("beam_size", "length_penalty", "min_length", "max_length"),
        "no_repeat_ngram_size",
    ):
        assert getattr(settings.decoding, name) == decoding[name], name
    for arm, summed in (("plain", False), ("doubled", False), ("rdrop", True)):
        found = optimizer_of(dataclasses.replace(settings, arm=arm), 1)
        expected = recipe.replace(
            batch={"gradient_accumulation_steps": 64}
        ).optimizer(summed_loss=summed)
        theirs, ours = expected.get_config(), found.get_config()
        assert ours.pop("learning_rate") == theirs.pop("learning_rate")
        # Keras counts them.
        assert ours.pop("name")[:4] == theirs.pop("name")[:4] == "adam"
        assert ours == theirs, arm
    # Another flag changes what it names.
    changed = parse("train", "summarization", [*flags, "--alpha=2"])
    assert changed.alpha == 2 and changed.beam_size == 4
    with pytest.raises(InputError, match="expected one of cnn_dailymail_bart"):
        TASK.recipe_settings("cnn")


@pytest.mark.since("0.26", package="keras_hub", reason="its head has no chunks")
def test_recipe_trains_a_small_preset(
    corpus, preset, tmp_path, no_export, capsys, monkeypatch
):
    data, output = tmp_path / "cnn_dm", tmp_path / "run"
    data.mkdir()
    write_data(corpus, data)
    seen = []

    class Seen(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen.append(self.model)

    monkeypatch.setattr(runner, "StopDiverged", Seen)
    monkeypatch.setattr(Summarizer, "generate", lambda self, texts: list(texts))
    # All but the sizes: two updates of a batch, summaries that are short.
    status = main(
        [
            *("train", "summarization"),
            *("--recipe", "cnn_dailymail_bart_large"),
            *("--data", str(data), "--preset", str(preset)),
            *("--output", str(output), "--updates=2", "--warm-up=1"),
            *("--accumulate=2", "--min-length=5", "--max-length=12"),
        ]
    )
    assert status == 0
    metrics = runs.read_json(output / runs.METRICS)
    assert metrics["updates"] >= 2
    (model,) = seen
    assert model.rdrop.alpha == 0.7
    assert model.backbone.dropout == 0.1
    assert model.optimizer.gradient_accumulation_steps == 2
    rate = keras.optimizers.schedules.deserialize(
        model.optimizer.get_config()["learning_rate"]
    )
    # By batches: up in one update, down in the other.
    rates = [float(rate(batch)) for batch in (0, 2, 4)]
    np.testing.assert_allclose(rates, [0, 3e-5, 0])
    assert np.isfinite(metrics["test"]["loss"])
    history = read_history(output / runs.HISTORY)
    assert history["consistency_loss"][-1][1] > 0
    assert "token_accuracy" in history
    assert (output / "tokenizer" / "merges.txt").exists()
    # What wrote the articles for summaries.
    assert f"{metrics['test']['rouge1']:.2f}" in capsys.readouterr().out
    decoding = Summarizer.load(output).decoding
    assert (decoding.min_length, decoding.max_length) == (5, 12)
    assert (decoding.beam_size, decoding.length_penalty) == (4, 2.0)


@pytest.mark.since("0.26", package="keras_hub", reason="other byte pairs")
def test_preset_is_exported_with_its_tokenizer(preset, tmp_path):
    settings = dataclasses.replace(
        SETTINGS, preset=str(preset), max_source_length=40
    )
    corpus = Corpus("words", texts(3, 1), texts(3, 2))
    summarizer = SummarizationRun(corpus, settings).generator()
    summarizer.save(tmp_path)
    articles = ["the cat sat on the mat", "", "naïve Käse </s>!"]
    found = served(tmp_path / runs.SAVED_MODEL, articles)
    summaries, scores = summarizer.generate_with_scores(articles)
    np.testing.assert_allclose(found["score"], scores, rtol=1e-4)
    assert found["summary"] == summaries
    assert len(set(found["summary"])) > 1
    assert Summarizer.load(tmp_path).target.special == (1, 2, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "gone"}, "--preset gone: expected a directory .*, or the"),
        ({"max_source_length": 2000}, "has positions for 1024 ids, fewer than"),
    ],
)
def test_what_is_no_bart_is_refused(changes, message, corpus, preset):
    settings = {"preset": str(preset), **changes}
    if settings["preset"] == "gone":
        settings["preset"] = str(preset / "gone")
        message = message.replace("gone:", f"{settings['preset']}:")
    with pytest.raises(InputError, match=message):
        SummarizationRun(corpus, dataclasses.replace(SETTINGS, **settings))


# --- optimizer and batches ---------------------------------------------------


def test_learning_rate_rises_and_falls_to_zero():
    settings = dataclasses.replace(
        SETTINGS, warm_up=10, learning_rate=1.0, accumulate=4
    )
    rate = optimizer_of(settings, 30)._learning_rate
    # Given batches, of which four make an update.
    found = [float(rate(4 * update)) for update in (0, 5, 10, 20, 30, 40)]
    np.testing.assert_allclose(found, [0, 0.5, 1, 0.5, 0, 0], atol=1e-6)
    with pytest.raises(InputError, match="--warm-up 10: expected fewer than"):
        optimizer_of(settings, 10)


def test_batches_are_barts(corpus):
    batches = SummarizationRun(corpus, SETTINGS).batches(EpochNumber())
    seen = []
    for index in range(len(batches)):
        x, y = batches[index]
        source, target = x["encoder_token_ids"], x["decoder_token_ids"]
        # Far shorter than the articles, and padded to no more than theirs.
        assert target.shape[1] == 8 and source.shape[1] in (8, 16)
        assert source.size <= SETTINGS.max_tokens
        for part, ids in (("encoder", source), ("decoder", target)):
            mask = x[f"{part}_padding_mask"]
            np.testing.assert_array_equal(mask, ids != 0)
        assert (target[:, :2] == [2, 1]).all()
        # One step on, beginning with <s> and ending with </s>.
        np.testing.assert_array_equal(
            target[:, 1:], np.where(y[:, :-1] == 2, 0, y[:, :-1])
        )
        assert (source[:, 0] == 1).all()
        assert ((source == 2).sum(axis=1) == 1).all()
        seen += [tuple(row[row != 0]) for row in source]
    assert len(seen) == len(corpus.train)
    assert len(set(seen)) == len(set(corpus.train.sources))


# --- command line ------------------------------------------------------------


def test_command_line_summarizes_and_scores(
    compared, corpus, tmp_path, monkeypatch, capsys
):
    directory = run_directory(compared[0], "rdrop", 3)
    write_data(corpus, tmp_path)
    source = tmp_path / "val.source"
    model = f"--model={directory}"
    assert main(["generate", "summarization", model, f"--source={source}"]) == 0
    summarized = capsys.readouterr().out.splitlines()
    assert len(summarized) == len(corpus.valid)
    monkeypatch.setattr(
        sys, "stdin", io.StringIO("\r\n".join(corpus.valid.sources))
    )
    assert main(["generate", "summarization", model]) == 0
    assert capsys.readouterr().out.splitlines() == summarized
    reference = f"--reference={tmp_path / 'val.target'}"
    assert (
        main(["score", "summarization", model, f"--source={source}", reference])
        == 0
    )
    scorer = rouge_scorer.RougeScorer(["rouge2"], use_stemmer=True)
    expected = 100 * np.mean(
        [
            scorer.score(target, summary)["rouge2"].fmeasure
            for target, summary in zip(corpus.valid.targets, summarized)
        ]
    )
    assert f"ROUGE-2    {expected:.2f}" in capsys.readouterr().out
    # More than the model has positions for.
    assert main(["generate", "summarization", model, "--max-length=99"]) == 2
    assert "--max-length: expected at most" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--train-source a", "--valid-target come together"),
        (
            "--train-source a --train-target a --valid-source a "
            "--valid-target a --test-source a",
            "--test-source and --test-target come together",
        ),
        ("--test-source a --test-target a", "needs --train-source"),
        ("--tfds cnn_dailymail", "--tfds needs --data"),
        ("--recipe cnn_dailymail_bart_large", "--recipe needs --data"),
        (
            "--recipe cnn_dailymail_bart_large --data .",
            "--recipe needs --preset",
        ),
        ("--preset a --configuration tiny", "--preset or --configuration"),
        ("--min-length 9 --max-length 8", "--min-length has to be at most"),
        ("--vocabulary-chunk 0", "expected at least 1"),
    ],
)
def test_flags_that_do_not_fit_are_refused(arguments, message, capsys):
    assert main(["train", "summarization", *arguments.split()]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train summarization --data gone", "--data gone: not a directory."),
        ("train summarization --data .", "no train.source, train.target"),
        (
            "generate summarization --model gone",
            "--model gone: no model.keras. Expected",
        ),
        (
            "train summarization --recipe nope --data .",
            "expected one of cnn_dailymail",
        ),
    ],
)
def test_errors_are_one_line(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error
    assert error.count("\n") == 1
    assert os.listdir(tmp_path) == []
