"""The recipes against the authors' scripts, arithmetic and fairseq's formulas.

The numbers of the paper stand in `rdrop_keras/recipes/table.py` alone.
"""

import ast
import dataclasses
import json
import math
import operator
import pathlib

import keras
import numpy as np
import pytest

import rdrop_keras
from rdrop_keras import RDrop
from rdrop_keras import RDropModel
from rdrop_keras import recipes
from rdrop_keras.recipes import InverseSquareRoot
from rdrop_keras.recipes import LinearWarmup
from rdrop_keras.recipes import PerUpdate
from rdrop_keras.recipes.__main__ import rewritten
from rdrop_keras.recipes.discrepancies import DISCREPANCIES

ROOT = pathlib.Path(__file__).resolve().parents[2]
ALL = recipes.names()
# One of every kind of optimizer, schedule and divergence.
FAMILIES = ["iwslt14_de_en", "wmt14_en_de", "wmt14_en_fr", "glue_rte_bert_base"]
FAMILIES += ["glue_stsb_bert_base", "cnn_dailymail_bart_large"]
FAMILIES += ["wikitext103_transformer", "wikitext103_adaptive"]
FAMILIES += ["cifar100_vit_b_16"]
TASKS = ["translation", "language_understanding", "summarization"]
TASKS += ["language_modeling", "image_classification"]

# The numbers.

