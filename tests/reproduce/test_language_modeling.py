"""The language modelling example as a program: runs, files, commands."""

import dataclasses
import json
import subprocess
import sys

import keras
import numpy as np
import pytest

from rdrop_keras import recipes
from reproduce.__main__ import main
from reproduce.__main__ import parse
from reproduce.common import runs
from reproduce.common.errors import InputError
from reproduce.common.history import read_history
from reproduce.comparison import compare
from reproduce.comparison import run_directory
from reproduce.data.blocks import blocks_of
from reproduce.data.language_corpus import Corpus
from reproduce.data.language_corpus import load_topics
from reproduce.data.vocabulary import encode_lines
from reproduce.decoding import generator as generator_module
from reproduce.decoding.generator import Generator
from reproduce.models.language_model import LanguageModel
from reproduce.models.sizes import LANGUAGE_SIZES
from reproduce.outputs import is_finished
from reproduce.runner import train
from reproduce.tasks.language_modeling import TASK
from reproduce.tasks.language_modeling_runs import LanguageRun
from reproduce.tasks.language_modeling_runs import compile_model
from reproduce.tasks.language_modeling_runs import optimizer_of
from reproduce.tasks.language_modeling_settings import Settings

SMALL = {"num_layers": 1, "width": 16, "feed_forward": 16, "num_heads": 2}
SETTINGS = Settings(
    arm="rdrop",
    alpha=2.0,
    seed=3,
    epochs=3,
    vocabulary_size=200,
    block_size=16,
    context_window=4,
    warm_up=4,
    new_tokens=5,
)
ADAPTIVE = dataclasses.replace(
    SETTINGS,
    configuration="tiny_adaptive",
    cutoffs=(40, 90),
    vocabulary="words",
    vocabulary_size=0,
    vocabulary_chunk=64,
    epochs=1,
)


@pytest.fixture(scope="module", autouse=True)
def small_models():
    with pytest.MonkeyPatch.context() as patch:
        for name in ("tiny", "tiny_adaptive"):
            small = dataclasses.replace(LANGUAGE_SIZES[name], **SMALL)
            patch.setitem(LANGUAGE_SIZES, name, small)
        yield


@pytest.fixture(scope="module")
def corpus():
    whole = load_topics(600)
    return Corpus(
        name="some topics",
        train=whole.train,
        valid=whole.valid[:20],
        test=whole.test[:20],
    )


@pytest.fixture(scope="module")
def compared(corpus, tmp_path_factory):
    output = tmp_path_factory.mktemp("compared")
    # An export takes seconds, and the tests look at the last one alone.
    exports = iter([False, True])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            generator_module, "writes_saved_model", lambda: next(exports)
        )
        settings = dataclasses.replace(SETTINGS, output=output)
        result = compare(TASK, corpus, settings, ("doubled", "rdrop"), (3,))
    return output, result


@pytest.fixture
def no_export(monkeypatch):
    monkeypatch.setattr(generator_module, "writes_saved_model", lambda: False)


def weights_of(directory):
    model = keras.saving.load_model(directory / runs.MODEL, compile=False)
    return [np.array(weight) for weight in model.trainable_weights]


