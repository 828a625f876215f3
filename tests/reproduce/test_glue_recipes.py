"""Every recipe for GLUE, as the program makes a run of it, at a tiny size."""

import keras
import keras_hub
import numpy as np
import pytest

from rdrop_keras import recipes
from reproduce.__main__ import parse
from reproduce.data.glue import GlueDataset
from reproduce.data.glue_files import Report
from reproduce.data.glue_tasks import GLUE_TASKS
from reproduce.data.texts import Part
from reproduce.models import bert
from reproduce.tasks.text_classification import TASK

NAMES = recipes.names("language_understanding")
WORDS = ["the", "a", "dog", "cat", "sees", "hears", "old", "new"]


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bert, "NUM_LAYERS", 1)
        patch.setattr(bert, "WIDTH", 16)
        yield


def _dataset(task):
    """As many examples as two batches have, of all classes."""
    generator = np.random.default_rng(0)

    def part(count):
        first, second = (
            tuple(" ".join(generator.choice(WORDS, 4)) for _ in range(count))
            for _ in range(2)
        )
        if task.is_regression:
            labels = tuple(generator.uniform(*task.range, count).tolist())
        else:
            labels = (task.classes * count)[:count]
        return Part(first, second if task.is_pair else None, labels)

    valid = {name: part(4) for name in task.files("dev")}
    return GlueDataset(
        task.folder,
        task.classes,
        part(64),
        valid,
        {},
        task.metrics,
        task.headline,
        task=task,
        report=Report(),
    )


@pytest.fixture(scope="module")
def roberta(tmp_path_factory):
    """A RoBERTa whose tokenizer knows letters and nothing more."""
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "\u0120"]
    tokens += [*sorted(set("".join(WORDS))), "th"]
    tokenizer = keras_hub.models.RobertaTokenizer(
        {token: index for index, token in enumerate(tokens)}, ["t h"]
    )
    directory = tmp_path_factory.mktemp("roberta")
    keras_hub.models.RobertaTextClassifier(
        backbone=keras_hub.models.RobertaBackbone(
            vocabulary_size=len(tokens),
            num_layers=1,
            num_heads=2,
            hidden_dim=16,
            intermediate_dim=32,
            max_sequence_length=24,
        ),
        preprocessor=keras_hub.models.RobertaTextClassifierPreprocessor(
            tokenizer, sequence_length=24
        ),
        num_classes=2,
    ).save_to_preset(str(directory))
    return directory


def _recorded(layer):
    """Returns a list to which a layer adds what it computes."""
    outputs, call = [], layer.call

    def recorded(*args, **kwargs):
        outputs.append(call(*args, **kwargs))
        return outputs[-1]

    layer.call = recorded
    return outputs


def _divergence(name, first, second):
    """What two passes differ by, in float64."""
    first, second = (np.float64(np.array(x)) for x in (first, second))
    if name == "squared_error":
        return np.mean((first - second) ** 2)
    first, second = (
        x - np.log(np.exp(x).sum(-1, keepdims=True)) for x in (first, second)
    )
    both = (np.exp(first) - np.exp(second)) * (first - second)
    return np.mean(both.sum(-1)) / 2


@pytest.mark.parametrize("name", NAMES)
def test_recipes_take_two_steps_with_their_own_settings(name, roberta):
    recipe = recipes.get(name)
    arguments = ["--recipe", name, "--data=somewhere", "--sequence-length=12"]
    if "roberta" in name:
        arguments.append(f"--preset={roberta}")
    settings = parse("train", "text_classification", arguments)
    task = GLUE_TASKS[settings.glue_task]
    assert recipe.dataset == f"GLUE {task.folder}"
    dataset = _dataset(task)
    keras.utils.set_random_seed(0)
    run = TASK.begin(dataset, settings)
    model = run.model
    encoder = recipe.model.name.split("-")[0].title()
    assert type(model).__name__ == f"RDrop{encoder}TextClassifier"
    # Two steps are not worth a graph.
    model.run_eagerly = True

    # Loss, divergence and alpha; and dropout, which makes the two passes.
    assert model.rdrop.alpha == recipe.alpha
    expected = (
        keras.losses.MeanSquaredError
        if recipe.divergence == "squared_error"
        else keras.losses.SparseCategoricalCrossentropy
    )
    assert type(model.loss) is expected
    assert task.is_regression == (recipe.divergence == "squared_error")
    assert model.dropout == model.backbone.dropout == recipe.dropout.rate

    # Optimizer and schedule.
    reference = recipe.optimizer(summed_loss=True)
    ours, theirs = (
        {
            key: value
            for key, value in optimizer.get_config().items()
            # The schedule is compared by its values below.
            if key not in ("name", "learning_rate")
        }
        for optimizer in (model.optimizer, reference)
    )
    assert type(model.optimizer) is type(reference)
    assert ours == theirs
    schedule = recipe.schedule
    assert settings.updates == schedule.total_updates
    for step in (
        0,
        1,
        schedule.warmup_updates,
        schedule.total_updates // 2,
        schedule.total_updates,
    ):
        np.testing.assert_allclose(
            float(model.optimizer._learning_rate(step)),
            float(recipe.learning_rate()(step)),
            rtol=1e-5,
            atol=1e-12,
        )

    # Two steps, of as many examples as the recipe has.
    assert settings.batch_size == recipe.batch.per_update
    before = [np.array(w) for w in model.trainable_weights]
    outputs = _recorded(model.output_dense)
    batches = run.batches(lambda: 0)
    batches.on_epoch_begin()
    for inputs, targets in (batches[0], batches[1]):
        assert len(targets) == recipe.batch.per_update
        logs = model.train_on_batch(inputs, targets, return_dict=True)
        np.testing.assert_allclose(
            logs["loss"],
            logs["task_loss"] + recipe.alpha / 2 * logs["consistency_loss"],
            rtol=1e-4,
        )
        model.reset_metrics()
        first, second = outputs[-2:]
        np.testing.assert_allclose(
            logs["consistency_loss"],
            _divergence(recipe.divergence, first, second),
            rtol=1e-3,
        )
    assert int(model.optimizer.iterations.numpy()) == 2
    # Two a step, and those with which the first batch was looked at.
    assert len(outputs) == 4 + 3
    moved = [
        np.abs(np.array(w) - b).max()
        for w, b in zip(model.trainable_weights, before)
    ]
    # Adam moves a weight by about the rate, which is still rising.
    rate = float(recipe.learning_rate()(1))
    assert rate / 10 < max(moved) < 3 * rate