# What the authors' scripts pass (github.com/dropreg/R-Drop, master): flags of
# `fairseq-train`, and for the ViT the defaults of vit_src/train.py.
SCRIPTS = {
    "iwslt14_de_en": (
        "arch transformer_iwslt_de_en lr 0.0005 label-smoothing 0.1 "
        "dropout 0.3 max-tokens 4096 weight-decay 0.0001 reg-alpha 5 "
        "max-update 300000 warmup-updates 4000 warmup-init-lr 1e-07"
    ),
    "cnn_dailymail_bart_large": (
        "max-tokens 1024 label-smoothing 0.1 dropout 0.1 "
        "attention-dropout 0.1 weight-decay 0.01 adam-eps 1e-08 "
        "clip-norm 0.1 lr 3e-05 total-num-update 20000 warmup-updates 500 "
        "update-freq 16"
    ),
    "wikitext103_transformer": (
        "arch transformer_lm_gpt dropout 0.1 reg-alpha 1.0 weight-decay 0.01 "
        "lr 0.0005 warmup-updates 4000 warmup-init-lr 1e-07 "
        "tokens-per-sample 512 max-tokens 2000 update-freq 16 "
        "max-update 50000"
    ),
    # It has 320,000 updates where appendix A.3 has 286,000.
    "wikitext103_adaptive": (
        "arch transformer_lm_wiki103 lr 1.0 warmup-updates 16000 "
        "warmup-init-lr 1e-07 min-lr 1e-4 clip-norm 0.1 reg-alpha 1.0 "
        "max-tokens 3072 update-freq 3 tokens-per-sample 3072"
    ),
    "cifar100_vit_b_16": (
        "img_size 384 train_batch_size 512 learning_rate 1e-2 weight_decay 0 "
        "warmup_steps 500 max_grad_norm 1.0 gradient_accumulation_steps 16"
    ),
}
FLAGS = {
    "arch": "model.name",
    "img_size": "model.image_size",
    "reg-alpha": "alpha",
    "label-smoothing": "label_smoothing",
    "dropout": "dropout.rate",
    "attention-dropout": "dropout.attention",
    "lr": "schedule.learning_rate",
    "learning_rate": "schedule.learning_rate",
    "min-lr": "schedule.end_learning_rate",
    "max-update": "schedule.total_updates",
    "total-num-update": "schedule.total_updates",
    "warmup-updates": "schedule.warmup_updates",
    "warmup_steps": "schedule.warmup_updates",
    "warmup-init-lr": "schedule.initial_learning_rate",
    "weight-decay": "optimizer_settings.weight_decay",
    "weight_decay": "optimizer_settings.weight_decay",
    "adam-eps": "optimizer_settings.epsilon",
    "clip-norm": "optimizer_settings.global_clipnorm",
    "max_grad_norm": "optimizer_settings.global_clipnorm",
    "max-tokens": "batch.tokens",
    "tokens-per-sample": "batch.sequence_length",
    "train_batch_size": "batch.per_update",
    "update-freq": "batch.gradient_accumulation_steps",
    "gradient_accumulation_steps": "batch.gradient_accumulation_steps",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_settings_are_those_of_the_authors_scripts(name):
    words = SCRIPTS[name].split()
    for flag, value in zip(words[::2], words[1::2]):
        found = operator.attrgetter(FLAGS[flag])(recipes.get(name))
        expected = value if isinstance(found, str) else float(value)
        assert found == expected, flag


@pytest.mark.parametrize(
    "part, printed",
    [
        ("iwslt", (32.44, 34.68)),
        ("bert_base", (82.85, 84.06)),
        ("roberta_large", (88.93, 89.73)),
    ],
)
def test_scores_have_the_averages_that_the_paper_prints(part, printed):
    scores = [main_scores(name) for name in ALL if part in name]
    assert len(scores) == 8
    for mean, expected in zip(np.mean(scores, axis=0), printed):
        # The scores of BERT-base have the mean 82.8875: the paper seems to
        # have averaged them before it rounded each.
        slack = 0.0375 if expected == 82.85 else 0.0
        assert abs(mean - expected) <= 0.005 + 1e-9 + slack


def main_scores(name):
    result = recipes.get(name).results[0]
    return result.baseline, result.rdrop


@pytest.mark.parametrize("name", recipes.names("language_understanding"))
def test_warm_up_of_glue_is_six_percent(name):
    """fairseq's examples/roberta/README.glue.md, which the authors follow."""
    schedule = recipes.get(name).schedule
    share, total = 0.06, schedule.total_updates
    if "qqp" in name:
        share = 0.25
    if "rte" in name:
        total = 2036
    assert schedule.warmup_updates == pytest.approx(share * total, abs=2)


@pytest.mark.parametrize("name", ALL)
def test_batch_of_an_update(name):
    expected = {"wmt14_en_fr": None, "wmt14_en_de": 4096 * 16 * 8}
    # fairseq's example for BART has 8 GPUs with 4 batches of 2,048 tokens.
    expected["cnn_dailymail_bart_large"] = 8 * 4 * 2048
    batch = recipes.get(name).batch
    if name in expected:
        assert batch.per_update == expected[name]
    elif batch.examples is not None:
        # Appendices A.4 and A.5.
        assert batch.per_update in (8, 16, 32, 512)


def test_eighteen_datasets():
    found = [recipes.get(name) for name in ALL]
    assert [recipe.name for recipe in found] == list(ALL)
    assert len({recipe.dataset for recipe in found}) == 18
    counts = [len(recipes.names(task)) for task in TASKS]
    # 8 + 2 directions, 8 tasks by 2 models, 1, 2 models, 2 by 2 models.
    assert counts == [10, 16, 1, 2, 4]
    assert sum((recipes.names(task) for task in TASKS), ()) == ALL


@pytest.mark.parametrize("name", ALL)
def test_rdrop_is_better_everywhere(name):
    for result in recipes.get(name).results:
        lower = result.metric == "perplexity"
        assert result.higher_is_better is not lower
        if result.baseline is not None:
            assert (result.rdrop < result.baseline) is lower


@pytest.mark.parametrize("name", ALL)
def test_alpha_of_the_authors_code(name):
    recipe = recipes.get(name)
    if name == "wikitext103_adaptive":
        assert recipe.authors_alpha is None
        return
    expected = recipe.alpha
    if "vit" in name:
        # KL12 + KL21 is twice the consistency.
        expected = 2 * 0.3 * 32
    elif "stsb" in name:
        # Mean squares have no sum over the batch.
        expected = 4 * 0.8 if "roberta" in name else 1.0
    elif "glue" in name:
        # RoBERTa trains on half of one task loss instead of two.
        expected = 4 * 0.7 if "roberta" in name else 0.5
        expected *= recipe.batch.examples
    assert recipe.authors_alpha.alpha == pytest.approx(expected)
    assert recipe.divergence == (
        "squared_error" if "stsb" in name else "categorical"
    )


def test_searched_values_hold_the_chosen_one():
    for name in ALL:
        recipe = recipes.get(name)
        for searched in recipe.searched:
            value = operator.attrgetter(searched.setting)(recipe)
            assert value in searched.values


def test_every_discrepancy_is_about_a_recipe():
    told = {text for name in ALL for text in recipes.get(name).discrepancies}
    assert told == {sentence for _, sentence in DISCREPANCIES}


# Schedules.


def inverse_sqrt(step, rate, warmup, first=0.0):
    """`step_update` of fairseq's `inverse_sqrt`."""
    if step < warmup:
        return first + step * (rate - first) / warmup
    return rate * warmup**0.5 * step**-0.5


def polynomial_decay(step, rate, warmup, total, first=0.0, end=0.0, power=1.0):
    """`step_update` of fairseq's `polynomial_decay`; HF's is the same."""
    if warmup > 0 and step <= warmup:
        return first + step / float(warmup) * (rate - first)
    if step >= total:
        return end
    remaining = 1 - (step - warmup) / (total - warmup)
    return (rate - end) * remaining**power + end


def cosine(step, rate, warmup, total, first=0.0, end=0.0):
    """`step_update` of fairseq's `cosine`, in its first period."""
    if step < warmup:
        return first + step * (rate - first) / warmup
    done = min(step - warmup, total - warmup) / (total - warmup)
    return end + 0.5 * (rate - end) * (1 + math.cos(math.pi * done))


def expected_rate(recipe, step):
    schedule = recipe.schedule
    rate, warmup = schedule.learning_rate, schedule.warmup_updates
    first = schedule.initial_learning_rate or 0.0
    if schedule.kind == "inverse_square_root":
        return inverse_sqrt(step, rate, warmup, first)
    function = {"cosine": cosine, "polynomial": polynomial_decay}[schedule.kind]
    last = schedule.end_learning_rate
    return function(step, rate, warmup, schedule.total_updates, first, last)


def steps_of(recipe):
    warmup = recipe.schedule.warmup_updates
    total = recipe.schedule.total_updates or 300_000
    return sorted(
        {0, 1, 2, warmup // 2, warmup - 1, warmup, warmup + 1}
        | {(warmup + total) // 2, total - 1, total, total + 1000}
    )


@pytest.mark.parametrize("name", ALL)
def test_learning_rate_is_fairseqs(name):
    recipe = recipes.get(name)
    schedule = recipe.learning_rate()
    highest = recipe.schedule.learning_rate
    for step in steps_of(recipe):
        expected = expected_rate(recipe, step)
        # In float32, near zero after a difference.
        assert float(schedule(step)) == pytest.approx(
            expected, rel=2e-6, abs=2e-7 * highest
        ), step


def test_last_rate_of_a_cosine():
    recipe = recipes.get("wikitext103_adaptive").replace(
        schedule={"learning_rate": 0.5, "end_learning_rate": 0.1}
    )
    schedule = recipe.learning_rate()
    for step in (16_000, 151_000, 285_999, 286_000, 300_000):
        assert float(schedule(step)) == pytest.approx(
            cosine(step, 0.5, 16_000, 286_000, 1e-7, 0.1), rel=1e-5
        )


@pytest.mark.parametrize("first", [0.0, 1e-7, 1e-3])
def test_inverse_square_root(first):
    schedule = InverseSquareRoot(5e-4, 4000, first)
    for step in [0, 1, 2, 3999, 4000, 4001, 16_000, 300_000]:
        assert float(schedule(step)) == pytest.approx(
            inverse_sqrt(step, 5e-4, 4000, first), rel=1e-6
        )
    assert float(InverseSquareRoot(1.0, 1)(0)) == 0.0
    assert float(InverseSquareRoot(1.0, 1)(4)) == 0.5


@pytest.mark.parametrize("power, end", [(1.0, 0.0), (2.0, 1e-6), (0.5, 0.0)])
@pytest.mark.parametrize("warmup", [0, 1, 500])
def test_linear_warmup_before_polynomial_decay(warmup, power, end):
    decay = keras.optimizers.schedules.PolynomialDecay(
        3e-5, 2000 - warmup, end, power
    )
    schedule = LinearWarmup(decay, warmup)
    for step in [0, 1, 2, 499, 500, 501, 1000, 1999, 2000, 5000]:
        assert float(schedule(step)) == pytest.approx(
            polynomial_decay(step, 3e-5, warmup, 2000, 0.0, end, power),
            rel=1e-5,
            abs=1e-10,
        )


def test_linear_warmup_before_a_number():
    schedule = LinearWarmup(0.2, 4, initial_learning_rate=0.1)
    rates = [float(schedule(step)) for step in range(6)]
    assert rates == pytest.approx([0.1, 0.125, 0.15, 0.175, 0.2, 0.2])


def test_per_update_counts_updates():
    schedule = PerUpdate(InverseSquareRoot(1.0, 4), 3)
    rates = [float(schedule(batch)) for batch in range(15)]
    assert rates == pytest.approx(np.repeat([0, 0.25, 0.5, 0.75, 1], 3))


def test_rates_do_not_overflow_in_half_precision():
    keras.config.set_floatx("float16")
    try:
        rate = float(InverseSquareRoot(5e-4, 4000, 1e-7)(300_000))
    finally:
        keras.config.set_floatx("float32")
    assert rate == pytest.approx(inverse_sqrt(300_000, 5e-4, 4000))


SERIALIZED = {
    "inverse": lambda: InverseSquareRoot(5e-4, 4000, 1e-7),
    "constant": lambda: LinearWarmup(0.5, 10),
    "polynomial": lambda: recipes.get("glue_rte_bert_base").learning_rate(),
    "nested": lambda: PerUpdate(
        LinearWarmup(keras.optimizers.schedules.CosineDecay(1.0, 90), 10), 4
    ),
}


@pytest.mark.parametrize("kind", SERIALIZED)
def test_schedules_are_saved_with_the_optimizer(kind):
    schedule = SERIALIZED[kind]()
    config = keras.optimizers.serialize(keras.optimizers.Adam(schedule))
    restored = keras.optimizers.deserialize(json.loads(json.dumps(config)))
    restored = restored._learning_rate
    assert type(restored) is type(schedule)
    assert restored.get_config() == schedule.get_config()
    for step in (0, 3, 50, 5000):
        assert float(restored(step)) == float(schedule(step))


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: InverseSquareRoot("5e-4", 10), TypeError, "`learning_rate`"),
        (lambda: InverseSquareRoot(-1.0, 10), ValueError, "finite and >= 0"),
        (lambda: InverseSquareRoot(1.0, 0), ValueError, "at least 1"),
        (lambda: InverseSquareRoot(1.0, 2.5), TypeError, "whole number"),
        (lambda: InverseSquareRoot(1.0, True), TypeError, "whole number"),
        (
            lambda: InverseSquareRoot(1.0, 10, float("nan")),
            ValueError,
            "`initial_learning_rate` to be finite",
        ),
        (lambda: LinearWarmup(None, 10), TypeError, "`decay`"),
        (lambda: LinearWarmup(1.0, -1), ValueError, "at least 0"),
        (lambda: PerUpdate(0.1, 2), TypeError, "`schedule`"),
        (
            lambda: PerUpdate(InverseSquareRoot(1.0, 1), 0),
            ValueError,
            "at least 1",
        ),
    ],
)
def test_bad_schedules(make, error, message):
    with pytest.raises(error, match=message):
        make()