def test_a_comparison_writes_all_there_is(compared, corpus):
    output, result = compared
    assert set(result["arms"]) == {"doubled", "rdrop"}
    directory = run_directory(output, "rdrop", 3)
    metrics = runs.read_json(directory / runs.METRICS)
    for part in ("valid", "test"):
        found = metrics[part]
        assert found["loss"] == pytest.approx(found["nats"] / found["tokens"])
        assert found["word_perplexity"] == pytest.approx(
            np.exp(found["nats"] / found["words"])
        )
        assert found["words"] == metrics["data"][f"{part}_words"]
        assert found["tokens"] == metrics["data"][f"{part}_tokens"]
        assert found["context_window"] == 4
    history = read_history(directory / runs.HISTORY)
    epoch, loss = min(history["val_loss"], key=lambda entry: entry[1])
    assert metrics["chosen"] == {"epoch": epoch, "val_loss": loss}
    # The best weights, measured again.
    assert metrics["valid"]["loss"] == pytest.approx(loss, rel=1e-6)
    steps = -(-metrics["data"]["train_tokens"] // (16 * 8))
    assert metrics["updates"] == 3 * steps
    assert {"loss", "task_loss", "consistency_loss"} <= set(history)
    for picture in (output / runs.CURVES, directory / runs.CURVES):
        assert picture.read_bytes().startswith(b"\x89PNG")
    assert any((directory / runs.TENSORBOARD).rglob("events*"))
    assert not (directory / runs.BACKUP).exists()
    assert loss < history["val_loss"][0][1]


SERVE = """
import json, sys
for name in ("rdrop_keras", "reproduce", "keras_hub", "sentencepiece"):
    sys.modules[name] = None
import tensorflow as tf
import tensorflow_text
served = tf.saved_model.load(sys.argv[1])
texts = tf.constant(["The statement", "a\\nb"])
score = served.score(texts)
options = dict(new_tokens=4, temperature=1.0, top_k=5, top_p=0.9, seed=2)
json.dump({
    "served": [t.decode() for t in served.serve(texts)["text"].numpy()],
    "sampled": [
        t.decode() for t in served.generate(texts, **options)["text"].numpy()
    ],
    "tokens": [[t.decode() for t in row] for row in score["tokens"].numpy()],
    "logs": score["log_probabilities"].numpy().tolist(),
    "lengths": score["lengths"].numpy().tolist(),
}, sys.stdout)
"""


def test_the_saved_model_needs_tensorflow_alone(compared):
    output, _ = compared
    directory = run_directory(output, "rdrop", 3)
    found = json.loads(
        subprocess.run(
            [sys.executable, "-c", SERVE, str(directory / runs.SAVED_MODEL)],
            check=True,
            capture_output=True,
            text=True,
            cwd=output,
        ).stdout
    )
    generator = Generator.load(directory)
    texts = ["The statement", "a\nb"]
    assert found["served"] == generator.go_on(texts)
    changed = Generator.load(
        directory, new_tokens=4, temperature=1.0, top_k=5, top_p=0.9, seed=2
    )
    assert found["sampled"] == changed.go_on(texts)
    for row, text in enumerate(texts):
        ids = encode_lines(text.split("\n"), generator.vocabulary).ids[:-1]
        count = found["lengths"][row]
        pieces = found["tokens"][row]
        assert pieces[count:] == [""] * (len(pieces) - count)
        # A text's own tokens, each given those before it.
        assert count == len(ids)
        inputs = np.concatenate([[2], ids[:-1]])[None]
        logits = np.array(generator.model(inputs, training=False)[0], "float64")
        logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        np.testing.assert_allclose(
            found["logs"][row][:count],
            logs[np.arange(count), ids],
            rtol=1e-4,
            atol=1e-4,
        )
        assert not any(found["logs"][row][count:])


# `CSVLogger` closes its file at the end of training only.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_killed_and_resumed(corpus, tmp_path, monkeypatch, no_export):
    settings = dataclasses.replace(SETTINGS, patience=2)
    whole, cut = (
        dataclasses.replace(settings, output=tmp_path / name)
        for name in ("whole", "cut")
    )
    train(TASK, corpus, whole)
    validate = LanguageRun.validate

    def die(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt
        validate(self, epoch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(LanguageRun, "validate", die)
        with pytest.raises(KeyboardInterrupt):
            train(TASK, corpus, cut)
    assert not is_finished(cut.output)
    cut = dataclasses.replace(cut, resume=True)
    metrics = train(TASK, corpus, cut)
    expected = runs.read_json(whole.output / runs.METRICS)
    for part in ("valid", "test", "chosen", "updates"):
        assert metrics[part] == expected[part]
    assert read_history(cut.output / runs.HISTORY) == read_history(
        whole.output / runs.HISTORY
    )
    for ours, theirs in zip(
        weights_of(cut.output), weights_of(whole.output), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    # A finished run is read.
    monkeypatch.setattr(TASK, "begin", None)
    assert train(TASK, corpus, cut) == metrics


@pytest.mark.parametrize("arm", ["plain", "rdrop"])
def test_adaptive_words(arm, corpus, tmp_path, no_export):
    output = tmp_path / "run"
    settings = dataclasses.replace(ADAPTIVE, arm=arm, output=output)
    metrics = train(TASK, corpus, settings)
    # A word a token, so that the two perplexities are one.
    assert metrics["test"]["token_perplexity"] == pytest.approx(
        metrics["test"]["word_perplexity"]
    )
    assert metrics["data"]["test_unknown"] > 0
    history = read_history(tmp_path / "run" / runs.HISTORY)
    assert ("consistency_loss" in history) == (arm == "rdrop")
    # With chunks, training counts words of its own.
    assert ("perplexity" in history) == (arm == "rdrop")


@pytest.fixture
def wikitext(tmp_path):
    for part in ("train", "valid", "test"):
        text = " \n = A title = \n \n the words of <unk> , and more \n"
        (tmp_path / f"wiki.{part}.tokens").write_text(text * 4)
    return tmp_path


@pytest.mark.parametrize("name", recipes.names("language_modeling"))
def test_recipes_step(name, wikitext, rng):
    """With sizes made small, and all else as published."""
    recipe = recipes.get(name)
    flags = ["--recipe", name, "--data", str(wikitext)]
    settings = parse("train", "language_modeling", flags)
    sizes = settings.sizes
    assert settings.vocabulary_size == 0 and settings.vocabulary == "words"
    assert settings.block_size == recipe.batch.sequence_length
    assert (
        settings.accumulate
        == recipe.batch.gradient_accumulation_steps * recipe.batch.devices
    )
    assert settings.batch_size * settings.block_size <= max(
        recipe.batch.tokens, settings.block_size
    )
    assert settings.context_window == 400
    assert settings.updates == recipe.schedule.total_updates
    assert sizes.cutoffs == recipe.vocabulary.adaptive_cutoffs
    dropout = recipe.dropout
    assert (
        sizes.dropout,
        sizes.attention_dropout,
        sizes.activation_dropout,
        sizes.softmax_dropout,
    ) == (
        dropout.rate,
        dropout.attention,
        dropout.activation or 0.0,
        dropout.adaptive_softmax or 0.0,
    )
    steps = recipe.schedule.total_updates
    for arm in ("plain", "rdrop"):
        one = dataclasses.replace(settings, arm=arm)
        optimizer = optimizer_of(one, steps)
        theirs = recipe.optimizer(summed_loss=arm == "rdrop")
        ours, expected = optimizer.get_config(), theirs.get_config()
        assert type(optimizer) is type(theirs)
        for config in (ours, expected):
            # On one device, what the paper spread over eight.
            for key in ("name", "learning_rate", "gradient_accumulation_steps"):
                del config[key]
            config["weight_decay"] = config["weight_decay"] or 0.0
        assert ours == expected
        for step in (0, 3, 20_000, steps):
            rates = [
                float(o._learning_rate(step * o.gradient_accumulation_steps))
                for o in (optimizer, theirs)
            ]
            assert rates[0] == pytest.approx(rates[1], rel=1e-6)
    if sizes.cutoffs is not None:
        sizes = dataclasses.replace(sizes, cutoffs=(8, 20))
    settings = dataclasses.replace(settings, accumulate=2)
    words = 40
    sizes = dataclasses.replace(sizes, **SMALL)
    model = LanguageModel(words, **dataclasses.asdict(sizes))
    blocks = blocks_of(rng.integers(2, words, 40).astype("int32"), 20)
    compile_model(model, settings, 1)
    assert model.rdrop.alpha == recipe.alpha
    assert model.rdrop.vocabulary_chunk == "auto"
    assert type(model.loss) is keras.losses.SparseCategoricalCrossentropy
    before = [np.array(w) for w in model.trainable_weights]
    for _ in range(4):
        logs = model.train_on_batch(*blocks, return_dict=True)
    assert int(model.optimizer.iterations.numpy()) == 2
    assert logs["consistency_loss"] > 0 and np.isfinite(logs["loss"])
    for weight, old in zip(model.trainable_weights, before):
        assert (np.array(weight) != old).any()


def test_commands(compared, wikitext, capsys, monkeypatch):
    output, _ = compared
    directory = str(run_directory(output, "rdrop", 3))
    text = str(wikitext / "wiki.test.tokens")
    evaluate = ["evaluate", "language_modeling", "--model", directory]
    assert main([*evaluate, "--text", text]) == 0
    first = capsys.readouterr().out
    assert "blocks of 16 tokens, 4 of them context" in first
    options = ["--data", str(wikitext), "--part", "valid"]
    assert main([*evaluate, *options]) == 0
    # The same text.
    assert capsys.readouterr().out == first
    assert main([*evaluate, *options, "--context-window=0"]) == 0
    assert capsys.readouterr().out.split()[1] != first.split()[1]
    generate = ["generate", "language_modeling", "--model", directory]
    generate += ["--temperature", "0"]
    assert main([*generate, "--prompt", "The", "--prompt", "a"]) == 0
    lines = capsys.readouterr().out
    assert lines.startswith("The [...] ") and "\na [...] " in lines
    monkeypatch.setattr("sys.stdin", iter(["The\n"]))
    assert main(generate) == 0
    assert lines.startswith(capsys.readouterr().out)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["train", "--data", "nowhere"], "--data nowhere: no wiki.train"),
        (["train", "--recipe", "x", "--data", "."], "--recipe x: expected one"),
        (["evaluate", "--model", "nowhere"], "--model nowhere: no model.keras"),
        (["train", "--vocabulary-size", "20"], "too small"),
        (
            ["train", "--configuration=tiny_adaptive", "--vocabulary-size=300"],
            "last of the --cutoffs, 600",
        ),
        (["train", "--train", "a"], "come together"),
        (["train", "--test", "a"], "--test needs --train"),
        (["train", "--train=a", "--valid=b", "--data=c"], "or --data"),
        (["train", "--recipe=wikitext103_adaptive"], "needs --data"),
        (["train", "--context-window=64"], "less than --block-size"),
        (["train", "--cutoffs=5,9"], "adaptive softmax"),
        (["train", "--cutoffs=9,5"], "ascending"),
        (["train", "--top-p=nan"], "at least"),
        (["evaluate", "--model=a", "--text=b", "--data=c"], "or --data"),
    ],
)
def test_what_the_user_can_put_right(
    arguments, message, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    verb, *flags = arguments
    assert main([verb, "language_modeling", *flags]) == 2
    assert message in capsys.readouterr().err


def test_a_run_of_other_settings_is_not_resumed(compared, corpus):
    output, _ = compared
    directory = run_directory(output, "rdrop", 3)
    other = dataclasses.replace(
        SETTINGS, block_size=8, output=directory, resume=True
    )
    with pytest.raises(InputError, match="block_size was 16, now 8"):
        train(TASK, corpus, other)
