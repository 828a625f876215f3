"""The flags of GLUE and diabetes: recipes, schedules, refusals."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from rdrop_keras import recipes
from reproduce import runner
from reproduce.__main__ import main as program
from reproduce.__main__ import parse as parse_flags
from reproduce.common.errors import InputError
from reproduce.data.glue import GlueDataset
from reproduce.tasks import text_classification as task_module
from reproduce.tasks.text_runs import optimizer_of
from reproduce.tasks.text_settings import Settings


def main(arguments):
    return program(["train", "text_classification", *arguments])


def parse(arguments, verb="train"):
    return parse_flags(verb, "text_classification", arguments).resolved()


@pytest.fixture
def no_preset(monkeypatch):
    """Any name is that of a directory with the encoder of the recipe."""

    def encoder_of(preset):
        found = (
            "RobertaBackbone" if "roberta" in str(preset) else "BertBackbone"
        )
        return found

    monkeypatch.setattr(task_module, "encoder_of", encoder_of)


SETTINGS = Settings(
    alpha=1.0, epochs=2, batch_size=8, learning_rate=4e-3, schedule="linear"
)


def _rates(optimizer, steps):
    return [float(optimizer._learning_rate(step)) for step in steps]


@pytest.mark.usefixtures("no_preset")
@pytest.mark.parametrize("model", ["bert_base", "roberta_large"])
@pytest.mark.parametrize(
    ("task", "alpha", "batch_size", "updates", "warm_up"),
    [
        # Table 8 of the paper, and the warm-up of its authors' README.
        ("mnli", 0.5, 32, 123873, 7432),
        ("mrpc", 1.0, 16, 2296, 137),
        ("qnli", 1.0, 32, 33112, 1986),
        ("qqp", 0.5, 32, 113272, 28318),
        ("rte", 1.0, 8, 3120, 122),
        ("sst2", 1.0, 32, 20935, 1256),
        ("stsb", 1.0, 16, 3598, 214),
        ("cola", 0.5, 16, 5336, 320),
    ],
)
def test_every_recipe_is_a_set_of_flags(
    task, model, alpha, batch_size, updates, warm_up
):
    flags = parse(
        [f"--recipe=glue_{task}_{model}", "--data=d", f"--preset={model}"]
    )
    assert flags.glue_task == task
    assert (flags.alpha, flags.dropout) == (alpha, 0.1)
    assert flags.learning_rate == 1e-5
    assert flags.batch_size == batch_size
    assert (flags.updates, flags.warm_up) == (updates, warm_up)


@pytest.mark.usefixtures("no_preset")
def test_all_recipes_of_glue_are_in_that_test():
    names = recipes.names("language_understanding")
    assert len(names) == 16
    for name in names:
        flags = [f"--recipe={name}", "--data=d", f"--preset={name}"]
        assert parse(flags).glue_task


def test_other_flags_change_a_recipe():
    given = ["--recipe=glue_rte_bert_base", "--data=d", "--alpha=5"]
    flags = parse([*given, "--batch-size=32", "--updates=7"])
    assert (flags.alpha, flags.batch_size, flags.updates) == (5.0, 32, 7)
    # Also where what is given is the default of other data.
    assert flags.warm_up == 122
    # Epochs go before the updates of a recipe.
    assert parse([*given, "--epochs=38"]).epochs == 38


@pytest.mark.usefixtures("no_preset")
def test_defaults_are_those_of_the_data():
    def told(*arguments):
        flags = parse(arguments)
        return (
            flags.alpha,
            flags.epochs,
            flags.batch_size,
            flags.learning_rate,
            flags.schedule,
        )

    assert told() == (5.0, 38, 32, 1e-3, "cosine")
    glue = ("--glue-task=cola", "--data=d")
    assert told(*glue) == (1.0, 10, 32, 1e-3, "linear")
    assert told(*glue, "--preset=p") == (1.0, 10, 32, 1e-5, "linear")
    assert told("--task=diabetes", "--epochs=9") == (1, 9, 32, 1e-3, "linear")
    assert told("--schedule=linear") == (5.0, 38, 32, 1e-3, "linear")


def test_learning_rate_rises_and_falls_along_lines():
    settings = replace(SETTINGS, warm_up=4)
    rates = _rates(optimizer_of(settings, 20), [0, 1, 4, 12, 20, 30])
    expected = [0.0, 1e-3, 4e-3, 2e-3, 0.0, 0.0]
    np.testing.assert_allclose(rates, expected, rtol=1e-5, atol=1e-9)
    # A twentieth of all updates, unless told.
    rates = _rates(optimizer_of(SETTINGS, 40), [1, 2])
    np.testing.assert_allclose(rates, [2e-3, 4e-3], rtol=1e-5)


def test_cosine_is_the_other_schedule():
    settings = replace(SETTINGS, warm_up=4, schedule="cosine")
    rates = _rates(optimizer_of(settings, 20), [0, 1, 4, 8, 12, 20])
    fourth = 2e-3 * (1 + np.cos(np.pi / 4))
    expected = [0.0, 1e-3, 4e-3, fourth, 2e-3, 0.0]
    np.testing.assert_allclose(rates, expected, rtol=1e-5, atol=1e-9)


def test_optimizer_of_a_recipe_is_that_of_the_arm():
    settings = replace(
        SETTINGS,
        recipe="glue_rte_bert_base",
        learning_rate=1e-5,
        warm_up=122,
    )
    optimizer = optimizer_of(settings, 3120)
    assert type(optimizer) is keras.optimizers.Adam
    rates = _rates(optimizer, [61, 122, 1621, 3120])
    middle = (1e-5 + 1e-7) / 2
    np.testing.assert_allclose(rates, [5e-6, 1e-5, middle, 1e-7], rtol=1e-4)
    # Where two passes are averaged and not summed, gradients are half of
    # what the recipe is for.
    for arm, norm in (("rdrop", 0.5), ("two_pass", 0.5), ("plain", 1.0)):
        optimizer = optimizer_of(replace(settings, arm=arm), 3120)
        assert optimizer.global_clipnorm == norm


def test_warm_up_leaves_updates_for_the_decay():
    settings = replace(SETTINGS, warm_up=20)
    with pytest.raises(InputError, match="--warm-up 20: expected fewer"):
        optimizer_of(settings, 20)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--glue-task=cola", "--glue-task needs --data"),
        ("--recipe=glue_cola_bert_base", "--recipe needs --data"),
        ("--data=d", "--data needs --glue-task"),
        ("--glue-task=cola --data=d --task=diabetes", "or --task"),
        ("--glue-task=cola --data=d --train=a --valid=b --test=c", "or --task"),
        ("--task=diabetes --train=a --valid=b --test=c", "or --task"),
        ("--glue-task=cola --data=d --valid=b", "come together"),
        ("--task=diabetes --data=d", "--data needs --glue-task"),
        ("--task=diabetes --preset=p", "no text for --preset"),
        ("--epochs=2 --updates=3", "--epochs or --updates, not both"),
        (
            "--recipe=glue_cola_bert_base --data=d --glue-task=rte",
            "is for --glue-task cola, not rte",
        ),
        (
            "--recipe=glue_cola_bert_base --data=d --schedule=cosine",
            "has the linear schedule",
        ),
        (
            "--recipe=glue_cola_roberta_large --data=d",
            "needs --preset DIR, with a RoBERTa",
        ),
    ],
)
def test_flags_that_contradict_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        parse(arguments.split())


@pytest.mark.parametrize(
    "data", ["--task=diabetes", "--glue-task=rte --data=d"]
)
def test_demo_is_for_texts(data):
    with pytest.raises(InputError, match="--demo is for"):
        parse([*data.split(), "--demo"], "compare")


def test_every_length_can_be_set():
    assert parse(["--sequence-length=9"]).sequence_length == 9
    assert parse([]).sequence_length is None
    glue = ["--glue-task=cola", "--data=d"]
    assert parse(glue).sequence_length == 128
    assert parse([*glue, "--sequence-length=30"]).sequence_length == 30
    with pytest.raises(InputError, match="expected at least 4"):
        parse(["--sequence-length=3"])


def test_recipes_of_other_tasks_are_refused(capsys):
    assert main(["--recipe=iwslt14_de_en", "--data=d"]) == 2
    error = capsys.readouterr().err
    assert "--recipe iwslt14_de_en: expected one of glue_mnli_bert" in error


def test_recipe_wants_the_encoder_it_is_for(tmp_path, capsys):
    _cola(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    output = tmp_path / "out"
    arguments = ["--recipe=glue_cola_roberta_large", f"--data={tmp_path}"]
    arguments += [f"--preset={tmp_path}", f"--output={output}"]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "expected a RobertaBackbone, got BertBackbone" in error
    assert not output.exists()


def _cola(directory, dev="x\t0\t\tA dog.\n"):
    train = "x\t1\t\tA cat.\nx\t0\t\tCat a.\nx\t1\t\tA cow.\n"
    (directory / "train.tsv").write_text(train)
    (directory / "dev.tsv").write_text(dev)


@pytest.mark.parametrize(
    ("dev", "message"),
    [
        ("x\t1\t\tA dog.\nx\t2\t\tA dog.\n", "dev.tsv:2: expected a label"),
        ("x\t1\tA dog.\n", "dev.tsv:1: expected 4 columns, got 3"),
        ("", "dev.tsv: expected lines of text"),
    ],
)
def test_broken_files_are_refused_before_anything_is_written(
    tmp_path, capsys, dev, message
):
    _cola(tmp_path, dev)
    output = tmp_path / "out"
    arguments = ["--glue-task=cola", f"--data={tmp_path}"]
    assert main([*arguments, f"--output={output}"]) == 2
    assert f"error: {tmp_path / message}" in capsys.readouterr().err
    assert not output.exists()


def test_broken_preset_is_refused_before_anything_is_written(tmp_path, capsys):
    _cola(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    output = tmp_path / "out"
    arguments = ["--glue-task=cola", f"--data={tmp_path}"]
    arguments += [f"--preset={tmp_path}", f"--output={output}"]
    assert main(arguments) == 2
    assert "got gpt2" in capsys.readouterr().err
    assert not output.exists()


def test_command_hands_on_what_glue_and_recipe_say(tmp_path, monkeypatch):
    _cola(tmp_path)
    calls = []

    def record(*arguments):
        calls.append(arguments)
        return {"valid": {"matthews": 0.5, "loss": 1.25}}

    monkeypatch.setattr(runner, "train", record)
    arguments = ["--recipe=glue_cola_bert_base", f"--data={tmp_path}"]
    arguments += ["--seed=7", "--batch-size=2", "--updates=5", "--warm-up=1"]
    assert main([*arguments, "--sequence-length=9", "--output=o"]) == 0
    ((_, dataset, settings),) = calls
    assert isinstance(dataset, GlueDataset) and dataset.task.name == "cola"
    found = settings.compared()
    expected = {
        "arm": "rdrop",
        "alpha": 0.5,
        "dropout": 0.1,
        "seed": 7,
        "epochs": None,
        "batch_size": 2,
        "learning_rate": 1e-5,
        "schedule": "linear",
        "warm_up": 1,
        "updates": 5,
        "recipe": "glue_cola_bert_base",
        "sequence_length": 9,
    }
    assert {name: found[name] for name in expected} == expected