# Keras objects.


def small_model(recipe):
    """A model with the recipe's kind of output, and its loss and data."""
    regression = recipe.divergence == "squared_error"
    inputs = keras.Input((4,))
    hidden = keras.layers.Dropout(recipe.dropout.rate)(
        keras.layers.Dense(8)(inputs)
    )
    model = RDropModel(
        inputs, keras.layers.Dense(1 if regression else 3)(hidden)
    )
    loss = (
        "mse"
        if regression
        else keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    return model, loss


def record_rates(optimizer):
    """Records the learning rate of every update that is made."""
    rates, original = [], optimizer._backend_update_step

    def update(gradients, variables, learning_rate):
        rates.append(float(learning_rate))
        return original(gradients, variables, learning_rate)

    # `update_step` is not called on PyTorch.
    optimizer._backend_update_step = update
    return rates


@pytest.mark.parametrize("name", FAMILIES)
def test_two_updates_have_the_right_learning_rate(name, rng):
    recipe = recipes.get(name)
    # Sixteen batches an update show no more than two, and take longer.
    steps = min(2, recipe.batch.gradient_accumulation_steps or 1)
    if steps > 1 and keras.backend.backend() == "jax":
        pytest.skip("Keras computes a step for each batch and drops some")
    recipe = recipe.replace(batch={"gradient_accumulation_steps": steps})
    model, loss = small_model(recipe)
    optimizer = recipe.optimizer()
    rates = record_rates(optimizer)
    model.compile(optimizer, loss, rdrop=recipe.rdrop(), run_eagerly=True)
    batches = 2 * steps
    x = rng.normal(size=(2 * batches, 4)).astype("float32")
    y = rng.integers(0, 3, 2 * batches)
    model.fit(x, y, batch_size=2, verbose=0)
    assert int(optimizer.iterations) == 2
    expected = [expected_rate(recipe, step) for step in (0, 1)]
    assert rates == pytest.approx(expected, rel=1e-5, abs=1e-12)


def test_weights_after_updates_with_accumulation(rng):
    """Compiled, with warm-up, clipping and accumulation, against NumPy."""
    recipe = recipes.get("cifar100_vit_b_16").replace(
        schedule={"warmup_updates": 2, "total_updates": 6},
        batch={"gradient_accumulation_steps": 3},
        optimizer_settings={"global_clipnorm": 0.5},
    )
    model = keras.Sequential([keras.layers.Dense(1, use_bias=False)])
    model.build((None, 2))
    weight = np.array(model.layers[0].kernel, "float64")
    model.compile(recipe.optimizer(), "mse")
    x, y = rng.normal(size=(12, 2)), rng.normal(size=(12, 1))
    model.fit(x, y, batch_size=1, shuffle=False, verbose=0)
    velocity = 0.0
    for update in range(4):
        rows = slice(3 * update, 3 * update + 3)
        error = x[rows] @ weight - y[rows]
        gradient = 2 * x[rows].T @ error / 3
        gradient *= min(1.0, 0.5 / np.linalg.norm(gradient))
        rate = cosine(update, 0.01, 2, 6)
        velocity = 0.9 * velocity - rate * gradient
        weight = weight + velocity
    np.testing.assert_allclose(model.layers[0].kernel, weight, rtol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_objects_have_the_settings(name):
    recipe = recipes.get(name)
    rdrop = recipe.rdrop()
    assert rdrop == RDrop(recipe.alpha, divergence=recipe.divergence)
    optimizer, settings = recipe.optimizer(), recipe.optimizer_settings
    config = optimizer.get_config()
    assert config["global_clipnorm"] == settings.global_clipnorm
    assert config["clipnorm"] is config["clipvalue"] is None
    assert (config["weight_decay"] or None) == (settings.weight_decay or None)
    steps = recipe.batch.gradient_accumulation_steps or 1
    assert config["gradient_accumulation_steps"] == (
        None if steps == 1 else steps
    )
    # Keras has subclasses for PyTorch, of the same name.
    kind = "Adam" if settings.name == "adam" else "SGD"
    assert type(optimizer).__name__ == kind
    assert isinstance(optimizer, getattr(keras.optimizers, kind))
    if kind == "Adam":
        assert (config["beta_1"], config["beta_2"]) == settings.betas
        assert config["epsilon"] == settings.epsilon
    else:
        assert config["momentum"] == settings.momentum
        assert config["nesterov"] is (settings.name == "nesterov")
    assert recipe.optimizer() is not optimizer


def test_decay_spares_biases_and_layer_normalization():
    recipe = recipes.get("glue_rte_bert_base").replace(
        optimizer_settings={"weight_decay": 0.5},
        schedule={"initial_learning_rate": 0.5, "learning_rate": 0.5},
    )
    model = keras.Sequential(
        [keras.layers.Dense(3), keras.layers.LayerNormalization()]
    )
    model.build((None, 2))
    for variable in model.variables:
        variable.assign(np.ones(variable.shape))
    optimizer = recipe.optimizer()
    zeros = [keras.ops.zeros(v.shape) for v in model.trainable_variables]
    optimizer.apply(zeros, model.trainable_variables)
    values = {v.path.split("/")[-1]: np.array(v) for v in model.variables}
    assert set(values) == {"kernel", "bias", "gamma", "beta"}
    for name, value in values.items():
        expected = 0.75 if name == "kernel" else 1.0
        np.testing.assert_allclose(value, expected)


@pytest.mark.parametrize(
    "name",
    ["iwslt14_de_en", "cnn_dailymail_bart_large", "glue_rte_bert_base"]
    + ["wikitext103_adaptive", "imagenet_vit_b_16"],
)
def test_summed_loss_gives_the_updates_of_the_papers_loss(name, rng):
    """Ours with a gradient as theirs with twice that gradient."""
    recipe = recipes.get(name).replace(
        batch={"gradient_accumulation_steps": 1},
        schedule={"initial_learning_rate": 0.01, "warmup_updates": 100},
        optimizer_settings={"weight_decay": 0.1},
    )
    start = rng.normal(size=(4, 3))
    ours, theirs, plain = (keras.Variable(start, name="kernel") for _ in "123")
    optimizers = [
        recipe.optimizer(summed_loss=True),
        recipe.optimizer(),
        recipe.optimizer(),
    ]
    # Below and above every clipping norm, and of the size of epsilon.
    for scale in (1e-8, 1e-2, 1.0, 100.0):
        gradient = rng.normal(size=start.shape) * scale
        gradient = keras.ops.convert_to_tensor(gradient, "float32")
        optimizers[0].apply([gradient], [ours])
        optimizers[1].apply([2 * gradient], [theirs])
        optimizers[2].apply([gradient], [plain])
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert np.abs(np.array(plain) - np.array(theirs)).max() > 1e-6


def test_without_total_updates_only_inverse_square_root():
    recipe = recipes.get("cnn_dailymail_bart_large")
    for total in (None, 500):
        broken = recipe.replace(schedule={"total_updates": total})
        with pytest.raises(ValueError, match="more than the 500 updates"):
            broken.optimizer()
    float(recipes.get("wmt14_en_fr").learning_rate()(5))
    with pytest.raises(ValueError, match="kind='step'"):
        recipe.replace(schedule={"kind": "step"}).learning_rate()
    with pytest.raises(ValueError, match="name='lamb'"):
        recipe.replace(optimizer_settings={"name": "lamb"}).optimizer()


# The data as data.


def test_replace_leaves_the_recipe():
    recipe = recipes.get("glue_mrpc_bert_base")
    other = recipe.replace(alpha=3.0, schedule={"total_updates": 1000})
    assert other.rdrop().alpha == 3.0
    assert other.schedule.total_updates == 1000
    assert other.schedule.warmup_updates == recipe.schedule.warmup_updates
    assert recipe.alpha == 1.0
    assert recipe.schedule.total_updates == 2296
    assert recipe is recipes.get("glue_mrpc_bert_base")
    assert other.replace(schedule=recipe.schedule, alpha=1.0) == recipe
    for changes in ({"alfa": 1.0}, {"schedule": {"updates": 1}}):
        with pytest.raises(TypeError, match="alfa|updates"):
            recipe.replace(**changes)


def parts(value):
    yield value
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from parts(getattr(value, field.name))
    elif isinstance(value, tuple):
        for item in value:
            yield from parts(item)


@pytest.mark.parametrize("name", ALL)
def test_recipes_are_frozen_json(name):
    recipe = recipes.get(name)
    for part in parts(recipe):
        # Nothing that can be changed in place.
        assert (
            dataclasses.is_dataclass(part)
            or part is None
            or isinstance(part, (tuple, str, int, float))
        ), part
        if dataclasses.is_dataclass(part):
            first = dataclasses.fields(part)[0].name
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(part, first, None)
            if hasattr(part, "source"):
                assert part.source
    as_json = json.loads(json.dumps(dataclasses.asdict(recipe)))
    assert as_json["alpha"] == recipe.alpha
    assert as_json["results"][0]["rdrop"] == recipe.results[0].rdrop
    assert hash(recipe) == hash(recipes.get(name))


@pytest.mark.parametrize("name", ALL)
def test_summary(name):
    recipe = recipes.get(name)
    text = str(recipe)
    assert text == recipe.summary()
    lines = text.splitlines()
    assert lines[0] == f"{name}: {recipe.dataset}, {recipe.task}"
    assert all(len(line) <= 80 for line in lines)
    assert f"alpha {recipe.alpha:g}" in text
    baseline, rdrop = main_scores(name)
    assert f"{baseline} -> {rdrop}" in text
    theirs = recipe.authors_alpha
    assert theirs is None or f"alpha {theirs.alpha:g} here" in text
    assert "None" not in text
    flat = " ".join(text.split())
    assert all(sentence in flat for sentence in recipe.discrepancies)


def test_unknown_names():
    with pytest.raises(ValueError, match="Close to it: glue_mrpc_bert_base"):
        recipes.get("glue_mrcp_bert_base")
    with pytest.raises(ValueError, match="Close to it:.*iwslt14_de_en"):
        recipes.get("iwslt_de_en")
    with pytest.raises(ValueError, match="name='zzzzzz'.$"):
        recipes.get("zzzzzz")
    with pytest.raises(ValueError, match="name=None"):
        recipes.get(None)
    with pytest.raises(ValueError, match="one of \\['translation'"):
        recipes.names("vision")


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_dependencies_point_one_way():
    package = pathlib.Path(rdrop_keras.__file__).parent
    inside = package / "recipes"
    for path in package.rglob("*.py"):
        for module in imports_of(path):
            if path.is_relative_to(inside):
                if module.startswith("rdrop_keras"):
                    assert module.startswith(
                        (
                            "rdrop_keras.recipes",
                            "rdrop_keras.rdrop.",
                            "rdrop_keras.arguments.",
                            "rdrop_keras.convert.",
                        )
                    ), (path, module)
            elif path != package / "__init__.py":
                assert "rdrop_keras.recipes" not in module, path


# The page.


def test_the_page_is_generated():
    page = (ROOT / "docs" / "recipes.md").read_text("utf-8")
    assert rewritten(page) == page, (
        "run: python -m rdrop_keras.recipes docs/recipes.md"
    )
    assert all(f"| `{name}` |" in page for name in ALL)


def test_the_dataset_page_has_all_datasets():
    page = (ROOT / "docs" / "datasets.md").read_text()
    for name in ALL:
        dataset = recipes.get(name).dataset
        assert f"| {dataset} |" in page, dataset
